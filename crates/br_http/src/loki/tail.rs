//! The live tail: a WebSocket that sends what matches as it is accepted.

use super::Answer;
use crate::app::App;
use crate::params::Params;
use axum::Extension;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use br_ingest::tail::{Listener, Received, TailBatch};
use br_logql::{Expr, LogOptions, Pipeline};
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Nanos};
use br_storage::{Budget, CancelReason, Direction, TimeRange};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Lines of one frame; more of the same request follow in further ones.
const FRAME_LINES_MAX: usize = 2000;
/// Bytes of the lines and labels of one frame.
const FRAME_BYTES_MAX: u64 = 8 << 20;
/// How long the stages may take for the rows of one request, over all of its frames.
const BATCH_PATIENCE: Duration = Duration::from_secs(1);
const BACKLOG_LINES_MAX: usize = 1000;
/// A proxy that ends quiet connections sees life this often.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A client that takes nothing for this long is gone.
const SEND_PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn tail(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    request: Request,
) -> Answer {
    let params = Params::parse(request.uri().query().unwrap_or(""));
    let text = params.required("query")?.to_owned();
    let Expr::Log(log) = br_logql::parse(&text).map_err(Error::from)? else {
        return Err(Error::fix_request("only log queries can be tailed").into());
    };
    let pipeline = Arc::new(Pipeline::compile(&log).map_err(|(_, message)| Error::fix_request(message))?);
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    // Listening starts before the backlog is read: what comes in between is in one of the two, or in both, never in none.
    let selecting = pipeline.clone();
    let listener = match app.tail.listen(principal.tenant, Arc::new(move |stream| selecting.selects(stream))) {
        Ok(listener) => listener,
        Err(error) => return Ok((StatusCode::TOO_MANY_REQUESTS, format!("{}\n", error.message())).into_response()),
    };
    let backlog = match params.time("start")? {
        None => Vec::new(),
        Some(start) => {
            let range = TimeRange::new(start, Nanos(app.clock.now().0.saturating_add(1)));
            let limit = params.number("limit", 100)?.min(BACKLOG_LINES_MAX);
            let options = LogOptions { range, direction: Direction::Backward, limit, categorize: false };
            let tenant = principal.tenant;
            let found = app
                .query(tenant, Language::LogQl, &text, None, move |sources, budget| {
                    br_logql::query_log(&*sources.logs(tenant), &log, &options, budget)
                })
                .await?;
            found
                .streams
                .into_iter()
                .flat_map(|stream| {
                    let labels = stream.labels;
                    stream
                        .entries
                        .into_iter()
                        .rev()
                        .map(move |entry| (labels.clone(), entry.timestamp, entry.line))
                        .collect::<Vec<_>>()
                })
                .collect()
        }
    };
    let client = Client { pipeline };
    Ok(upgrade.on_upgrade(move |socket| client.follow(socket, listener, backlog)))
}

type Lines = Vec<(Labels, Nanos, String)>;

struct Client {
    pipeline: Arc<Pipeline>,
}

impl Client {
    async fn follow(self, mut socket: WebSocket, listener: Listener, backlog: Lines) {
        if !backlog.is_empty() {
            let Ok(first) = tokio::task::spawn_blocking(|| frame(backlog, 0)).await else { return };
            if send(&mut socket, first).await.is_err() {
                return;
            }
        }
        let mut ping = tokio::time::interval(PING_INTERVAL);
        let mut rest = None;
        loop {
            tokio::select! {
                () = there_is_more(&listener, rest.as_ref()) => {
                    let Some(message) = self.next(&listener, &mut rest).await else { continue };
                    if send(&mut socket, message).await.is_err() {
                        return;
                    }
                }
                _ = ping.tick() => {
                    if send(&mut socket, Message::Ping(Vec::new().into())).await.is_err() {
                        return;
                    }
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        }
    }

    /// The next frame, of what is left of a request or of the next one that waits. The stages run on the pool for blocking work, for
    /// a limited time: what they do not get to is dropped, so that a follower with slow stages falls behind alone.
    async fn next(&self, listener: &Listener, rest: &mut Option<Rest>) -> Option<Message> {
        let turn = listener.turn().await?;
        let mut taken = rest.take().or_else(|| listener.take().map(Rest::new))?;
        let patience = taken.patience;
        let begin = tokio::time::Instant::now();
        let pipeline = self.pipeline.clone();
        let budget = Arc::new(Budget::new(FRAME_BYTES_MAX));
        let _stop = StopOnDrop(budget.clone());
        let watch = budget.clone();
        let mut job = tokio::task::spawn_blocking(move || {
            let (lines, dropped) = taken.next_lines(&pipeline, &budget);
            drop(turn);
            let message = (!lines.is_empty() || dropped > 0).then(|| frame(lines, dropped));
            (message, taken)
        });
        let outcome = tokio::select! {
            outcome = &mut job => outcome,
            () = tokio::time::sleep(patience) => {
                watch.cancel(CancelReason::Deadline);
                job.await
            }
        };
        let (message, mut taken) = outcome.ok()?;
        taken.patience = patience.saturating_sub(begin.elapsed());
        *rest = (!taken.is_empty()).then_some(taken);
        message
    }
}

async fn there_is_more(listener: &Listener, rest: Option<&Rest>) {
    if rest.is_none() {
        listener.wait().await;
    }
}

/// Nobody waits for the stages any more when the client has gone.
struct StopOnDrop(Arc<Budget>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Caller);
    }
}

