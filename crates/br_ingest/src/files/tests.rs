//! Files that come, grow, turn and go, as those who write them and rotate them do it.
#![allow(clippy::disallowed_methods, reason = "the files of others, on the real disk")]

use super::config::FilesConfig;
use super::follower::Follower;
use super::gather::Gather;
use super::positions::Saved;
use super::{FileCounters, disk};
use br_env::sim::Sim;
use br_std::Nanos;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A folder in which files are followed.
struct Bench {
    folder: TempDir,
    config: String,
    sim: Sim,
    follower: Follower,
    counters: Arc<FileCounters>,
}

const TICK: Duration = Duration::from_millis(250);

impl Bench {
    fn new(config: &str) -> Self {
        Self::with_files(config, &[])
    }

    /// These are there before the first start.
    fn with_files(config: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let config = config.replace("DIR", &folder.path().display().to_string());
        let sim = Sim::new(1);
        let (follower, counters) = start(&config, &sim, BTreeMap::new(), true);
        Self { folder, config, sim, follower, counters }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("room");
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).expect("it is there");
    }

    /// What `copytruncate` does.
    fn copy_and_truncate(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path(to)).expect("it is there");
        OpenOptions::new().write(true).open(self.path(from)).expect("it is there").set_len(0).expect("cut");
    }

    /// The records of one round, after a moment.
    fn tick(&mut self) -> Vec<String> {
        self.sim.clock.advance(TICK);
        self.read().into_iter().map(|(text, _)| text).collect()
    }

    fn read(&mut self) -> Vec<(String, BTreeMap<String, String>)> {
        let mut found = Vec::new();
        loop {
            let mut gather = Gather::new(1 << 20);
            let has_more = self.follower.round(self.sim.env.clock.now(), &mut gather);
            for group in gather.requests.into_iter().flat_map(|request| request.logs.groups) {
                for record in group.records {
                    let pairs = group.resource.attributes.iter().chain(record.attributes.iter());
                    let pairs = pairs.map(|(key, value)| (key.clone(), value.to_string())).collect();
                    found.push((record.body, pairs));
                }
            }
            if !has_more {
                return found;
            }
        }
    }

    /// The records of this much time.
    fn wait(&mut self, time: Duration) -> Vec<String> {
        (0..=time.as_millis() / TICK.as_millis()).flat_map(|_| self.tick()).collect()
    }

    /// Ended and started again, with the positions as they were last written.
    fn restart(&mut self, positions: BTreeMap<disk::FileId, Saved>) {
        (self.follower, self.counters) = start(&self.config, &self.sim, positions, false);
    }

    fn positions(&self) -> BTreeMap<disk::FileId, Saved> {
        self.follower.positions(self.sim.env.clock.now())
    }

    fn count(&self, counter: impl Fn(&FileCounters) -> &AtomicU64) -> u64 {
        self.follower.count();
        counter(&self.counters).load(Ordering::Relaxed)
    }
}

fn start(config: &str, sim: &Sim, positions: BTreeMap<disk::FileId, Saved>, is_first: bool) -> (Follower, Arc<FileCounters>) {
    let config: FilesConfig = serde_norway::from_str(config).expect("valid");
    let sources = vec![config.source(std::path::Path::new("/")).expect("valid")];
    let counters = Arc::new(FileCounters::default());
    let clock = sim.env.clock.clone();
    (Follower::new(Arc::new(sources), positions, is_first, "h".to_owned(), clock, counters.clone()), counters)
}

const PLAIN: &str = "{ paths: ['DIR/*.log'] }";
/// The rotated ones are named by the pattern too.
const ALL: &str = "{ paths: ['DIR/*'] }";

fn numbered(range: std::ops::Range<u32>) -> String {
    range.flat_map(|at| ["line number ".to_owned(), at.to_string(), "\n".to_owned()]).collect()
}

fn expect(range: std::ops::Range<u32>) -> Vec<String> {
    numbered(range).lines().map(str::to_owned).collect()
}

#[test]
fn lines_as_they_come() {
    let mut bench = Bench::with_files(PLAIN, &[("a.log", "one\ntw")]);
    assert_eq!(bench.tick(), ["one"]);
    bench.append("a.log", "o\nthree\n");
    assert_eq!(bench.tick(), ["two", "three"]);
    bench.append("b.log", "new\n");
    assert_eq!(bench.wait(Duration::from_secs(1)), ["new"]);
    assert!(bench.wait(Duration::from_secs(5)).is_empty());
    bench.append("a.log", "after a while\n");
    assert_eq!(bench.wait(Duration::from_secs(1)), ["after a while"]);
    let mut late = Bench::with_files("{ paths: ['DIR/*.log'], read_from: end }", &[("a.log", "old\n")]);
    assert!(late.tick().is_empty());
    late.append("a.log", "new\n");
    late.append("b.log", "whole\n");
    assert_eq!(late.wait(Duration::from_secs(1)), ["new", "whole"]);
}

