//! Rollups against the raw samples that they were made of.

mod common;

use br_env::Rng;
use br_model::{BucketSpan, FloatHistogram, MetricBatch, Sample, SeriesSamples, Value, stale_nan};
use br_promql::{Engine, Options, Point, SourceResolution};
use br_std::Nanos;
use br_storage::Budget;
use br_tsdb::{BlockStats, RollupLevel, TsdbOptions, check_levels};
use common::{Store, T0, TENANT, labels, matcher};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The first whole day.
const D0: i64 = T0.div_euclid(DAY) * DAY + DAY;

fn levels() -> Vec<RollupLevel> {
    let level = |interval, after| RollupLevel {
        interval: Duration::from_mins(interval),
        after: Duration::from_hours(after),
        keep: Duration::from_hours(24 * 400),
    };
    vec![level(5, 24), level(60, 48)]
}

fn histogram(counts: [f64; 3]) -> Value {
    Value::Histogram(Arc::new(FloatHistogram {
        count: counts.iter().sum(),
        sum: counts[0] + 2.0 * counts[1] + 4.0 * counts[2],
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_buckets: counts.to_vec(),
        ..FloatHistogram::default()
    }))
}

/// Three days of a sample each half minute: counters and histograms that are reset, gauges, gaps, series that end and begin.
fn filled(seed: u64) -> Store {
    let mut store = Store::with(TsdbOptions { retained_bytes_max: 0, ..TsdbOptions::default() });
    let rng = br_env::sim::SimRng::new(seed);
    let below = |max: u64| rng.next_u64() % max;
    let (mut counter, mut gauge, mut buckets) = (0.0, 50.0, [0.0; 3]);
    let mut is_away = false;
    for at in 0..(3 * DAY / (30 * 1000)) {
        // Scrapes are not on the second.
        let time = D0 + at * 30_000 + 7_123;
        store.now_ms = time;
        counter = if below(97) == 0 { below(5) as f64 } else { counter + below(20) as f64 };
        gauge += below(21) as f64 - 10.0;
        buckets = if below(211) == 0 { [0.0, 1.0, 0.0] } else { buckets.map(|count| count + below(3) as f64) };
        let turns = below(400) == 0;
        let mut of_series = vec![
            ("requests_total{i=a}", Value::Float(counter)),
            ("level{i=a}", Value::Float(gauge / 3.0)),
            ("latency{i=a}", histogram(buckets)),
        ];
        if turns {
            is_away = !is_away;
            if is_away {
                of_series.push(("level{i=b}", Value::Float(stale_nan())));
                of_series.push(("requests_total{i=b}", Value::Float(stale_nan())));
            }
        }
        if !is_away {
            of_series.push(("level{i=b}", Value::Float(-gauge)));
            of_series.push(("requests_total{i=b}", Value::Float(counter * 2.0)));
        }
        let sample = |value| Sample { timestamp_ms: time, value, start_ms: None };
        let series = of_series
            .into_iter()
            .map(|(name, value)| SeriesSamples { labels: labels(name), samples: vec![sample(value)], exemplars: vec![] })
            .collect();
        store.append(&MetricBatch { series, metadata: vec![] });
        if at % 240 == 239 {
            store.flush();
        }
    }
    store.now_ms = D0 + 6 * DAY;
    store.floats("later", &[(store.now_ms, 1.0)]);
    store.flush();
    store.compact_all();
    store
}

fn roll_up(store: &mut Store) -> usize {
    roll_up_to(store, levels())
}

fn roll_up_to(store: &mut Store, levels: Vec<RollupLevel>) -> usize {
    store.tsdb.set_rollups(levels);
    let mut jobs = 0;
    while let Some((job, replaced)) = store.tsdb.plan_rollup(Nanos::from_millis(store.now_ms)) {
        let made = store.tsdb.compact(&job).expect("made");
        store.tsdb.replace(&replaced, &made);
        store.files.retain(|file| !replaced.contains(file));
        store.files.extend(made);
        jobs += 1;
        assert!(jobs < 100, "planning must come to an end");
    }
    jobs
}

fn remove_raw(store: &mut Store) {
    let is_raw = |file: &&br_storage::FileEntry| BlockStats::of(file).expect("a summary").interval_ms == 0;
    let raw: Vec<_> = store.files.iter().filter(is_raw).cloned().collect();
    store.tsdb.replace(&raw, &[]);
    store.files.retain(|file| !raw.contains(file));
}

type Answer = BTreeMap<String, Vec<(i64, Point)>>;

/// With the longest interval of the rollups that were read.
fn ask(store: &Store, query: &str, (start, end, step): (i64, i64, i64), resolution: SourceResolution) -> (Answer, i64) {
    let engine = Engine::new(Options::default()).with_source_resolution(resolution);
    let expr = br_promql::parse(query).expect("valid");
    let budget = Budget::unlimited();
    let output = engine.range(&*store.tsdb.source(TENANT), &expr, start, end, step, &budget).expect("answered");
    assert_eq!(output.infos.iter().any(|info| info.contains("rollups of up to")), budget.rollup_ms() > 0);
    let br_promql::Value::Matrix(series) = output.value else { panic!("a matrix") };
    (series.into_iter().map(|series| (series.labels.to_string(), series.points)).collect(), budget.rollup_ms())
}

