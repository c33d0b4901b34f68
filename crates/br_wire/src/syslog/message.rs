//! One syslog message.

use super::time::Clock;
use crate::{Limits, marks, severity};
use br_model::{AttributeValue, Attributes, LogRecord, Resource, Severity, SpanId, TraceId};
use br_std::Nanos;

/// The severities of RFC 5424 and what OpenTelemetry's data model makes of them.
const SEVERITIES: [(&str, Severity); 8] = [
    ("emerg", Severity(21)),
    ("alert", Severity(19)),
    ("crit", Severity(18)),
    ("err", Severity(17)),
    ("warning", Severity(13)),
    ("notice", Severity(10)),
    ("info", Severity(9)),
    ("debug", Severity(5)),
];

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit",
    "console", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// The severity of a number from 0 to 7, with the word for it.
pub(crate) fn severity_of(number: u8) -> Option<(&'static str, Severity)> {
    SEVERITIES.get(usize::from(number)).copied()
}

pub(crate) fn facility_of(number: u8) -> Option<&'static str> {
    FACILITIES.get(usize::from(number)).copied()
}

/// What stands before the message proper; empty for what is not told.
#[derive(Debug, Default)]
struct Head<'m> {
    host: &'m str,
    app: &'m str,
    process: &'m str,
    message_id: &'m str,
}

/// Reads what stands before the text of messages, to tell those of one program from those of others.
pub struct Heads(Clock);

/// A message in two parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'m> {
    /// Host, program and process, as far as it names them.
    pub sender: [&'m str; 3],
    pub text: &'m str,
}

impl Heads {
    /// The time makes no difference here, but for messages that have none.
    pub fn new(now: Nanos) -> Self {
        Self(Clock::new("", now))
    }

    pub fn split<'m>(&self, message: &'m str) -> Split<'m> {
        let text = message.trim_end_matches(['\n', '\r', '\0']);
        let rest = priority(text).map_or(text, |(_, rest)| rest);
        let (mut record, mut head) = (LogRecord::default(), Head::default());
        let text = match rest.strip_prefix("1 ").and_then(|rest| version_1(rest, &mut record, &mut head, &self.0)) {
            Some(text) => text,
            None => old(rest, &mut record, &mut head, &self.0),
        };
        Split { sender: [head.host, head.app, head.process], text }
    }
}

/// `None` for one that is empty.
pub(super) fn parse(message: &[u8], peer: &str, clock: &Clock, limits: &Limits) -> Option<(Resource, LogRecord)> {
    let text = String::from_utf8_lossy(message);
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r', '\0']);
    if text.trim().is_empty() {
        return None;
    }
    let mut record = LogRecord { timestamp: clock.received, observed: clock.received, ..LogRecord::default() };
    let mut head = Head::default();
    let (priority, rest) = priority(text).map_or((None, text), |(priority, rest)| (Some(priority), rest));
    if let Some(priority) = priority {
        if let Some((word, severity)) = severity_of(priority & 7) {
            (record.severity, record.severity_text) = (severity, word.to_owned());
        }
        if let Some(facility) = facility_of(priority >> 3) {
            record.attributes.push("syslog.facility", facility);
        }
    }
    let body = match rest.strip_prefix("1 ").and_then(|rest| version_1(rest, &mut record, &mut head, clock)) {
        Some(body) => body,
        None => old(rest, &mut record, &mut head, clock),
    };
    body.clone_into(&mut record.body);
    if record.severity == Severity::UNSPECIFIED
        && let Some(found) = severity::of_line(&record.body)
    {
        (record.severity, record.severity_text) = (found.severity, found.text);
    }
    put_head(&head, peer, &mut record.attributes);
    marks::finish(&mut record, limits);
    Some((resource(&head, peer), record))
}

fn resource(head: &Head<'_>, peer: &str) -> Resource {
    let mut attributes = Attributes::default();
    if !head.app.is_empty() {
        attributes.push("service.name", head.app);
    }
    let host = if head.host.is_empty() { peer } else { head.host };
    if !host.is_empty() {
        attributes.push("host.name", host);
    }
    Resource { attributes }
}

fn put_head(head: &Head<'_>, peer: &str, attributes: &mut Attributes) {
    match head.process.parse::<i64>() {
        Ok(pid) => attributes.push("process.pid", pid),
        Err(_) if head.process.is_empty() => {}
        Err(_) => attributes.push("syslog.procid", head.process),
    }
    if !head.message_id.is_empty() {
        attributes.push("syslog.msgid", head.message_id);
    }
    if !head.host.is_empty() && !peer.is_empty() && head.host != peer {
        attributes.push("network.peer.address", peer);
    }
}

/// `<165>`
fn priority(text: &str) -> Option<(u8, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u8 = number.parse().ok().filter(|number| is_number && *number <= 191)?;
    Some((number, rest))
}

