//! State over a restart: our own snapshot of everything, and Prometheus' `ALERTS_FOR_STATE` for who comes from there.

use crate::alert::{Alert, Alerting, for_state_labels};
use crate::step::AlertState;
use br_model::Labels;
use br_std::{Error, Nanos, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The form of [`AlertSnapshot`]; raised when a field changes its meaning.
pub const SNAPSHOT_VERSION: u32 = 1;

/// One alert as it is kept on disk. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSnapshot {
    pub version: u32,
    pub id: String,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
    pub state: String,
    /// As text, because JSON has no infinities.
    pub value: String,
    pub active_at: i64,
    pub fired_at: Option<i64>,
    pub resolved_at: Option<i64>,
    pub keep_firing_since: Option<i64>,
    pub unknown_since: Option<i64>,
}

impl From<&Alert> for AlertSnapshot {
    fn from(alert: &Alert) -> Self {
        Self {
            version: SNAPSHOT_VERSION,
            id: alert.id.clone(),
            labels: pairs(&alert.labels),
            annotations: pairs(&alert.annotations),
            state: alert.state.as_str().to_owned(),
            value: alert.value.to_string(),
            active_at: alert.active_at.0,
            fired_at: alert.fired_at.map(|at| at.0),
            resolved_at: alert.resolved_at.map(|at| at.0),
            keep_firing_since: alert.keep_firing_since.map(|at| at.0),
            unknown_since: alert.unknown_since.map(|at| at.0),
        }
    }
}

impl AlertSnapshot {
    /// A `Corrupt` error where a field makes no sense or the version is newer than this program.
    pub fn to_alert(&self) -> Result<Alert> {
        if self.version > SNAPSHOT_VERSION {
            return Err(Error::corrupt(format!("alert {} has version {}, newer than {SNAPSHOT_VERSION}", self.id, self.version)));
        }
        let state = AlertState::from_name(&self.state)
            .ok_or_else(|| Error::corrupt(format!("alert {} has the unknown state {:?}", self.id, self.state)))?;
        let value = self.value.parse();
        let value = value.map_err(|_| Error::corrupt(format!("alert {} has the value {:?}", self.id, self.value)))?;
        Ok(Alert {
            id: self.id.clone(),
            labels: Labels::from_pairs(self.labels.iter().map(|(name, value)| (name, value))),
            annotations: Labels::from_pairs(self.annotations.iter().map(|(name, value)| (name, value))),
            state,
            value,
            active_at: Nanos(self.active_at),
            fired_at: self.fired_at.map(Nanos),
            resolved_at: self.resolved_at.map(Nanos),
            keep_firing_since: self.keep_firing_since.map(Nanos),
            unknown_since: self.unknown_since.map(Nanos),
        })
    }
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// How Prometheus bridges an outage.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// A sample older than this says nothing any more.
    pub outage_tolerance: Duration,
    /// A restored alert waits at least this long before it fires; rules with a shorter `for` are not restored.
    pub grace: Duration,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { outage_tolerance: Duration::from_hours(1), grace: Duration::from_mins(10) }
    }
}

/// The time at which an alert counts as active, from the last `ALERTS_FOR_STATE` sample before an outage.
/// `None` when the sample says nothing.
pub fn restored_active_at(now: Nanos, hold: Duration, sample: (Nanos, f64), options: RestoreOptions) -> Option<Nanos> {
    let (sample_at, active_secs) = sample;
    if !active_secs.is_finite() || sample_at > now || now.since(sample_at) > options.outage_tolerance {
        return None;
    }
    let active_at = Nanos::from_secs(active_secs as i64);
    let spent = sample_at.since(active_at);
    let Some(remaining) = hold.checked_sub(spent).filter(|remaining| !remaining.is_zero()) else {
        return Some(active_at);
    };
    if remaining < options.grace {
        return Some(now + options.grace - hold);
    }
    // The outage itself does not count.
    Some(active_at + now.since(sample_at))
}

impl Alerting {
    /// Everything that must survive a restart.
    pub fn snapshot(&self) -> Vec<AlertSnapshot> {
        self.alerts.values().map(AlertSnapshot::from).collect()
    }

    /// Puts back what [`Alerting::snapshot`] gave. Alerts that make no sense are left out and reported.
    pub fn restore(&mut self, snapshots: &[AlertSnapshot]) -> Vec<Error> {
        let mut errors = Vec::new();
        for snapshot in snapshots {
            match snapshot.to_alert() {
                Ok(alert) => {
                    self.alerts.insert(alert.labels.hash128(), alert);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Prometheus' own restoration, to be run once, after the second evaluation: `last` gives the newest
    /// `ALERTS_FOR_STATE` sample of a label set. Then series are written.
    pub fn restore_from_series(&mut self, now: Nanos, last: &dyn Fn(&Labels) -> Option<(Nanos, f64)>, options: RestoreOptions) {
        let hold = self.hold();
        if hold >= options.grace {
            for alert in self.alerts.values_mut().filter(|alert| alert.state != AlertState::Inactive) {
                let sample = last(&for_state_labels(alert));
                if let Some(active_at) = sample.and_then(|sample| restored_active_at(now, hold, sample, options)) {
                    alert.active_at = active_at;
                }
            }
        }
        self.restored();
    }
}
