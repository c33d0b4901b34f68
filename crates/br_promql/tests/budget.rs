//! Queries that would hold much are refused before they do, whatever the operator that holds it.

use br_model::{BucketSpan, FloatHistogram, Labels};
use br_promql::{Engine, Options, parse};
use br_std::{Kind, Result};
use br_storage::testing::{AtOnce, SelectOnly};
use br_storage::{Budget, Points, SeriesCursor, SeriesData, SeriesQuery, Values};

const SERIES: usize = 1500;

/// So many series of one sample at the start of time, made as they are read.
struct Many {
    next: usize,
    is_info: bool,
}

impl SeriesCursor for Many {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        if self.next == SERIES {
            return Ok(None);
        }
        let name = if self.is_info { "target_info" } else { "bomb" };
        let batch = (self.next..self.next + 100).map(|at| {
            let id = at.to_string();
            let labels = Labels::from_pairs([("__name__", name), ("instance", &id), ("job", "a"), ("le", &id)]);
            let points =
                Points { timestamps_ms: vec![0].into(), values: Values::Floats(vec![at as f64]), starts_ms: None, weights: None };
            SeriesData { labels, points }
        });
        let batch = batch.collect();
        self.next += 100;
        Ok(Some(batch))
    }
}

struct Source;

impl SelectOnly for Source {
    fn select_only<'a>(&'a self, query: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let is_info = query.matchers.iter().any(|matcher| matcher.value == "target_info");
        Ok(Box::new(Many { next: 0, is_info }))
    }
}

fn ask(query: &str, budget: &Budget) -> Option<Kind> {
    let expr = parse(query).expect("valid");
    let outcome = Engine::new(Options::default()).range(&Source, &expr, 0, 199_000, 1000, budget);
    outcome.map_err(|error| error.kind()).err()
}

/// 1500 series of 200 steps take 2.8 MB, of which nothing is left in what the query answers.
#[test]
fn every_operator_that_collects_charges() {
    for collected in [
        r#"label_replace(bomb, "x", "$1", "instance", "(.*)")"#,
        r#"label_join(bomb, "x", "-", "instance", "job")"#,
        "sort(bomb)",
        r#"sort_by_label(bomb, "instance")"#,
        "topk(10000, bomb)",
        "limitk(10000, bomb)",
        "limit_ratio(1, bomb)",
        "quantile by (instance) (0.5, bomb)",
        "sum by (instance) (bomb)",
        r#"count_values("v", bomb)"#,
        "histogram_quantile(0.5, bomb)",
        r#"histogram_quantiles(bomb, "q", 0.1, 0.9)"#,
        "info(bomb)",
        "bomb and bomb",
        "bomb or bomb",
        "bomb + bomb",
        "bomb * on(instance) group_left() bomb",
        "max_over_time(bomb[200s:1s])",
    ] {
        assert_eq!(ask(&format!("count({collected})"), &Budget::new(1 << 20)), Some(Kind::OverLimit), "{collected}");
        assert_eq!(ask(&format!("count({collected})"), &Budget::new(256 << 20)), None, "{collected}");
    }
    for streamed in ["count(bomb)", "count(-bomb)", "absent(bomb)", "count(rate(bomb[5m]))", "sum(bomb > 1)"] {
        assert_eq!(ask(streamed, &Budget::new(1 << 20)), None, "{streamed}");
    }
}

/// Twenty series of native histograms of 160 buckets, a sample each minute: few samples, of which a query makes many.
struct Histograms;

impl SelectOnly for Histograms {
    fn select_only<'a>(&'a self, _: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let span = BucketSpan { offset: 0, length: 160 };
        let histogram = |at: i64| FloatHistogram {
            count: 160.0 * (at + 1) as f64,
            positive_spans: vec![span],
            positive_buckets: vec![(at + 1) as f64; 160],
            ..FloatHistogram::default()
        };
        let series = (0..20).map(|number: i32| {
            let labels = Labels::from_pairs([("__name__", "h"), ("n", &number.to_string())]);
            let values = Values::Histograms((0..4).map(|at| histogram(at).into()).collect());
            let timestamps_ms = (0..4).map(|at| at * 60_000).collect();
            SeriesData { labels, points: Points { timestamps_ms, values, starts_ms: None, weights: None } }
        });
        Ok(AtOnce::new(series))
    }
}

