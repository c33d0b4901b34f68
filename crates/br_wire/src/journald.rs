//! The export format of systemd's journal, as `systemd-journal-upload` sends it: entries of fields, with an empty line behind each.
//!
//! A field is `NAME=value` on a line, or `NAME` on a line and then the length of the value in eight bytes, little-endian, the value
//! in any bytes, and a line feed.
//!
//! Sources: systemd "Journal Export Formats", `systemd.journal-fields(7)`.

use crate::amount::{Memory, Room};
use crate::document::push;
use crate::syslog::{facility_of, severity_of};
use crate::{Decoded, Limits, Result, WireError, marks, severity};
use br_model::{AttributeValue, Attributes, LogBatch, LogRecord, Resource, Severity, SpanId, TraceId};
use br_std::Nanos;

/// What a field takes beside its text, and what an entry does.
const FIELD_BYTES: usize = 96;
const ENTRY_BYTES: usize = 600;

/// Fields with their equals in OpenTelemetry; others keep their names.
const RENAMED: [(&str, &str); 9] = [
    ("CODE_FILE", "code.file.path"),
    ("CODE_FUNC", "code.function.name"),
    ("CODE_LINE", "code.line.number"),
    ("EXCEPTION_TEXT", "exception.stacktrace"),
    ("LOGGER", "logger.name"),
    ("THREAD_NAME", "thread.name"),
    ("_CMDLINE", "process.command_line"),
    ("_COMM", "process.executable.name"),
    ("_EXE", "process.executable.path"),
];
/// Those whose values are numbers.
const NUMBERS: [(&str, &str); 2] = [("_PID", "process.pid"), ("TID", "thread.id")];

enum Part<'b> {
    Field(&'b str, &'b [u8]),
    /// The end of an entry.
    End,
    /// More has to come.
    Cut,
    Wrong(String),
}

/// Walks over fields and the ends of entries.
struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Walk<'b> {
    fn next(&mut self) -> Part<'b> {
        let rest = &self.bytes[self.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else { return Part::Cut };
        if end == 0 {
            self.at += 1;
            return Part::End;
        }
        let line = &rest[..end];
        let equals = memchr::memchr(b'=', line);
        let name = &line[..equals.unwrap_or(end)];
        let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let Some(name) =
            std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && name.bytes().all(|byte| is_name(&byte)))
        else {
            let shown: String = String::from_utf8_lossy(name).chars().take(40).collect();
            return Part::Wrong(format!("byte {}: {shown:?} is not the name of a field", self.at));
        };
        if let Some(equals) = equals {
            self.at += end + 1;
            return Part::Field(name, &line[equals + 1..]);
        }
        let Some((length, behind)) = rest[end + 1..].split_first_chunk::<8>() else { return Part::Cut };
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((value, behind)) = behind.split_at_checked(length) else { return Part::Cut };
        match behind.first() {
            None => Part::Cut,
            Some(b'\n') => {
                self.at += end + 1 + 8 + length + 1;
                Part::Field(name, value)
            }
            Some(_) => Part::Wrong(format!("byte {}: field {name} does not end where it says", self.at)),
        }
    }
}

/// How many of these bytes are whole entries: a long upload is taken in parts. What is wrong counts as whole, to be told by [`decode`].
pub fn whole_entries(bytes: &[u8]) -> usize {
    let mut walk = Walk { bytes, at: 0 };
    let mut whole = 0;
    loop {
        match walk.next() {
            Part::Field(..) => {}
            Part::End => whole = walk.at,
            Part::Cut => return whole,
            Part::Wrong(_) => return bytes.len(),
        }
    }
}

