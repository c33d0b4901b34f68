//! Cuts the power of a real file system: ext4 on a loop device, shut down without flushing its log while another process writes
//! the journal on it. What that process said was acknowledged must come back after the mount.
//!
//! Needs root, `mkfs.ext4` and loop devices, and says so when it is skipped. `BELLROCK_POWER_CUTS` sets the number of cuts.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a test of the real disk")]
#![allow(unsafe_code, reason = "the ioctl that shuts a file system down has no safe form")]

use br_env::{Disk, DiskFile, Env, real};
use br_journal::{Journal, Options, Protocol, Record};
use br_model::TenantId;
use br_std::{Kind, Nanos};
use br_storage::JournalPosition;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const ROOT_VARIABLE: &str = "BELLROCK_TEST_JOURNAL_ROOT";
const FIRST_VARIABLE: &str = "BELLROCK_TEST_JOURNAL_FIRST";
const UNSYNCED_VARIABLE: &str = "BELLROCK_TEST_JOURNAL_UNSYNCED";

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let Some(lost) = cut_again_and_again("synced", false) else { return };
    if cfg!(feature = "no_fsync") {
        assert!(lost > 0, "without syncs this test must find losses");
    } else {
        assert_eq!(lost, 0);
    }
}

/// The same on a disk whose syncs do nothing: if this found no loss, the test above would prove nothing.
#[test]
fn without_syncs_the_same_cuts_lose_records() {
    let Some(lost) = cut_again_and_again("unsynced", true) else { return };
    assert!(lost > 0, "{lost} lost");
}

/// Not a test by itself: the process that writes while the power goes, started by the tests above.
#[test]
fn writer_process() {
    let Some(root) = std::env::var_os(ROOT_VARIABLE) else { return };
    let first: u64 = std::env::var(FIRST_VARIABLE).expect("set with the root").parse().expect("a number");
    let mut env = real::env(Path::new(&root)).expect("the mounted file system");
    if std::env::var_os(UNSYNCED_VARIABLE).is_some() {
        env = Env { disk: Arc::new(UnsyncedDisk { inner: env.disk.clone() }), ..env };
    }
    let (journal, _) = Journal::open(env, options()).expect("open");
    for number in (first..).step_by(3) {
        let tickets: Vec<_> = (number..number + 3).map(|number| (number, journal.append(&record(number)))).collect();
        for (number, ticket) in tickets {
            let Ok(()) = ticket.and_then(|ticket| ticket.wait()) else { return };
            writeln!(io::stdout(), "\nack {number}").expect("the parent reads");
        }
    }
}

fn options() -> Options {
    Options { segment_bytes_max: 64 << 10, free_bytes_min: 0, ballast_bytes: 0, ..Options::default() }
}

fn record(number: u64) -> Record {
    Record {
        tenant: TenantId(1),
        protocol: Protocol::NDJSON,
        received: Nanos(number as i64),
        context: vec![("number".to_owned(), number.to_string())],
        body: Bytes::from(number.to_le_bytes().repeat(20 + number as usize % 200)),
        is_compressed: !number.is_multiple_of(3),
    }
}

/// How many acknowledged records were gone after a cut, over all cuts. `None` when the machine does not allow the test.
fn cut_again_and_again(name: &str, is_unsynced: bool) -> Option<usize> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let image = folder.path().join(format!("{name}.ext4"));
    let Some(mut mounted) = make_file_system(&image).and_then(|()| Mounted::new(&image)) else {
        println!("skipped: needs root, mkfs.ext4 and loop devices");
        return None;
    };
    let cuts: u64 = std::env::var("BELLROCK_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(8);
    let (mut acknowledged, mut lost) = (BTreeSet::new(), 0);
    for cut in 0..cuts {
        let acks_before_cut = 5 + (cut * 37 % 60) as usize;
        acknowledged.append(&mut write_until_cut(&mounted, cut * 1_000_000, acks_before_cut, is_unsynced));
        drop(mounted);
        mounted = Mounted::new(&image).expect("it could be mounted before");
        let found = read_back(&mounted.point);
        let gone: Vec<u64> = acknowledged.difference(&found).copied().collect();
        lost += gone.len();
        acknowledged.retain(|number| !gone.contains(number));
    }
    println!("{name}: {cuts} cuts, {} acknowledged records back, {lost} lost", acknowledged.len());
    Some(lost)
}

