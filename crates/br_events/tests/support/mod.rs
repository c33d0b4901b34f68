//! What the tests of the store share: records, a store over memory, an object store that counts.

#![allow(dead_code, reason = "each test binary uses its own part")]

use async_trait::async_trait;
use br_env::Rng;
use br_events::{EventOptions, EventStore};
use br_model::*;
use br_std::Nanos;
use br_storage::{Budget, JournalPosition, LogQuery, LogRow, StoredSpan, TimeRange};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const TENANT: TenantId = TenantId(7);
pub(crate) const HOUR: i64 = 3_600_000_000_000;
/// The start of an hour.
pub(crate) const START: i64 = 472_000 * HOUR;

/// Counts up from a seed.
pub(crate) struct Counting(pub(crate) AtomicU64);

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) fn options() -> EventOptions {
    EventOptions::new(Arc::new(Counting(AtomicU64::new(1))))
}

/// Of another life of a store, whose files have names of their own.
pub(crate) fn options_of(life: u64) -> EventOptions {
    EventOptions::new(Arc::new(Counting(AtomicU64::new(life << 32))))
}

pub(crate) fn open(store: &Arc<CountingStore>) -> Arc<EventStore> {
    EventStore::open(Vec::new(), store.clone(), options())
}

/// Seals, writes and publishes everything; the entries as a catalog would keep them.
pub(crate) fn flush(events: &Arc<EventStore>, store: &Arc<CountingStore>, position: u64) -> Vec<br_storage::FileEntry> {
    let Some(sealed) = events.seal(JournalPosition(position)) else { return Vec::new() };
    let store: Arc<dyn ObjectStore> = store.clone();
    let files = sealed.write(&store).expect("memory takes it");
    events.publish(&sealed, files.clone());
    files
}

pub(crate) fn resource(service: &str, pod: &str) -> Arc<Resource> {
    let attributes = [("service.name", service), ("pod", pod)].into_iter().collect();
    Arc::new(Resource { attributes })
}

pub(crate) fn logs(service: &str, records: Vec<LogRecord>) -> LogBatch {
    LogBatch { groups: vec![ResourceLogs { resource: resource(service, "0"), scope: Arc::default(), records }] }
}

pub(crate) fn log(nanos: i64, body: &str) -> LogRecord {
    LogRecord {
        timestamp: Nanos(nanos),
        observed: Nanos(nanos),
        body: body.into(),
        severity: Severity::INFO,
        ..LogRecord::default()
    }
}

pub(crate) fn query() -> LogQuery {
    LogQuery::new(TimeRange::ALL)
}

/// Reads until `rows_max` rows have come.
pub(crate) fn read_logs(events: &Arc<EventStore>, query: &LogQuery, rows_max: usize) -> Vec<LogRow> {
    let budget = Budget::unlimited();
    let source = events.logs(TENANT);
    let mut cursor = source.scan(query, &budget).expect("scan");
    let mut rows = Vec::new();
    while rows.len() < rows_max {
        let Some(batch) = cursor.next_batch().expect("batch") else { break };
        rows.extend(batch);
    }
    rows
}

pub(crate) fn read_spans(events: &Arc<EventStore>, query: &br_storage::SpanQuery) -> Vec<StoredSpan> {
    let budget = Budget::unlimited();
    let source = events.spans(TENANT);
    let mut cursor = source.scan(query, &budget).expect("scan");
    let mut spans = Vec::new();
    while let Some(batch) = cursor.next_batch().expect("batch") {
        spans.extend(batch);
    }
    spans
}

pub(crate) fn lines(events: &Arc<EventStore>, query: &LogQuery) -> Vec<String> {
    read_logs(events, query, usize::MAX).into_iter().map(|row| row.line).collect()
}

pub(crate) fn span(at: i64, trace: u8, name: &str) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId((at as u64 + 1).to_be_bytes()),
        name: name.into(),
        start: Nanos(START + at),
        end: Nanos(START + at * 2),
        ..Span::default()
    }
}

/// Memory that counts what is read from it, and can flip a byte.
#[derive(Debug, Default)]
pub(crate) struct CountingStore {
    inner: InMemory,
    pub(crate) bytes_read: AtomicU64,
}

impl CountingStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn take_bytes_read(&self) -> u64 {
        self.bytes_read.swap(0, Ordering::Relaxed)
    }

    /// Keeps only the first `bytes` of a file.
    pub(crate) fn cut(&self, path: &str, bytes: usize) {
        let path = Path::from(path);
        let cut = async {
            let whole = self.inner.get_opts(&path, GetOptions::default()).await?.bytes().await?;
            self.inner.put_opts(&path, whole.slice(..bytes).into(), PutOptions::default()).await
        };
        futures::executor::block_on(cut).expect("in memory");
    }

    pub(crate) fn flip(&self, path: &str, at: usize) {
        let path = Path::from(path);
        let read = async {
            let result = self.inner.get_opts(&path, GetOptions::default()).await?;
            let mut bytes = result.bytes().await?.to_vec();
            bytes[at] ^= 1;
            self.inner.put_opts(&path, bytes.into(), PutOptions::default()).await
        };
        futures::executor::block_on(read).expect("in memory");
    }
}

impl std::fmt::Display for CountingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("counting")
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await?;
        self.bytes_read.fetch_add(result.range.end - result.range.start, Ordering::Relaxed);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.bytes_read.fetch_add(ranges.iter().map(|range| range.end - range.start).sum(), Ordering::Relaxed);
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
