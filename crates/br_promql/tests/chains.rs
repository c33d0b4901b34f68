//! Long rows of operators give what the same row in parentheses gives, and hold no more than they need.

use br_model::Labels;
use br_promql::{Engine, Options, Value, parse};
use br_std::{Kind, Result};
use br_storage::testing::{AtOnce, SelectOnly};
use br_storage::{Budget, Points, SeriesCursor, SeriesData, SeriesQuery, Values};

const STEP_MS: i64 = 15_000;
const STEPS: i64 = 12;

/// `m` of three jobs, and for each number `n` a series of the metric `s<n>`.
struct Source;

fn series(name: &str, job: &str, first: f64) -> SeriesData {
    let timestamps_ms = (0..STEPS).map(|at| at * STEP_MS).collect();
    let values = Values::Floats((0..STEPS).map(|at| first + at as f64).collect());
    let labels = Labels::from_pairs([("__name__", name), ("job", job)]);
    SeriesData { labels, points: Points { timestamps_ms, values, starts_ms: None, weights: None } }
}

impl SelectOnly for Source {
    fn select_only<'a>(&'a self, query: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let name = &query.matchers[0].value;
        Ok(AtOnce::new(match name.strip_prefix('s') {
            Some(number) => vec![series("s", number, number.parse().expect("a number"))],
            None => [("a", 1.0), ("b", 2.0), ("c", 30.0)].map(|(job, first)| series(name, job, first)).into(),
        }))
    }
}

fn ask(query: &str, budget: &Budget) -> Result<Value> {
    let expr = parse(query).unwrap_or_else(|errors| panic!("{query}: {errors}"));
    let end_ms = (STEPS - 1) * STEP_MS;
    Ok(Engine::new(Options::default()).range(&Source, &expr, 0, end_ms, STEP_MS, budget)?.value)
}

/// `a op b op c` and `((a op b) op c)`, with operators of which none binds tighter than the one before.
fn check(operands: &[&str], operators: &[&str]) {
    let (mut row, mut nested) = (operands[0].to_owned(), operands[0].to_owned());
    for (op, operand) in operators.iter().zip(&operands[1..]) {
        row = format!("{row} {op} {operand}");
        nested = format!("({nested} {op} {operand})");
    }
    let value = ask(&row, &Budget::unlimited()).expect("evaluates");
    assert_eq!(value, ask(&nested, &Budget::unlimited()).expect("evaluates"), "{row}");
    assert!(matches!(&value, Value::Matrix(all) if !all.is_empty()), "{row}: {value:?}");
}

#[test]
fn a_row_is_what_its_parentheses_are() {
    check(&["1", "2", "m", "3", "m"], &["*", "*", "-", "+ ignoring(x)"]);
    check(&["m", "1", "time()", "m", "2"], &["*", "/", "- on(job)", "+"]);
    check(&["m", "3", "7", "s4", "s5"], &["-", "> bool", "or", "or"]);
    check(&["s1", "s2", "m", "s1", "m"], &["or", "or on(job)", "or on(job)", "or"]);
    check(&["m > 5", "m < 33", "m", "s1", "m > 8"], &["and", "unless on(x)", "or", "or"]);
    check(&["m > 5", "s7", "-1 * m", "m"], &["or", "or", "or"]);
    check(&["scalar(s1)", "time()", "m", "scalar(s2)"], &["+", "+", "-"]);
}

#[test]
fn five_thousand_operators() {
    let count = 5001;
    let numbers: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
    let found = |query: &str, budget_mib: u64| match ask(query, &Budget::new(budget_mib << 20)) {
        Ok(Value::Matrix(all)) => Ok(all.len()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.kind()),
    };
    assert_eq!(found(&numbers.join(" or "), 16), Ok(count));
    for row in [vec!["m"; count].join(" + "), format!("m{}", " + 1".repeat(count)), format!("m{}", " * time()".repeat(count))] {
        assert_eq!(found(&row, 1), Ok(3), "no more is held than at one operator");
    }
    assert_eq!(found(&vec!["m"; count].join(" unless on(x) "), 1), Ok(0));
    assert_eq!(found(&numbers.join(" or "), 1), Err(Kind::OverLimit), "all of them are the answer");
}
