//! What a process and its descendants use, read from /proc.

use procfs::process::{Process, all_processes};
use std::collections::BTreeMap;

/// Sums over the tree at one moment. Counters never go down, also when a child ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) processes: u64,
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
    pub(super) disk_read_bytes: u64,
    pub(super) disk_written_bytes: u64,
    /// Of the network namespace in which the tree runs: Linux does not count by process.
    pub(super) network_received_bytes: u64,
    pub(super) network_sent_bytes: u64,
}

/// What one process had counted when it was last seen.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    cpu_ticks: u64,
    read_bytes: u64,
    written_bytes: u64,
}

/// Follows the tree below one process.
pub(super) struct Tree {
    root: i32,
    ticks_per_second: f64,
    page_bytes: u64,
    /// By process id and start time, so that a reused id is another process.
    seen: BTreeMap<(i32, u64), Counted>,
    cpu_ticks: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl Tree {
    pub(super) fn new(root: u32) -> Self {
        Self {
            root: i32::try_from(root).unwrap_or(i32::MAX),
            ticks_per_second: procfs::ticks_per_second() as f64,
            page_bytes: procfs::page_size(),
            seen: BTreeMap::new(),
            cpu_ticks: 0,
            read_bytes: 0,
            written_bytes: 0,
        }
    }

    /// `None` once the root has ended.
    pub(super) fn sample(&mut self) -> Option<Usage> {
        let processes = self.members()?;
        let mut usage = Usage::default();
        let mut seen = BTreeMap::new();
        for process in &processes {
            // A process that ends while it is read is left out; its counters up to the last sample stay counted.
            let Ok(stat) = process.stat() else { continue };
            usage.processes += 1;
            usage.resident_bytes += stat.rss * self.page_bytes;
            usage.virtual_bytes += stat.vsize;
            usage.threads += u64::try_from(stat.num_threads).unwrap_or(0);
            usage.open_files += process.fd_count().unwrap_or(0) as u64;
            let io = process.io().ok();
            let counted = Counted {
                cpu_ticks: stat.utime + stat.stime,
                read_bytes: io.as_ref().map_or(0, |io| io.read_bytes),
                written_bytes: io.as_ref().map_or(0, |io| io.write_bytes),
            };
            let key = (process.pid(), stat.starttime);
            let before = self.seen.get(&key).copied().unwrap_or_default();
            self.cpu_ticks += counted.cpu_ticks.saturating_sub(before.cpu_ticks);
            self.read_bytes += counted.read_bytes.saturating_sub(before.read_bytes);
            self.written_bytes += counted.written_bytes.saturating_sub(before.written_bytes);
            seen.insert(key, counted);
        }
        self.seen = seen;
        usage.cpu_seconds = self.cpu_ticks as f64 / self.ticks_per_second;
        usage.disk_read_bytes = self.read_bytes;
        usage.disk_written_bytes = self.written_bytes;
        (usage.network_received_bytes, usage.network_sent_bytes) = self.network();
        Some(usage)
    }

    /// The root and all below it.
    fn members(&self) -> Option<Vec<Process>> {
        let root = Process::new(self.root).ok()?;
        let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
        for process in all_processes().ok()?.flatten() {
            if let Ok(stat) = process.stat() {
                children.entry(stat.ppid).or_default().push(process);
            }
        }
        let mut members = vec![root];
        let mut at = 0;
        while at < members.len() {
            let below = children.remove(&members[at].pid()).unwrap_or_default();
            members.extend(below);
            at += 1;
        }
        Some(members)
    }

    fn network(&self) -> (u64, u64) {
        let devices = Process::new(self.root).and_then(|root| root.dev_status()).unwrap_or_default();
        #[allow(clippy::iter_over_hash_type, reason = "a sum does not depend on the order")]
        devices.values().fold((0, 0), |(received, sent), device| (received + device.recv_bytes, sent + device.sent_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_this_process_and_what_it_uses() {
        let mut tree = Tree::new(std::process::id());
        let first = tree.sample().expect("this process runs");
        assert!(first.processes >= 1 && first.resident_bytes > 0 && first.threads >= 1 && first.open_files > 0);
        let mut work = 0u64;
        while tree.sample().is_some_and(|usage| usage.cpu_seconds <= first.cpu_seconds) {
            work = (0..100_000).fold(work, |sum, next| sum ^ (sum << 1) ^ next);
        }
        assert!(tree.sample().is_some_and(|usage| usage.cpu_seconds > first.cpu_seconds), "{work}");
    }

    #[test]
    fn a_process_that_ended_is_no_tree() {
        assert_eq!(Tree::new(u32::MAX).sample(), None);
    }
}
