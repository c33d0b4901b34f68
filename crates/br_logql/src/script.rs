//! Conformance scripts for LogQL: `load` and `eval` in the form of `*.logqltest` files.
//!
//! A script is read line by line: `clear`, `load` with lines `{labels} "line" @ 10s [repeat every 10s for 6] [metadata a="b"]`,
//! and `eval instant at T QUERY` or `eval range from A to B step S QUERY`, followed by the series expected or by
//! `expect fail [msg: …|regex: …]`, `expect empty`, `expect ordered`.

mod memory;
mod read;

pub use memory::MemoryLogs;
use read::{Expectation, Statement};

use crate::{Expr, MetricValue, Series, parse, pretty, query_instant, query_range};
use br_storage::Budget;

/// What became of a script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub passed: usize,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Counts from 1.
    pub line: usize,
    pub message: String,
}

/// Runs all evaluations of a script. A line that cannot be read counts as a failure.
pub fn run(text: &str) -> Report {
    let mut report = Report::default();
    let mut logs = MemoryLogs::default();
    for (line, statement) in read::statements(text) {
        let result = match statement {
            Ok(Statement::Clear) => {
                logs = MemoryLogs::default();
                continue;
            }
            Ok(Statement::Load(rows)) => {
                logs.extend(rows);
                continue;
            }
            Ok(Statement::Eval(eval)) => check(&logs, &eval),
            Err(message) => Err(message),
        };
        match result {
            Ok(()) => report.passed += 1,
            Err(message) => report.failures.push(Failure { line, message }),
        }
    }
    report
}

fn check(logs: &MemoryLogs, eval: &read::Eval) -> Result<(), String> {
    let outcome = answer(logs, eval);
    match (&eval.expectation, outcome) {
        (Expectation::Fail(pattern), Err(message)) => {
            if pattern.is_match(&message) {
                Ok(())
            } else {
                Err(format!("{}: failed as it should, but with {message:?}", eval.query))
            }
        }
        (Expectation::Fail(_), Ok(found)) => Err(format!("{}: should fail, found {found:?}", eval.query)),
        (_, Err(message)) => Err(format!("{}: {message}", eval.query)),
        (Expectation::Series { expected, ordered }, Ok(mut found)) => {
            let mut expected = expected.clone();
            if !ordered {
                expected.sort_by(|left, right| left.0.cmp(&right.0));
                found.sort_by(|left, right| left.labels.cmp(&right.labels));
            }
            let same =
                expected.len() == found.len() && expected.iter().zip(&found).all(|(wanted, found)| is_same(wanted, found, eval));
            if same { Ok(()) } else { Err(format!("{}: expected {expected:?}, found {found:?}", eval.query)) }
        }
    }
}

fn answer(logs: &MemoryLogs, eval: &read::Eval) -> Result<Vec<Series>, String> {
    // As it is written out: what a query says is the same then.
    let written = pretty(&parse(&eval.query).map_err(|error| error.to_string())?);
    let Expr::Metric(expr) = parse(&written).map_err(|error| format!("written as {written}: {error}"))? else {
        return Err("scripts evaluate metric queries only".to_owned());
    };
    let budget = Budget::unlimited();
    let (value, _) = match eval.step {
        None => query_instant(logs, &expr, eval.start, &budget),
        Some(step) => query_range(logs, &expr, (eval.start, eval.end), step, &budget),
    }
    .map_err(|error| error.to_string())?;
    Ok(match value {
        MetricValue::Series(series) => series,
        MetricValue::Scalar(points) => vec![Series { labels: br_model::Labels::empty(), points }],
    })
}

fn is_same(wanted: &read::ExpectedSeries, found: &Series, eval: &read::Eval) -> bool {
    let (labels, values) = wanted;
    let step = eval.step.unwrap_or_default();
    let wanted: Vec<_> = values
        .iter()
        .enumerate()
        .filter_map(|(at, value)| value.map(|value| (eval.start + step.saturating_mul(at as u32), value)))
        .collect();
    *labels == found.labels
        && wanted.len() == found.points.len()
        && wanted.iter().zip(&found.points).all(|((time, wanted), (found_time, found))| {
            let close = (wanted - found).abs() <= 1e-9 * wanted.abs().max(1.0);
            time == found_time && (close || wanted == found || (wanted.is_nan() && found.is_nan()))
        })
}
