//! Damage of every kind: it is seen, it costs what it hits, the rest comes back, and the start goes on.

mod support;

use br_journal::Journal;
use br_std::Kind;
use br_storage::JournalPosition;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;
use support::{UnreadableDisk, number_of, record, replay_all, segment_paths, sim_with_records, small};

const RECORDS: u64 = 60;

#[test]
fn a_flipped_bit_costs_one_record_at_the_most() {
    for seed in 0..400 {
        let sim = sim_with_records(seed, RECORDS);
        let paths = segment_paths(&sim);
        let path = &paths[sim.rng_index(paths.len())];
        let length = br_env::Disk::size(&*sim.disk, path).expect("size") as usize;
        let byte = sim.rng_index(length);
        sim.disk.flip_bit(path, byte, seed as u8);
        let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
        let (records, damage) = replay_all(&journal, 1);
        assert!(records.len() as u64 >= RECORDS - 1, "seed {seed}: {} records back, {damage:?}", records.len());
        for (position, found) in &records {
            assert_eq!((number_of(found), found), (*position, &record(*position)), "seed {seed}");
        }
        let status = journal.status();
        assert!(status.quarantined_ranges + status.torn_bytes > 0, "seed {seed}: byte {byte} of {path} was changed unseen");
        assert_eq!(damage.len() as u64, status.quarantined_ranges, "seed {seed}");
    }
}

#[test]
fn damage_is_counted_once_however_often_it_is_read() {
    let sim = sim_with_records(1, RECORDS);
    sim.disk.flip_bit(&segment_paths(&sim)[0], 200, 3);
    let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    for _ in 0..3 {
        assert_eq!(replay_all(&journal, 1).1.len(), 1);
    }
    assert_eq!(journal.status().quarantined_ranges, 1);
}

#[test]
fn cut_zeroed_and_deleted_files_cost_what_they_held() {
    for (seed, harm) in [(1, "cut"), (2, "cut"), (3, "zeroed"), (4, "emptied"), (5, "deleted")] {
        let sim = sim_with_records(seed, RECORDS);
        let paths = segment_paths(&sim);
        assert!(paths.len() > 3);
        let path = &paths[1];
        let disk: &dyn br_env::Disk = &*sim.disk;
        let length = disk.size(path).expect("size");
        match harm {
            "cut" => disk.truncate(path, length / 2).expect("cut"),
            "zeroed" => {
                disk.truncate(path, 0).expect("cut");
                disk.truncate(path, length).expect("grow");
            }
            "emptied" => disk.truncate(path, 0).expect("cut"),
            _ => disk.remove(path).expect("remove"),
        }
        let (journal, _writer, recovery) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
        let (records, _) = replay_all(&journal, 1);
        let first_after: u64 = paths[2].split('-').nth(1).and_then(|first| first.parse().ok()).expect("a segment's name");
        let first_hit: u64 = path.split('-').nth(1).and_then(|first| first.parse().ok()).expect("a segment's name");
        let back: Vec<u64> = records.iter().map(|(position, _)| *position).collect();
        let expected: Vec<u64> = (1..first_hit).chain(first_after..=RECORDS).collect();
        let back_elsewhere: Vec<u64> = back.iter().copied().filter(|at| *at < first_hit || *at >= first_after).collect();
        assert_eq!(back_elsewhere, expected, "{harm}");
        assert_eq!(harm == "deleted", !recovery.warnings.is_empty(), "{harm}: {:?}", recovery.warnings);
        assert_eq!(recovery.last_position, JournalPosition(RECORDS), "{harm}");
    }
}

#[test]
fn a_file_that_goes_while_it_is_read_is_named() {
    let sim = sim_with_records(8, RECORDS);
    let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    let path = segment_paths(&sim)[1].clone();
    br_env::Disk::remove(&*sim.disk, &path).expect("remove");
    let (records, damage) = replay_all(&journal, 1);
    assert!(damage.len() == 1 && damage[0].contains("gone"), "{damage:?}");
    assert_eq!(records.last().map(|(position, _)| *position), Some(RECORDS));
}

#[test]
fn foreign_files_and_damaged_marks_do_not_stop_a_start() {
    let sim = sim_with_records(2, RECORDS);
    let disk: &dyn br_env::Disk = &*sim.disk;
    for (name, bytes) in [("start", &b"nonsense"[..]), ("clean", b""), ("notes.txt", b"hello"), ("ballast", b"x")] {
        if disk.size(&format!("journal/{name}")).is_ok() {
            disk.remove(&format!("journal/{name}")).expect("remove");
        }
        disk.create(&format!("journal/{name}")).expect("create").append(bytes).expect("append");
    }
    let (journal, _writer, recovery) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    assert_eq!(replay_all(&journal, 1).0.len() as u64, RECORDS);
    assert!(recovery.warnings.iter().any(|warning| warning.contains("notes.txt")));
    assert!(recovery.warnings.iter().any(|warning| warning.contains("start is damaged")));
}