/// Operands share a histogram over many steps; what is made of them is new at each: 20 series of 200 steps take 6 MB.
#[test]
fn histograms_charge_as_they_are_made() {
    let ask = |query: &str, bytes: u64| {
        let expr = parse(query).expect("valid");
        let budget = Budget::new(bytes);
        let outcome = Engine::new(Options::default()).range(&Histograms, &expr, 0, 199_000, 1000, &budget);
        (outcome.map_err(|error| error.kind()).err(), budget.bytes_used())
    };
    for (query, too_little, enough) in [
        ("count(h + h)", 2 << 20, 8 << 20),
        ("count(h + h + h)", 8 << 20, 14 << 20),
        ("count((h + h) + (h + h + h))", 14 << 20, 21 << 20),
        ("count((h + h) * 2)", 2 << 20, 8 << 20),
        ("count(h + on(n) group_left() h)", 2 << 20, 8 << 20),
        ("h + h", 2 << 20, 8 << 20),
        // One series at a time.
        ("count(h * 2)", 150 << 10, 500 << 10),
        ("count(h * 2 * 2 * 2)", 500 << 10, 1 << 20),
        ("count(-h)", 150 << 10, 500 << 10),
        ("count(rate(h[2m]))", 150 << 10, 500 << 10),
    ] {
        assert_eq!(ask(query, too_little).0, Some(Kind::OverLimit), "{query}");
        assert_eq!(ask(query, enough).0, None, "{query}");
    }
    assert_eq!(ask("count(h)", 150 << 10).0, None);
    let left = ask("count(h + h + h)", 1 << 40).1;
    assert!(left < 256 << 10, "{left}: the series of the operand are kept for the next time, of what was made nothing");
}

/// Scalars have no series, and as many steps as anything else.
#[test]
fn scalars_charge_while_they_are_held() {
    let ask = |scalar: &str, bytes: u64| {
        let expr = parse(&format!("sum_over_time(vector({scalar})[99900s:1s])")).expect("valid");
        let budget = Budget::new(bytes);
        let outcome = Engine::new(Options::default()).instant(&Source, &expr, 99_900_000, &budget);
        (outcome.map_err(|error| error.kind()).err(), budget.bytes_used())
    };
    let deep = format!("{}1{}", "time()^(".repeat(30), ")".repeat(30));
    assert_eq!(ask(&deep, 12 << 20).0, Some(Kind::OverLimit), "31 times 800 kB at once");
    let row = ["time()"; 30].join("+");
    assert_eq!(ask(&row, 12 << 20).0, None, "one after the other");
    assert_eq!(ask(&row, 1 << 40).1, ask("time()", 1 << 40).1, "what is not held is given back");
    assert_eq!(ask(&format!("min_of({row},{deep})"), 12 << 20).0, Some(Kind::OverLimit));
}

#[test]
fn a_label_made_of_itself_does_not_grow_without_end() {
    let nested = |times: usize, inner: &str, rest: &str| {
        let start = if rest.contains('$') { "label_replace(" } else { "label_join(" };
        format!("{}{inner}{}", start.repeat(times), rest.repeat(times))
    };
    let start = r#"label_replace(vector(1), "x", "aaaaaaaaaaaaaaaa", "", "")"#;
    let replaced = nested(12, start, r#", "x", "$1$1$1$1$1$1$1$1$1$1", "x", "(.*)")"#);
    let joined = nested(24, start, r#", "x", "", "x", "x", "x", "x")"#);
    let spread = (0..30).fold(start.to_owned(), |inner, at| {
        format!(r#"label_replace({inner}, "x{at}", "$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1", "x", "(.*)")"#)
    });
    for query in [replaced, joined] {
        assert_eq!(ask(&query, &Budget::new(256 << 20)), Some(Kind::OverLimit), "{query}");
    }
    assert_eq!(ask(&spread, &Budget::new(256 << 20)), None, "ten kilobytes are no reason");
}
