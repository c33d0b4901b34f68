//! What the journal's tests share: records that differ, a disk that loses power at any call.
#![allow(dead_code, reason = "each test binary uses its part")]

use br_env::sim::{Sim, SimDisk};
use br_env::{Disk, DiskFile, Env, Rng};
use br_journal::{Journal, Options, Protocol, Record};
use br_model::TenantId;
use br_std::{Kind, Nanos};
use br_storage::JournalPosition;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Small segments, so that every test crosses their borders; no watermark and no ballast.
pub(crate) fn small() -> Options {
    Options { segment_bytes_max: 4096, group_bytes_max: 2048, free_bytes_min: 0, ballast_bytes: 0, ..Options::default() }
}

/// A record that follows from its number: some compressible, some not, some empty.
pub(crate) fn record(number: u64) -> Record {
    let length = (number * 37 % 400) as usize;
    let noise = |at: usize| (br_std::hash::hash64(&[number.to_le_bytes(), (at as u64).to_le_bytes()].concat()) & 0xff) as u8;
    let body: Vec<u8> = match number % 3 {
        0 => vec![number as u8; length],
        _ => (0..length).map(noise).collect(),
    };
    Record {
        tenant: TenantId(number as u32 % 3),
        protocol: Protocol(number as u16 % 60),
        received: Nanos(number as i64),
        context: vec![("number".to_owned(), number.to_string())],
        body: Bytes::from(body),
        is_compressed: number % 3 == 2,
    }
}

pub(crate) fn number_of(record: &Record) -> u64 {
    record.context_value("number").and_then(|number| number.parse().ok()).expect("every test record has its number")
}

/// Everything that a replay hands out, and the messages of the damage it met.
pub(crate) fn replay_all(journal: &Journal, from: u64) -> (Vec<(u64, Record)>, Vec<String>) {
    let (mut records, mut damage) = (Vec::new(), Vec::new());
    for item in journal.replay(JournalPosition(from)) {
        match item {
            Ok((position, record)) => records.push((position.0, record)),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt, "{error}");
                damage.push(error.to_string());
            }
        }
    }
    assert!(records.is_sorted_by(|one, next| one.0 < next.0), "positions ascend, each once");
    (records, damage)
}

/// A journal on a simulated disk with `count` durable records, closed in order.
pub(crate) fn sim_with_records(seed: u64, count: u64) -> Sim {
    let sim = Sim::new(seed);
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    for number in 1..=count {
        let ticket = journal.append(&record(number)).expect("append");
        writer.step();
        ticket.wait().expect("durable");
    }
    sim
}

pub(crate) fn segment_paths(sim: &Sim) -> Vec<String> {
    let names = sim.disk.list("journal").expect("list");
    names.iter().filter(|name| name.ends_with(".segment")).map(|name| format!("journal/{name}")).collect()
}

/// Lets `calls` calls through, breaks the next one half way and fails all others, as if the machine had stopped there.
pub(crate) struct FuseDisk {
    inner: Arc<SimDisk>,
    fuse: Arc<Fuse>,
}

/// What is left of the fuse, and how much of each file is safe.
pub(crate) struct Fuse {
    calls_left: AtomicU64,
    synced_bytes: Mutex<BTreeMap<String, u64>>,
}

impl FuseDisk {
    pub(crate) fn env(sim: &Sim, calls: u64) -> (Env, Arc<Fuse>) {
        let fuse = Arc::new(Fuse { calls_left: AtomicU64::new(calls), synced_bytes: Mutex::default() });
        let disk = Self { inner: sim.disk.clone(), fuse: fuse.clone() };
        (Env { disk: Arc::new(disk), ..sim.env.clone() }, fuse)
    }
}

impl Fuse {
    fn burn(&self) -> io::Result<()> {
        match self.calls_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the power is gone")),
        }
    }

    /// Flips bits of what was written and not synced, as a disk may that has no power. Returns whether there was any.
    pub(crate) fn scramble_unsynced(&self, sim: &Sim) -> bool {
        let mut any = false;
        for (path, synced) in &*self.synced_bytes.lock() {
            let size = sim.disk.size(path).unwrap_or(0);
            for at in *synced..size {
                if sim.rng.below(16) == 0 {
                    sim.disk.flip_bit(path, at as usize, sim.rng.below(8) as u8);
                    any = true;
                }
            }
        }
        any
    }
}

struct FuseFile {
    inner: Box<dyn DiskFile>,
    fuse: Arc<Fuse>,
    path: String,
    written: u64,
}

impl DiskFile for FuseFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let burned = self.fuse.burn();
        let bytes = if burned.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.inner.append(bytes)?;
        self.written += bytes.len() as u64;
        burned
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fuse.burn()?;
        self.inner.sync()?;
        self.fuse.synced_bytes.lock().insert(self.path.clone(), self.written);
        Ok(())
    }
}

impl Disk for FuseDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.fuse.burn()?;
        let inner = self.inner.create(path)?;
        self.fuse.synced_bytes.lock().insert(path.to_owned(), 0);
        Ok(Box::new(FuseFile { inner, fuse: self.fuse.clone(), path: path.to_owned(), written: 0 }))
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
        self.fuse.burn()?;
        self.inner.create_dir(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fuse.burn()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.fuse.burn()?;
        self.inner.remove(path)
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        self.fuse.burn()?;
        self.inner.truncate(path, length)
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        self.fuse.burn()?;
        self.inner.sync_dir(folder)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

/// A number from `from` to before `to`.
pub(crate) fn pick(rng: &dyn Rng, from: u64, to: u64) -> u64 {
    from + rng.below(to - from)
}

/// A disk on which the next reads of segments fail with these errors, one each.
pub(crate) struct UnreadableDisk {
    pub(crate) inner: Arc<dyn Disk>,
    pub(crate) errors: Mutex<Vec<io::Error>>,
}

impl Disk for UnreadableDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.inner.create(path)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        match self.errors.lock().pop() {
            Some(error) => Err(error),
            None => self.inner.read_at(path, offset, length),
        }
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

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        self.inner.sync_dir(folder)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}