fn is_close(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}

fn assert_same(query: &str, found: &Answer, expect: &Answer) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expect.keys().collect::<Vec<_>>(), "{query}");
    for (series, expect) in expect {
        let found = &found[series];
        let times = |points: &[(i64, Point)]| points.iter().map(|(time, _)| *time).collect::<Vec<_>>();
        assert_eq!(times(found), times(expect), "{query} of {series}");
        for ((time, found), (_, expect)) in found.iter().zip(expect) {
            let same = match (found, expect) {
                (Point::Float(found), Point::Float(expect)) => is_close(*found, *expect),
                (Point::Histogram(found), Point::Histogram(expect)) => {
                    let all = |histogram: &FloatHistogram| {
                        [&[histogram.count, histogram.sum][..], &histogram.positive_buckets].concat()
                    };
                    all(found).len() == all(expect).len()
                        && all(found).iter().zip(all(expect)).all(|(found, expect)| is_close(*found, expect))
                }
                _ => false,
            };
            assert!(same, "{query} of {series} at {time}: {found:?} instead of {expect:?}");
        }
    }
}

const EXACT: [&str; 19] = [
    "requests_total",
    "level",
    "latency",
    "rate(requests_total[1h])",
    "increase(requests_total[3h])",
    "delta(level[2h])",
    "rate(latency[1h])",
    "increase(latency[4h])",
    "count_over_time(level[1h])",
    "count_over_time(latency[2h])",
    "sum_over_time(level[1h])",
    "avg_over_time(level[3h])",
    "min_over_time(level[1h])",
    "max_over_time(level[2h])",
    "first_over_time(level[1h])",
    "last_over_time(level[1h])",
    "ts_of_max_over_time(level[2h])",
    "sum(rate(requests_total[2h] offset 1h))",
    "max_over_time(rate(requests_total[1h])[6h:1h])",
];

#[test]
fn windows_of_whole_intervals_get_the_answer_of_the_raw_samples() {
    for seed in 1..4 {
        let mut store = filled(seed);
        let range = (D0 + 6 * HOUR, D0 + 2 * DAY + 22 * HOUR, HOUR);
        let fine = (D0 + 6 * HOUR, D0 + DAY, 5 * MINUTE);
        let raw: Vec<_> = EXACT.map(|query| ask(&store, query, range, SourceResolution::Raw).0).into();
        let raw_fine: Vec<_> = EXACT.map(|query| ask(&store, query, fine, SourceResolution::Raw).0).into();
        assert_eq!(roll_up(&mut store), 6, "two for each of three days");
        assert_eq!(roll_up(&mut store), 0);
        for (query, expect) in EXACT.iter().zip(&raw) {
            assert_eq!(ask(&store, query, range, SourceResolution::Raw), (expect.clone(), 0), "{query}");
            let (found, interval_ms) = ask(&store, query, range, SourceResolution::Auto);
            assert_eq!(interval_ms, HOUR, "{query}");
            assert_same(query, &found, expect);
        }
        for (query, expect) in EXACT.iter().zip(&raw_fine) {
            let (found, interval_ms) = ask(&store, query, fine, SourceResolution::Auto);
            assert!(interval_ms == 5 * MINUTE || query.contains("[6h:1h]"), "{query}: {interval_ms}");
            assert_same(query, &found, expect);
        }
        // What rollups cannot give exactly is read raw.
        for query in
            ["quantile_over_time(0.9, level[2h])", "sum_over_time(latency[2h])", "changes(level[1h])", "irate(level[1h])"]
        {
            let raw = ask(&store, query, range, SourceResolution::Raw).0;
            assert_eq!(ask(&store, query, range, SourceResolution::Auto), (raw, 0), "{query}");
        }
        let askew = (range.0 + 1000, range.1, range.2);
        assert_eq!(ask(&store, "rate(requests_total[1h])", askew, SourceResolution::Auto).1, 0);
        let five = SourceResolution::UpTo { interval_ms: 5 * MINUTE };
        assert_eq!(ask(&store, "rate(requests_total[1h])", askew, five).1, 5 * MINUTE);

        remove_raw(&mut store);
        for (query, expect) in EXACT.iter().zip(&raw) {
            assert_same(query, &ask(&store, query, range, SourceResolution::Auto).0, expect);
            assert!(ask(&store, query, range, SourceResolution::Raw).0.is_empty(), "{query}: raw samples are gone");
        }
        store.reopen();
        for (query, expect) in EXACT.iter().zip(&raw) {
            assert_same(query, &ask(&store, query, range, SourceResolution::Auto).0, expect);
        }
    }
}

