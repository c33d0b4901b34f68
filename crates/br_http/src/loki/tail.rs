//! The live tail: a WebSocket that sends what matches as it is accepted.

use super::Answer;
use crate::app::App;
use crate::json;
use crate::params::Params;
use axum::Extension;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use br_ingest::tail::Listener;
use br_logql::{Expr, LogOptions, Pipeline};
use br_model::{Labels, Principal};
use br_query::door::Language;
use br_std::{Error, Nanos};
use br_storage::{Budget, CancelReason, Direction, LogRow, TimeRange};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Lines of one frame; more are counted as dropped, as nobody reads so fast.
const FRAME_LINES_MAX: usize = 2000;
/// Bytes of the lines and labels of one frame.
const FRAME_BYTES_MAX: u64 = 8 << 20;
/// How long the stages may take for the rows of one request.
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
    let pipeline = Pipeline::compile(&log).map_err(|(_, message)| Error::fix_request(message))?;
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    // Listening starts before the backlog is read: what comes in between is in one of the two, or in both, never in none.
    let listener = match app.tail.listen(principal.tenant) {
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
    let client = Client { pipeline: Arc::new(pipeline) };
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
        loop {
            tokio::select! {
                () = listener.wait() => {
                    let Some(message) = self.next(&listener).await else { continue };
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

    /// What to send of the rows that wait. The stages run on the pool for blocking work, for a limited time: what they do not get
    /// to is dropped, so that a follower with slow stages falls behind alone.
    async fn next(&self, listener: &Listener) -> Option<Message> {
        let turn = listener.turn().await?;
        let received = listener.take()?;
        let pipeline = self.pipeline.clone();
        let budget = Arc::new(Budget::new(FRAME_BYTES_MAX));
        let _stop = StopOnDrop(budget.clone());
        let watch = budget.clone();
        let mut job = tokio::task::spawn_blocking(move || {
            let (lines, too_many) = matching(&pipeline, &received.rows, &budget);
            let dropped = received.dropped + too_many;
            drop(turn);
            (!lines.is_empty() || dropped > 0).then(|| frame(lines, dropped))
        });
        let outcome = tokio::select! {
            outcome = &mut job => outcome,
            () = tokio::time::sleep(BATCH_PATIENCE) => {
                watch.cancel(CancelReason::Deadline);
                job.await
            }
        };
        outcome.ok().flatten()
    }
}

/// Nobody waits for the stages any more when the client has gone.
struct StopOnDrop(Arc<Budget>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Caller);
    }
}

/// The lines of a batch that match, and how many rows are too many: for one frame, for its bytes, or for the time there is.
fn matching(pipeline: &Pipeline, rows: &[LogRow], budget: &Budget) -> (Lines, usize) {
    let mut lines = Vec::new();
    let mut dropped = 0;
    for (at, row) in rows.iter().enumerate() {
        if budget.check().is_err() {
            return (lines, dropped + rows[at..].iter().filter(|row| pipeline.selects(&row.stream)).count());
        }
        if !pipeline.selects(&row.stream) {
            continue;
        }
        let Some(processed) = pipeline.process(row, budget) else { continue };
        let labels: usize = processed.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = (processed.line.len() + labels) as u64;
        if lines.len() >= FRAME_LINES_MAX || budget.charge(bytes).is_err() {
            budget.release(bytes);
            dropped += 1;
        } else {
            lines.push((processed.labels, row.timestamp, processed.line));
        }
    }
    (lines, dropped)
}

/// Lines by stream. What was dropped is told as so many entries without labels, since nobody knows them any more.
fn frame(lines: Lines, dropped: usize) -> Message {
    let mut streams: BTreeMap<Labels, Vec<Value>> = BTreeMap::new();
    for (labels, timestamp, line) in lines {
        streams.entry(labels).or_default().push(object!([timestamp.0.to_string(), line]));
    }
    let streams: Vec<Value> =
        streams.into_iter().map(|(labels, values)| object!({ "stream": json::labels(&labels), "values": values })).collect();
    let mut frame = object!({ "streams": streams });
    if dropped > 0 {
        frame["dropped_entries"] = (0..dropped.min(100)).map(|_| object!({ "labels": {}, "timestamp": "0" })).collect();
        frame["dropped_count"] = object!(dropped);
    }
    Message::Text(frame.to_string().into())
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    match tokio::time::timeout(SEND_PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}