#[test]
fn a_file_that_is_renamed_is_read_to_its_end() {
    for config in [PLAIN, ALL] {
        let mut bench = Bench::new(config);
        bench.append("a.log", &numbered(0..10));
        assert_eq!(bench.tick(), expect(0..10));
        bench.append("a.log", &numbered(10..20));
        bench.rename("a.log", "a.log.1");
        bench.append("a.log", &numbered(20..30));
        // Who had it open goes on with it for a while.
        bench.append("a.log.1", &numbered(30..40));
        let mut found = bench.wait(Duration::from_secs(1));
        bench.append("a.log.1", "late\n");
        found.extend(bench.wait(Duration::from_mins(2)));
        found.sort();
        let mut all = [expect(10..40), vec!["late".to_owned()]].concat();
        all.sort();
        assert_eq!(found, all, "{config}");
        assert_eq!(bench.count(|counters| &counters.rotations), 1);
        bench.append("a.log", "end\n");
        assert_eq!(bench.wait(Duration::from_secs(1)), ["end"]);
    }
}

#[test]
fn a_chain_of_renames_repeats_nothing() {
    let mut bench = Bench::new(ALL);
    let mut found = Vec::new();
    for turn in 0..5 {
        bench.append("a.log", &numbered(turn * 10..turn * 10 + 10));
        found.extend(bench.wait(Duration::from_secs(30)));
        for at in (1..=turn).rev() {
            bench.rename(&format!("a.log.{at}"), &format!("a.log.{}", at + 1));
        }
        bench.rename("a.log", "a.log.1");
    }
    found.extend(bench.wait(Duration::from_mins(2)));
    assert_eq!(found, expect(0..50));
}

#[test]
fn a_copy_before_a_truncation_has_what_was_not_read() {
    for config in [PLAIN, ALL] {
        let mut bench = Bench::new(config);
        bench.append("a.log", &numbered(0..10));
        assert_eq!(bench.tick(), expect(0..10));
        bench.append("a.log", &numbered(10..20));
        bench.copy_and_truncate("a.log", "a.log.1");
        bench.append("a.log", &numbered(20..25));
        let mut found = bench.wait(Duration::from_mins(2));
        found.sort();
        assert_eq!(found, expect(10..25), "{config}");
        assert_eq!(bench.count(|counters| &counters.truncations), 1);
        // Longer than it was before anybody looked: only its beginning tells.
        bench.copy_and_truncate("a.log", "a.log.2");
        bench.append("a.log", &numbered(25..60));
        assert_eq!(bench.wait(Duration::from_mins(2)), expect(25..60), "{config}");
    }
}

#[test]
fn a_copy_that_is_met_first_is_not_read_twice() {
    let mut bench = Bench::new(ALL);
    bench.append("a.log", &numbered(0..10));
    assert_eq!(bench.tick(), expect(0..10));
    std::fs::copy(bench.path("a.log"), bench.path("a.log.1")).expect("it is there");
    assert!(bench.wait(Duration::from_secs(3)).is_empty());
    File::create(bench.path("a.log")).expect("cut");
    bench.append("a.log", &numbered(10..12));
    assert_eq!(bench.wait(Duration::from_mins(1)), expect(10..12));
    // A copy of which nothing comes is a file like others.
    std::fs::copy(bench.path("a.log"), bench.path("b")).expect("it is there");
    assert_eq!(bench.wait(Duration::from_secs(30)), expect(10..12));
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let mut bench = Bench::new(PLAIN);
    bench.append("a.log", &numbered(0..10));
    assert_eq!(bench.tick(), expect(0..10));
    // Not held open any more, so that the system may give its inode away.
    assert!(bench.wait(Duration::from_mins(1)).is_empty());
    assert_eq!(bench.count(|counters| &counters.open), 0);
    std::fs::write(bench.path("a.log"), numbered(100..200)).expect("room");
    assert_eq!(bench.wait(Duration::from_secs(2)), expect(100..200));
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    let mut bench = Bench::new(PLAIN);
    bench.append("a.log", "one\n");
    assert_eq!(bench.tick(), ["one"]);
    bench.append("a.log", "two\nthe last has no end");
    std::fs::remove_file(bench.path("a.log")).expect("it is there");
    assert_eq!(bench.wait(Duration::from_secs(10)), ["two", "the last has no end"]);
    assert_eq!(bench.count(|counters| &counters.followed), 0);
    assert_eq!(bench.count(|counters| &counters.open), 0);
}

#[test]
fn a_start_goes_on_where_positions_were_written() {
    let mut bench = Bench::new(PLAIN);
    bench.append("a.log", &numbered(0..10));
    bench.append("b.log", &numbered(50..60));
    assert_eq!(bench.tick().len(), 20);
    let positions = bench.positions();
    bench.append("a.log", &numbered(10..20));
    assert_eq!(bench.tick(), expect(10..20));
    // Meanwhile one is rotated by renaming, with lines that nobody has read; the other by copying.
    bench.append("a.log", &numbered(20..30));
    bench.rename("a.log", "a.log.1");
    bench.append("a.log", &numbered(30..40));
    bench.append("b.log", &numbered(60..70));
    bench.copy_and_truncate("b.log", "b.log.1");
    bench.restart(positions);
    let mut found = bench.wait(Duration::from_secs(2));
    let service = bench.follower.status(10).into_iter().map(|file| file.service).collect::<Vec<_>>();
    assert_eq!((service.iter().filter(|name| *name == "a").count(), service.len()), (2, 4), "{service:?}");
    found.sort();
    assert_eq!(found, [expect(10..40), expect(60..70)].concat(), "since the positions were written, once more");
    // And once more, while what is left of the rotated one is not read.
    bench.append("a.log.1", &numbered(70..80));
    let positions = bench.positions();
    bench.restart(positions);
    assert_eq!(bench.wait(Duration::from_secs(2)), expect(70..80));
}