/// What is still to send of the rows of one request.
struct Rest {
    batch: Option<Arc<TailBatch>>,
    /// The stream whose rows come next, and the first of them that no frame holds.
    stream: usize,
    at: usize,
    /// Rows before these that were let go, still to be told.
    dropped: usize,
    /// How long the stages may still take.
    patience: Duration,
}

impl Rest {
    fn new(received: Received) -> Self {
        Self { batch: received.batch, stream: 0, at: 0, dropped: received.dropped, patience: BATCH_PATIENCE }
    }

    fn is_empty(&self) -> bool {
        self.batch.as_ref().is_none_or(|batch| self.stream >= batch.streams().len())
    }

    /// The next lines that match, as many as a frame holds, and how many rows were let go: those that waited for too long before
    /// these, a line that is longer than a frame, and all that are left once the time is up.
    fn next_lines(&mut self, pipeline: &Pipeline, budget: &Budget) -> (Lines, usize) {
        let mut lines = Vec::new();
        let mut dropped = std::mem::take(&mut self.dropped);
        let Some(batch) = self.batch.clone() else { return (lines, dropped) };
        while let Some(stream) = batch.streams().get(self.stream) {
            if pipeline.selects(stream) {
                let is_full = self.lines_of(&batch, pipeline, budget, &mut lines, &mut dropped);
                if is_full {
                    break;
                }
            }
            (self.stream, self.at) = (self.stream + 1, 0);
        }
        (lines, dropped)
    }

    /// Those of one stream. True when the frame is full.
    fn lines_of(
        &mut self,
        batch: &TailBatch,
        pipeline: &Pipeline,
        budget: &Budget,
        lines: &mut Lines,
        dropped: &mut usize,
    ) -> bool {
        let rows = batch.rows(self.stream);
        while let Some(row) = rows.get(self.at) {
            if budget.check().is_err() {
                *dropped += rows.len() - self.at;
                return false;
            }
            if lines.len() >= FRAME_LINES_MAX {
                return true;
            }
            if let Some(processed) = pipeline.process(row, budget) {
                let labels: usize = processed.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
                let bytes = (processed.line.len() + labels) as u64;
                if budget.charge(bytes).is_ok() {
                    lines.push((processed.labels, row.timestamp, processed.line));
                } else {
                    budget.release(bytes);
                    if !lines.is_empty() {
                        // It begins the next frame.
                        return true;
                    }
                    *dropped += 1;
                }
            }
            self.at += 1;
        }
        false
    }
}

