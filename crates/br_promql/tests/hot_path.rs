//! Aggregations of rates over many series: right on few, and timed on many when `BELLROCK_BENCH_SERIES` says how many.

use br_model::Labels;
use br_promql::{CommonParts, Engine, Options, Point, SharedValues, Value, parse};
use br_std::Result;
use br_storage::testing::SelectOnly;
use br_storage::{Budget, Points, SeriesCursor, SeriesData, SeriesQuery, Values};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const STEP_MS: i64 = 15_000;
const SAMPLES: usize = 260;

/// Counters that grow by their own number each 15 s, scraped together.
struct Counters {
    labels: Vec<Labels>,
    timestamps_ms: Arc<[i64]>,
    selects: AtomicUsize,
}

impl Counters {
    fn new(count: usize) -> Self {
        let label = |at: usize| {
            let (pod, job) = (format!("pod-{at}"), format!("job-{}", at % 10));
            Labels::from_pairs([("__name__", "requests_total"), ("pod", &pod), ("job", &job)])
        };
        let timestamps_ms = (0..SAMPLES as i64).map(|at| at * STEP_MS).collect();
        Self { labels: (0..count).map(label).collect(), timestamps_ms, selects: AtomicUsize::new(0) }
    }
}

struct Batches<'s> {
    source: &'s Counters,
    next: usize,
}

impl SeriesCursor for Batches<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<SeriesData>>> {
        let end = (self.next + 1024).min(self.source.labels.len());
        if self.next == end {
            return Ok(None);
        }
        let series = |at: usize| {
            let values = (0..SAMPLES).map(|sample| (sample * (at % 7 + 1)) as f64).collect();
            let timestamps_ms = self.source.timestamps_ms.clone();
            let points = Points { timestamps_ms, values: Values::Floats(values), starts_ms: None, weights: None };
            SeriesData { labels: self.source.labels[at].clone(), points }
        };
        let batch = (self.next..end).map(series).collect();
        self.next = end;
        Ok(Some(batch))
    }
}

impl SelectOnly for Counters {
    fn select_only<'a>(&'a self, _query: &SeriesQuery, _budget: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Batches { source: self, next: 0 }))
    }
}

/// The sum of all points of a range query over the last hour.
fn total(source: &Counters, query: &str, budget: &Budget) -> Result<f64> {
    let expr = parse(query).expect("valid");
    let end_ms = (SAMPLES as i64 - 1) * STEP_MS;
    let output = Engine::new(Options::default()).range(source, &expr, end_ms - 239 * STEP_MS, end_ms, STEP_MS, budget)?;
    let Value::Matrix(all) = output.value else { panic!("a range query gives a matrix") };
    let points = all.iter().flat_map(|series| &series.points);
    Ok(points.map(|(_, point)| if let Point::Float(value) = point { *value } else { 0.0 }).sum())
}

#[test]
fn sums_of_rates() {
    let source = Counters::new(70);
    let each_secs = 70.0 / 7.0 * 28.0 / 15.0;
    let expected = each_secs * 240.0;
    for query in ["sum(rate(requests_total[5m]))", "sum by (job) (rate(requests_total[5m]))", "sum(rate(requests_total[5m:15s]))"]
    {
        let found = total(&source, query, &Budget::unlimited()).expect("evaluates");
        assert!((found / expected - 1.0).abs() < 0.02, "{query}: {found} is not about {expected}");
    }
}

