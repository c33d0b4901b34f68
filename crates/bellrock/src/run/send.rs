//! Sends what `run` gathers to the server: log records as OTLP, samples by remote write.
//!
//! A server that is away for a moment costs nothing: records wait and are sent again. What does not fit is counted and told.

use super::output;
use super::queue::{Queue, QueueLimits, Waiting};
use br_ingest::sink::SampleSink;
use br_model::{MetricBatch, Resource};
use br_std::{Error, Kind, Result};
use br_wire::otlp;
use br_wire::remote_write;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

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

    /// Posts a body, and says whether it may be tried again.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Vec<u8>> {
        let mut request = self.request(reqwest::Method::POST, path).timeout(POST_TIMEOUT).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let lost = |error: reqwest::Error| Error::retry(format!("no answer from {}: {}", self.url, innermost(&error)));
        let answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(lost)?;
        if status.is_success() {
            return Ok(text.into());
        }
        let message = format!("{path}: {status}: {}", String::from_utf8_lossy(&text).trim());
        Err(match status.as_u16() {
            500.. | 408 | 429 => Error::retry(message),
            413 => Error::over_limit(message),
            _ => Error::fix_request(message),
        })
    }
}

/// A server that writes a batch in a debug build on a busy machine takes seconds for it.
const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// `reqwest` wraps the reason that helps (`Connection refused`) into ones that do not.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Samples by remote write 2.0, as the server journals them itself.
impl SampleSink for Upstream {
    fn write(&self, batch: MetricBatch) -> Pin<Box<dyn Future<Output = Result<Option<String>>> + Send + '_>> {
        Box::pin(async move {
            let body = remote_write::v2::encode(&batch);
            let headers = [
                ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                ("content-encoding", "snappy"),
                ("x-prometheus-remote-write-version", "2.0.0"),
            ];
            self.post("/api/v1/write", &headers, body).await.map(|_| None)
        })
    }
}

const RETRY_AFTER: Duration = Duration::from_millis(300);
/// At the end: how long the server may take for one batch, and for all that waits.
const LAST_BATCH_PATIENCE: Duration = Duration::from_secs(10);
const LAST_BATCHES_PATIENCE: Duration = Duration::from_mins(1);
/// After this time the user is told what is waited for.
const TELL_AFTER: Duration = Duration::from_secs(2);

/// Sends log records in order, in the background.
pub(super) struct LogSender {
    queue: Arc<Queue>,
    delivery: Arc<Delivery>,
    task: JoinHandle<()>,
    is_loss_told: AtomicBool,
}

/// What happens to batches on their way.
struct Delivery {
    upstream: Upstream,
    resource: Arc<Resource>,
    /// Records that were taken from the queue and are not answered yet.
    under_way: AtomicU64,
    /// Batches that the server has answered.
    answered: AtomicU64,
    refused: AtomicU64,
    refusal: Mutex<Option<String>>,
    /// Why the server does not take the batch that is under way.
    trouble: Mutex<Option<String>>,
    /// The trouble at the time of the first loss.
    first_trouble: Mutex<Option<String>>,
}

impl LogSender {
    pub(super) fn start(upstream: Upstream, resource: Arc<Resource>, limits: QueueLimits) -> Self {
        let queue = Arc::new(Queue::new(limits));
        let delivery = Arc::new(Delivery {
            upstream,
            resource,
            under_way: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refusal: Mutex::default(),
            trouble: Mutex::default(),
            first_trouble: Mutex::default(),
        });
        let task = tokio::spawn(send_all(queue.clone(), delivery.clone()));
        Self { queue, delivery, task, is_loss_told: AtomicBool::new(false) }
    }

    /// Waits while the queue is full and the server takes some of it; a server that stands still holds the program up for a
    /// moment only.
    pub(super) async fn send(&self, records: impl IntoIterator<Item = Waiting>) {
        if self.queue.push(records).await > 0 && !self.is_loss_told.swap(true, Ordering::Relaxed) {
            let trouble = self.delivery.trouble.lock().clone();
            eprintln!("bellrock: output is lost from here on: {}", reason_of_loss(trouble.as_deref()));
            *self.delivery.first_trouble.lock() = trouble;
        }
    }