/// Lines by stream. What was dropped is told as so many entries without labels, since nobody knows them any more.
fn frame(lines: Lines, dropped: usize) -> Message {
    let mut streams: BTreeMap<Labels, Vec<(Nanos, String)>> = BTreeMap::new();
    for (labels, timestamp, line) in lines {
        streams.entry(labels).or_default().push((timestamp, line));
    }
    let mut text = String::from(r#"{"streams":["#);
    for (at, (labels, entries)) in streams.iter().enumerate() {
        text.push_str(if at > 0 { r#",{"stream":{"# } else { r#"{"stream":{"# });
        for (at, (name, value)) in labels.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            put_string(&mut text, name);
            text.push(':');
            put_string(&mut text, value);
        }
        text.push_str(r#"},"values":["#);
        for (at, (timestamp, line)) in entries.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}[\"{}\",", if at > 0 { "," } else { "" }, timestamp.0);
            put_string(&mut text, line);
            text.push(']');
        }
        text.push_str("]}");
    }
    text.push(']');
    if dropped > 0 {
        const ENTRY: &str = r#"{"labels":{},"timestamp":"0"}"#;
        let _ = write!(text, r#","dropped_count":{dropped},"dropped_entries":[{}]"#, [ENTRY].repeat(dropped.min(100)).join(","));
    }
    text.push('}');
    Message::Text(text.into())
}

fn put_string(out: &mut String, text: &str) {
    // A text can always be written as JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    match tokio::time::timeout(SEND_PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_ingest::decoded::Decoded;
    use br_model::{LogBatch, LogRecord, Resource, ResourceLogs};

    /// Rows of one stream behind those of another.
    fn rows(lines: impl Iterator<Item = String>) -> Received {
        let group = |app: &str, lines: Vec<String>| {
            let attributes = [("app", app)].into_iter().collect();
            let records = lines.into_iter().map(|body| LogRecord { timestamp: Nanos(1), body, ..LogRecord::default() });
            ResourceLogs { resource: Arc::new(Resource { attributes }), scope: Arc::default(), records: records.collect() }
        };
        let groups = vec![group("b", vec!["of another".to_owned()]), group("a", lines.collect())];
        let decoded = Decoded { logs: LogBatch { groups }, ..Decoded::default() };
        Received { batch: Some(Arc::new(TailBatch::new(Arc::new(decoded)))), dropped: 3 }
    }

    fn pipeline(text: &str) -> Pipeline {
        let Ok(Expr::Log(log)) = br_logql::parse(text) else { panic!("{text} is a log query") };
        Pipeline::compile(&log).unwrap_or_else(|(_, message)| panic!("{text}: {message}"))
    }

    /// The lines of each frame and what it tells as dropped, until nothing is left.
    fn frames(received: Received, text: &str) -> Vec<(Vec<String>, usize)> {
        let (mut rest, pipeline) = (Rest::new(received), pipeline(text));
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (lines, dropped) = rest.next_lines(&pipeline, &Budget::new(FRAME_BYTES_MAX));
            frames.push((lines.into_iter().map(|(_, _, line)| line).collect(), dropped));
        }
        frames
    }

    #[test]
    fn a_long_request_goes_out_whole_in_several_frames() {
        let all: Vec<String> = (0..6000).map(|at| format!("line {at}")).collect();
        let sent = frames(rows(all.clone().into_iter()), r#"{app="a"}"#);
        let sizes: Vec<(usize, usize)> = sent.iter().map(|(lines, dropped)| (lines.len(), *dropped)).collect();
        assert_eq!(sizes, [(2000, 3), (2000, 0), (2000, 0)], "what was lost before is told once");
        assert_eq!(sent.into_iter().flat_map(|(lines, _)| lines).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_frame_has_a_limit_of_bytes_and_nothing_is_lost_by_it() {
        let half = FRAME_BYTES_MAX as usize / 2;
        let lines = ["a".repeat(half), "b".repeat(half), "c".repeat(3 * half), "d".to_owned()];
        let sent = frames(rows(lines.into_iter()), r#"{app="a"}"#);
        let starts: Vec<(String, usize)> =
            sent.iter().map(|(lines, dropped)| (lines.iter().map(|line| &line[..1]).collect(), *dropped)).collect();
        let expect = [("a", 3), ("b", 0), ("d", 1)].map(|(starts, dropped)| (starts.to_owned(), dropped));
        assert_eq!(starts, expect, "only a line that no frame can hold is dropped");
    }

    #[test]
    fn what_the_time_does_not_suffice_for_is_told() {
        let mut rest = Rest::new(rows((0..50).map(|at| at.to_string())));
        let budget = Budget::new(FRAME_BYTES_MAX);
        budget.cancel(CancelReason::Deadline);
        let (lines, dropped) = rest.next_lines(&pipeline(r#"{app="a"}"#), &budget);
        assert_eq!((lines.len(), dropped, rest.is_empty()), (0, 53, true));
    }

    #[test]
    fn frames_are_json() {
        let labels = Labels::from_pairs([("app".to_owned(), "a \"b\"".to_owned())]);
        let lines = vec![(labels.clone(), Nanos(7), "one\n\"é\"".to_owned()), (labels, Nanos(8), "two".to_owned())];
        let Message::Text(text) = frame(lines, 2) else { panic!("a text") };
        let expect = serde_json::json!({
            "streams": [{ "stream": { "app": "a \"b\"" }, "values": [["7", "one\n\"é\""], ["8", "two"]] }],
            "dropped_count": 2,
            "dropped_entries": [{ "labels": {}, "timestamp": "0" }, { "labels": {}, "timestamp": "0" }],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), expect);
        let Message::Text(text) = frame(Vec::new(), 0) else { panic!("a text") };
        assert_eq!(text.as_str(), r#"{"streams":[]}"#);
    }
}
