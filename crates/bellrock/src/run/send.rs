//! Sends what `run` gathers to the server: log records as OTLP, samples by remote write.
//!
//! A server that is away for a moment costs nothing: batches wait and are sent again. What does not fit is counted and told at the end.

use br_ingest::sink::SampleSink;
use br_model::{LogBatch, MetricBatch};
use br_std::{Error, Result};
use br_wire::otlp;
use br_wire::remote_write;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Where and as whom to send.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) client: reqwest::Client,
    /// Without a slash at the end.
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

impl Upstream {
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Posts a body and says whether it may be tried again.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<()> {
        let mut request = self.request(reqwest::Method::POST, path).timeout(Duration::from_secs(10)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.map_err(|error| Error::retry(error.without_url().to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.text().await.unwrap_or_default();
        let message = format!("{path}: {status}: {}", text.trim());
        Err(if status.is_server_error() || status.as_u16() == 429 { Error::retry(message) } else { Error::fix_request(message) })
    }
}

/// Samples by remote write 2.0, as the server journals them itself.
impl SampleSink for Upstream {
    fn write(&self, batch: MetricBatch) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(async move {
            let body = remote_write::v2::encode(&batch);
            let headers = [
                ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                ("content-encoding", "snappy"),
                ("x-prometheus-remote-write-version", "2.0.0"),
            ];
            self.post("/api/v1/write", &headers, body).await
        })
    }
}

/// Batches that wait while the server is away; beyond that they are dropped and counted.
const WAITING_BATCHES_MAX: usize = 256;
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Sends log batches in order, in the background.
pub(super) struct LogSender {
    queue: mpsc::Sender<LogBatch>,
    task: JoinHandle<()>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    dropped_records: AtomicU64,
    refused: parking_lot::Mutex<Option<String>>,
}

impl LogSender {
    pub(super) fn start(upstream: Upstream) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_BATCHES_MAX);
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(send_all(upstream, waiting, counters.clone()));
        Self { queue, task, counters }
    }

    /// Never waits: the program's output must flow whatever the server does.
    pub(super) fn send(&self, batch: LogBatch) {
        let records = batch.record_count() as u64;
        if self.queue.try_send(batch).is_err() {
            self.counters.dropped_records.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Sends what waits, for `patience` at the most, and says what was lost, if anything.
    pub(super) async fn finish(self, patience: Duration) -> Option<String> {
        drop(self.queue);
        let in_time = tokio::time::timeout(patience, self.task).await.is_ok();
        let dropped = self.counters.dropped_records.load(Ordering::Relaxed);
        let refused = self.counters.refused.lock().take();
        match (dropped, refused, in_time) {
            (0, None, true) => None,
            (_, Some(reason), _) => Some(format!("some output was not stored: {reason}")),
            (0, None, false) => Some("the last output was not stored: the server did not answer in time".into()),
            (dropped, None, _) => Some(format!("{dropped} lines were not stored: the server was away for too long")),
        }
    }
}

async fn send_all(upstream: Upstream, mut waiting: mpsc::Receiver<LogBatch>, counters: Arc<Counters>) {
    while let Some(batch) = waiting.recv().await {
        let body = otlp::encode_logs(&batch);
        loop {
            match upstream.post("/v1/logs", &[("content-type", "application/x-protobuf")], body.clone()).await {
                Ok(()) => break,
                Err(error) if error.kind() == br_std::Kind::Retry => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => {
                    counters.dropped_records.fetch_add(batch.record_count() as u64, Ordering::Relaxed);
                    *counters.refused.lock() = Some(error.to_string());
                    break;
                }
            }
        }
    }
}