#[test]
fn what_is_packed_is_left_alone() {
    let packed = "\u{1f}\u{8b}\u{8}";
    let bytes = [&b"\x1f\x8b\x08"[..], &[b'x'; 2000]].concat();
    let mut bench = Bench::with_files(ALL, &[("a.log", "one\n"), ("a.log.2.gz", packed)]);
    std::fs::write(bench.path("no-name-for-it"), bytes).expect("room");
    std::fs::create_dir(bench.path("folder.log")).expect("a folder");
    assert_eq!(bench.wait(Duration::from_secs(20)), ["one"]);
    assert_eq!((bench.count(|counters| &counters.left_alone), bench.count(|counters| &counters.followed)), (1, 1));
}

#[test]
fn ten_thousand_files_need_few_descriptors() {
    let mut bench = Bench::new(PLAIN);
    for at in 0..10_000 {
        bench.append(&format!("{at}.log"), "one\n");
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("a Linux").count();
    let before = descriptors();
    assert_eq!(bench.tick().len(), 10_000);
    assert!(descriptors() < before + 400, "{} and {before}", descriptors());
    for at in 0..10_000 {
        bench.append(&format!("{at}.log"), "two\n");
    }
    assert_eq!(bench.wait(Duration::from_secs(1)).len(), 10_000);
    assert!(descriptors() < before + 400);
    assert!(bench.count(|counters| &counters.open) <= 256);
}

#[test]
fn long_lines_and_garbage() {
    let mut bench = Bench::new(PLAIN);
    let long = "x".repeat(1 << 20);
    bench.append("a.log", &format!("before\n{}", &long[..700_000]));
    assert_eq!(bench.tick(), ["before"]);
    bench.append("a.log", &format!("{}\nafter\n", &long[700_000..]));
    bench.sim.clock.advance(TICK);
    let found = bench.read();
    let shown: Vec<_> = found.iter().map(|(text, pairs)| (text.len(), pairs.get("bellrock.cut_from_bytes"))).collect();
    assert_eq!(shown, [(256 << 10, Some(&(1 << 20).to_string())), (5, None)]);
    let mut garbage: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    garbage.extend(b"\nend\n");
    std::fs::write(bench.path("b.log"), garbage).expect("room");
    assert_eq!(bench.wait(Duration::from_secs(2)).last().map(String::as_str), Some("end"));
    assert!(bench.count(|counters| &counters.mended) > 0);
}

#[test]
fn a_traceback_is_one_record_and_an_error() {
    let mut bench = Bench::new(PLAIN);
    let traceback = "2026-01-02 10:00:00 ERROR failed\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nshop.NoStock: sku 7\n";
    let (first, rest) = traceback.split_at(80);
    bench.append("a.log", first);
    assert!(bench.tick().is_empty());
    bench.append("a.log", rest);
    assert!(bench.tick().is_empty(), "more may come");
    bench.sim.clock.advance(Duration::from_secs(1));
    let [(text, pairs)] = &bench.read()[..] else { panic!("one record") };
    assert_eq!(text, traceback.trim_end());
    assert_eq!((pairs["exception.type"].as_str(), pairs["exception.message"].as_str()), ("shop.NoStock", "sku 7"));
    assert_eq!((pairs["service.name"].as_str(), pairs["host.name"].as_str()), ("a", "h"));
    assert!(bench.wait(Duration::from_secs(3)).is_empty());
    bench.append("a.log", &format!("{traceback}next\n"));
    assert_eq!(bench.tick(), [traceback.trim_end(), "next"]);
}

#[test]
fn old_and_excluded_files() {
    let config = "{ paths: ['DIR/*.log'], exclude: ['b.*'], ignore_older: 1h }";
    let mut bench = Bench::with_files(config, &[("b.log", "excluded\n"), ("c.log", "whole\n")]);
    // The clock of the test is years behind that of the file system.
    let now = Nanos(i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos()).expect("before 2262"));
    let ahead = now.since(bench.sim.env.clock.now());
    bench.sim.clock.advance(ahead + Duration::from_hours(2));
    assert!(bench.wait(Duration::from_secs(2)).is_empty());
    let ahead = std::time::SystemTime::now() + Duration::from_hours(2);
    File::options().append(true).open(bench.path("c.log")).expect("there").set_modified(ahead).expect("mine");
    assert_eq!(bench.wait(Duration::from_secs(2)), ["whole"]);
}