/// Reads entries. What cannot be read makes all behind it unreadable, as nothing tells where the next entry begins.
pub fn decode(body: &[u8], received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    let (mut room, mut memory) = (Room::new(limits.records_max, "entries"), Memory::new(limits));
    let mut decoded = Decoded::new(LogBatch::default());
    let mut walk = Walk { bytes: body, at: 0 };
    let mut fields: Vec<(&str, &[u8])> = Vec::new();
    let mut index = 0;
    loop {
        let part = walk.next();
        if let Part::Field(name, value) = part {
            memory.take(FIELD_BYTES + value.len())?;
            fields.push((name, value));
            continue;
        }
        let is_last = matches!(part, Part::Cut);
        let wrong = match part {
            Part::Cut if walk.at < body.len() => Some(format!("byte {}: the body ends inside of a field", walk.at)),
            Part::Wrong(reason) => Some(reason),
            _ => None,
        };
        if let Some(reason) = wrong {
            if decoded.value.groups.is_empty() {
                return Err(WireError::Malformed(format!("journal: {reason}")));
            }
            decoded.reject(index, 1, format!("{reason}; what follows is lost"));
            return Ok(decoded);
        }
        if !fields.is_empty() {
            room.take(1)?;
            memory.take(ENTRY_BYTES)?;
            let (resource, record) = entry(&fields, received, limits);
            push(&mut decoded.value, resource, record);
            fields.clear();
            index += 1;
        }
        if is_last {
            return Ok(decoded);
        }
    }
}

fn entry(fields: &[(&str, &[u8])], received: Nanos, limits: &Limits) -> (Resource, LogRecord) {
    let text = |name: &str| {
        let field = fields.iter().find(|(other, _)| *other == name);
        field.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(str::trim).filter(|text| !text.is_empty())
    };
    let micros = |name: &str| text(name)?.parse::<i64>().ok()?.checked_mul(1000).map(Nanos);
    let observed = micros("__REALTIME_TIMESTAMP").unwrap_or(received);
    let mut record =
        LogRecord { timestamp: micros("_SOURCE_REALTIME_TIMESTAMP").unwrap_or(observed), observed, ..LogRecord::default() };
    if let Some((word, severity)) = text("PRIORITY").and_then(|number| severity_of(number.parse().ok()?)) {
        (record.severity, record.severity_text) = (severity, word.to_owned());
    }
    for (name, value) in fields {
        put(name, value, &mut record);
    }
    let resource = resource(text);
    crate::otlp::error_of_log(&mut record, &resource);
    if record.severity == Severity::UNSPECIFIED
        && let Some(found) = severity::of_line(&record.body)
    {
        (record.severity, record.severity_text) = (found.severity, found.text);
    }
    marks::finish(&mut record, limits);
    (resource, record)
}

fn resource<'t>(text: impl Fn(&str) -> Option<&'t str>) -> Resource {
    let mut attributes = Attributes::default();
    let unit = text("_SYSTEMD_UNIT").or(text("UNIT"));
    let service = unit.and_then(|unit| unit.strip_suffix(".service")).or(text("SYSLOG_IDENTIFIER")).or(text("_COMM"));
    for (key, value) in
        [("service.name", service), ("host.name", text("_HOSTNAME")), ("host.id", text("_MACHINE_ID")), ("systemd.unit", unit)]
    {
        if let Some(value) = value {
            attributes.push(key, value);
        }
    }
    Resource { attributes }
}

