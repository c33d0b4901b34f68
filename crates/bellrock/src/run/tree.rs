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

/// A sum of counters over the living.
///
/// What a process has counted goes to its parent when that waits for it, so that the sum over the living is the whole. What nobody
/// waits for is lost with the process: then the sum falls, and stays fallen, and the counter goes on from where it was. A sum that is
/// low for one look only was read while a process ended.
#[derive(Debug, Default)]
struct Counter {
    lost: u64,
    told: u64,
    was_low: bool,
}

impl Counter {
    fn observe(&mut self, living: u64) -> u64 {
        let now = self.lost + living;
        let is_low = now < self.told;
        if is_low && self.was_low {
            self.lost += self.told - now;
        }
        self.was_low = is_low && !self.was_low;
        self.told = self.told.max(now);
        self.told
    }
}

/// Follows the tree below one process.
pub(super) struct Tree {
    root: i32,
    ticks_per_second: f64,
    page_bytes: u64,
    cpu_ticks: Counter,
    read_bytes: Counter,
    written_bytes: Counter,
}

impl Tree {
    pub(super) fn new(root: u32) -> Self {
        Self {
            root: i32::try_from(root).unwrap_or(i32::MAX),
            ticks_per_second: procfs::ticks_per_second() as f64,
            page_bytes: procfs::page_size(),
            cpu_ticks: Counter::default(),
            read_bytes: Counter::default(),
            written_bytes: Counter::default(),
        }
    }

    /// `None` once the root has ended.
    pub(super) fn sample(&mut self) -> Option<Usage> {
        let processes = self.members()?;
        let mut usage = Usage::default();
        let (mut cpu_ticks, mut read_bytes, mut written_bytes) = (0, 0, 0);
        // Parents first: a child that ends in between is missed for this look, and never counted twice.
        for process in &processes {
            let Ok(stat) = process.stat() else { continue };
            usage.processes += 1;
            usage.resident_bytes += stat.rss * self.page_bytes;
            usage.virtual_bytes += stat.vsize;
            usage.threads += u64::try_from(stat.num_threads).unwrap_or(0);
            usage.open_files += process.fd_count().unwrap_or(0) as u64;
            let of_children = u64::try_from(stat.cutime).unwrap_or(0) + u64::try_from(stat.cstime).unwrap_or(0);
            cpu_ticks += stat.utime + stat.stime + of_children;
            // These have those of the children that were waited for in them.
            if let Ok(io) = process.io() {
                read_bytes += io.read_bytes;
                written_bytes += io.write_bytes;
            }
        }
        usage.cpu_seconds = self.cpu_ticks.observe(cpu_ticks) as f64 / self.ticks_per_second;
        usage.disk_read_bytes = self.read_bytes.observe(read_bytes);
        usage.disk_written_bytes = self.written_bytes.observe(written_bytes);
        (usage.network_received_bytes, usage.network_sent_bytes) = self.network();
        Some(usage)
    }

    /// After the root was waited for, when this process has no other children that ended: all of its time is in ours.
    pub(super) fn cpu_seconds_at_the_end(&self) -> f64 {
        let ours = Process::myself().and_then(|process| process.stat());
        let waited_for = ours.map_or(0, |stat| stat.cutime + stat.cstime);
        let ticks = u64::try_from(waited_for).unwrap_or(0) + self.cpu_ticks.lost;
        ticks.max(self.cpu_ticks.told) as f64 / self.ticks_per_second
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
    fn the_time_of_children_that_ended_between_looks_counts() {
        let mut tree = Tree::new(std::process::id());
        let first = tree.sample().expect("this process runs");
        let burn = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        let ticks_of_children = || {
            let stat = Process::myself().and_then(|process| process.stat()).expect("this process runs");
            (stat.cutime + stat.cstime) as f64
        };
        let started = ticks_of_children();
        while ticks_of_children() < started + 5.0 {
            assert!(std::process::Command::new("sh").args(["-c", burn]).status().is_ok_and(|status| status.success()));
        }
        let second = tree.sample().expect("this process runs");
        let ticks = (second.cpu_seconds - first.cpu_seconds) * tree.ticks_per_second;
        // The difference of two sums of seconds is a little off.
        assert!(ticks > 4.999, "{first:?} {second:?}");
    }

    #[test]
    fn a_counter_goes_on_after_a_loss_and_is_not_fooled_by_one_low_look() {
        let mut counter = Counter::default();
        assert_eq!(
            [10, 4, 12].map(|living| counter.observe(living)),
            [10, 10, 12],
            "low once: the child's time came to its parent"
        );
        assert_eq!([5, 5, 6, 9].map(|living| counter.observe(living)), [12, 12, 13, 16], "low twice: it is lost");
    }

    #[test]
    fn a_process_that_ended_is_no_tree() {
        assert_eq!(Tree::new(u32::MAX).sample(), None);
    }
}