/// Starts the writer, cuts the power after so many acknowledgements, and returns those.
///
/// What is acknowledged while the cut is under way does not count: with the power the sender's answer would be gone too, but the
/// shutdown leaves the processor running, and a sync that is inside the kernel at that moment may return without an error although
/// the log it waited for was dropped.
fn write_until_cut(mounted: &Mounted, first: u64, acks_before_cut: usize, is_unsynced: bool) -> BTreeSet<u64> {
    let mut command = Command::new(std::env::current_exe().expect("the test itself"));
    command.args(["--exact", "writer_process", "--nocapture", "--test-threads=1"]);
    command.env(ROOT_VARIABLE, mounted.point.join("data")).env(FIRST_VARIABLE, first.to_string());
    if is_unsynced {
        command.env(UNSYNCED_VARIABLE, "1");
    }
    let mut writer = Writer(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start the writer"));
    let output = writer.0.stdout.take().expect("piped");
    let mut acknowledged = BTreeSet::new();
    let mut is_cut = false;
    for line in BufReader::new(output).lines() {
        let line = line.expect("text");
        let Some(number) = line.strip_prefix("ack ").filter(|_| !is_cut) else { continue };
        acknowledged.insert(number.parse().expect("a number"));
        if acknowledged.len() == acks_before_cut {
            cut_power(&mounted.point);
            is_cut = true;
        }
    }
    assert!(is_cut, "the writer ended by itself after {} records", acknowledged.len());
    acknowledged
}

fn read_back(mount_point: &Path) -> BTreeSet<u64> {
    let env = real::env(&mount_point.join("data")).expect("mounted");
    let (journal, _writer, _) = Journal::open_unattended(env, options()).expect("a power cut never stops a start");
    let mut found = BTreeSet::new();
    for item in journal.replay(JournalPosition(1)) {
        let back = match item {
            Ok((_, back)) => back,
            // Pages of a group that was never acknowledged may reach the disk out of order.
            Err(error) if error.kind() == Kind::Corrupt => continue,
            Err(error) => panic!("reading back: {error}"),
        };
        let number: u64 = back.context_value("number").and_then(|number| number.parse().ok()).expect("ours");
        assert_eq!(back, record(number), "byte for byte");
        assert!(found.insert(number), "{number} came back twice");
    }
    found
}

/// Takes the writer down with the test, whatever happens.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn make_file_system(image: &Path) -> Option<()> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    File::create(image).and_then(|file| file.set_len(64 << 20)).ok()?;
    run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image.to_str()?])
}

fn run(program: &str, arguments: &[&str]) -> Option<()> {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()).then_some(())
}

/// A mounted image; the loop device frees itself with the mount.
struct Mounted {
    point: PathBuf,
}

impl Mounted {
    fn new(image: &Path) -> Option<Self> {
        let point = image.with_extension("mounted");
        std::fs::create_dir_all(&point).ok()?;
        run("mount", &["-o", "loop", image.to_str()?, point.to_str()?])?;
        Some(Self { point })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let point = self.point.to_string_lossy();
        if run("umount", &[&point]).is_none() {
            let _ = run("umount", &["-l", &point]);
        }
    }
}

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: nothing more reaches the device, the log's unwritten part included.
fn cut_power(mount_point: &Path) {
    const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
    const WITHOUT_LOG_FLUSH: u32 = 2;
    let folder = File::open(mount_point).expect("mounted");
    // SAFETY: the opcode takes a pointer to a 32-bit integer and only reads it.
    let done = unsafe { rustix::ioctl::ioctl(&folder, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(WITHOUT_LOG_FLUSH)) };
    done.expect("shut the file system down");
}

/// A disk that only says it synced.
struct UnsyncedDisk {
    inner: Arc<dyn Disk>,
}

struct UnsyncedFile(Box<dyn DiskFile>);

impl DiskFile for UnsyncedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for UnsyncedDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnsyncedFile(self.inner.create(path)?)))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.inner.read_at(path, offset, length)
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        self.inner.size(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.inner.list(folder)
    }

    fn create_dir(&self, folder: &str) -> io::Result<()> {
        self.inner.create_dir(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        self.inner.truncate(path, length)
    }

    fn sync_dir(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}
