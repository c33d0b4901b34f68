//! Times that are kept at all.
//!
//! A record that is older than the retention would be gone at the next beat; one of the year 2200 would keep its file for ever. Clocks
//! that are so wrong are the sender's to mend, so the sender is told.

use crate::decoded::Decoded;
use br_events::EventRules;
use br_model::MetricBatch;
use br_std::Nanos;
use br_wire::Rejection;
use std::sync::Arc;
use std::time::Duration;

/// How far a record may lie behind the time at which it was received, and how far ahead of it.
#[derive(Clone, Debug)]
pub struct TimeBounds {
    pub samples_behind: Duration,
    pub samples_ahead: Duration,
    pub logs_behind: Duration,
    pub spans_behind: Duration,
    /// Of logs and spans.
    pub events_ahead: Duration,
    /// For logs and spans that are not kept as long as others.
    pub event_rules: Option<Arc<EventRules>>,
}

/// No bounds.
impl Default for TimeBounds {
    fn default() -> Self {
        let endless = Duration::MAX;
        Self {
            samples_behind: endless,
            samples_ahead: endless,
            logs_behind: endless,
            spans_behind: endless,
            events_ahead: endless,
            event_rules: None,
        }
    }
}

/// Both ends are included.
#[derive(Clone, Copy)]
struct Bounds {
    received: Nanos,
    behind: Duration,
    ahead: Duration,
}

impl Bounds {
    /// Why a time is refused.
    fn check(self, at: Nanos) -> Result<(), String> {
        let hours = |duration: Duration| duration.as_secs() / 3600;
        if at < self.received - self.behind {
            return Err(format!("its time {at} is further back than is kept ({} h)", hours(self.behind)));
        }
        if at > self.received + self.ahead {
            let minutes = self.ahead.as_secs() / 60;
            return Err(format!("its time {at} is more than {minutes} min ahead of the server's clock"));
        }
        Ok(())
    }
}

impl TimeBounds {
    /// Takes out what lies outside, with a complaint each.
    pub(crate) fn refuse(&self, decoded: &mut Decoded, received: Nanos) {
        // What is left does not say how much stood before it.
        let mut complaints = Complaints { has_places: decoded.rejected_count == 0, ..Complaints::default() };
        let bounds = |behind, ahead| Bounds { received, behind, ahead };
        let samples = bounds(self.samples_behind, self.samples_ahead);
        // These are few: a known series is named by its number, which tells a sender nothing.
        let times = |sample: &br_model::KnownSample| samples.check(Nanos::from_millis(sample.timestamp_ms));
        decoded.known.retain(|sample| complaints.keeps(times(sample), || "sample of a series sent before".to_owned()));
        refuse_samples(&mut decoded.metrics, &mut decoded.identities, samples, &mut complaints);
        refuse_samples(&mut decoded.delta_metrics, &mut Vec::new(), samples, &mut complaints);
        let logs = bounds(self.logs_behind, self.events_ahead);
        let (items, mut place) = (&mut decoded.items, 0);
        for group in &mut decoded.logs.groups {
            let mut rules = self.event_rules.as_ref().map(|rules| rules.of(&group.resource));
            group.records.retain(|record| {
                let mut by_rule = || rules.as_mut().map_or(Ok(()), |rules| rules.check_log(record, received));
                let outcome = logs.check(record.timestamp).and_then(|()| by_rule());
                if let (Err(reason), Some(items)) = (&outcome, items.as_mut()) {
                    items.refuse_record(place, reason.clone());
                }
                place += 1;
                complaints.keeps(outcome, || "log record".to_owned())
            });
        }
        decoded.logs.groups.retain(|group| !group.records.is_empty());
        let spans = bounds(self.spans_behind, self.events_ahead);
        for group in &mut decoded.spans.groups {
            let mut rules = self.event_rules.as_ref().map(|rules| rules.of(&group.resource));
            group.spans.retain(|span| {
                let mut by_rule = || rules.as_mut().map_or(Ok(()), |rules| rules.check_span(span, received));
                let outcome = spans.check(span.start).and_then(|()| by_rule());
                complaints.keeps(outcome, || format!("span {:?}", span.name))
            });
        }
        decoded.spans.groups.retain(|group| !group.spans.is_empty());
        decoded.rejected_count += complaints.count;
        decoded.rejected.append(&mut complaints.shown);
    }
}

fn refuse_samples(batch: &mut MetricBatch, identities: &mut Vec<u128>, bounds: Bounds, complaints: &mut Complaints) {
    for series in &mut batch.series {
        let labels = &series.labels;
        let check = |millis| bounds.check(Nanos::from_millis(millis));
        series.samples.retain(|sample| complaints.keeps(check(sample.timestamp_ms), || format!("sample of {labels}")));
    }
    let is_left = |series: &br_model::SeriesSamples| !series.samples.is_empty() || !series.exemplars.is_empty();
    let mut left = batch.series.iter().map(is_left);
    identities.retain(|_| left.next().unwrap_or(false));
    batch.series.retain(is_left);
}

#[derive(Default)]
struct Complaints {
    has_places: bool,
    seen: usize,
    count: u64,
    shown: Vec<Rejection>,
}

/// Complaints that are kept in words; all are counted.
const SHOWN_MAX: usize = 64;

impl Complaints {
    fn keeps(&mut self, outcome: Result<(), String>, what: impl FnOnce() -> String) -> bool {
        let index = if self.has_places { self.seen } else { Rejection::NO_INDEX };
        self.seen += 1;
        let Err(reason) = outcome else { return true };
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(Rejection { index, reason: format!("{}: {reason}", what()) });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::{LogRecord, ResourceLogs};

    #[test]
    fn what_is_of_no_kept_time_is_refused_with_a_reason() {
        let received = Nanos::from_secs(1_000_000);
        let day = Duration::from_hours(24);
        let bounds = TimeBounds { logs_behind: day, events_ahead: day, ..TimeBounds::default() };
        let times = [Nanos::MIN, Nanos(0), received - day, received, received + day, Nanos::MAX];
        let records = times.map(|timestamp| LogRecord { timestamp, ..LogRecord::default() }).to_vec();
        let mut decoded = Decoded::default();
        decoded.logs.groups.push(ResourceLogs { records, ..ResourceLogs::default() });
        bounds.refuse(&mut decoded, received);
        let kept: Vec<Nanos> =
            decoded.logs.groups.iter().flat_map(|group| &group.records).map(|record| record.timestamp).collect();
        assert_eq!(kept, times[2..5]);
        assert_eq!(decoded.rejected_count, 3);
        assert!(decoded.rejected[0].to_string().contains("further back"), "{}", decoded.rejected[0]);
        assert!(decoded.rejected[2].to_string().starts_with("5: log record"), "{}", decoded.rejected[2]);

        // One that was refused before is not counted any more.
        let records = vec![LogRecord { timestamp: Nanos(0), ..LogRecord::default() }];
        decoded.logs.groups.push(ResourceLogs { records, ..ResourceLogs::default() });
        bounds.refuse(&mut decoded, received);
        assert!(decoded.rejected[3].to_string().starts_with("log record: its time"), "{}", decoded.rejected[3]);
    }
}
