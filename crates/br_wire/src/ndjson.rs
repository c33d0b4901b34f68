//! Lines of JSON objects, each a log record: what scripts send with curl, and Vector, Fluent Bit and Telegraf over HTTP.
//!
//! Source for the parameters: VictoriaLogs "JSON stream API".

use crate::amount::{Memory, Room};
use crate::document::{self, Shape};
use crate::json_line::{BODY, TIME};
use crate::{Decoded, Limits, Rejection, Result};
use br_model::LogBatch;
use br_std::Nanos;

/// Which fields mean what; each is a list of names, separated by commas. Names of nested fields have dots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The first that is there is the time; without any the usual names.
    pub time: &'a str,
    /// The first that is there is the message; without any the usual names.
    pub message: &'a str,
    /// What tells the sender; without any the usual names.
    pub stream: &'a str,
}

fn names(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Reads a body that is unpacked. A line that makes no sense is rejected with its number, counted from 1.
pub fn decode(body: &[u8], fields: Fields<'_>, received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    crate::amount::check_json(body, limits)?;
    let (time, message, stream) = (names(fields.time), names(fields.message), names(fields.stream));
    let shape = Shape {
        time: if time.is_empty() { &TIME } else { &time },
        strict_time: &time,
        body: if message.is_empty() { &BODY } else { &message },
        stream: &stream,
    };
    let (mut room, mut memory) = (Room::new(limits.records_max, "lines"), Memory::new(limits));
    let mut decoded = Decoded::new(LogBatch::default());
    for (at, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        room.take(1)?;
        let (resource, record) = match document::read(line, &shape, received, &mut memory, limits)? {
            Ok(read) => read,
            Err(wrong) => {
                decoded.reject(Rejection::NO_INDEX, 1, format!("line {}: {}", at + 1, wrong.reason));
                continue;
            }
        };
        document::push(&mut decoded.value, resource, record);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::Severity;

    #[test]
    fn one_bad_line_does_not_spoil_the_others() {
        let body = concat!(
            r#"{"date":"2026-01-02T10:00:00.5Z","log":{"message":"hello"},"stream":"s1","level":"warn"}"#,
            "\r\n\n{\"log\": \n",
            r#"{"date":"soon","log":{"message":"no time"}}"#,
            "\n",
            r#"{"log":{"message":"no date"},"stream":"s1","date":null}"#,
        );
        let fields = Fields { time: "date", message: "log.message", stream: "stream" };
        let decoded = decode(body.as_bytes(), fields, Nanos(7), &Limits::default()).expect("lines");
        let reasons: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
        assert_eq!(decoded.rejected_count, 2);
        assert!(reasons[0].starts_with("line 3: no JSON object: EOF"), "{reasons:?}");
        assert_eq!(reasons[1], "line 4: field [date]: \"soon\" is no time");
        let [group] = &decoded.value.groups[..] else { panic!("one stream: {:?}", decoded.value) };
        assert_eq!(group.resource.attributes.get_str("stream"), Some("s1"));
        let shown: Vec<_> =
            group.records.iter().map(|record| (record.body.as_str(), record.timestamp, record.severity)).collect();
        let expect = [("hello", Nanos(1_767_348_000_500_000_000), Severity::WARN), ("no date", Nanos(7), Severity::UNSPECIFIED)];
        assert_eq!(shown, expect);
    }

    #[test]
    fn without_names_the_usual_ones_count() {
        let body = br#"{"timestamp": 1767348000.5, "event": "paid", "service": "shop", "order": 7, "x": NaN}"#;
        let decoded = decode(body, Fields::default(), Nanos(7), &Limits::default()).expect("lines");
        let group = &decoded.value.groups[0];
        assert_eq!(group.resource.service_name(), "shop");
        assert_eq!((group.records[0].body.as_str(), group.records[0].timestamp.0), ("paid", 1_767_348_000_500_000_000));
    }
}
