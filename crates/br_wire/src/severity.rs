//! The severity of a log record whose sender gives none: from the level that its line tells, else from a word in its line.
//!
//! A line that is a JSON object tells it in a field, a logfmt line as `level=…`. Otherwise the first word counts that begins as a
//! level does, among the first bytes, where loggers write the level: `ERROR`, `[warning]`, `Errors`, but not `forewarn`.

use br_model::Severity;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// What a line says of its severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub severity: Severity,
    /// The line's own word for it, as it stands in a field made for it; empty where it is a number or a word of the text.
    pub text: String,
}

/// `None` when the line says nothing of it.
pub fn of_line(line: &str) -> Option<Found> {
    let trimmed = line.trim();
    let is_object = trimmed.starts_with('{') && trimmed.ends_with('}');
    let told = if is_object { of_object(trimmed) } else { of_logfmt(line) };
    told.or_else(|| keyword(line).map(|severity| Found { severity, text: String::new() }))
}

/// Names of the field that holds the level, in any case; the first of them that is there counts.
const LEVEL_FIELDS: [&str; 10] =
    ["level", "severity", "levelname", "log.level", "log_level", "loglevel", "lvl", "level_name", "severity_text", "levelno"];
/// The place of the field that the Elastic Common Schema nests in `log`.
const LOG_LEVEL: usize = 3;
/// A level's word is no longer than this.
const LEVEL_BYTES_MAX: usize = 32;

fn of_object(object: &str) -> Option<Found> {
    let fields: LevelFields = serde_json::from_str(object).ok()?;
    let is_pino = fields.has_pid && fields.has_hostname;
    let (_, value) = fields.best?;
    match value {
        Value::String(word) => word_of_field(word.trim(), is_pino),
        Value::Number(number) => number_of_field(number.as_i64()?, is_pino),
        _ => None,
    }
}

/// A word that no logger is known to write still says that the line has a level, and that it is none of those that alarm.
fn word_of_field(word: &str, is_pino: bool) -> Option<Found> {
    if word.is_empty() || word.len() > LEVEL_BYTES_MAX {
        return None;
    }
    if let Ok(number) = word.parse() {
        return number_of_field(number, is_pino);
    }
    let severity = match Severity::from_text(word) {
        Severity::UNSPECIFIED => Severity::INFO,
        known => known,
    };
    Some(Found { severity, text: word.to_owned() })
}

/// Loggers count in tens; other numbers are levels of something else, such as of a game or a battery.
fn number_of_field(number: i64, is_pino: bool) -> Option<Found> {
    if !(10..=60).contains(&number) || number % 10 != 0 {
        return None;
    }
    let severity = crate::json_line::severity_of_number(number, is_pino);
    Some(Found { severity, text: String::new() })
}

/// What of an object's fields is needed; the others are skipped as they are read.
#[derive(Default)]
struct LevelFields {
    /// The place in [`LEVEL_FIELDS`], and the value.
    best: Option<(usize, Value)>,
    has_pid: bool,
    has_hostname: bool,
}

impl LevelFields {
    fn offer(&mut self, rank: usize, value: Value) {
        let is_better = self.best.as_ref().is_none_or(|(best, _)| rank < *best);
        if is_better && (value.is_string() || value.is_number()) {
            self.best = Some((rank, value));
        }
    }
}

enum Key {
    Level(usize),
    /// What the Elastic Common Schema nests its level in.
    Log,
    Pid,
    Hostname,
    Other,
}

