//! Records on their way into requests.

use super::chunk::Record;
use super::config::FileSource;
use br_model::{LogBatch, LogRecord, Resource, ResourceLogs, Scope};
use br_std::Nanos;
use br_wire::{Cuts, traceback};
use std::sync::Arc;

/// What one request holds of text, about, and what all of one round do.
const REQUEST_BYTES_MAX: usize = 2 << 20;
const ROUND_BYTES: usize = 8 << 20;
/// A record that is not its text.
const RECORD_BYTES: usize = 200;

/// Records of one source, as they are sent.
pub(super) struct Request {
    pub(super) source: usize,
    pub(super) logs: LogBatch,
    bytes: usize,
}

pub(super) struct Gather {
    pub(super) requests: Vec<Request>,
    bytes: usize,
    request_bytes: usize,
    scope: Arc<Scope>,
}

impl Gather {
    /// A request may have so many bytes at the most.
    pub(super) fn new(request_bytes: usize) -> Self {
        let scope = Arc::new(Scope { name: "bellrock.files".into(), ..Scope::default() });
        Self { requests: Vec::new(), bytes: 0, request_bytes: request_bytes.min(REQUEST_BYTES_MAX), scope }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= ROUND_BYTES
    }

    pub(super) fn add(&mut self, source: usize, resource: &Arc<Resource>, record: Record, time: Nanos, now: Nanos) {
        let bytes = record.text.len() + RECORD_BYTES;
        self.bytes += bytes;
        let record = log_record(record, time, now);
        let has_room = |request: &Request| request.source == source && request.bytes < self.request_bytes;
        let at = self.requests.iter().rposition(has_room).unwrap_or(self.requests.len());
        if at == self.requests.len() {
            self.requests.push(Request { source, logs: LogBatch::default(), bytes: 0 });
        }
        let request = &mut self.requests[at];
        request.bytes += bytes;
        match request.logs.groups.last_mut() {
            Some(group) if Arc::ptr_eq(&group.resource, resource) => group.records.push(record),
            _ => {
                let group = ResourceLogs { resource: resource.clone(), scope: self.scope.clone(), records: vec![record] };
                request.logs.groups.push(group);
            }
        }
    }
}

impl Request {
    /// As OTLP, with what is to be looked for in the lines.
    pub(super) fn encode(&self, source: &FileSource) -> (Vec<u8>, String) {
        (br_wire::otlp::encode_logs(&self.logs), source.policy().to_text())
    }
}

fn log_record(record: Record, timestamp: Nanos, observed: Nanos) -> LogRecord {
    let Record { text, is_stderr, extra, has_traceback, cut_from, .. } = record;
    let mut log = LogRecord { timestamp, observed, ..LogRecord::default() };
    if let Some(is_stderr) = is_stderr {
        log.attributes.push("log.iostream", if is_stderr { "stderr" } else { "stdout" });
    }
    for (key, value) in extra {
        log.attributes.push(key, value);
    }
    if has_traceback {
        put_exception(&text, &mut log);
    }
    Cuts::mark_line(&mut log.attributes, cut_from);
    log.body = text;
    log
}

/// Makes a record with a traceback an error, as if its logger had sent it.
fn put_exception(text: &str, log: &mut LogRecord) {
    const HEADER: &str = "Traceback (most recent call last):";
    let Some(at) = text.find(HEADER) else { return };
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let stacktrace = &text[start..];
    let Some(last) = traceback::parse(stacktrace).pop() else { return };
    let dot = if last.module.is_empty() { "" } else { "." };
    log.attributes.push("exception.type", format!("{}{dot}{}", last.module, last.exception_type));
    log.attributes.push("exception.message", last.value);
    log.attributes.push("exception.stacktrace", stacktrace);
}