#[test]
fn a_record_quoted_in_the_body_of_another_is_not_taken_for_one() {
    let sim = sim_with_records(3, 3);
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    journal.append(&record(4)).expect("append");
    writer.step();
    let path = segment_paths(&sim).pop().expect("the active segment");
    let mut quoting = record(5);
    quoting.body = br_env::Disk::read(&*sim.disk, &path).expect("read").into();
    quoting.is_compressed = true;
    journal.append(&quoting).expect("append");
    journal.append(&record(6)).expect("append");
    writer.step();
    // The header of record 5 is destroyed, so that the reader has to look into its body for the next record.
    let first_end = br_env::Disk::size(&*sim.disk, &path).expect("size") as usize;
    let bytes = br_env::Disk::read(&*sim.disk, &path).expect("read");
    let second = (41..first_end).find(|at| bytes[*at..].starts_with(b"BRec")).expect("record 5");
    sim.disk.flip_bit(&path, second + 17, 1);
    let (records, damage) = replay_all(&journal, 1);
    let back: Vec<u64> = records.iter().map(|(position, _)| *position).collect();
    assert_eq!((back, damage.len()), (vec![1, 2, 3, 4, 6], 1));
}

#[test]
fn damaged_segments_are_set_aside_when_they_are_no_longer_needed() {
    let sim = sim_with_records(4, RECORDS);
    sim.disk.flip_bit(&segment_paths(&sim)[0], 200, 3);
    let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    replay_all(&journal, 1);
    assert!(journal.truncate_before(JournalPosition(RECORDS + 1)).expect("truncate") > 0);
    assert_eq!(br_env::Disk::list(&*sim.disk, "journal/quarantine").expect("list").len(), 1);
    assert_eq!(segment_paths(&sim).len(), 1, "the active one stays");
    let (journal, _writer, recovery) = Journal::open_unattended(sim.env.clone(), small()).expect("open again");
    assert!(recovery.warnings.is_empty() && replay_all(&journal, 1).0.is_empty(), "{:?}", recovery.warnings);
    assert_eq!(recovery.last_position, JournalPosition(RECORDS));
}

#[test]
fn a_read_that_fails_for_now_is_tried_again_and_passes_nothing_over() {
    let sim = sim_with_records(5, RECORDS);
    let disk = Arc::new(UnreadableDisk { inner: sim.disk.clone(), errors: Mutex::default() });
    let env = br_env::Env { disk: disk.clone(), ..sim.env.clone() };
    let (journal, _writer, _) = Journal::open_unattended(env, small()).expect("open");
    let (mut back, mut retries) = (Vec::new(), 0);
    disk.errors.lock().push(std::io::Error::other("too many open files"));
    for item in journal.replay(JournalPosition(1)) {
        match item {
            Ok((position, _)) => back.push(position.0),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Retry);
                retries += 1;
                if retries < 3 {
                    disk.errors.lock().push(std::io::Error::other("too many open files"));
                }
            }
        }
    }
    assert_eq!((back, retries), ((1..=RECORDS).collect::<Vec<_>>(), 3));
}

#[test]
fn what_the_medium_cannot_read_is_quarantined() {
    const EIO: i32 = 5;
    let sim = sim_with_records(6, RECORDS);
    let disk = Arc::new(UnreadableDisk { inner: sim.disk.clone(), errors: Mutex::default() });
    let env = br_env::Env { disk: disk.clone(), ..sim.env.clone() };
    let (journal, _writer, _) = Journal::open_unattended(env, small()).expect("open");
    let unreadable = || std::io::Error::from_raw_os_error(EIO);
    let mut replay = journal.replay(JournalPosition(1));
    assert!(matches!(replay.next(), Some(Ok((JournalPosition(1), _)))));
    // Segments fit into one read, so the next one is that of the second segment's header: as a whole, then by itself.
    disk.errors.lock().extend([unreadable(), unreadable()]);
    let (mut records, mut damaged) = (1, 0);
    for item in replay {
        match item {
            Ok(_) => records += 1,
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt, "{error}");
                damaged += 1;
            }
        }
    }
    assert_eq!((records, damaged, journal.status().quarantined_ranges), (RECORDS, 1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever stands in a segment: the reader ends, and what it hands out is what was written.
    #[test]
    fn foreign_bytes_in_a_segment_never_harm(
        splices in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..300), 0usize..300), 1..4)
    ) {
        let sim = sim_with_records(7, 20);
        let disk: &dyn br_env::Disk = &*sim.disk;
        let path = segment_paths(&sim)[0].clone();
        let mut bytes = disk.read(&path).expect("read");
        for (at, inserted, removed) in splices {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted);
        }
        disk.remove(&path).expect("remove");
        disk.create(&path).expect("create").append(&bytes).expect("append");
        let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
        for (position, found) in replay_all(&journal, 1).0 {
            prop_assert_eq!(found, record(position));
        }
    }
}

trait RngIndex {
    fn rng_index(&self, bound: usize) -> usize;
}

impl RngIndex for br_env::sim::Sim {
    fn rng_index(&self, bound: usize) -> usize {
        br_env::Rng::below(&*self.rng, bound as u64) as usize
    }
}
