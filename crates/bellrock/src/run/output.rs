//! The program's output: shown as it comes, and gathered into log records.

use super::lines::{Gatherer, PATIENCE, Record};
use super::queue::Waiting;
use super::send::LogSender;
use br_env::Clock;
use br_model::{LogBatch, LogRecord, Resource, ResourceLogs, Scope, Severity};
use br_wire::json_line;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// What both streams share.
pub(super) struct Context {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sender: Arc<LogSender>,
}

/// Copies a stream through and sends its records, until it ends or is told to stop.
pub(super) async fn follow(
    stream: Stream,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    context: Arc<Context>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut gatherer = Gatherer::new();
    let mut buffer = vec![0; 64 << 10];
    let mut records = Vec::new();
    loop {
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout(PATIENCE, from.read(&mut buffer)) => read,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let now = context.clock.now();
        match read {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(count)) => {
                // The reader of our output may be gone (`| head`): the records are kept all the same.
                let _ = to.write_all(&buffer[..count]).await;
                let _ = to.flush().await;
                gatherer.push(&buffer[..count], now, &mut records);
            }
            Err(_) => gatherer.idle(now, &mut records),
        }
        // A grandchild that never pauses would keep the reading ready for ever.
        if *stopped.borrow() {
            break;
        }
        context.sender.send(records.drain(..).map(|record| Waiting { stream, record })).await;
    }
    gatherer.finish(context.clock.now(), &mut records);
    context.sender.send(records.drain(..).map(|record| Waiting { stream, record })).await;
}

/// Records as they are sent.
pub(super) fn log_batch(waiting: &[Waiting], resource: Arc<Resource>) -> LogBatch {
    let group = ResourceLogs {
        resource,
        scope: Arc::new(Scope { name: "bellrock.run".into(), ..Scope::default() }),
        records: waiting.iter().map(|waiting| log_record(waiting.stream, &waiting.record)).collect(),
    };
    LogBatch { groups: vec![group] }
}

/// A line that is JSON becomes fields; of plain text the level is read where loggers put it.
fn log_record(stream: Stream, record: &Record) -> LogRecord {
    let mut log = json_line::parse(&record.text, record.at).unwrap_or_else(|| plain(record));
    if stream == Stream::Err {
        log.attributes.push("log.iostream", "stderr");
    }
    log
}

fn plain(record: &Record) -> LogRecord {
    let (severity, severity_text) = level_of(&record.text);
    LogRecord {
        timestamp: record.at,
        observed: record.at,
        severity,
        severity_text,
        body: record.text.clone(),
        ..LogRecord::default()
    }
}

/// The first word of the first line that is a level in capitals, as `logging` and its kin write it; a traceback is an error.
fn level_of(text: &str) -> (Severity, String) {
    let first_line = text.lines().next().unwrap_or_default();
    let words = first_line.split(|character: char| !character.is_ascii_alphabetic()).filter(|word| word.len() >= 4).take(12);
    for word in words {
        if matches!(word, "DEBUG" | "INFO" | "WARN" | "WARNING" | "ERROR" | "CRITICAL" | "FATAL" | "TRACE" | "NOTICE") {
            return (Severity::from_text(word), word.to_owned());
        }
    }
    if text.contains("Traceback (most recent call last)") {
        return (Severity::ERROR, "ERROR".into());
    }
    (Severity::UNSPECIFIED, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::Nanos;

    #[test]
    fn levels_of_plain_lines() {
        for (line, expect) in [
            ("2026-01-02 10:00:00,123 WARNING [shop] low", Severity::WARN),
            ("INFO:     127.0.0.1 - \"GET /\" 200 OK", Severity::INFO),
            ("no level here, information only", Severity::UNSPECIFIED),
            ("Traceback (most recent call last):\n  File", Severity::ERROR),
        ] {
            assert_eq!(level_of(line).0, expect, "{line}");
        }
    }

    #[test]
    fn a_json_line_becomes_fields() {
        let record = Record { at: Nanos(5), text: r#"{"event": "paid", "level": "error", "cents": 3}"#.into() };
        let log = log_record(Stream::Out, &record);
        assert_eq!((log.body.as_str(), log.severity), ("paid", Severity::ERROR));
        assert!(log.attributes.get("cents").is_some());
    }
}
