//! What spans tell, kept as metrics: rate, errors and durations of each operation, and the calls between services.
//!
//! Names and labels are those of Tempo's metrics generator, which Grafana's service graph asks for; durations are native histograms.
//! They are made on the metrics lane, of the records themselves: what has gathered is written every 15 seconds of the times at which
//! records came, and before a head is sealed. A sum goes on from what the store has, so that over restarts each span counts once.

mod calls;
mod durations;
mod operations;

use br_model::{Labels, Metadata, MetricBatch, MetricType, Sample, SeriesSamples, SpanBatch, TenantId, Value};
use br_std::Nanos;
use calls::Calls;
use operations::Operations;
use std::collections::BTreeMap;

/// As often as a target is scraped.
const INTERVAL_MS: i64 = 15_000;

/// What is beyond those that are told apart is called.
const OTHER: &str = "(other)";
/// Names are cut behind so many bytes: they stay in memory.
const NAME_BYTES_MAX: usize = 256;

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

#[derive(Default)]
struct Tenant {
    operations: Operations,
    calls: Calls,
}

/// What has been seen since it was written last.
#[derive(Default)]
pub(crate) struct SpanMetrics {
    tenants: BTreeMap<TenantId, Tenant>,
    /// When the first span came of those that wait. `None` when none does.
    since_ms: Option<i64>,
    /// The time of what was written last.
    written_ms: i64,
}

impl SpanMetrics {
    pub(crate) fn observe(&mut self, tenant: TenantId, batch: &SpanBatch, received: Nanos) {
        if batch.span_count() == 0 {
            return;
        }
        self.since_ms.get_or_insert(received.as_millis());
        let tenant = self.tenants.entry(tenant).or_default();
        for group in &batch.groups {
            let service = group.resource.service_name();
            for span in &group.spans {
                tenant.operations.observe(service, span);
                tenant.calls.observe(service, span, received);
            }
        }
    }

    /// What is to be written now, as deltas. Before a seal all of it is.
    pub(crate) fn take(&mut self, now: Nanos, when: When) -> Vec<(TenantId, MetricBatch)> {
        let now_ms = now.as_millis();
        let Some(since_ms) = self.since_ms else { return Vec::new() };
        if when == When::Due && now_ms.saturating_sub(since_ms) < INTERVAL_MS {
            return Vec::new();
        }
        // Each sum of a series is newer than the one before it, whatever the clock does.
        let at_ms = now_ms.max(self.written_ms.saturating_add(1));
        let times = Times { start_ms: since_ms.min(at_ms - 1).max(self.written_ms), at_ms };
        (self.since_ms, self.written_ms) = (None, at_ms);
        let take = |(id, tenant): (&TenantId, &mut Tenant)| {
            let mut written = Written { times, batch: MetricBatch::default() };
            tenant.operations.write(&mut written);
            tenant.calls.write(now, &mut written);
            (*id, written.batch)
        };
        self.tenants.iter_mut().map(take).filter(|(_, batch)| !batch.series.is_empty()).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Due,
    AtOnce,
}

#[derive(Clone, Copy)]
struct Times {
    start_ms: i64,
    at_ms: i64,
}

/// A batch of deltas in the making.
struct Written {
    times: Times,
    batch: MetricBatch,
}

impl Written {
    fn describe(&mut self, family: &str, metric_type: MetricType, help: &str, unit: &str) {
        let metadata = Metadata { metric_type, help: help.to_owned(), unit: unit.to_owned() };
        self.batch.metadata.push((family.to_owned(), metadata));
    }

    fn push(&mut self, name: &str, labels: &[(&str, &str)], value: Value) -> &mut SeriesSamples {
        let Times { start_ms, at_ms } = self.times;
        let named = std::iter::once(("__name__", name)).chain(labels.iter().copied()).filter(|(_, value)| !value.is_empty());
        let sample = Sample { timestamp_ms: at_ms, value, start_ms: Some(start_ms) };
        let series = SeriesSamples { labels: Labels::from_pairs(named), samples: vec![sample], exemplars: Vec::new() };
        self.batch.series.push(series);
        let at = self.batch.series.len() - 1;
        &mut self.batch.series[at]
    }

    fn push_count(&mut self, name: &str, labels: &[(&str, &str)], count: u64) {
        if count > 0 {
            self.push(name, labels, Value::Float(count as f64));
        }
    }
}

#[cfg(test)]
mod tests;
