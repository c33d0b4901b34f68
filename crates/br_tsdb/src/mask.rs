//! What queries and merges must not see any more: samples that were deleted, or whose time is over.

use crate::deletion::Tombstone;
use crate::points;
use crate::retention::RetentionRules;
use crate::store::Shared;
use br_model::{Exemplar, Labels, TenantId};
use br_storage::{JournalPosition, Points};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is in force now.
#[derive(Default)]
pub(crate) struct InForce {
    /// By tenant and record of the journal.
    pub(crate) tombstones: RwLock<BTreeMap<(TenantId, JournalPosition), Arc<Tombstone>>>,
    pub(crate) retention: RwLock<Option<RetentionRules>>,
}

/// One tenant's, at one moment. Take it before the list of files: one that is done with is only dropped after its files.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    tombstones: Vec<Arc<Tombstone>>,
    /// Cutoffs in milliseconds, by rule.
    retention: Option<(RetentionRules, Vec<i64>)>,
    /// The last deletion that counts here.
    last: JournalPosition,
}

/// How far a part of the store is: deletions of records behind its last one concern it, unless they were carried out on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) last_record: JournalPosition,
    pub(crate) deleted_to: JournalPosition,
    /// Rollups outlive the raw samples: only rules that name their series concern them.
    pub(crate) is_rollup: bool,
}

impl Reach {
    /// Of samples that came after every deletion so far.
    pub(crate) const OPEN: Self =
        Self { last_record: JournalPosition(u64::MAX), deleted_to: JournalPosition(u64::MAX), is_rollup: false };

    /// Of samples that were sealed with this record as the last.
    pub(crate) fn of_seal(last_record: JournalPosition) -> Self {
        Self { last_record, deleted_to: JournalPosition(0), is_rollup: false }
    }

    pub(crate) fn is_concerned(self, tombstone: &Tombstone) -> bool {
        self.last_record < tombstone.position && self.deleted_to < tombstone.position
    }
}

/// Spans of time, both ends included.
pub(crate) type Hidden = Vec<(i64, i64)>;

impl InForce {
    /// What concerns samples between two times, both included.
    pub(crate) fn mask(&self, tenant: TenantId, from_ms: i64, to_ms: i64) -> Mask {
        let all = self.tombstones.read();
        let of_tenant = || all.range((tenant, JournalPosition(0))..=(tenant, JournalPosition(u64::MAX)));
        let last = of_tenant().next_back().map(|((_, position), _)| *position).unwrap_or_default();
        let overlapping = of_tenant().map(|(_, tombstone)| tombstone);
        let tombstones = overlapping.filter(|one| one.deletion.overlaps(from_ms, to_ms)).cloned().collect();
        let retention = self.retention.read().as_ref().and_then(|rules| {
            let now_ms = rules.now_ms();
            let cutoffs: Vec<i64> = rules.rules().map(|(_, rule)| rule.cutoff_ms(now_ms)).collect();
            cutoffs.iter().any(|cutoff| from_ms < *cutoff).then(|| (rules.clone(), cutoffs))
        });
        Mask { tombstones, retention, last }
    }
}

impl Shared {
    pub(crate) fn mask(&self, tenant: TenantId, from_ms: i64, to_ms: i64) -> Mask {
        self.in_force.mask(tenant, from_ms, to_ms)
    }
}

impl Mask {
    pub(crate) fn is_empty(&self) -> bool {
        self.tombstones.is_empty() && self.retention.is_none()
    }

    /// What of it concerns parts of the store, of each how far it is and between which times its samples lie.
    pub(crate) fn concerning(&self, parts: &[(Reach, i64, i64)]) -> Self {
        let is_deleted_from = |one: &Tombstone| {
            parts.iter().any(|(reach, min_ms, max_ms)| reach.is_concerned(one) && one.deletion.overlaps(*min_ms, *max_ms))
        };
        let tombstones = self.tombstones.iter().filter(|one| is_deleted_from(one)).cloned().collect();
        let oldest_ms = parts.iter().map(|(_, min_ms, _)| *min_ms).min().unwrap_or(i64::MAX);
        let retention = self.retention.as_ref().filter(|(_, cutoffs)| cutoffs.iter().any(|cutoff| oldest_ms < *cutoff)).cloned();
        Self { tombstones, retention, last: self.last }
    }

    /// All deletions up to this record are among those that are applied here.
    pub(crate) fn last(&self) -> JournalPosition {
        self.last
    }

    /// What is hidden of a series in one part of the store.
    pub(crate) fn hidden(&self, labels: &Labels, reach: Reach) -> Hidden {
        let concerning = self.tombstones.iter().filter(|one| reach.is_concerned(one) && one.deletion.means(labels));
        let mut hidden: Hidden = concerning.map(|one| (one.deletion.from_ms, one.deletion.to_ms)).collect();
        if let Some((rules, cutoffs)) = &self.retention
            && let rule = rules.rule_of(labels)
            && let Some(cutoff) = cutoffs.get(rule)
            && !(reach.is_rollup && rules.is_rest(rule))
        {
            hidden.push((i64::MIN, cutoff.saturating_sub(1)));
        }
        hidden
    }
}

pub(crate) fn is_hidden(hidden: &Hidden, timestamp_ms: i64) -> bool {
    hidden.iter().any(|(from_ms, to_ms)| (*from_ms..=*to_ms).contains(&timestamp_ms))
}

/// Whether one of the spans covers all of this one.
pub(crate) fn covers(hidden: &Hidden, from_ms: i64, to_ms: i64) -> bool {
    hidden.iter().any(|span| span.0 <= from_ms && span.1 >= to_ms)
}

/// What remains of some samples.
pub(crate) fn visible(points: Points, hidden: &Hidden) -> Option<Points> {
    let times = &points.timestamps_ms;
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return None };
    if !hidden.iter().any(|(from_ms, to_ms)| from_ms <= last && to_ms >= first) {
        return Some(points);
    }
    let mut parts = Vec::new();
    let mut from = 0;
    while from < times.len() {
        let is_first_hidden = is_hidden(hidden, times[from]);
        let length = times[from..].iter().take_while(|time| is_hidden(hidden, **time) == is_first_hidden).count();
        if !is_first_hidden {
            parts.push(points::slice(&points, from, from + length));
        }
        from += length;
    }
    points::merge(parts)
}

pub(crate) fn drop_hidden_exemplars(exemplars: &mut Vec<Exemplar>, hidden: &Hidden) {
    exemplars.retain(|exemplar| !is_hidden(hidden, exemplar.timestamp_ms));
}