#[test]
fn a_coarser_rollup_is_made_of_a_finer_one_where_raw_samples_are_gone() {
    let mut store = filled(4);
    let range = (D0 + 6 * HOUR, D0 + 2 * DAY + 22 * HOUR, HOUR);
    let raw: Vec<_> = EXACT.map(|query| ask(&store, query, range, SourceResolution::Raw).0).into();
    assert_eq!(roll_up_to(&mut store, levels()[..1].to_vec()), 3);
    remove_raw(&mut store);
    assert_eq!(roll_up(&mut store), 3);
    for (query, expect) in EXACT.iter().zip(&raw) {
        let (found, interval_ms) = ask(&store, query, range, SourceResolution::Auto);
        assert_same(query, &found, expect);
        assert_eq!(interval_ms, HOUR, "{query}");
    }
    let size = |interval_ms: i64| -> u64 {
        let files = store.files.iter().filter(|file| BlockStats::of(file).expect("a summary").interval_ms == interval_ms);
        files.map(|file| BlockStats::of(file).expect("a summary").samples).sum()
    };
    assert!(size(HOUR) * 8 < size(5 * MINUTE), "{} samples of 1 h, {} of 5 min", size(HOUR), size(5 * MINUTE));
}

#[test]
fn where_raw_samples_are_gone_every_query_gets_about_the_answer() {
    let mut store = filled(9);
    let askew = (D0 + 6 * HOUR + 1_777, D0 + 2 * DAY + 22 * HOUR, 17 * MINUTE);
    let total = |answer: &Answer| -> f64 {
        let points = answer.values().flatten().map(|(_, point)| if let Point::Float(value) = point { *value } else { 0.0 });
        points.sum()
    };
    for query in ["sum(increase(requests_total[6h]))", "avg_over_time(level[6h])", "quantile_over_time(0.5, level[6h])", "level"]
    {
        let raw = ask(&store, query, askew, SourceResolution::Raw).0;
        roll_up(&mut store);
        let mut gone = filled(9);
        roll_up(&mut gone);
        remove_raw(&mut gone);
        let (found, interval_ms) = ask(&gone, query, askew, SourceResolution::Auto);
        assert!(interval_ms > 0, "{query}");
        assert_eq!(found.len(), raw.len(), "{query}");
        let (found, expect) = (total(&found), total(&raw));
        assert!((found - expect).abs() < 0.25 * expect.abs().max(1.0), "{query}: {found} instead of {expect}");
    }
}

#[test]
fn a_rollup_follows_its_raw_samples() {
    let mut store = filled(5);
    roll_up(&mut store);
    let range = (D0 + 6 * HOUR, D0 + 2 * DAY, HOUR);
    let query = "count_over_time(level[1h])";
    store.delete(vec![matcher(br_storage::MatchOp::Equal, "i", "a")], D0, D0 + DAY);
    let expect = ask(&store, query, range, SourceResolution::Raw).0;
    assert_same(query, &ask(&store, query, range, SourceResolution::Auto).0, &expect);
    store.rewrite_all();
    assert!(roll_up(&mut store) > 0, "made anew");
    let (found, interval_ms) = ask(&store, query, range, SourceResolution::Auto);
    assert_eq!(interval_ms, HOUR);
    assert_same(query, &found, &expect);
    // Rollups that are all that is left follow deletions too.
    remove_raw(&mut store);
    store.delete(vec![matcher(br_storage::MatchOp::Equal, "__name__", "level")], i64::MIN, i64::MAX);
    assert!(ask(&store, query, range, SourceResolution::Auto).0.is_empty());
    store.flush();
    assert!(store.rewrite_all() > 0);
    assert!(store.tsdb.tombstones().is_empty());
    assert!(ask(&store, query, range, SourceResolution::Auto).0.is_empty());
    assert!(!ask(&store, "requests_total", range, SourceResolution::Auto).0.is_empty());
}

/// A sample that was accepted at the last moment lands in a day whose raw samples are gone by then.
#[test]
fn a_late_sample_does_not_take_the_place_of_a_rollup() {
    let mut store = filled(6);
    let range = (D0 + 6 * HOUR, D0 + DAY, HOUR);
    let query = "count_over_time(level[1h])";
    let expect = ask(&store, query, range, SourceResolution::Raw).0;
    roll_up(&mut store);
    remove_raw(&mut store);
    store.floats("late", &[(D0 + 8 * HOUR, 1.0)]);
    for _ in 0..2 {
        assert_same(query, &ask(&store, query, range, SourceResolution::Auto).0, &expect);
        assert_eq!(ask(&store, "late", range, SourceResolution::Auto).0.len(), 1);
        store.flush();
        store.compact_all();
        assert_eq!(roll_up(&mut store), 0);
    }
}

#[test]
fn levels_that_do_not_fit_together_are_refused() {
    let level = |minutes, after: u64, keep: u64| RollupLevel {
        interval: Duration::from_mins(minutes),
        after: Duration::from_hours(after),
        keep: Duration::from_hours(keep),
    };
    assert!(check_levels(&[]).is_ok() && check_levels(&levels()).is_ok());
    for wrong in [
        vec![level(7, 1, 2)],
        vec![level(0, 1, 2)],
        vec![level(60, 1, 2), level(5, 1, 2)],
        vec![level(10, 1, 9), level(15, 1, 9)],
        vec![level(5, 2, 2)],
        vec![level(2880, 1, 2)],
    ] {
        assert!(check_levels(&wrong).is_err(), "{wrong:?}");
    }
}
