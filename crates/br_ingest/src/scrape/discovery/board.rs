//! What the discoveries of one job have found so far, and how they fare.

use super::TargetGroup;
use br_std::Error;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// How one discovery fares, for the targets page and `/metrics`.
#[derive(Clone, Debug)]
pub struct DiscoveryStatus {
    pub job: String,
    /// `file`, `http`, `dns`, `docker` or `kubernetes`.
    pub mechanism: &'static str,
    /// Where it looks: files, an address, names, a role.
    pub place: String,
    /// Before relabelling.
    pub targets: usize,
    /// Since the start.
    pub failures: u64,
    /// Why the last look failed; the targets are those of the last good one.
    pub last_error: Option<String>,
}

/// One place for each discovery of a job.
#[derive(Debug)]
pub(in crate::scrape) struct Board {
    job: String,
    slots: Mutex<Vec<Slot>>,
    changed: Notify,
}

#[derive(Debug)]
struct Slot {
    groups: Arc<[Arc<TargetGroup>]>,
    status: DiscoveryStatus,
}

impl Board {
    pub(in crate::scrape) fn new(job: &str) -> Arc<Self> {
        Arc::new(Self { job: job.to_owned(), slots: Mutex::default(), changed: Notify::new() })
    }

    /// Adds a discovery.
    pub(super) fn report(self: &Arc<Self>, mechanism: &'static str, place: String) -> Report {
        let mut slots = self.slots.lock();
        let status = DiscoveryStatus { job: self.job.clone(), mechanism, place, targets: 0, failures: 0, last_error: None };
        slots.push(Slot { groups: Arc::from([]), status });
        Report { board: self.clone(), index: slots.len() - 1 }
    }

    /// Returns when a discovery has found something else than before.
    pub(in crate::scrape) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What all discoveries know now.
    pub(in crate::scrape) fn groups(&self) -> Vec<Arc<TargetGroup>> {
        self.slots.lock().iter().flat_map(|slot| slot.groups.iter().cloned()).collect()
    }

    pub(in crate::scrape) fn status(&self) -> Vec<DiscoveryStatus> {
        self.slots.lock().iter().map(|slot| slot.status.clone()).collect()
    }
}

/// The hand with which one discovery writes on the board.
pub(super) struct Report {
    board: Arc<Board>,
    index: usize,
}

impl Report {
    pub(super) fn found(&self, groups: Vec<TargetGroup>, complaints: Vec<Error>) {
        let mut slots = self.board.slots.lock();
        let slot = &mut slots[self.index];
        if !slot.groups.iter().map(|group| &**group).eq(&groups) {
            slot.status.targets = groups.iter().map(|group| group.targets.len()).sum();
            slot.groups = groups.into_iter().map(Arc::new).collect();
            self.board.changed.notify_one();
        }
        if complaints.is_empty() {
            slot.status.last_error = None;
        }
        for error in &complaints {
            slot.fail(error);
        }
    }

    pub(super) fn failed(&self, error: &Error) {
        self.board.slots.lock()[self.index].fail(error);
    }
}

impl Slot {
    fn fail(&mut self, error: &Error) {
        let status = &mut self.status;
        status.failures += 1;
        let text = error.to_string();
        // The same failure again is counted, not told again.
        if status.last_error.as_ref() != Some(&text) {
            tracing::warn!(
                event = "DiscoveryError",
                job = status.job,
                mechanism = status.mechanism,
                place = status.place,
                "{text}"
            );
            status.last_error = Some(text);
        }
    }
}
