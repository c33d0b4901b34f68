//! A small world that replays by seed: a clock that is set, numbers that follow from a seed, a disk that loses what was not synced.

use crate::{Clock, Disk, DiskFile, Env, Rng};
use br_std::Nanos;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output step of splitmix64 (Steele, Lea, Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A simulated world and the handles that steer it.
pub struct Sim {
    pub env: Env,
    pub clock: Arc<SimClock>,
    pub rng: Arc<SimRng>,
    pub disk: Arc<SimDisk>,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(SimClock::at(Nanos::from_secs(1_700_000_000)));
        let rng = Arc::new(SimRng::new(seed));
        let disk = Arc::new(SimDisk::default());
        let env = Env { clock: clock.clone(), rng: rng.clone(), disk: disk.clone() };
        Self { env, clock, rng, disk }
    }
}

/// A clock that stands still until it is moved.
pub struct SimClock {
    started: Nanos,
    now: AtomicI64,
}

impl SimClock {
    pub fn at(now: Nanos) -> Self {
        Self { started: now, now: AtomicI64::new(now.0) }
    }

    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_nanos() as i64, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Nanos {
        Nanos(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(self.started)
    }
}

pub struct SimRng {
    state: AtomicU64,
}

impl SimRng {
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        mix(self.state.fetch_add(GOLDEN_GAMMA, Ordering::SeqCst).wrapping_add(GOLDEN_GAMMA))
    }
}

/// A disk in memory that knows which bytes and which names would survive a power cut.
#[derive(Default)]
pub struct SimDisk {
    state: Arc<Mutex<SimDiskState>>,
}

#[derive(Default)]
struct SimDiskState {
    /// What a running program sees.
    files: BTreeMap<String, Arc<Mutex<SimFile>>>,
    /// The names that a power cut leaves, with the files they lead to.
    synced_names: BTreeMap<String, Arc<Mutex<SimFile>>>,
    capacity: Option<u64>,
    /// Syncs left until one fails.
    syncs_until_failure: Option<u64>,
}

#[derive(Default)]
struct SimFile {
    bytes: Vec<u8>,
    /// A prefix of this length is on stable storage.
    synced: usize,
}

impl SimDisk {
    /// Cuts the power: unsynced names are gone, and of each file's unsynced tail a random part remains, as a torn write leaves it.
    pub fn power_cut(&self, rng: &dyn Rng) {
        let mut state = self.state.lock();
        state.files = state.synced_names.clone();
        for file in state.files.values() {
            let mut file = file.lock();
            let unsynced = file.bytes.len() - file.synced;
            let kept = file.synced + rng.below(unsynced as u64 + 1) as usize;
            file.bytes.truncate(kept);
            file.synced = kept;
        }
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, path: &str, byte: usize, bit: u8) {
        if let Some(file) = self.state.lock().files.get(path)
            && let Some(byte) = file.lock().bytes.get_mut(byte)
        {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Lets the disk hold this many bytes in all.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Makes the sync after the next `count` ones fail, once.
    pub fn fail_sync_after(&self, count: u64) {
        self.state.lock().syncs_until_failure = Some(count);
    }
}

impl SimDiskState {
    fn file(&self, path: &str) -> io::Result<Arc<Mutex<SimFile>>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no file {path}")))
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.lock().bytes.len() as u64).sum()
    }
}

fn is_directly_in(path: &str, folder: &str) -> bool {
    path.rsplit_once('/').map_or("", |(parent, _)| parent) == folder
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        if state.files.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{path} exists")));
        }
        let file = Arc::new(Mutex::new(SimFile::default()));
        state.files.insert(path.to_owned(), file.clone());
        Ok(Box::new(SimHandle { file, disk: self.state.clone() }))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        Ok(self.state.lock().file(path)?.lock().bytes.clone())
    }

    fn read_at(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.state.lock().file(path)?;
        let file = file.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.bytes.len());
        let end = start.saturating_add(length).min(file.bytes.len());
        Ok(file.bytes[start..end].to_vec())
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        Ok(self.state.lock().file(path)?.lock().bytes.len() as u64)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.files.keys().filter(|path| is_directly_in(path, folder));
        Ok(inside.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    fn create_dir(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.file(from)?;
        state.files.remove(from);
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file(path)?;
        state.files.remove(path);
        Ok(())
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        let file = self.state.lock().file(path)?;
        let mut file = file.lock();
        file.bytes.resize(length as usize, 0);
        file.synced = file.bytes.len();
        Ok(())
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.synced_names.retain(|path, _| !is_directly_in(path, folder));
        for (path, file) in &state.files {
            if is_directly_in(path, folder) {
                state.synced_names.insert(path.clone(), file.clone());
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

struct SimHandle {
    file: Arc<Mutex<SimFile>>,
    disk: Arc<Mutex<SimDiskState>>,
}

impl DiskFile for SimHandle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let state = self.disk.lock();
        if state.capacity.is_some_and(|capacity| state.used() + bytes.len() as u64 > capacity) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        self.file.lock().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        match state.syncs_until_failure {
            Some(0) => {
                state.syncs_until_failure = None;
                return Err(io::Error::other("simulated sync failure"));
            }
            Some(count) => state.syncs_until_failure = Some(count - 1),
            None => {}
        }
        let mut file = self.file.lock();
        file.synced = file.bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_cut_keeps_synced_bytes_and_synced_names_only() {
        let sim = Sim::new(7);
        let mut kept = sim.disk.create("kept").expect("new");
        kept.append(b"safe").expect("append");
        kept.sync().expect("sync");
        kept.append(b"maybe").expect("append");
        sim.disk.sync_dir("").expect("sync dir");
        let mut lost = sim.disk.create("lost").expect("new");
        lost.append(b"x").expect("append");
        lost.sync().expect("sync");
        sim.disk.power_cut(&*sim.rng);
        assert!(sim.disk.read("kept").expect("kept").starts_with(b"safe"));
        assert!(sim.disk.read("lost").is_err(), "its name was never synced");
    }
}