/// RFC 5424, behind its version. `None` when it is not that after all; then nothing was taken.
fn version_1<'m>(text: &'m str, record: &mut LogRecord, head: &mut Head<'m>, clock: &Clock) -> Option<&'m str> {
    let mut parts = text.splitn(6, ' ');
    let mut next = || parts.next();
    let (time, host, app, process, message_id) = (next()?, next()?, next()?, next()?, next()?);
    let timestamp = if time == "-" { clock.received } else { clock.iso(time)? };
    let mut found = Vec::new();
    let rest = structured_data(next()?, &mut found)?;
    let known = |word: &'m str| if word == "-" { "" } else { word };
    *head = Head { host: known(host), app: known(app), process: known(process), message_id: known(message_id) };
    record.timestamp = timestamp;
    for (id, name, value) in found {
        put_parameter(id, name, value, record);
    }
    Some(rest.trim_start_matches('\u{feff}'))
}

/// One parameter: the identifier of its element, its name, its value.
type Parameter<'m> = (&'m str, &'m str, String);

/// Takes `-` or `[id name="value" …]…`, and gives what stands behind.
fn structured_data<'m>(text: &'m str, found: &mut Vec<Parameter<'m>>) -> Option<&'m str> {
    let mut rest = match text.strip_prefix('-') {
        Some(rest) => return if rest.is_empty() { Some("") } else { rest.strip_prefix(' ') },
        None => text,
    };
    while let Some(inner) = rest.strip_prefix('[') {
        let end = inner.find([' ', ']'])?;
        let id = Some(&inner[..end]).filter(|id| !id.is_empty())?;
        rest = &inner[end..];
        while let Some(parameter) = rest.strip_prefix(' ') {
            // Some senders leave a blank before the end.
            if parameter.starts_with([' ', ']']) {
                rest = parameter;
                continue;
            }
            let (name, value) = parameter.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            found.push((id, name, value));
            rest = behind;
        }
        rest = rest.strip_prefix(']')?;
    }
    if rest.len() == text.len() {
        return None;
    }
    if rest.is_empty() { Some("") } else { rest.strip_prefix(' ') }
}

/// A value up to its quote, its escapes resolved, and what stands behind.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()? {
                (_, escaped @ ('"' | '\\' | ']')) => value.push(escaped),
                (_, other) => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

fn put_parameter(id: &str, name: &str, value: String, record: &mut LogRecord) {
    match name {
        "trace_id" | "traceId" if record.trace_id.is_none() => {
            if let Some(id) = TraceId::from_hex(&value) {
                record.trace_id = id;
                return;
            }
        }
        "span_id" | "spanId" if record.span_id.is_none() => {
            if let Some(id) = SpanId::from_hex(&value) {
                record.span_id = id;
                return;
            }
        }
        _ => {}
    }
    let key = format!("syslog.{id}.{name}");
    // A name may come more than once in an element.
    match record.attributes.0.last_mut().filter(|(last, _)| *last == key) {
        Some((_, AttributeValue::Array(values))) => values.push(value.into()),
        Some((_, first)) => {
            let values = vec![std::mem::replace(first, AttributeValue::Empty), value.into()];
            *first = AttributeValue::Array(values);
        }
        None => record.attributes.push(key, value),
    }
}

/// RFC 3164, behind its priority: `Nov 27 03:03:03 host app[7]: message`, of which anything may be missing.
fn old<'m>(text: &'m str, record: &mut LogRecord, head: &mut Head<'m>, clock: &Clock) -> &'m str {
    let first = text.split(' ').next().unwrap_or_default();
    let time = clock.month_first(text).or_else(|| clock.iso(first).map(|time| (time, &text[first.len()..])));
    let Some((timestamp, rest)) = time else {
        // Without a time only what cannot be anything else names the program.
        return match tag(text) {
            Some((app, process, rest)) if !process.is_empty() => {
                (head.app, head.process) = (app, process);
                rest
            }
            _ => text,
        };
    };
    record.timestamp = timestamp;
    let mut rest = rest.trim_start_matches(' ');
    if tag(rest).is_none()
        && let Some((host, behind)) = rest.split_once(' ')
    {
        head.host = host;
        rest = behind.trim_start_matches(' ');
    }
    let Some((app, process, behind)) = tag(rest) else { return rest };
    (head.app, head.process) = (app, process);
    behind
}