    /// Sends what waits for as long as the server goes on answering, or until `interrupted`; says what was lost, if anything.
    pub(super) async fn finish(&self, interrupted: impl Future<Output = ()>) -> Option<String> {
        self.queue.close();
        let waiting = async {
            let mut answered = self.answered();
            let (started, mut last_answer) = (Instant::now(), Instant::now());
            let mut is_told = false;
            while !self.task.is_finished() && started.elapsed() < LAST_BATCHES_PATIENCE {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if answered != self.answered() {
                    (answered, last_answer) = (self.answered(), Instant::now());
                }
                if last_answer.elapsed() > LAST_BATCH_PATIENCE {
                    break;
                }
                if started.elapsed() > TELL_AFTER && !is_told {
                    eprintln!("bellrock: sending the last {} lines; Ctrl-C gives them up", self.unsent());
                    is_told = true;
                }
            }
        };
        tokio::select! {
            () = waiting => {}
            () = interrupted => {}
        }
        self.task.abort();
        self.losses()
    }

    fn answered(&self) -> u64 {
        self.delivery.answered.load(Ordering::Relaxed)
    }

    fn unsent(&self) -> u64 {
        self.queue.len() + self.delivery.under_way.load(Ordering::Relaxed)
    }

    fn losses(&self) -> Option<String> {
        let mut losses = Vec::new();
        let dropped = self.queue.dropped();
        if dropped > 0 {
            losses.push(format!(
                "{dropped} lines were not stored: {}",
                reason_of_loss(self.delivery.first_trouble.lock().as_deref())
            ));
        }
        let refused = self.delivery.refused.load(Ordering::Relaxed);
        if let Some(refusal) = self.delivery.refusal.lock().as_ref() {
            losses.push(format!("{refused} lines were refused by the server: {refusal}"));
        }
        let unsent = self.unsent();
        if unsent > 0 {
            let trouble = self.delivery.trouble.lock();
            let trouble = trouble.as_deref().unwrap_or("the server did not answer in time");
            losses.push(format!("the last {unsent} lines were not stored: {trouble}"));
        }
        (!losses.is_empty()).then(|| losses.join("; "))
    }
}

fn reason_of_loss(trouble: Option<&str>) -> String {
    match trouble {
        Some(trouble) => format!("the queue is full, and the server does not take it: {trouble}"),
        // Nothing is dropped while the server takes something within the patience.
        None => format!("the queue is full, and the server has not answered for {} s", QueueLimits::default().patience.as_secs()),
    }
}

