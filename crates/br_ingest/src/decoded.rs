//! What one request brings.

use br_events::Erasure;
use br_journal::Record;
use br_model::{KnownSample, LogBatch, MetricBatch, Sample, SeriesSamples, SpanBatch, Value};
use br_tsdb::{Deletion, Foreseen};
use br_wire::{Cuts, Rejection, elastic};
use parking_lot::Mutex;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Decoded {
    pub metrics: MetricBatch,
    /// For each series of `metrics` the hash of its labels as they were sent, zero for none; empty when no protocol gives any.
    pub identities: Vec<u128>,
    /// Under which those labels were looked at for what is masked; zero for none.
    pub policy: u16,
    /// Samples of series that the metrics store knew when this was decoded.
    pub known: Vec<KnownSample>,
    /// The request itself, to be read in full should the store have forgotten one of `known` by then.
    pub record: Option<Record>,
    /// Of an administrator: what the metrics store had before this goes.
    pub deletion: Option<Deletion>,
    /// What is known of it already; taken by the lane.
    pub foreseen: Mutex<Foreseen>,
    /// Of an administrator: which logs and spans the event store loses of what it had before this.
    pub erasure: Option<Erasure>,
    /// Each sample counts what came since the one before it.
    pub delta_metrics: MetricBatch,
    pub logs: LogBatch,
    pub spans: SpanBatch,
    /// What was wrong, the first few of it; the rest of the request is good.
    pub rejected: Vec<Rejection>,
    pub rejected_count: u64,
    /// What was cut or left out of the records that are good.
    pub cuts: Cuts,
    /// What became of each action of a bulk request.
    pub items: Option<elastic::Items>,
    /// Types of the items that no room of ours takes: they are kept as records of their own.
    pub unknown_items: Vec<String>,
    /// What a store refused when it took the rest; filled in by its lane, read by whoever waits to answer the sender.
    pub refused: Arc<Mutex<Refused>>,
}

/// Only a store can tell a second value for one time, or a series too many.
#[derive(Debug, Default)]
pub struct Refused {
    pub count: u64,
    /// Of them, and of exemplars of series that were not let in.
    pub samples: u64,
    pub exemplars: u64,
    pub examples: Vec<String>,
}

impl Decoded {
    pub fn has_metrics(&self) -> bool {
        let has_series = !self.metrics.series.is_empty() || !self.delta_metrics.series.is_empty();
        has_series || self.deletion.is_some() || !self.known.is_empty() || !self.metrics.metadata.is_empty()
    }

    /// About what this takes in memory.
    pub fn memory_bytes(&self) -> usize {
        const SAMPLE: usize = size_of::<Sample>();
        const ATTRIBUTE: usize = 64;
        let series = self.metrics.series.iter().chain(&self.delta_metrics.series);
        let of_histogram = |sample: &Sample| match &sample.value {
            Value::Float(_) => 0,
            Value::Histogram(histogram) => histogram.memory_bytes(),
        };
        let of_series = |series: &SeriesSamples| {
            let histograms: usize = series.samples.iter().map(of_histogram).sum();
            let texts = series.exemplars.iter().flat_map(|exemplar| exemplar.labels.iter());
            let exemplars: usize = texts.map(|(name, value)| ATTRIBUTE + name.len() + value.len()).sum();
            256 + series.labels.len() * ATTRIBUTE + series.samples.len() * SAMPLE + histograms + exemplars
        };
        let metrics: usize = series.map(of_series).sum();
        let families = self.metrics.metadata.iter().chain(&self.delta_metrics.metadata);
        let metadata: usize = families.map(|(name, family)| ATTRIBUTE + name.len() + family.help.len() + family.unit.len()).sum();
        let records = self.logs.groups.iter().flat_map(|group| &group.records);
        let logs: usize = records
            .map(|record| size_of::<br_model::LogRecord>() + record.body.len() + record.attributes.0.len() * ATTRIBUTE)
            .sum();
        let spans = self.spans.groups.iter().flat_map(|group| &group.spans);
        let spans: usize = spans.map(|span| size_of::<br_model::Span>() + span.attributes.0.len() * ATTRIBUTE).sum();
        metrics + metadata + self.known.len() * size_of::<KnownSample>() + logs + spans
    }

    pub fn has_events(&self) -> bool {
        !self.logs.groups.is_empty() || !self.spans.groups.is_empty() || self.erasure.is_some()
    }

    /// Records that are errors: what the list of issues takes.
    pub fn error_count(&self) -> usize {
        self.logs.groups.iter().flat_map(|group| &group.records).filter(|record| record.error.is_some()).count()
    }
}