/// `app:` or `app[7]:` or `app[7]`, and what stands behind.
fn tag(text: &str) -> Option<(&str, &str, &str)> {
    const TAG_BYTES_MAX: usize = 128;
    let end = text.find([':', '[', ' '])?;
    let app = Some(&text[..end]).filter(|app| !app.is_empty() && app.len() <= TAG_BYTES_MAX)?;
    let (process, rest) = match &text[end..] {
        rest if rest.starts_with('[') => {
            let (process, rest) = rest[1..].split_once(']')?;
            if process.is_empty() || process.contains([' ', '[']) {
                return None;
            }
            (process, rest.strip_prefix(':').unwrap_or(rest))
        }
        rest => ("", rest.strip_prefix(':')?),
    };
    let message = if rest.is_empty() { "" } else { rest.strip_prefix([' ', '\t'])? };
    Some((app, process, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27 03:04:00 UTC
    const RECEIVED: Nanos = Nanos(1_795_748_640_000_000_000);

    fn check(message: &str, host_app: [&str; 2], severity: Severity, body: &str, attributes: &[&str]) -> LogRecord {
        let clock = Clock::new("", RECEIVED);
        let (resource, record) = parse(message.as_bytes(), "10.0.0.9", &clock, &Limits::default()).expect(message);
        let of = |key: &str| resource.attributes.get_str(key).unwrap_or_default().to_owned();
        assert_eq!([of("host.name"), of("service.name")], host_app, "{message}");
        assert_eq!((record.severity, record.body.as_str()), (severity, body), "{message}");
        let shown: Vec<String> = record.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, attributes, "{message}");
        record
    }

    #[test]
    fn heads_tell_senders_apart() {
        let heads = Heads::new(RECEIVED);
        for (message, sender, text) in [
            ("<11>Nov 27 03:03:03 web shop[7]:   File \"a.py\", line 1\n", ["web", "shop", "7"], "  File \"a.py\", line 1"),
            ("<11>1 - web shop 7 - - Traceback", ["web", "shop", "7"], "Traceback"),
            ("ValueError: bad", ["", "", ""], "ValueError: bad"),
        ] {
            assert_eq!(heads.split(message), Split { sender, text }, "{message}");
        }
    }

    #[test]
    fn rfc_5424() {
        let message = "<165>1 2026-11-27T03:03:14.003Z web.example shop 8710 ID47 [a@32473 iut=\"3\" s=\"q \\\" \\] \\n\" ip=\"1\" ip=\"2\"][o trace_id=\"0af7651916cd43dd8448eb211c80319c\"] \u{feff}paid é";
        let expect = [
            "syslog.facility=local4",
            "syslog.a@32473.iut=3",
            "syslog.a@32473.s=q \" ] \\n",
            r#"syslog.a@32473.ip=["1","2"]"#,
            "process.pid=8710",
            "syslog.msgid=ID47",
            "network.peer.address=10.0.0.9",
        ];
        let record = check(message, ["web.example", "shop"], Severity(10), "paid é", &expect);
        assert_eq!((record.timestamp.0, record.severity_text.as_str()), (1_795_748_594_003_000_000, "notice"));
        assert_eq!(record.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        check("<34>1 - - - - - -", ["10.0.0.9", ""], Severity(18), "", &["syslog.facility=auth"]);
        check("<34>1 - - su - - - \u{feff}x y", ["10.0.0.9", "su"], Severity(18), "x y", &["syslog.facility=auth"]);
        check("<34>1 - - su p1 - [x ] z", ["10.0.0.9", "su"], Severity(18), "z", &["syslog.facility=auth", "syslog.procid=p1"]);
        // What only looks like it stays whole.
        for text in ["1 - - su - - [x", "1 soon a b c - x", "1 2 3"] {
            check(&format!("<34>{text}"), ["10.0.0.9", ""], Severity(18), text, &["syslog.facility=auth"]);
        }
    }

    #[test]
    fn rfc_3164_and_its_dialects() {
        let user = "syslog.facility=user";
        let peer = "network.peer.address=10.0.0.9";
        let record = check(
            "<14>Nov 27 03:03:03 web shop[77]: hello: x",
            ["web", "shop"],
            Severity::INFO,
            "hello: x",
            &[user, "process.pid=77", peer],
        );
        assert_eq!(record.timestamp.0, 1_795_748_583_000_000_000);
        check("<14>Nov 27 03:03:03 shop: hello\n", ["10.0.0.9", "shop"], Severity::INFO, "hello", &[user]);
        check("<14>Nov  7 03:03:03 web no tag here", ["web", ""], Severity::INFO, "no tag here", &[user, peer]);
        let iso = "<14>2026-11-27T03:03:03.25+00:00 web cron[x1]: run";
        let record = check(iso, ["web", "cron"], Severity::INFO, "run", &[user, "syslog.procid=x1", peer]);
        assert_eq!(record.timestamp.0, 1_795_748_583_250_000_000);
        check("<14>*Nov 27 03:03:03.123: %SYS-5: up", ["10.0.0.9", "%SYS-5"], Severity::INFO, "up", &[user]);
        // Python's SysLogHandler sends neither time nor host.
        check("<11>order: failed\0", ["10.0.0.9", ""], Severity::ERROR, "order: failed", &[user]);
        check("<11>shop[7]: failed", ["10.0.0.9", "shop"], Severity::ERROR, "failed", &[user, "process.pid=7"]);
        let record = check("WARNING no priority", ["10.0.0.9", ""], Severity::WARN, "WARNING no priority", &[]);
        assert_eq!(record.timestamp, RECEIVED);
        check("<192>x", ["10.0.0.9", ""], Severity::UNSPECIFIED, "<192>x", &[]);
        check("<14>Nov 27 03:03:03 web https://x", ["web", ""], Severity::INFO, "https://x", &[user, peer]);
    }
}