async fn send_all(queue: Arc<Queue>, delivery: Arc<Delivery>) {
    while let Some(batch) = queue.take().await {
        delivery.under_way.store(batch.len() as u64, Ordering::Relaxed);
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let count = part.len();
            if let Some(mut part) = delivery.deliver(part).await {
                // Too large a body for this server's limits: in two halves, in order.
                parts.push(part.split_off(count / 2));
                parts.push(part);
            } else {
                delivery.under_way.fetch_sub(count as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Delivery {
    /// Sends until the server has answered. A part that was too large, and can be smaller, comes back.
    async fn deliver(&self, part: Vec<Waiting>) -> Option<Vec<Waiting>> {
        let resource = self.resource.clone();
        let count = part.len();
        // Reading JSON and tracebacks is work, and must not hold up who copies the output.
        let encoded = tokio::task::spawn_blocking(move || {
            let body = otlp::encode_logs(&output::log_batch(&part, resource));
            (part, body)
        });
        let Ok((part, body)) = encoded.await else {
            self.refuse(count, "a line could not be encoded".into());
            return None;
        };
        loop {
            let outcome = self.upstream.post("/v1/logs", &[("content-type", "application/x-protobuf")], body.clone()).await;
            match outcome {
                Err(error) if error.kind() == Kind::Retry => {
                    *self.trouble.lock() = Some(error.to_string());
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                Err(error) if error.kind() == Kind::OverLimit && count > 1 => return Some(part),
                Err(error) => self.refuse(count, error.to_string()),
                Ok(answer) => {
                    if let Some((rejected, message)) = otlp::rejected_logs(&answer).filter(|(rejected, _)| *rejected > 0) {
                        self.refuse(rejected, message);
                    }
                }
            }
            *self.trouble.lock() = None;
            self.answered.fetch_add(1, Ordering::Relaxed);
            return None;
        }
    }

    fn refuse(&self, count: usize, reason: String) {
        self.refused.fetch_add(count as u64, Ordering::Relaxed);
        self.refusal.lock().get_or_insert(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::Record;
    use super::super::output::Stream;
    use super::*;
    use axum::Router;
    use axum::body::Bytes;
    use axum::http::StatusCode;
    use axum::routing::post;
    use br_std::Nanos;

    /// A server that answers as told and keeps the bodies that it accepted.
    async fn server(answer: impl Fn(&Bytes) -> StatusCode + Clone + Send + Sync + 'static) -> (Upstream, Arc<Mutex<Vec<Bytes>>>) {
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let kept = accepted.clone();
        let handler = move |body: Bytes| async move {
            let status = answer(&body);
            if status.is_success() {
                kept.lock().push(body);
                return (status, "");
            }
            (status, "as the test wishes")
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/logs", post(handler))).await });
        let _ = rustls::crypto::ring::default_provider().install_default();
        (Upstream { client: reqwest::Client::new(), url, token: None }, accepted)
    }

    fn lines(count: usize) -> impl Iterator<Item = Waiting> {
        (0..count)
            .map(|at| Waiting { stream: Stream::Out, record: Record { at: Nanos(at as i64 + 1), text: format!("line {at}") } })
    }

    fn stored(accepted: &Mutex<Vec<Bytes>>) -> Vec<String> {
        let decode = |body: &Bytes| otlp::decode_logs(body, otlp::Encoding::Protobuf, Nanos(1), &br_wire::Limits::default());
        let batches: Vec<_> = accepted.lock().iter().map(|body| decode(body).expect("our own encoding").value).collect();
        batches.into_iter().flat_map(|batch| batch.groups).flat_map(|group| group.records).map(|record| record.body).collect()
    }

    #[tokio::test]
    async fn a_burst_goes_in_few_requests_and_in_order() {
        let (upstream, accepted) = server(|_| StatusCode::OK).await;
        let sender = LogSender::start(upstream, Arc::default(), QueueLimits::default());
        for line in lines(25_000) {
            sender.send([line]).await;
        }
        assert_eq!(sender.finish(std::future::pending()).await, None);
        assert_eq!(stored(&accepted), lines(25_000).map(|line| line.record.text).collect::<Vec<_>>());
        assert!(accepted.lock().len() < 50, "{} requests", accepted.lock().len());
    }

    #[tokio::test]
    async fn a_body_over_the_servers_limit_is_halved() {
        let (upstream, accepted) =
            server(|body| if body.len() > 1000 { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::OK }).await;
        let sender = LogSender::start(upstream, Arc::default(), QueueLimits::default());
        sender.send(lines(500)).await;
        assert_eq!(sender.finish(std::future::pending()).await, None);
        assert_eq!(stored(&accepted), lines(500).map(|line| line.record.text).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn losses_are_counted_and_their_reason_is_told() {
        let (upstream, _) = server(|_| StatusCode::UNAUTHORIZED).await;
        let sender = LogSender::start(upstream, Arc::default(), QueueLimits::default());
        sender.send(lines(3)).await;
        let told = sender.finish(std::future::pending()).await.expect("a loss");
        assert!(told.contains("3 lines were refused") && told.contains("401"), "{told}");

        let (upstream, _) = server(|_| StatusCode::SERVICE_UNAVAILABLE).await;
        let small =
            QueueLimits { bytes_max: 500, patience: Duration::from_millis(20), batch_records: 2, ..QueueLimits::default() };
        let sender = LogSender::start(upstream, Arc::default(), small);
        sender.send(lines(3)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        sender.send(lines(100)).await;
        let told = sender.finish(async {}).await.expect("a loss");
        assert!(told.contains("lines were not stored") && told.contains("503") && told.contains("as the test wishes"), "{told}");
        let numbers = told.split(|character: char| !character.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
        assert_eq!(numbers.filter(|number| ![503, 1].contains(number)).sum::<u64>(), 103, "{told}");
    }
}
