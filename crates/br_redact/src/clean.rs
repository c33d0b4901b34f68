//! Label sets that were looked at and had nothing to mask: a sender of metrics sends the same ones every few seconds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// 4 MiB of memory, once metrics come.
const PLACES: usize = 1 << 20;

/// A place for each hash; who comes later takes it over. Two sets share a hash once in four thousand million times.
#[derive(Debug, Default)]
pub(crate) struct CleanSets(OnceLock<Box<[AtomicU32]>>);

impl CleanSets {
    fn place(&self, hash: u64) -> &AtomicU32 {
        let places = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU32::new(0)).collect());
        &places[hash as usize % PLACES]
    }

    /// Zero is an empty place.
    fn tag(hash: u64) -> u32 {
        ((hash >> 32) as u32).max(1)
    }

    pub(crate) fn knows(&self, hash: u64) -> bool {
        self.place(hash).load(Ordering::Relaxed) == Self::tag(hash)
    }

    pub(crate) fn learn(&self, hash: u64) {
        self.place(hash).store(Self::tag(hash), Ordering::Relaxed);
    }
}
