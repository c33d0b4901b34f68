//! Conformance of the evaluation: scripts of traces, queries and what these find.
//!
//! ```text
//! load
//!   trace 1
//!     web "GET /cart" @ 100s for 10s kind=server http.method="GET" resource.region="eu"
//!       pay "charge" @ 103s for 6s status=error event=exception event.type="KeyError"
//! eval { status = error }
//!   1: charge
//! eval range from 100s to 120s step 10s { } | count_over_time()
//!   {__name__="count_over_time"} 2 0
//! ```
//!
//! Traces are expected newest first, each with the spans of its spansets by name: `1: a, b | c`. Series come in any order, `_` is a
//! step without a value. `expect empty` finds nothing, `expect fail TEXT` an error with this text. `eval limit 2 …` asks for so many.

use super::load::MemoryTraces;
use super::{Failure, Report};
use crate::{MetricOptions, MetricSeries, SearchOptions, TraceMatch, parse, query_range, search};
use br_model::AttributeValue;
use br_std::Nanos;
use br_storage::{Budget, TimeRange};
use std::time::Duration;

/// Runs all evaluations of a script. A line that cannot be read counts as a failure.
pub fn run(text: &str) -> Report {
    let mut report = Report::default();
    let mut traces = MemoryTraces::default();
    let is_said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let lines: Vec<(usize, &str)> =
        text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| is_said(line)).collect();
    let mut at = 0;
    while let Some(&(number, head)) = lines.get(at) {
        let body: Vec<&str> =
            lines[at + 1..].iter().map(|(_, line)| *line).take_while(|line| line.starts_with([' ', '\t'])).collect();
        at += 1 + body.len();
        let outcome = match head.split_once(' ').unwrap_or((head, "")) {
            ("load", "") => traces.load(&body).map(|()| false),
            ("clear", "") => {
                traces = MemoryTraces::default();
                Ok(false)
            }
            ("eval", question) => check(&traces, question, &body).map(|()| true),
            _ => Err(format!("unknown statement {head:?}")),
        };
        match outcome {
            Ok(is_passed) => report.passed += usize::from(is_passed),
            Err(message) => report.failures.push(Failure { line: number, message }),
        }
    }
    report
}

fn check(traces: &MemoryTraces, question: &str, body: &[&str]) -> Result<(), String> {
    let found = answer(traces, question);
    let body: Vec<&str> = body.iter().map(|line| line.trim()).collect();
    let failed = body.iter().find_map(|line| line.strip_prefix("expect fail"));
    match (failed, found) {
        (Some(text), Err(message)) if message.contains(text.trim()) => Ok(()),
        (Some(_), outcome) => Err(format!("{question}: should fail so, but there is {outcome:?}")),
        (None, Err(message)) => Err(format!("{question}: {message}")),
        (None, Ok(found)) => {
            let mut expected: Vec<&str> = body.into_iter().filter(|line| *line != "expect empty").collect();
            if question.starts_with("range ") {
                expected.sort_unstable();
            }
            if expected == found { Ok(()) } else { Err(format!("{question}: expected {expected:?}, found {found:?}")) }
        }
    }
}

/// The answer as a script writes it.
fn answer(traces: &MemoryTraces, question: &str) -> Result<Vec<String>, String> {
    let (kind, rest) = question.split_once(' ').unwrap_or((question, ""));
    match kind {
        "range" => {
            let (from, rest) = time_after(rest, "from")?;
            let (to, rest) = time_after(rest, "to")?;
            let (step, query) = time_after(rest, "step")?;
            let options = MetricOptions { range: TimeRange::new(Nanos(0) + from, Nanos(0) + to), step, exemplars: 0 };
            let expr = parse(query).map_err(|error| error.to_string())?;
            let series = query_range(traces, &expr, query, &options, &Budget::unlimited());
            let mut lines: Vec<String> = series.map_err(|error| error.to_string())?.iter().map(series_line).collect();
            lines.sort();
            Ok(lines)
        }
        "limit" => {
            let (limit, query) = rest.split_once(' ').unwrap_or((rest, ""));
            found(traces, query, limit.parse().map_err(|_| format!("not a limit: {limit:?}"))?)
        }
        _ => found(traces, question, usize::MAX),
    }
}

fn found(traces: &MemoryTraces, query: &str, limit: usize) -> Result<Vec<String>, String> {
    let expr = parse(query).map_err(|error| error.to_string())?;
    let options = SearchOptions { range: TimeRange::ALL, limit, spans_per_spanset: usize::MAX, after: None };
    let found = search(traces, &expr, query, &options, &Budget::unlimited());
    Ok(found.map_err(|error| error.to_string())?.iter().map(trace_line).collect())
}

fn time_after<'t>(text: &'t str, word: &str) -> Result<(Duration, &'t str), String> {
    let rest = text.strip_prefix(word).ok_or_else(|| format!("expected {word:?} before {text:?}"))?.trim_start();
    let (time, rest) = rest.split_once(' ').ok_or_else(|| format!("nothing follows {rest:?}"))?;
    Ok((duration(time)?, rest.trim_start()))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    br_std::duration::parse(text).map_err(|error| error.to_string())
}

fn trace_line(found: &TraceMatch) -> String {
    let sets: Vec<String> =
        found.spansets.iter().map(|set| set.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>().join(", ")).collect();
    format!("{}: {}", found.trace_id.0[15], sets.join(" | "))
}

fn series_line(series: &MetricSeries) -> String {
    let shown = |value: &AttributeValue| match value {
        AttributeValue::Empty => "nil".to_owned(),
        AttributeValue::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    let labels: Vec<String> = series.labels.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
    let values = series.points.iter().map(|(_, value)| value.map_or("_".to_owned(), rounded));
    format!("{{{}}} {}", labels.join(", "), values.collect::<Vec<_>>().join(" "))
}

/// To six digits, so that a script need not write what arithmetic adds.
fn rounded(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::super::load::{unquoted, words};
    use super::*;

    #[test]
    fn what_is_not_as_expected_is_told_with_its_line() {
        let script = "load\n  trace 1\n    web \"a\" @ 1s for 1s\n\n# a comment\neval { name = `a` }\n  1: b\neval { name = `a` }\n  1: a\n";
        let report = run(script);
        assert_eq!(report.passed, 1);
        assert!(report.failures[0].line == 6 && report.failures[0].message.contains("found"), "{report:?}");
        for wrong in [
            "bogus",
            "load\n  trace x",
            "load\n  trace 1\n    web a",
            "eval {",
            "load\n  trace 1\n    web \"a\" @ 1s for 1s kind=x",
        ] {
            assert_eq!(run(wrong).failures.len(), 1, "{wrong}");
        }
        assert_eq!(words(r#"a "b c" d="e \" f""#), Ok(vec!["a", "\"b c\"", "d=\"e \\\" f\""]));
        assert_eq!(unquoted(r#""e \" f""#).as_deref(), Some("e \" f"));
    }
}
