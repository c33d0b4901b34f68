//! Where samples that are made here go: into this server's own journal, or by remote write to another.

use br_model::MetricBatch;
use br_std::Result;
use std::future::Future;
use std::pin::Pin;

/// Takes the samples of a scrape, of a rule, of the process itself.
pub trait SampleSink: Send + Sync {
    /// Returns when the samples are safe, with what was refused of them, in words.
    fn write(&self, batch: MetricBatch) -> Pin<Box<dyn Future<Output = Result<Option<String>>> + Send + '_>>;
}
