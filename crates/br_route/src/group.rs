//! Grouping: one message for all alerts of a rule, after a short wait for the others.
//!
//! Each record remembers what the receivers were told of it, so what is still to be told follows from the records alone.

use br_std::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A group keeps this many alerts; of those above, only the count is told.
pub const ALERTS_PER_GROUP_MAX: usize = 1000;

/// Which alerts go into one message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupKey {
    pub rule_file: String,
    pub rule_group: String,
    pub alertname: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTimes {
    /// From the first news of a quiet group to its message.
    pub wait: Duration,
    /// Between messages of one group when there is news.
    pub interval: Duration,
    /// Between messages without news while something fires.
    pub repeat: Duration,
}

impl Default for GroupTimes {
    fn default() -> Self {
        Self { wait: Duration::from_secs(5), interval: Duration::from_mins(1), repeat: Duration::from_hours(4) }
    }
}

/// One alert as the receivers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Nothing,
    Firing,
    Resolved,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// The episode's id.
    pub id: String,
    pub is_firing: bool,
    pub told: Told,
}

/// A group's alerts and the times of its messages. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    alerts: BTreeMap<String, AlertRecord>,
    /// When news came that was not told yet.
    news_at: Option<i64>,
    last_message_at: Option<i64>,
    /// Counts messages: part of the dedup key.
    epoch: u64,
    /// Alerts beyond [`ALERTS_PER_GROUP_MAX`] since the last message.
    left_out: u64,
}

/// A message is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    pub key: GroupKey,
    /// The same for the same message, also when a crash repeats the step.
    pub dedup_key: String,
    pub firing: Vec<String>,
    /// Those whose firing was told and whose end was not.
    pub resolved: Vec<String>,
    pub left_out: u64,
}

/// All groups. Serialise it with the change of state that it follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    groups: Vec<(GroupKey, Group)>,
}

impl Groups {
    /// News of an alert: it fires, or no longer does.
    pub fn observe(&mut self, now: Nanos, key: &GroupKey, id: &str, is_firing: bool) {
        let group = self.group(key);
        let is_full = group.alerts.len() >= ALERTS_PER_GROUP_MAX;
        match group.alerts.get_mut(id) {
            Some(record) => record.is_firing = is_firing,
            None if !is_firing => return,
            None if is_full => group.left_out += 1,
            None => {
                group.alerts.insert(id.to_owned(), AlertRecord { id: id.to_owned(), is_firing, told: Told::Nothing });
            }
        }
        // An alert that came and went within the wait is still told: somebody was meant to hear of it.
        group.news_at.get_or_insert(now.0);
    }

    /// Messages that are due.
    pub fn step(&mut self, now: Nanos, times: GroupTimes) -> Vec<Flush> {
        let mut flushes = Vec::new();
        for (key, group) in &mut self.groups {
            if due_at(group, times).is_some_and(|due| due <= now) {
                flushes.push(flush(key, group, now));
            }
        }
        self.groups.retain(|(_, group)| !group.alerts.is_empty() || group.news_at.is_some());
        flushes
    }

    /// When the next message is due; `None` while there is nothing to tell.
    pub fn next_at(&self, times: GroupTimes) -> Option<Nanos> {
        self.groups.iter().filter_map(|(_, group)| due_at(group, times)).min()
    }

    fn group(&mut self, key: &GroupKey) -> &mut Group {
        let at = match self.groups.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(at) => at,
            Err(at) => {
                self.groups.insert(at, (key.clone(), Group::default()));
                at
            }
        };
        &mut self.groups[at].1
    }
}

fn due_at(group: &Group, times: GroupTimes) -> Option<Nanos> {
    let last = group.last_message_at.map(Nanos);
    if let Some(news_at) = group.news_at.map(Nanos) {
        let after_wait = news_at + times.wait;
        return Some(last.map_or(after_wait, |last| after_wait.max(last + times.interval)));
    }
    let fires = group.alerts.values().any(|record| record.is_firing);
    last.filter(|_| fires).map(|last| last + times.repeat)
}

fn flush(key: &GroupKey, group: &mut Group, now: Nanos) -> Flush {
    let mut firing = Vec::new();
    let mut resolved = Vec::new();
    for record in group.alerts.values_mut() {
        if record.is_firing {
            firing.push(record.id.clone());
            record.told = Told::Firing;
        } else {
            resolved.push(record.id.clone());
            record.told = Told::Resolved;
        }
    }
    group.alerts.retain(|_, record| record.told != Told::Resolved);
    group.epoch += 1;
    // The time of the news keeps keys apart after a group was forgotten and began again.
    let began = group.news_at.or(group.last_message_at).unwrap_or(now.0);
    let identity = format!("{}\u{1f}{}\u{1f}{}\u{1f}{}\u{1f}{began}", key.rule_file, key.rule_group, key.alertname, group.epoch);
    group.news_at = None;
    group.last_message_at = Some(now.0);
    let left_out = std::mem::take(&mut group.left_out);
    Flush {
        key: key.clone(),
        dedup_key: format!("{:032x}", br_std::hash::hash128(identity.as_bytes())),
        firing,
        resolved,
        left_out,
    }
}
