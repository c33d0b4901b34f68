//! The live tail: a WebSocket that sends what matches as it is accepted.

use super::Answer;
use crate::app::App;
use crate::json;
use crate::params::Params;
use axum::Extension;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use br_ingest::tail::TailBatch;
use br_logql::{Expr, LogOptions, Pipeline};
use br_model::{Labels, Principal, TenantId};
use br_query::door::Language;
use br_std::{Error, Nanos};
use br_storage::{Direction, TimeRange};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Lines of one frame; more are counted as dropped, as nobody reads so fast.
const FRAME_LINES_MAX: usize = 2000;
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
    let listener = app.tail.listen();
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
    let client = Client { tenant: principal.tenant, pipeline };
    Ok(upgrade.on_upgrade(move |socket| client.follow(socket, listener, backlog)))
}

type Lines = Vec<(Labels, Nanos, String)>;

struct Client {
    tenant: TenantId,
    pipeline: Pipeline,
}

impl Client {
    async fn follow(self, mut socket: WebSocket, mut listener: tokio::sync::broadcast::Receiver<TailBatch>, backlog: Lines) {
        if !backlog.is_empty() && send(&mut socket, frame(backlog, 0)).await.is_err() {
            return;
        }
        let mut ping = tokio::time::interval(PING_INTERVAL);
        loop {
            tokio::select! {
                received = listener.recv() => {
                    let (lines, dropped) = match received {
                        Ok(batch) => self.matching(&batch),
                        Err(RecvError::Lagged(batches)) => (Vec::new(), batches as usize),
                        Err(RecvError::Closed) => return,
                    };
                    if (!lines.is_empty() || dropped > 0) && send(&mut socket, frame(lines, dropped)).await.is_err() {
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

    /// The lines of a batch that match, and how many of them are too many for one frame.
    fn matching(&self, batch: &TailBatch) -> (Lines, usize) {
        if batch.tenant != self.tenant {
            return (Vec::new(), 0);
        }
        let mut lines = Vec::new();
        let mut dropped = 0;
        for row in batch.rows.iter().filter(|row| self.pipeline.selects(&row.stream)) {
            let Some(processed) = self.pipeline.process(row) else { continue };
            if lines.len() < FRAME_LINES_MAX {
                lines.push((processed.labels, row.timestamp, processed.line));
            } else {
                dropped += 1;
            }
        }
        (lines, dropped)
    }
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
