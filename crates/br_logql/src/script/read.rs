//! Script text to statements.

use crate::lexer::unquote_prefix;
use crate::stages::bounded_regex;
use crate::units::query_duration;
use br_model::{Labels, LogKind, Severity, SpanId, TraceId};
use br_std::Nanos;
use br_storage::LogRow;
use std::time::Duration;

pub(super) enum Statement {
    Clear,
    Load(Vec<LogRow>),
    Eval(Eval),
}

pub(super) struct Eval {
    pub(super) query: String,
    pub(super) start: Nanos,
    pub(super) end: Nanos,
    /// `None` for an instant query.
    pub(super) step: Option<Duration>,
    pub(super) expectation: Expectation,
}

pub(super) type ExpectedSeries = (Labels, Vec<Option<f64>>);

pub(super) enum Expectation {
    Fail(br_std::re2::Regex),
    Series { expected: Vec<ExpectedSeries>, ordered: bool },
}

/// A row may be repeated this often.
const REPEATS_MAX: usize = 100_000;

/// All statements with their line, counted from 1.
pub(super) fn statements(text: &str) -> Vec<(usize, Result<Statement, String>)> {
    let lines: Vec<(usize, &str)> =
        text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !is_blank(line)).collect();
    let mut statements = Vec::new();
    let mut at = 0;
    while let Some((number, line)) = lines.get(at) {
        at += 1;
        let body_len = lines[at..].iter().take_while(|(_, line)| line.starts_with([' ', '\t'])).count();
        let body: Vec<&str> = lines[at..at + body_len].iter().map(|(_, line)| line.trim()).collect();
        at += body_len;
        statements.push((*number, statement(line.trim(), &body)));
    }
    statements
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn statement(head: &str, body: &[&str]) -> Result<Statement, String> {
    let (word, rest) = head.split_once(' ').unwrap_or((head, ""));
    match word {
        "clear" => Ok(Statement::Clear),
        "load" => {
            let mut rows = Vec::new();
            for line in body {
                load_line(line, &mut rows)?;
            }
            Ok(Statement::Load(rows))
        }
        "eval" => eval(rest, body).map(Statement::Eval),
        _ => Err(format!("unknown statement {head:?}")),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    query_duration(text).ok_or_else(|| format!("not a time: {text:?}"))
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

fn keyword<'a>(text: &'a str, wanted: &str) -> Result<&'a str, String> {
    let (found, rest) = word(text);
    if found == wanted { Ok(rest) } else { Err(format!("expected {wanted:?}, found {found:?}")) }
}

fn eval(rest: &str, body: &[&str]) -> Result<Eval, String> {
    let (kind, rest) = word(rest);
    let (start, end, step, query) = if kind == "instant" {
        let (at, query) = word(keyword(rest, "at")?);
        (time(at)?, time(at)?, None, query)
    } else {
        let (from, rest) = word(keyword(rest, "from")?);
        let (to, rest) = word(keyword(rest, "to")?);
        let (step, query) = word(keyword(rest, "step")?);
        (time(from)?, time(to)?, Some(time(step)?), query)
    };
    Ok(Eval {
        query: query.trim().to_owned(),
        start: Nanos(0) + start,
        end: Nanos(0) + end,
        step,
        expectation: expectation(body)?,
    })
}

fn expectation(body: &[&str]) -> Result<Expectation, String> {
    let mut ordered = false;
    let mut expected = Vec::new();
    for line in body {
        let Some(rest) = line.strip_prefix("expect") else {
            expected.push(expected_series(line)?);
            continue;
        };
        let (what, rest) = word(rest);
        match what {
            "fail" => {
                let (kind, pattern) = word(rest);
                let pattern = match kind {
                    "" => String::new(),
                    "msg:" => br_std::re2::escape(pattern.trim()),
                    _ => pattern.trim().to_owned(),
                };
                return bounded_regex(&pattern, br_std::re2::Mode::Part).map(Expectation::Fail);
            }
            "empty" => {}
            "ordered" => ordered = true,
            _ => return Err(format!("unknown expectation {what:?}")),
        }
    }
    Ok(Expectation::Series { expected, ordered })
}

fn expected_series(line: &str) -> Result<ExpectedSeries, String> {
    let (labels, rest) = labels(line)?;
    let value = |word: &str| match word {
        "_" => Ok(None),
        _ => word.parse().map(Some).map_err(|_| format!("not a value: {word:?}")),
    };
    let rest = rest.split_once(" #").map_or(rest, |(values, _)| values);
    Ok((labels, rest.split_whitespace().map(value).collect::<Result<_, _>>()?))
}

type Pairs = Vec<(String, String)>;

/// `name="value"` pairs up to `close`, and what follows it.
fn pairs(text: &str, close: char) -> Result<(Pairs, &str), String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.starts_with(close) {
        let (name, after) = rest.split_once('=').ok_or_else(|| format!("expected name=\"value\" in {rest:?}"))?;
        let (value, length) = unquote_prefix(after).map_err(|(message, _)| message.to_owned())?;
        pairs.push((name.trim().to_owned(), value));
        rest = after[length..].trim_start_matches([' ', ',']);
    }
    Ok((pairs, &rest[close.len_utf8()..]))
}

fn labels(line: &str) -> Result<(Labels, &str), String> {
    let inside = line.strip_prefix('{').ok_or_else(|| format!("expected labels in {line:?}"))?;
    let (pairs, rest) = pairs(inside, '}')?;
    Ok((Labels::from_pairs(pairs), rest))
}

/// `{labels} "line" @ 10s [repeat every 10s for 6] [metadata a="b"]`.
fn load_line(line: &str, rows: &mut Vec<LogRow>) -> Result<(), String> {
    let (stream, rest) = labels(line)?;
    let rest = rest.trim_start();
    let (text, rest) = if let Some(raw) = rest.strip_prefix('`') {
        let (text, rest) = raw.split_once('`').ok_or("raw string not terminated")?;
        (text.to_owned(), rest)
    } else {
        let (text, length) = unquote_prefix(rest).map_err(|(message, _)| message.to_owned())?;
        (text, &rest[length..])
    };
    let (start, rest) = word(keyword(rest, "@")?);
    let (start, mut rest) = (time(start)?, rest.trim());
    let (mut every, mut count, mut metadata) = (Duration::ZERO, 1, Vec::new());
    while let Some(option) = rest.strip_prefix('[') {
        let (what, inside) = word(option);
        if what == "metadata" {
            let (found, after) = pairs(inside, ']')?;
            metadata = found;
            rest = after.trim_start();
            continue;
        }
        let (inside, after) = option.split_once(']').ok_or("expected ]")?;
        rest = after.trim_start();
        let (interval, inside) = word(keyword(keyword(inside, "repeat")?, "every")?);
        every = time(interval)?;
        count = keyword(inside, "for")?.trim().parse().map_err(|_| "expected a count".to_owned())?;
    }
    for at in 0..count.min(REPEATS_MAX) {
        rows.push(LogRow {
            timestamp: Nanos(0) + start + every.saturating_mul(at as u32),
            stream: stream.clone(),
            line: text.clone(),
            kind: LogKind::Log,
            severity: Severity::UNSPECIFIED,
            trace_id: TraceId::default(),
            span_id: SpanId::default(),
            metadata: metadata.clone(),
        });
    }
    Ok(())
}