fn rank_of(name: &str) -> Option<usize> {
    LEVEL_FIELDS.iter().position(|known| known.eq_ignore_ascii_case(name))
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "log" => Key::Log,
                    "pid" => Key::Pid,
                    "hostname" => Key::Hostname,
                    _ => rank_of(name).map_or(Key::Other, Key::Level),
                })
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl<'de> Deserialize<'de> for LevelFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = LevelFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LevelFields, A::Error> {
                let mut fields = LevelFields::default();
                while let Some(key) = map.next_key::<Key>()? {
                    match key {
                        Key::Level(rank) => {
                            let value = map.next_value()?;
                            fields.offer(rank, value);
                        }
                        Key::Log => {
                            if let Value::Object(inner) = map.next_value()? {
                                let level = inner.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("level"));
                                if let Some((_, value)) = level {
                                    fields.offer(LOG_LEVEL, value);
                                }
                            }
                        }
                        Key::Pid | Key::Hostname | Key::Other => {
                            fields.has_pid |= matches!(key, Key::Pid);
                            fields.has_hostname |= matches!(key, Key::Hostname);
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// `level=…` at the beginning or behind a blank, with a word that is known.
fn of_logfmt(line: &str) -> Option<Found> {
    let at = line.find("level=").filter(|at| *at == 0 || line.as_bytes()[at - 1] == b' ')?;
    let rest = line[at + 6..].trim_start_matches('"');
    let word: String = rest.chars().take(16).take_while(char::is_ascii_alphabetic).collect();
    let severity = Severity::from_text(&word);
    (severity != Severity::UNSPECIFIED).then_some(Found { severity, text: word })
}

/// Loggers write the level before the message.
const LOOKED_AT_BYTES: usize = 255;

/// How a word may go on behind its beginning.
enum Ending {
    Any,
    /// Of those that go on otherwise many are no levels: criteria, emerging, noticeable.
    One(&'static [&'static str]),
}

const KEYWORDS: [(&str, Ending, Severity); 17] = [
    ("fatal", Ending::Any, Severity::FATAL),
    ("critical", Ending::Any, Severity::FATAL),
    ("crit", Ending::One(&[""]), Severity::FATAL),
    ("alert", Ending::One(&["", "s", "ed", "ing"]), Severity::FATAL),
    ("emerg", Ending::One(&["", "ency"]), Severity::FATAL),
    ("panic", Ending::Any, Severity::FATAL),
    ("error", Ending::Any, Severity::ERROR),
    ("err", Ending::One(&["", "s", "no"]), Severity::ERROR),
    ("exception", Ending::One(&["", "s"]), Severity::ERROR),
    ("traceback", Ending::One(&[""]), Severity::ERROR),
    ("warn", Ending::Any, Severity::WARN),
    ("notice", Ending::One(&["", "s", "d"]), Severity::WARN),
    ("info", Ending::One(&["", "rmation", "rmational"]), Severity::INFO),
    ("debug", Ending::Any, Severity::DEBUG),
    ("dbug", Ending::One(&[""]), Severity::DEBUG),
    ("dbg", Ending::One(&[""]), Severity::DEBUG),
    ("trace", Ending::One(&["", "s", "d"]), Severity::TRACE),
];

/// The first word that begins as a level does. Parts of a path (`/alerts`), of an identifier (`error_count`) and what names a
/// trace (`trace=…`, `trace-id`) are none.
fn keyword(line: &str) -> Option<Severity> {
    let head = &line.as_bytes()[..line.len().min(LOOKED_AT_BYTES)];
    let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
    let mut at = 0;
    while at < head.len() {
        if head[at] == 0x1b {
            // A terminal's colour ends with a letter: `ESC [ 31 m`.
            at += head[at..].iter().position(u8::is_ascii_alphabetic).map_or(1, |length| length + 1);
            continue;
        }
        if !is_of_word(head[at]) {
            at += 1;
            continue;
        }
        let end = head[at..].iter().position(|byte| !is_of_word(*byte)).map_or(head.len(), |length| at + length);
        if end == head.len() && line.as_bytes().get(end).is_some_and(|byte| is_of_word(*byte)) {
            break;
        }
        let is_of_path = at > 0 && matches!(head[at - 1], b'/' | b'\\');
        let found = severity_of_word(&head[at..end]).filter(|_| !is_of_path);
        if let Some(severity) = found.filter(|severity| *severity != Severity::TRACE || !names_a_trace(&head[end..])) {
            return Some(severity);
        }
        at = end;
    }
    None
}

fn severity_of_word(word: &[u8]) -> Option<Severity> {
    if !word.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let first = word.first()?.to_ascii_lowercase();
    let begins = |start: &str| {
        let begin = word.get(..start.len());
        start.as_bytes()[0] == first && begin.is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
    };
    let ends = |start: &str, ending: &Ending| match ending {
        Ending::Any => true,
        Ending::One(endings) => endings.iter().any(|one| word[start.len()..].eq_ignore_ascii_case(one.as_bytes())),
    };
    KEYWORDS.iter().find(|(start, ending, _)| begins(start) && ends(start, ending)).map(|(_, _, severity)| *severity)
}

/// By what follows the word `trace`.
fn names_a_trace(rest: &[u8]) -> bool {
    let is_id = |rest: &[u8]| rest.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"id"));
    match rest.split_first() {
        Some((b'=', _)) => true,
        Some((b'-' | b'.' | b' ', rest)) => is_id(rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Severity, text: &str) {
        let found = of_line(line).unwrap_or(Found { severity: Severity::UNSPECIFIED, text: String::new() });
        assert_eq!((found.severity, found.text.as_str()), (expect, text), "{line}");
    }

    #[test]
    fn a_field_tells_it() {
        check(r#"{"Level":"Error","msg":"debug"}"#, Severity::ERROR, "Error");
        check(r#" {"msg":"fatal","log":{"file":"a","LEVEL":"warn"}} "#, Severity::WARN, "warn");
        check(r#"{"log.level":"debug","severity":"CRITICAL"}"#, Severity::FATAL, "CRITICAL");
        check(r#"{"level":30}"#, Severity::WARN, "");
        check(r#"{"pid":1,"hostname":"h","level":30,"msg":"pino"}"#, Severity::INFO, "");
        check(r#"{"levelno":"40"}"#, Severity::ERROR, "");
        check(r#"{"level":"chatty","msg":"an error"}"#, Severity::INFO, "chatty");
        check("level=warn caller=error.go", Severity::WARN, "warn");
        check(r#"ts=1 level="error" msg=x"#, Severity::ERROR, "error");
    }

    #[test]
    fn without_a_field_the_words_tell_it() {
        check(r#"{"level":7,"msg":"player up, warning"}"#, Severity::WARN, "");
        check(r#"{"level":null,"log":"an error"}"#, Severity::ERROR, "");
        check(r#"{"level":"warn","#, Severity::WARN, "");
        check("loglevel=error", Severity::ERROR, "");
        check("INFO no error at all", Severity::INFO, "");
        check("\u{1b}[31mERROR\u{1b}[0m broken", Severity::ERROR, "");
        check("Traceback (most recent call last):", Severity::ERROR, "");
        check("thread 'main' panicked at x", Severity::FATAL, "");
        let far = format!("{} ERROR", "x".repeat(251));
        check(&far[1..], Severity::UNSPECIFIED, "");
        check(&far[2..], Severity::ERROR, "");
    }

    #[test]
    fn not_every_word_is_a_level() {
        for line in [
            "",
            "{",
            "forewarned",
            "GET /alerts/errors HTTP/1.1",
            r"C:\errors\x",
            "trace_id=1 error_count=0",
            "trace=4bf92f trace-id 4bf92f trace.ID",
            "traceparent",
            "no rows meet the criteria",
            "an emerging noticeable alertmanager",
            "éerror",
            "my_error",
            "\u{1b}",
        ] {
            check(line, Severity::UNSPECIFIED, "");
        }
    }
}
