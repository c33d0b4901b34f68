//! One `eval`: what is asked, what is expected, and whether they agree.

use super::compare;
use super::script::Block;
use br_model::Labels;
use br_promql::{At, Engine, Expr, ExprKind, Options, Point, QueryOutput, Series, Value};
use br_promrules::memory::Memory;
use br_promrules::notation::{self, Item};
use br_std::re2::{Mode, Regex};
use br_storage::Budget;
use std::collections::BTreeMap;

const MINUTE_MS: i64 = 60_000;

/// Calls whose value depends on the time of evaluation, whatever the selectors say.
const TIME_DEPENDENT: [&str; 16] = [
    "time",
    "timestamp",
    "start_timestamp",
    "predict_linear",
    "start",
    "end",
    "step",
    "range",
    "minute",
    "hour",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
];

#[derive(Clone, Copy, Debug)]
enum Times {
    Instant(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

#[derive(Clone, Debug)]
enum Text {
    Any,
    Exact(String),
    Pattern(Regex),
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(expected) => expected == text,
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

#[derive(Default)]
struct Expected {
    ordered: bool,
    no_warn: bool,
    no_info: bool,
    fail: Option<Text>,
    warns: Vec<Text>,
    infos: Vec<Text>,
    string: Option<String>,
    /// Start and step of an expected range vector.
    matrix: Option<(i64, i64)>,
    scalar: Option<f64>,
    series: Vec<(Labels, Vec<Option<Item>>)>,
}

type Checked = Result<(), String>;

pub(super) fn run(store: &Memory, block: &Block) -> Checked {
    let (times, query) = head(block.head)?;
    let expected = expected(block)?;
    let engine = Engine::new(Options::default());
    let expr = match br_promql::parse(query) {
        Ok(expr) => expr,
        Err(errors) => return failed(&expected, &errors.to_string()),
    };
    let output = match evaluate(&engine, store, &expr, times) {
        Ok(output) => output,
        Err(error) => return failed(&expected, &error),
    };
    if expected.fail.is_some() {
        return Err(format!("expected an error, got {:?}", output.value));
    }
    annotations(&expected, &output)?;
    values(&expected, &output.value, times)?;
    let Times::Instant(time_ms) = times else { return Ok(()) };
    if expected.string.is_some() || expected.matrix.is_some() {
        return Ok(());
    }
    at_other_times(&engine, store, &expr, time_ms, &expected)?;
    as_range(&engine, store, &expr, time_ms, &expected)
}

fn evaluate(engine: &Engine, store: &Memory, expr: &Expr, times: Times) -> Result<QueryOutput, String> {
    let budget = Budget::unlimited();
    let output = match times {
        Times::Instant(time_ms) => engine.instant(store, expr, time_ms, &budget),
        Times::Range { start_ms, end_ms, step_ms } => engine.range(store, expr, start_ms, end_ms, step_ms, &budget),
    };
    output.map_err(|error| error.message().to_owned())
}

fn failed(expected: &Expected, error: &str) -> Checked {
    match &expected.fail {
        Some(text) if text.matches(error) => Ok(()),
        Some(text) => Err(format!("expected the error {text:?}, got {error:?}")),
        None => Err(format!("error: {error}")),
    }
}

/// The second way: fixed to its time, an expression has the same value at all others.
fn at_other_times(engine: &Engine, store: &Memory, expr: &Expr, time_ms: i64, expected: &Expected) -> Checked {
    if calls_any(expr, &TIME_DEPENDENT) {
        return Ok(());
    }
    let mut fixed = expr.clone();
    fix(&mut fixed, time_ms);
    let others = if time_ms == 0 { vec![-1000, 0, 1000] } else { vec![-10 * time_ms, 0, time_ms / 5, time_ms, 10 * time_ms] };
    for other_ms in others {
        let output = evaluate(engine, store, &fixed, Times::Instant(other_ms))
            .map_err(|error| format!("with @ {time_ms} ms at {other_ms} ms: error: {error}"))?;
        values(expected, &output.value, Times::Instant(other_ms))
            .map_err(|reason| format!("with @ {time_ms} ms at {other_ms} ms: {reason}"))?;
    }
    Ok(())
}

/// Puts `@` on selectors and subqueries that have none; what is inside a subquery follows it.
fn fix(expr: &mut Expr, time_ms: i64) {
    let here = Some(At::Millis(time_ms));
    match &mut expr.kind {
        ExprKind::Vector(selector) => selector.at = selector.at.or(here),
        ExprKind::Subquery { at, .. } => *at = at.or(here),
        ExprKind::Matrix { vector: inner, .. } | ExprKind::Unary { expr: inner, .. } | ExprKind::Paren(inner) => {
            fix(inner, time_ms);
        }
        ExprKind::Call { function, arguments } => {
            let is_info = function.name == "info";
            for (at, argument) in arguments.iter_mut().enumerate() {
                if !(is_info && at == 1) {
                    fix(argument, time_ms);
                }
            }
        }
        ExprKind::Aggregate { parameter, expr, .. } => {
            if let Some(parameter) = parameter {
                fix(parameter, time_ms);
            }
            fix(expr, time_ms);
        }
        ExprKind::Binary { first, links } => {
            fix(first, time_ms);
            for link in links {
                fix(&mut link.rhs, time_ms);
            }
        }
        ExprKind::Number { .. } | ExprKind::String { .. } => {}
    }
}

fn calls_any(expr: &Expr, names: &[&str]) -> bool {
    let here = matches!(&expr.kind, ExprKind::Call { function, .. } if names.contains(&function.name));
    here || expr.children().into_iter().any(|child| calls_any(child, names))
}

/// The third way: the middle of three steps.
fn as_range(engine: &Engine, store: &Memory, expr: &Expr, time_ms: i64, expected: &Expected) -> Checked {
    let text = expr.to_string();
    let asks_for_query = ["start()", "end()", "step()", "range()"].iter().any(|call| text.contains(call));
    if expected.ordered || asks_for_query {
        return Ok(());
    }
    let times = Times::Range { start_ms: time_ms - MINUTE_MS, end_ms: time_ms + MINUTE_MS, step_ms: MINUTE_MS };
    let output = evaluate(engine, store, expr, times).map_err(|error| format!("as a range: error: {error}"))?;
    let Value::Matrix(all) = output.value else { return Err("as a range: no matrix".to_owned()) };
    let mut middle = Vec::new();
    for series in all {
        if let Some((_, point)) = series.points.into_iter().find(|(point_ms, _)| *point_ms == time_ms) {
            middle.push((series.labels, point));
        }
    }
    if let Some(scalar) = expected.scalar {
        let actual = middle.first().map(|(_, point)| point);
        return match actual {
            Some(Point::Float(value)) if compare::floats(scalar, *value) => Ok(()),
            _ => Err(format!("as a range: expected {scalar}, got {actual:?}")),
        };
    }
    vector(expected, &middle).map_err(|reason| format!("as a range: {reason}"))
}

fn annotations(expected: &Expected, output: &QueryOutput) -> Checked {
    let groups = [
        ("warn", expected.no_warn, &expected.warns, &output.warnings),
        ("info", expected.no_info, &expected.infos, &output.infos),
    ];
    for (word, none, wanted, actual) in groups {
        if none && !actual.is_empty() {
            return Err(format!("expected no {word}, got {actual:?}"));
        }
        for text in wanted {
            if !actual.iter().any(|found| text.matches(found)) {
                return Err(format!("expected {word} {text:?}, got {actual:?}"));
            }
        }
        if !wanted.is_empty()
            && let Some(extra) = actual.iter().find(|found| !wanted.iter().any(|text| text.matches(found)))
        {
            return Err(format!("unexpected {word} {extra:?}"));
        }
    }
    Ok(())
}

fn values(expected: &Expected, actual: &Value, times: Times) -> Checked {
    match actual {
        Value::String { value, .. } => match &expected.string {
            Some(wanted) if wanted == value => Ok(()),
            wanted => Err(format!("expected {wanted:?}, got the string {value:?}")),
        },
        Value::Scalar { value, .. } => match expected.scalar {
            Some(wanted) if compare::floats(wanted, *value) => Ok(()),
            wanted => Err(format!("expected {wanted:?}, got the scalar {value}")),
        },
        Value::Vector(samples) => {
            let actual: Vec<(Labels, Point)> =
                samples.iter().map(|sample| (sample.labels.clone(), sample.point.clone())).collect();
            vector(expected, &actual)
        }
        Value::Matrix(all) => {
            let (start_ms, step_ms) = match (expected.matrix, times) {
                (Some(grid), _) => grid,
                (None, Times::Range { start_ms, step_ms, .. }) => (start_ms, step_ms),
                (None, Times::Instant(_)) => return Err("an instant query gave a matrix".to_owned()),
            };
            matrix(expected, all, start_ms, step_ms)
        }
    }
}

fn vector(expected: &Expected, actual: &[(Labels, Point)]) -> Checked {
    if let Some(scalar) = expected.scalar {
        return Err(format!("expected the scalar {scalar}, got {actual:?}"));
    }
    let mut left: Vec<&(Labels, Point)> = actual.iter().collect();
    for (place, (labels, items)) in expected.series.iter().enumerate() {
        let Some(item) = items.iter().flatten().next() else { continue };
        let at = left.iter().position(|(found, _)| found == labels);
        let Some(at) = at else { return Err(format!("missing {labels}; got {actual:?}")) };
        let (_, point) = left.remove(at);
        if !compare::points(item, point) {
            return Err(format!("{labels}: expected {:?}, got {point:?}", item.value));
        }
        if expected.ordered && actual.get(place).is_none_or(|(found, _)| found != labels) {
            return Err(format!("expected {labels} at place {place}"));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("unexpected {left:?}")) }
}

fn matrix(expected: &Expected, actual: &[Series], start_ms: i64, step_ms: i64) -> Checked {
    if !actual.is_sorted_by(|left, right| left.labels < right.labels) {
        return Err("the matrix is not sorted by labels".to_owned());
    }
    let mut left: BTreeMap<&Labels, &Series> = actual.iter().map(|series| (&series.labels, series)).collect();
    for (labels, items) in &expected.series {
        let wanted: Vec<(i64, &Item)> = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| item.as_ref().map(|item| (start_ms + step_ms * at as i64, item)))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let Some(series) = left.remove(labels) else { return Err(format!("missing {labels}; got {actual:?}")) };
        if wanted.len() != series.points.len() {
            let reason = format!("{labels}: expected {} points, got {}: {:?}", wanted.len(), series.points.len(), series.points);
            return Err(reason);
        }
        for ((wanted_ms, item), (actual_ms, point)) in wanted.iter().zip(&series.points) {
            if wanted_ms != actual_ms || !compare::points(item, point) {
                return Err(format!("{labels}: expected {:?} at {wanted_ms}, got {point:?} at {actual_ms}", item.value));
            }
        }
    }
    match left.first_key_value() {
        None => Ok(()),
        Some((labels, series)) => Err(format!("unexpected {labels}: {:?}", series.points)),
    }
}

/// `eval instant at <time> <query>` or `eval range from <start> to <end> step <step> <query>`.
fn head(line: &str) -> Result<(Times, &str), String> {
    let (_, rest) = word(line);
    let (kind, rest) = word(rest);
    match kind {
        "instant" => {
            let (_, rest) = word(rest);
            let (time, query) = word(rest);
            Ok((Times::Instant(notation::millis(time)?), query))
        }
        "range" => {
            let mut values = [0i64; 3];
            let mut rest = rest;
            for value in &mut values {
                let (_, after) = word(rest);
                let (text, after) = word(after);
                *value = notation::millis(text)?;
                rest = after;
            }
            let [start_ms, end_ms, step_ms] = values;
            Ok((Times::Range { start_ms, end_ms, step_ms }, rest))
        }
        _ => Err(format!("expected instant or range, got {kind:?}")),
    }
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn expected(block: &Block) -> Result<Expected, String> {
    let mut expected = Expected::default();
    match block.command() {
        "eval_fail" => expected.fail = Some(Text::Any),
        "eval_warn" => expected.warns.push(Text::Any),
        "eval_info" => expected.infos.push(Text::Any),
        "eval_ordered" => expected.ordered = true,
        _ => {}
    }
    for line in &block.body {
        let (first, rest) = word(line);
        match first {
            "expect" => expectation(&mut expected, rest)?,
            "expected_fail_message" => expected.fail = Some(Text::Exact(rest.to_owned())),
            "expected_fail_regexp" => expected.fail = Some(Text::Pattern(pattern(rest)?)),
            _ => result(&mut expected, line)?,
        }
    }
    Ok(expected)
}

fn result(expected: &mut Expected, line: &str) -> Checked {
    if let Ok(value) = line.parse::<f64>() {
        expected.scalar = Some(value);
        return Ok(());
    }
    let Some((labels, rest)) = notation::series(line)? else { return Err(format!("cannot read the result {line:?}")) };
    expected.series.push((labels, notation::items(rest).map_err(|reason| format!("{line}: {reason}"))?));
    Ok(())
}

fn expectation(expected: &mut Expected, text: &str) -> Checked {
    let (kind, rest) = word(text);
    match kind {
        "ordered" => expected.ordered = true,
        "no_warn" => expected.no_warn = true,
        "no_info" => expected.no_info = true,
        "fail" => expected.fail = Some(wanted_text(rest)?),
        "warn" => expected.warns.push(wanted_text(rest)?),
        "info" => expected.infos.push(wanted_text(rest)?),
        "string" => {
            let expr = br_promql::parse(rest).map_err(|errors| errors.to_string())?;
            let ExprKind::String { value, .. } = expr.kind else { return Err(format!("no string: {rest}")) };
            expected.string = Some(value);
        }
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", _, "step", step] = words[..] else {
                return Err(format!("cannot read the expectation {text:?}"));
            };
            expected.matrix = Some((notation::millis(start)?, notation::millis(step)?));
        }
        _ => return Err(format!("unknown expectation {text:?}")),
    }
    Ok(())
}

fn wanted_text(text: &str) -> Result<Text, String> {
    if let Some(exact) = text.strip_prefix("msg:") {
        return Ok(Text::Exact(exact.trim().to_owned()));
    }
    match text.strip_prefix("regex:") {
        Some(source) => Ok(Text::Pattern(pattern(source.trim())?)),
        None => Ok(Text::Any),
    }
}

fn pattern(source: &str) -> Result<Regex, String> {
    Regex::new(source, Mode::Part).map_err(|error| error.message().to_owned())
}
