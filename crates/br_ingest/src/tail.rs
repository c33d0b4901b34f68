//! The live tail: records go out as they are applied, past the stores.

use br_model::names::label_name;
use br_model::{Labels, LogBatch, LogRecord, Resource, TenantId};
use br_storage::LogRow;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Rows of one request, for everybody who listens.
#[derive(Clone, Debug)]
pub struct TailBatch {
    pub tenant: TenantId,
    pub rows: Arc<Vec<LogRow>>,
}

/// Where listeners come and go.
#[derive(Clone)]
pub struct Tail {
    sender: broadcast::Sender<TailBatch>,
}

/// A listener that is this many requests behind loses the oldest, and is told how many.
const BEHIND_MAX: usize = 256;

impl Default for Tail {
    fn default() -> Self {
        Self { sender: broadcast::channel(BEHIND_MAX).0 }
    }
}

impl Tail {
    pub fn listen(&self) -> broadcast::Receiver<TailBatch> {
        self.sender.subscribe()
    }

    /// Costs nothing while nobody listens.
    pub(crate) fn publish(&self, tenant: TenantId, batch: &LogBatch) {
        if self.sender.receiver_count() == 0 || batch.groups.is_empty() {
            return;
        }
        let mut rows = Vec::with_capacity(batch.record_count());
        for group in &batch.groups {
            let stream = stream_labels(&group.resource);
            rows.extend(group.records.iter().map(|record| row(&stream, record)));
        }
        // An error says that the last listener has just gone.
        let _ = self.sender.send(TailBatch { tenant, rows: Arc::new(rows) });
    }
}

fn stream_labels(resource: &Resource) -> Labels {
    Labels::from_pairs(resource.attributes.iter().map(|(key, value)| (label_name(key), value.to_string())))
}

/// The severity's word, for a record that has no text of its own for it; as stored rows have it.
fn detected_level(record: &LogRecord) -> Option<&'static str> {
    Some(record.severity.as_str()).filter(|word| !word.is_empty() && record.severity_text.is_empty())
}

fn row(stream: &Labels, record: &LogRecord) -> LogRow {
    let mut metadata: Vec<(String, String)> =
        record.attributes.iter().map(|(key, value)| (label_name(key), value.to_string())).collect();
    let ids = [
        ("trace_id", (!record.trace_id.is_none()).then(|| record.trace_id.to_string())),
        ("span_id", (!record.span_id.is_none()).then(|| record.span_id.to_string())),
        ("severity_text", (!record.severity_text.is_empty()).then(|| record.severity_text.clone())),
        ("detected_level", detected_level(record).map(str::to_owned)),
    ];
    metadata.extend(ids.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    LogRow {
        timestamp: record.timestamp,
        stream: stream.clone(),
        line: record.body.clone(),
        kind: record.kind,
        severity: record.severity,
        trace_id: record.trace_id,
        span_id: record.span_id,
        metadata,
    }
}