#[test]
fn stops_at_its_budget_and_when_cancelled() {
    let source = Counters::new(2000);
    let error = total(&source, "sort(requests_total)", &Budget::new(1 << 20)).expect_err("too much");
    assert_eq!(error.kind(), br_std::Kind::OverLimit);
    let budget = Budget::unlimited();
    budget.cancel(br_storage::CancelReason::Caller);
    assert!(total(&source, "sum(requests_total)", &budget).is_err());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn timed() {
    let Some(count) = std::env::var("BELLROCK_BENCH_SERIES").ok().and_then(|count| count.parse().ok()) else {
        println!("skipped: BELLROCK_BENCH_SERIES is not set");
        return;
    };
    let source = Counters::new(count);
    for query in [
        "count(requests_total)",
        "sum(requests_total)",
        "sum(rate(requests_total[5m]))",
        "sum by (job) (rate(requests_total[5m]))",
        "max(max_over_time(requests_total[5m]))",
        "topk(5, requests_total)",
    ] {
        let start = std::time::Instant::now();
        let found = total(&source, query, &Budget::unlimited()).expect("evaluates");
        println!("{query}: {:?} ({found})", start.elapsed());
    }
}

#[test]
fn what_an_expression_says_twice_is_read_once() {
    let check = |query: &str, selects: usize| {
        let source = Counters::new(70);
        total(&source, query, &Budget::unlimited()).expect("evaluates");
        assert_eq!(source.selects.load(Ordering::Relaxed), selects, "{query}");
    };
    let rate = "sum by (job) (rate(requests_total[5m]))";
    check(&format!("{rate} / ({rate} + {rate} * 2)"), 1);
    check("requests_total - requests_total offset 5m", 2);
    check("requests_total + (requests_total)", 1);
    check("rate(requests_total[5m]) > requests_total", 2);
    // What is remarked is remarked of its place in the text.
    check("quantile(2, requests_total) + quantile(2, requests_total)", 2);
    check("last_over_time(requests_total[1m:15s]) + requests_total", 2);
}

#[test]
fn remarks_are_made_for_each_place() {
    let source = Counters::new(2);
    let expr = parse("quantile(2, requests_total) + quantile(2, requests_total)").expect("valid");
    let output = Engine::default().instant(&source, &expr, 3_000_000, &Budget::unlimited()).expect("evaluates");
    assert_eq!(output.warnings.len(), 2, "{:?}", output.warnings);
}

#[test]
fn rules_share_what_none_of_them_writes() {
    let texts = [
        "sum(rate(requests_total[5m]))",
        "sum(rate(requests_total[5m])) > 1e9",
        "job:written + count(requests_total)",
        "count(requests_total) - job:written",
        r#"count({job="a"})"#,
        r#"count({job="a"})"#,
    ];
    let rules: Vec<_> = texts.iter().map(|text| parse(text).expect("valid")).collect();
    let common = CommonParts::of(&rules, &["job:written"]);
    assert_eq!(common.texts(), ["count(requests_total)", "sum(rate(requests_total[5m]))"]);
    let (source, values, engine) = (Counters::new(10), SharedValues::default(), Engine::default());
    let ask = |rule: usize, values: &SharedValues| {
        let budget = Budget::unlimited();
        engine.instant_of_many(&source, &rules[rule], 3_000_000, &budget, &common, values).expect("evaluates").value
    };
    let first = ask(0, &values);
    ask(1, &values);
    assert_eq!(source.selects.load(Ordering::Relaxed), 1);
    assert_eq!(ask(0, &SharedValues::default()), first);
    assert_eq!(source.selects.load(Ordering::Relaxed), 2, "another moment has its own values");
}

/// The highest trees that the parser lets through must fit the stack of a thread, evaluated in a debug build.
#[test]
fn the_highest_trees_fit_the_stack() {
    let source = Counters::new(3);
    let chain = vec!["requests_total"; 5001].join(" + ignoring(a) ");
    let nested = format!("{}requests_total{}", "abs(".repeat(190), ")".repeat(190));
    let negated = format!("{}requests_total", "-".repeat(190));
    let subqueries = format!("{}requests_total{}", "last_over_time(".repeat(4), "[30s:15s])".repeat(4));
    let both = format!("{}{}{}", "(".repeat(190), ["requests_total"; 100].join(" + ignoring(a) "), ")".repeat(190));
    let rows = format!("{}requests_total{}", "(".repeat(99), " + requests_total * 1)".repeat(99));
    let product = (1..=20).fold("requests_total".to_owned(), |inner, depth| format!("({inner}{})", "+1".repeat(179 + depth)));
    for query in [chain, nested, negated, subqueries, both, rows, product] {
        total(&source, &query, &Budget::unlimited()).expect("evaluates");
    }
    for (part, count) in [("a + ", 100_000), ("a ^ ", 100_000)] {
        assert!(parse(&format!("{}a", part.repeat(count))).is_err());
    }
    assert!(parse(&format!("a{}", "[1m:1m]".repeat(100_000))).is_err());
    assert!(parse(&format!("a[1m{}]", "+1m".repeat(100_000))).is_err());
}
