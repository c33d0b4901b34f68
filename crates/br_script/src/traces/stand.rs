//! A store over memory, and what is asked of it.

use super::Checks;
use br_env::Rng;
use br_events::{EventOptions, EventStore};
use br_model::{ResourceSpans, SpanBatch, TenantId, TraceId};
use br_storage::{Budget, JournalPosition, SpanSource, StoredSpan, TimeRange};
use br_traceql::SearchOptions;
use br_wire::SpanView;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const TENANT: TenantId = TenantId(1);

struct Counting(AtomicU64);

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Checks what the store says of the batches: while they are in its head, after they were written to files, and once more when
/// these are opened anew.
pub(super) fn check(
    batches: &[SpanBatch],
    checks: &mut Checks,
    mut look: impl FnMut(&Place<'_>, &mut Checks) -> Result<(), String>,
) -> Result<(), String> {
    let told = |error: br_std::Error| error.to_string();
    let files: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let options = || EventOptions::new(Arc::new(Counting(AtomicU64::new(1))));
    let events = EventStore::open(Vec::new(), files.clone(), options());
    let mut position = 0;
    for batch in batches {
        position += 1;
        events.append_spans(TENANT, JournalPosition(position), batch).map_err(told)?;
    }
    look(&Place { name: "head", source: events.spans(TENANT).as_ref() }, checks)?;
    let sealed = events.seal(JournalPosition(position)).ok_or("nothing was stored")?;
    let written = sealed.write(&files).map_err(told)?;
    events.publish(&sealed, written.clone());
    look(&Place { name: "flushed", source: events.spans(TENANT).as_ref() }, checks)?;
    let events = EventStore::open(written, files, options());
    look(&Place { name: "reopened", source: events.spans(TENANT).as_ref() }, checks)
}

/// The store in one of its states.
pub(super) struct Place<'a> {
    pub(super) name: &'static str,
    pub(super) source: &'a dyn SpanSource,
}

impl Place<'_> {
    pub(super) fn trace(&self, id: TraceId) -> Result<Vec<StoredSpan>, String> {
        let mut spans = self.source.trace(id, None, &Budget::unlimited()).map_err(|error| error.to_string())?;
        spans.sort_by_key(|stored| (stored.span.start, stored.span.span_id));
        Ok(spans)
    }

    /// The ids of the traces that TraceQL finds, newest first.
    pub(super) fn find(&self, query: &str, range: TimeRange, limit: usize) -> Result<Vec<TraceId>, String> {
        let expr = br_traceql::parse(query).map_err(|error| format!("{query}: {error}"))?;
        let options = SearchOptions { range, limit, spans_per_spanset: 0, after: None };
        let found = br_traceql::search(self.source, &expr, query, &options, &Budget::unlimited());
        Ok(found.map_err(|error| format!("{query}: {error}"))?.into_iter().map(|found| found.trace_id).collect())
    }
}

pub(super) fn views(spans: &[StoredSpan]) -> Vec<SpanView<'_>> {
    spans.iter().map(|StoredSpan { resource, scope, span }| SpanView { resource, scope, span }).collect()
}

/// What an encoder writes, as a value.
pub(super) fn written(
    spans: &[StoredSpan],
    write: impl FnOnce(&mut dyn std::io::Write, &[SpanView<'_>]) -> std::io::Result<()>,
) -> Result<Value, String> {
    let mut out = Vec::new();
    write(&mut out, &views(spans)).map_err(|error| error.to_string())?;
    super::json(&out)
}

pub(super) fn trace_ids(batches: &[SpanBatch]) -> BTreeSet<TraceId> {
    spans_of(batches).map(|(_, span)| span.trace_id).collect()
}

fn spans_of(batches: &[SpanBatch]) -> impl Iterator<Item = (&ResourceSpans, &br_model::Span)> {
    batches.iter().flat_map(|batch| &batch.groups).flat_map(|group| group.spans.iter().map(move |span| (group, span)))
}

/// The spans of one trace as they were given, for comparison: in the order of their text.
pub(super) fn given(batches: &[SpanBatch], id: TraceId) -> Vec<String> {
    let of_trace = spans_of(batches).filter(|(_, span)| span.trace_id == id);
    sorted(of_trace.map(|(group, span)| format!("{:?} {:?} {:?}", group.resource, group.scope, with_sorted_attributes(span))))
}

/// Attributes are a set: a file keeps their order only where a key repeats, and so does sorting by key.
fn with_sorted_attributes(span: &br_model::Span) -> br_model::Span {
    let mut span = span.clone();
    span.attributes.0.sort_by(|(one, _), (other, _)| one.cmp(other));
    span
}

/// The same of spans that were read.
pub(super) fn taken(spans: &[StoredSpan]) -> Vec<String> {
    sorted(
        spans.iter().map(|stored| format!("{:?} {:?} {:?}", stored.resource, stored.scope, with_sorted_attributes(&stored.span))),
    )
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts
}

/// Says which spans differ; nothing when none do.
pub(super) fn compare(found: &[String], expect: &[String]) -> Option<String> {
    if found == expect {
        return None;
    }
    let differs = found.iter().zip(expect).find(|(left, right)| left != right);
    let (found_first, expect_first) = differs.map_or(("", ""), |(left, right)| (left.as_str(), right.as_str()));
    Some(format!("{} spans where {} are expected; found {found_first}, expected {expect_first}", found.len(), expect.len()))
}