/// Puts a field where it belongs.
fn put(name: &str, value: &[u8], record: &mut LogRecord) {
    let text = std::str::from_utf8(value).ok();
    match name {
        "MESSAGE" => {
            String::from_utf8_lossy(value).trim_end_matches('\n').clone_into(&mut record.body);
            return;
        }
        "PRIORITY" if record.severity != Severity::UNSPECIFIED => return,
        "_HOSTNAME" | "_MACHINE_ID" | "_SYSTEMD_UNIT" | "_SOURCE_REALTIME_TIMESTAMP" => return,
        "TRACE_ID" | "OTEL_TRACE_ID" => {
            if let Some(id) = text.and_then(TraceId::from_hex) {
                record.trace_id = id;
                return;
            }
        }
        "SPAN_ID" | "OTEL_SPAN_ID" => {
            if let Some(id) = text.and_then(SpanId::from_hex) {
                record.span_id = id;
                return;
            }
        }
        "SYSLOG_FACILITY" => {
            if let Some(facility) = text.and_then(|text| facility_of(text.parse().ok()?)) {
                record.attributes.push("syslog.facility", facility);
                return;
            }
        }
        // Addresses within the journal that it was in.
        _ if name.starts_with("__") => return,
        _ => {}
    }
    let number = NUMBERS.iter().find(|(known, _)| *known == name);
    if let Some(((_, key), number)) = number.zip(text.and_then(|text| text.parse::<i64>().ok())) {
        record.attributes.push(*key, number);
        return;
    }
    let key = RENAMED.iter().find(|(known, _)| *known == name).map_or(name, |(_, key)| *key);
    match text {
        Some(text) => record.attributes.push(key, text),
        None => record.attributes.push(key, AttributeValue::Bytes(value.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn entries() {
        let first = [
            b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1767348000500000\n_SYSTEMD_UNIT=shop.service\n_HOSTNAME=web\nPRIORITY=3\n"
                .to_vec(),
            binary("MESSAGE", b"two\nlines = here\n\nand more"),
            b"_PID=77\nCODE_FUNC=pay\nSYSLOG_FACILITY=3\nORDER=a=b\n".to_vec(),
            binary("RAW", b"\x00\xff\n"),
            b"\n".to_vec(),
        ]
        .concat();
        let second = b"_SOURCE_REALTIME_TIMESTAMP=1767348001000000\nMESSAGE=failed\nSYSLOG_IDENTIFIER=cron\n\
            EXCEPTION_TEXT=Traceback (most recent call last):  ValueError\n\n";
        let body = [&first[..], b"\n", second].concat();
        let decoded = decode(&body, Nanos(7), &Limits::default()).expect("entries");
        assert_eq!(decoded.rejected_count, 0);
        let [shop, cron] = &decoded.value.groups[..] else { panic!("two units: {:?}", decoded.value) };
        let record = &shop.records[0];
        assert_eq!((shop.resource.service_name(), shop.resource.attributes.get_str("host.name")), ("shop", Some("web")));
        assert_eq!((record.body.as_str(), record.severity), ("two\nlines = here\n\nand more", Severity::ERROR));
        assert_eq!(record.timestamp, Nanos(1_767_348_000_500_000_000));
        let shown: Vec<String> = record.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expect = ["process.pid=77", "code.function.name=pay", "syslog.facility=daemon", "ORDER=a=b", "RAW=\"00ff0a\""];
        assert_eq!(shown, expect);
        let record = &cron.records[0];
        assert_eq!((cron.resource.service_name(), record.timestamp.0), ("cron", 1_767_348_001_000_000_000));
        assert!(record.error.is_some());
        assert_eq!(whole_entries(&body), body.len());
        for cut in 0..first.len() {
            assert_eq!(whole_entries(&body[..cut]), 0, "{cut}");
        }
        assert_eq!(whole_entries(&body[..body.len() - 1]), first.len() + 1);
        // The last one may lack its empty line.
        assert_eq!(decode(&body[..body.len() - 1], Nanos(7), &Limits::default()).expect("entries").value.record_count(), 2);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = b"MESSAGE=x\n\n";
        for (wrong, words) in [
            (&b"no name\n\n"[..], "\"no name\" is not the name of a field"),
            (b"RAW\n\xff\xff\xff\xff\xff\xff\xff\xffx\n\n", "ends inside of a field"),
            (&[b"RAW\n", &1u64.to_le_bytes()[..], b"xy\n\n"].concat(), "does not end where it says"),
            (b"MESSAGE=x", "ends inside of a field"),
        ] {
            let error = decode(wrong, Nanos(7), &Limits::default()).expect_err("wrong").to_string();
            assert!(error.contains(words), "{error}");
            let decoded = decode(&[good, wrong].concat(), Nanos(7), &Limits::default()).expect("the first entry is good");
            assert_eq!((decoded.value.record_count(), decoded.rejected_count, decoded.rejected[0].index), (1, 1, 1));
        }
        assert_eq!(decode(b"", Nanos(7), &Limits::default()).expect("nothing").value.record_count(), 0);
    }
}
