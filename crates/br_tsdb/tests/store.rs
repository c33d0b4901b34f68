//! The store through its public API.

mod common;

use br_env::sim::SimClock;
use br_model::{
    BucketSpan, CounterResetHint, Exemplar, FloatHistogram, KnownSample, KnownSeries, Labels, Metadata, MetricBatch, MetricType,
    Sample, SeriesSamples, Value, stale_nan,
};
use br_std::{Kind, Nanos};
use br_storage::{Budget, JournalPosition, MatchOp, SeriesQuery, Values};
use br_tsdb::{Learning, RejectReason, RetentionRule, RetentionRules, TsdbOptions};
use common::{Store, T0, TENANT, batch, labels, matcher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn count_of(outcome: &br_tsdb::AppendOutcome, reason: RejectReason) -> u64 {
    outcome.rejected.iter().filter(|rejection| rejection.reason == reason).map(|rejection| rejection.count).sum()
}

#[test]
fn matchers_find_series_in_head_and_files() {
    let mut store = Store::new();
    let names = ["up{job=a,zone=x}", "up{job=b}", "up{job=ab,zone=y}", "down{job=a}", "Up{A=1,job=c}"];
    for at in 0..2 {
        for name in names {
            store.floats(name, &[(T0 + at * 1000, 1.0)]);
        }
        for (matchers, expect) in [
            (vec![matcher(MatchOp::Equal, "__name__", "up")], vec!["up{job=a,zone=x}", "up{job=ab,zone=y}", "up{job=b}"]),
            (vec![matcher(MatchOp::Regex, "job", "a|b")], vec!["down{job=a}", "up{job=a,zone=x}", "up{job=b}"]),
            (vec![matcher(MatchOp::Regex, "job", "a.+")], vec!["up{job=ab,zone=y}"]),
            (vec![matcher(MatchOp::NotRegex, "job", "a.*")], vec!["Up{A=1,job=c}", "up{job=b}"]),
            (vec![matcher(MatchOp::NotEqual, "zone", "")], vec!["up{job=a,zone=x}", "up{job=ab,zone=y}"]),
            (vec![matcher(MatchOp::Equal, "zone", ""), matcher(MatchOp::Equal, "__name__", "up")], vec!["up{job=b}"]),
            (
                vec![matcher(MatchOp::NotEqual, "zone", "x"), matcher(MatchOp::Regex, "__name__", "[uU]p")],
                vec!["Up{A=1,job=c}", "up{job=ab,zone=y}", "up{job=b}"],
            ),
            (vec![matcher(MatchOp::Equal, "nothing", "here")], vec![]),
            (vec![matcher(MatchOp::Regex, "zone", "x|")], vec!["Up{A=1,job=c}", "down{job=a}", "up{job=a,zone=x}", "up{job=b}"]),
        ] {
            let mut expect: Vec<Labels> = expect.into_iter().map(labels).collect();
            expect.sort();
            let found: Vec<Labels> =
                store.select(&matchers, i64::MIN, i64::MAX).into_iter().map(|series| series.labels).collect();
            assert_eq!(found, expect, "{matchers:?} in round {at}");
        }
        store.flush();
        store.reopen();
    }
}

#[test]
fn samples_are_refused_for_reasons_that_are_counted() {
    let mut store = Store::new();
    store.floats("m", &[(T0, 1.0)]);
    let minute = 60_000;
    for (samples, accepted, repeated, reason) in [
        (vec![(T0, 1.0)], 0, 1, None),
        (vec![(T0, 2.0)], 0, 0, Some(RejectReason::DuplicateTimestamp)),
        (vec![(T0 - 29 * minute, 5.0)], 1, 0, None),
        (vec![(T0 - 29 * minute, 5.0)], 0, 1, None),
        (vec![(T0 - 29 * minute, 6.0)], 0, 0, Some(RejectReason::DuplicateTimestamp)),
        (vec![(T0 - 31 * minute, 5.0)], 0, 0, Some(RejectReason::TooOld)),
        (vec![(T0 - 16 * 24 * 60 * minute, 5.0)], 0, 0, Some(RejectReason::TooOld)),
        (vec![(T0 + 11 * minute, 5.0)], 0, 0, Some(RejectReason::TooFarInFuture)),
        (vec![(T0 + 9 * minute, 5.0), (T0 + 20 * minute, 1.0)], 1, 0, Some(RejectReason::TooFarInFuture)),
    ] {
        let outcome = store.floats("m", &samples);
        assert_eq!((outcome.accepted, outcome.repeated), (accepted, repeated), "{samples:?}: {outcome:?}");
        assert_eq!(outcome.rejected.first().map(|rejection| rejection.reason), reason, "{samples:?}");
        assert_eq!(outcome.rejected_count(), u64::from(reason.is_some()));
    }
    assert_eq!(store.dump(i64::MIN, i64::MAX)["m"].len(), 3);
    let stats = store.tsdb.tenant_stats(TENANT, 5);
    let counted: u64 = stats.rejected.iter().map(|(_, count)| count).sum();
    assert_eq!((stats.accepted, stats.repeated, stats.out_of_order, counted), (3, 2, 1, 6));
}

#[test]
fn repeats_are_recognised_after_a_flush_and_the_first_value_stays() {
    let mut store = Store::new();
    store.floats("m", &[(T0, 1.0), (T0 + 1000, 2.0)]);
    store.flush();
    assert_eq!(store.floats("m", &[(T0 + 1000, 2.0)]).repeated, 1);
    assert_eq!(count_of(&store.floats("m", &[(T0 + 1000, 3.0)]), RejectReason::DuplicateTimestamp), 1);
    // An older one cannot be compared without reading files; the merge keeps what was stored first.
    store.floats("m", &[(T0, 9.0)]);
    let expect = vec![(T0, 1f64.to_bits()), (T0 + 1000, 2f64.to_bits())];
    assert_eq!(store.dump(i64::MIN, i64::MAX)["m"], expect);
    store.flush();
    assert_eq!(store.dump(i64::MIN, i64::MAX)["m"], expect);
}

#[test]
fn caps_refuse_only_new_series() {
    let mut store = Store::with(TsdbOptions { series_max: 3, series_per_metric_max: 2, ..TsdbOptions::default() });
    assert_eq!(store.floats("a{i=1}", &[(T0, 1.0)]).accepted, 1);
    assert_eq!(store.floats("a{i=2}", &[(T0, 1.0)]).accepted, 1);
    assert_eq!(count_of(&store.floats("a{i=3}", &[(T0, 1.0)]), RejectReason::MetricSeriesLimit), 1);
    assert_eq!(store.floats("b{i=1}", &[(T0, 1.0)]).accepted, 1);
    let refused = store.floats("c{i=1}", &[(T0, 1.0), (T0 + 1, 1.0)]);
    assert_eq!(count_of(&refused, RejectReason::SeriesLimit), 2);
    assert!(refused.rejected[0].example.contains("c{i=\"1\"}"), "{refused:?}");
    assert_eq!(store.floats("a{i=1}", &[(T0 + 1, 1.0)]).accepted, 1, "known series go on");
    let empty = MetricBatch {
        series: vec![SeriesSamples { labels: Labels::empty(), samples: vec![Sample::float(T0, 1.0)], exemplars: vec![] }],
        metadata: vec![],
    };
    assert_eq!(count_of(&store.append(&empty), RejectReason::LabelLimit), 1);
}

fn each_flush_counts(idle_flushes_max: u8) -> TsdbOptions {
    TsdbOptions { flush_interval: Duration::ZERO, idle_flushes_max, ..TsdbOptions::default() }
}

#[test]
fn idle_series_leave_the_head_and_make_room() {
    let mut store = Store::with(TsdbOptions { series_max: 2000, ..each_flush_counts(1) });
    for at in 0..2000 {
        store.floats(&format!("old{{i={at}}}"), &[(T0, 1.0)]);
    }
    assert_eq!(store.floats("new", &[(T0, 1.0)]).accepted, 0);
    for _ in 0..4 {
        store.flush();
    }
    assert_eq!(store.tsdb.tenant_stats(TENANT, 1).series, 0);
    for at in 0..2000 {
        assert_eq!(store.floats(&format!("new{{i={at}}}"), &[(T0 + 1, 1.0)]).accepted, 1);
    }
    assert_eq!(store.select(&[matcher(MatchOp::Equal, "__name__", "new")], T0, T0 + 1).len(), 2000);
    assert_eq!(store.select(&[matcher(MatchOp::Equal, "__name__", "old")], T0, T0 + 1).len(), 2000);
}

fn histogram(count: f64, sum: f64) -> Value {
    Value::Histogram(Arc::new(FloatHistogram {
        counter_reset_hint: CounterResetHint::NotReset,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 1.0,
        count,
        sum,
        positive_spans: vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 4, length: 1 }],
        positive_buckets: vec![1.0, 2.0, count],
        ..FloatHistogram::default()
    }))
}

#[test]
fn histograms_starts_and_staleness_survive_files_and_compaction() {
    let mut store = Store::new();
    let samples = vec![
        Sample { timestamp_ms: T0, value: histogram(5.0, 1.5), start_ms: Some(T0 - 5000) },
        Sample { timestamp_ms: T0 + 1000, value: histogram(6.0, 2.5), start_ms: Some(T0 - 5000) },
        Sample { timestamp_ms: T0 + 2000, value: Value::Float(7.0), start_ms: None },
        Sample { timestamp_ms: T0 + 3000, value: histogram(7.0, stale_nan()), start_ms: None },
        Sample { timestamp_ms: T0 + 4000, value: Value::Float(stale_nan()), start_ms: Some(T0) },
    ];
    let series = SeriesSamples { labels: labels("h"), samples: samples.clone(), exemplars: vec![] };
    assert_eq!(store.append(&MetricBatch { series: vec![series], metadata: vec![] }).accepted, 5);
    let check = |store: &Store| {
        let found = store.select(&[matcher(MatchOp::Equal, "__name__", "h")], T0, T0 + 4000).pop().expect("the series");
        let Values::Mixed(values) = &found.points.values else { panic!("both kinds") };
        assert_eq!(found.points.timestamps_ms.to_vec(), samples.iter().map(|sample| sample.timestamp_ms).collect::<Vec<_>>());
        for (value, sample) in values.iter().zip(&samples) {
            assert_eq!(value.is_stale(), sample.value.is_stale());
            assert_eq!(format!("{value:?}"), format!("{:?}", sample.value));
        }
        assert_eq!(found.points.starts_ms, Some(vec![T0 - 5000, T0 - 5000, i64::MIN, i64::MIN, T0]));
        let only = store.select(&[matcher(MatchOp::Equal, "__name__", "h")], T0, T0 + 1000).pop().expect("the series");
        assert!(matches!(only.points.values, Values::Mixed(_) | Values::Histograms(_)) && only.points.len() == 2);
    };
    check(&store);
    store.flush();
    check(&store);
    store.reopen();
    check(&store);
    for at in 0..8 {
        store.floats("other", &[(T0 + at, 1.0)]);
        store.flush();
    }
    assert!(store.compact_all() > 0);
    check(&store);
}

#[test]
fn exemplars_and_metadata_survive_a_restart() {
    let mut store = Store::new();
    let exemplar =
        |at: i64| Exemplar { labels: Labels::from_pairs([("trace_id", format!("t{at}"))]), value: 0.5, timestamp_ms: T0 + at };
    let about = |help: &str| Metadata { metric_type: MetricType::Counter, help: help.to_owned(), unit: "seconds".to_owned() };
    for (at, help) in [(0, "before"), (1, "after")] {
        let series = SeriesSamples {
            labels: labels("m{a=1}"),
            samples: vec![Sample::float(T0 + at, 1.0)],
            exemplars: vec![exemplar(at), exemplar(at)],
        };
        store.append(&MetricBatch { series: vec![series], metadata: vec![("m".to_owned(), about(help))] });
        store.flush();
    }
    let check = |store: &Store| {
        let source = store.tsdb.source(TENANT);
        assert_eq!(source.metadata(Some("m"), &Budget::unlimited()).expect("read"), vec![("m".to_owned(), about("after"))]);
        assert!(source.metadata(Some("n"), &Budget::unlimited()).expect("read").is_empty());
        let query = SeriesQuery { matchers: vec![matcher(MatchOp::Equal, "a", "1")], from_ms: T0, to_ms: T0 + 5 };
        let found = source.exemplars(&query, &Budget::unlimited()).expect("read");
        assert_eq!(found, vec![(labels("m{a=1}"), vec![exemplar(0), exemplar(1)])]);
    };
    check(&store);
    store.reopen();
    check(&store);
    for at in 0..8 {
        store.floats("other", &[(T0 + at, 1.0)]);
        store.flush();
    }
    store.compact_all();
    store.reopen();
    check(&store);
}

#[test]
fn metadata_alone_is_kept_too() {
    let mut store = Store::new();
    let about = Metadata { metric_type: MetricType::Gauge, help: "h".to_owned(), unit: String::new() };
    store.append(&MetricBatch { series: vec![], metadata: vec![("m".to_owned(), about.clone())] });
    store.flush();
    store.reopen();
    assert_eq!(store.tsdb.source(TENANT).metadata(None, &Budget::unlimited()).expect("read"), vec![("m".to_owned(), about)]);
    assert!(store.select(&[], i64::MIN, i64::MAX).is_empty());
}

#[test]
fn a_failed_flush_stays_queryable_and_is_retried() {
    let mut store = Store::new();
    store.floats("m", &[(T0, 1.0)]);
    let sealed = store.tsdb.seal(JournalPosition(1)).expect("something to write");
    assert_eq!((sealed.position(), sealed.sample_count()), (JournalPosition(1), 1));
    store.floats("m", &[(T0 + 1, 2.0)]);
    let expect = store.dump(i64::MIN, i64::MAX);
    assert_eq!(expect["m"].len(), 2, "sealed and open at once");
    assert!(store.tsdb.seal(JournalPosition(2)).is_some_and(|second| {
        assert_eq!(store.dump(i64::MIN, i64::MAX), expect);
        let files = second.write(&store.objects).expect("written");
        store.tsdb.publish(second, &files);
        true
    }));
    assert_eq!(store.dump(i64::MIN, i64::MAX), expect, "the later one first");
    let files = sealed.write(&store.objects).expect("written");
    let again = sealed.write(&store.objects).expect("written again");
    assert_ne!(files[0].path, again[0].path, "a path is never used twice");
    store.tsdb.publish(sealed, &again);
    assert_eq!(store.dump(i64::MIN, i64::MAX), expect);
    assert_eq!(store.tsdb.tenant_stats(TENANT, 1).unflushed_samples, 0);
}

#[test]
fn after_a_crash_later_records_are_applied_again_and_nothing_doubles() {
    let mut store = Store::new();
    let records: Vec<MetricBatch> = (0..10).map(|at| batch("m", &[(T0 + at * 1000, at as f64)])).collect();
    for record in &records[..6] {
        store.append(record);
    }
    store.flush();
    for record in &records[6..] {
        store.append(record);
    }
    // A seal that was never committed: its files are named by nobody.
    let lost = store.tsdb.seal(JournalPosition(10)).expect("something");
    lost.write(&store.objects).expect("written");
    let expect = store.dump(i64::MIN, i64::MAX);
    store.reopen();
    assert_eq!(store.tsdb.stats().applied, JournalPosition(6));
    // The replay may begin earlier than it must.
    for (at, record) in records.iter().enumerate().skip(4) {
        store.tsdb.append(TENANT, JournalPosition(at as u64 + 1), record, Nanos::from_millis(T0)).expect("sound");
    }
    assert_eq!(store.dump(i64::MIN, i64::MAX), expect);
    assert_eq!(expect["m"].len(), 10);
    store.position = 10;
    store.flush();
    store.reopen();
    assert_eq!(store.dump(i64::MIN, i64::MAX), expect);
}

#[test]
fn windows_are_split_compacted_and_expired() {
    let mut store = Store::new();
    let hour = 3_600_000;
    let mut expect = Vec::new();
    for at in 0..60 {
        store.now_ms = T0 + at * hour;
        for minute in 0..3 {
            let time = store.now_ms + minute * 60_000;
            store.floats("m{a=1}", &[(time, at as f64)]);
            store.floats("n{a=2}", &[(time, 0.5)]);
            expect.push((time, (at as f64).to_bits()));
            store.flush();
        }
    }
    let before = store.dump(i64::MIN, i64::MAX);
    assert_eq!(before["m{a=\"1\"}"], expect);
    assert_eq!(store.files.len(), 180);
    assert!(store.compact_all() > 2);
    assert!(store.files.len() < 30, "{} files left", store.files.len());
    assert!(store.files.iter().any(|file| file.window_secs == br_tsdb::DAY_SECS));
    assert_eq!(store.dump(i64::MIN, i64::MAX), before);
    store.reopen();
    assert_eq!(store.dump(i64::MIN, i64::MAX), before);
    let part = store.dump(T0 + 10 * hour, T0 + 11 * hour);
    assert_eq!(part["m{a=\"1\"}"].len(), 4, "both ends are included");
    let cutoff = Nanos::from_millis(T0) + Duration::from_hours(40);
    let expired = store.tsdb.expired(cutoff);
    assert!(!expired.is_empty() && expired.iter().all(|file| file.max_time < cutoff));
    store.tsdb.replace(&expired, &[]);
    let left = store.dump(i64::MIN, i64::MAX);
    assert!(left["m{a=\"1\"}"].len() < expect.len());
    assert!(left["m{a=\"1\"}"].ends_with(&expect[40 * 3..]), "nothing younger goes");
}

#[test]
fn labels_and_series_come_from_head_and_files() {
    let mut store = Store::new();
    store.floats("up{job=a}", &[(T0, 1.0)]);
    store.flush();
    store.floats("up{job=b,zone=z}", &[(T0 + 1, 1.0)]);
    let source = store.tsdb.source(TENANT);
    let budget = Budget::unlimited();
    let query = |from_ms, to_ms| SeriesQuery { matchers: vec![], from_ms, to_ms };
    assert_eq!(source.label_names(&query(T0, T0 + 1), &budget).expect("read"), ["__name__", "job", "zone"]);
    assert_eq!(source.label_values("job", &query(T0, T0 + 1), &budget).expect("read"), ["a", "b"]);
    assert_eq!(source.series(&[query(T0, T0), query(T0, T0)], &budget).expect("read"), [labels("up{job=a}")]);
    assert_eq!(source.series(&[query(T0 + 1, T0 + 9)], &budget).expect("read"), [labels("up{job=b,zone=z}")]);
    assert!(source.label_values("job", &query(T0 + 5, T0 + 9), &budget).expect("read").is_empty());
    let stats = store.tsdb.tenant_stats(TENANT, 1);
    assert_eq!((stats.series, stats.series_by_metric[0].count), (2, 2));
    assert_eq!(stats.values_by_label[0].name, "job");
}

/// What an answer is made of is charged before it is held: a tenant may have any number of texts, and long ones.
#[test]
fn lookups_end_at_their_budget() {
    let long = "x".repeat(10_000);
    let about = |help: &str| Metadata { metric_type: MetricType::Gauge, help: help.to_owned(), unit: String::new() };
    let query = SeriesQuery { matchers: vec![], from_ms: i64::MIN, to_ms: i64::MAX };
    for is_flushed in [false, true] {
        let mut store = Store::new();
        for at in 0..100 {
            store.floats(&format!("m{{a={at}{long}}}"), &[(T0, 1.0)]);
            store.append(&MetricBatch { series: vec![], metadata: vec![(format!("m{at}"), about(&long))] });
        }
        if is_flushed {
            store.flush();
        }
        let source = store.tsdb.source(TENANT);
        let asked = |what: &str, budget: &Budget| match what {
            "series" => source.series(std::slice::from_ref(&query), budget).map(|found| found.len()),
            "values" => source.label_values("a", &query, budget).map(|found| found.len()),
            _ => source.metadata(None, budget).map(|found| found.len()),
        };
        for what in ["series", "values", "metadata"] {
            let budget = Budget::new(256 << 10);
            assert_eq!(asked(what, &budget).map_err(|error| error.kind()), Err(Kind::OverLimit), "{what}");
            assert!(budget.bytes_used() < 300 << 10, "{what} stops where its budget ends: {}", budget.bytes_used());
            assert_eq!(asked(what, &Budget::new(2 << 20)).expect("enough"), 100, "{what}");
        }
    }
}

/// While the answer of a lookup is put together, samples are taken in.
#[test]
#[allow(clippy::disallowed_methods, reason = "another thread takes samples in")]
fn a_lookup_holds_up_nobody() {
    for is_deleted in [false, true] {
        let mut store = Store::new();
        for at in 0..200 {
            store.floats(&format!("m{{a={at}}}"), &[(T0, 1.0)]);
        }
        if is_deleted {
            store.delete(vec![matcher(MatchOp::Equal, "a", "7")], i64::MIN, i64::MAX);
        }
        let query = SeriesQuery { matchers: vec![], from_ms: i64::MIN, to_ms: i64::MAX };
        let source = store.tsdb.source(TENANT);
        let count = 200 - usize::from(is_deleted);
        let (mut position, now) = (store.position, Nanos::from_millis(T0));
        for what in ["series", "values"] {
            // Somewhere in the midst of the answer.
            let (charges, tsdb) = (AtomicUsize::new(0), store.tsdb.clone());
            position += 1;
            let taken = Arc::new(AtomicBool::new(false));
            let (telling, at) = (taken.clone(), JournalPosition(position));
            let budget = Budget::unlimited().attempt(u64::MAX, move || {
                if charges.fetch_add(1, Ordering::Relaxed) == 100 {
                    let (tsdb, (tell, told)) = (tsdb.clone(), std::sync::mpsc::channel());
                    std::thread::spawn(move || {
                        tsdb.append(TENANT, at, &batch("m{a=0}", &[(T0 + 1, 1.0)]), now).expect("sound store");
                        let _ = tell.send(());
                    });
                    telling.store(told.recv_timeout(Duration::from_secs(5)).is_ok(), Ordering::Relaxed);
                }
                false
            });
            let found = match what {
                "series" => source.series(std::slice::from_ref(&query), &budget).expect("found").len(),
                _ => source.label_values("a", &query, &budget).expect("found").len(),
            };
            assert_eq!(found, count, "{what}");
            assert!(taken.load(Ordering::Relaxed), "{what}: a batch waited for the whole answer");
        }
    }
}

/// Without a start nothing in memory is past its time all the same: of a million series thirty names are no large answer.
#[test]
fn a_lookup_without_a_start_takes_what_its_answer_takes() {
    let mut store = Store::new();
    let clock = Arc::new(SimClock::at(Nanos::from_millis(T0)));
    let rule = RetentionRule { matchers: vec![matcher(MatchOp::Equal, "env", "dev")], keep: Duration::from_hours(24) };
    store.tsdb.set_retention(RetentionRules::new(vec![rule], Duration::from_hours(24 * 15), clock));
    for at in 0..2000 {
        store.floats(&format!("m{{a={at},env=dev}}"), &[(T0, 1.0)]);
    }
    // Deletes nothing of what is in memory.
    store.delete(vec![matcher(MatchOp::Equal, "env", "dev")], T0 - 1000, T0 - 1);
    let query = SeriesQuery { matchers: vec![], from_ms: i64::MIN, to_ms: i64::MAX };
    let source = store.tsdb.source(TENANT);
    let budget = Budget::new(4000);
    assert_eq!(source.label_names(&query, &budget).expect("small"), ["__name__", "a", "env"]);
    let budget = Budget::new(30_000);
    assert_eq!(source.label_values("env", &query, &budget).expect("small"), ["dev"]);
    // All of them are more than this query may hold: it is told so, whatever of them is in its range.
    let all = SeriesQuery { matchers: vec![matcher(MatchOp::Equal, "env", "dev")], from_ms: T0 + 1, to_ms: T0 + 1 };
    store.floats("m{a=0,env=dev}", &[(T0 + 2, 1.0)]);
    assert!(source.select(&all, &Budget::new(100_000)).is_err());
    assert!(source.select(&all, &Budget::new(400_000)).is_ok());
}

/// Of files with many metrics, a query for one metric reads and keeps what is about that one.
#[test]
fn a_query_keeps_only_what_its_metric_needs() {
    let mut store = Store::new();
    let series_of = |metric: usize, at: i64| {
        (0..600).map(move |instance| SeriesSamples {
            labels: Labels::from_pairs([("__name__", format!("metric_{metric}")), ("instance", format!("10.0.0.{instance}"))]),
            samples: vec![Sample::float(T0 + at * 1000, f64::from(instance))],
            exemplars: vec![],
        })
    };
    for at in 0..4 {
        let series = (0..10).flat_map(|metric| series_of(metric, at)).collect();
        store.append(&MetricBatch { series, metadata: vec![] });
        store.flush();
    }
    store.reopen();
    let cache = |store: &Store| store.tsdb.stats().index_cache_bytes;
    let of_metric = |metric: usize| [matcher(MatchOp::Equal, "__name__", &format!("metric_{metric}"))];
    let first = store.select(&of_metric(3), T0, T0);
    assert_eq!((first.len(), first[0].points.len()), (600, 1));
    let one_file = cache(&store);
    assert_eq!(store.select(&of_metric(3), T0, i64::MAX)[0].points.len(), 4);
    let four_files = cache(&store);
    assert!(four_files < one_file * 2, "files with the same series share them: {one_file} B, then {four_files} B");
    assert_eq!(store.select(&[matcher(MatchOp::Equal, "instance", "10.0.0.7")], T0, i64::MAX).len(), 10);
    let all = cache(&store);
    assert!(all > four_files * 3, "one metric of ten: {four_files} B, all: {all} B");

    store.options.index_cache_bytes = one_file as usize * 2;
    store.reopen();
    assert_eq!(store.select(&[], T0, i64::MAX).len(), 6000, "a small budget costs time, not series");
    assert!(cache(&store) <= one_file * 2);
}

#[test]
fn tenants_do_not_see_each_other() {
    let mut store = Store::new();
    store.floats("m", &[(T0, 1.0)]);
    let other = br_model::TenantId(2);
    store.tsdb.append(other, JournalPosition(9), &batch("m", &[(T0, 2.0)]), Nanos::from_millis(T0)).expect("sound");
    store.flush();
    assert_eq!(store.dump(T0, T0)["m"], [(T0, 1f64.to_bits())]);
    assert_eq!(store.tsdb.tenants(), [TENANT, other]);
}

#[test]
fn a_query_over_its_budget_is_told_so() {
    let mut store = Store::new();
    let samples: Vec<_> = (0..1000).map(|at| (T0 + at, at as f64)).collect();
    store.floats("m", &samples);
    let source = store.tsdb.source(TENANT);
    let budget = Budget::new(1000);
    let query = SeriesQuery { matchers: vec![], from_ms: T0, to_ms: T0 + 1000 };
    let mut cursor = source.select(&query, &budget).expect("small so far");
    assert_eq!(cursor.next_batch().expect_err("too large").kind(), Kind::OverLimit);
}

#[test]
fn series_scraped_together_share_timestamps() {
    let mut store = Store::new();
    for at in 0..20 {
        for series in ["a", "b", "c"] {
            store.floats(series, &[(T0 + at * 15_000, at as f64)]);
        }
        if at % 7 == 0 {
            store.flush();
        }
    }
    let found = store.select(&[], T0, T0 + 20 * 15_000);
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|series| Arc::ptr_eq(&series.points.timestamps_ms, &found[0].points.timestamps_ms)));
}

#[test]
fn known_series_are_taken_by_number_until_their_number_is_another_s() {
    let mut store = Store::with(each_flush_counts(1));
    let now = Nanos::from_millis(T0);
    let (first, second, third) = (T0, T0 + 1000, T0 + 2000);
    let learned = batch("up{job=\"a\"}", &[(first, 1.0)]);
    store
        .tsdb
        .append_learning(TENANT, JournalPosition(1), &learned, Learning { identities: &[77], policy: 0 }, now)
        .expect("taken");
    let handle = store.tsdb.known_series(TENANT).look().find(77).expect("learned");
    assert_eq!(store.tsdb.known_series(TENANT).look().find(78), None);

    let sample = |timestamp_ms, value| KnownSample { series: handle, timestamp_ms, value };
    let samples = [sample(second, 2.0), sample(second, 2.0), sample(second, 9.0)];
    let outcome = store.tsdb.append_known(TENANT, JournalPosition(2), &samples, now).expect("taken").expect("known");
    assert_eq!((outcome.accepted, outcome.repeated, outcome.rejected_count()), (1, 1, 1));
    assert!(outcome.rejected[0].example.contains("up{job=\"a\"}"), "{:?}", outcome.rejected);
    let stored = store.dump(first, third);
    assert_eq!(stored["up{job=\"a\"}"], [(first, 1f64.to_bits()), (second, 2f64.to_bits())]);

    store.position = 2;
    // Gone from the head, and its number with another series: nothing is taken for it.
    for _ in 0..6 {
        store.flush();
    }
    store.append(&batch("up{job=\"b\"}", &[(third, 5.0)]));
    let refused = store.tsdb.append_known(TENANT, JournalPosition(90), &[sample(third, 3.0)], now).expect("whole");
    assert_eq!(refused, None);
    assert_eq!(store.dump(first, third)["up{job=\"b\"}"], [(third, 5f64.to_bits())]);
}

/// What a sender writes is known by its bytes alone, also where another series is expected, and where the series brings more than samples.
#[test]
fn a_request_of_known_series_is_read_without_its_labels() {
    use br_wire::remote_write::v1;
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
    let series = |name: &str, value: f64, rest: &[u8]| {
        let labels = [("__name__", name), ("job", "a")]
            .map(|(name, value)| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()));
        let sample = [&[0x09][..], &value.to_le_bytes(), &[0x10, 5]].concat();
        field(1, &[labels.concat(), field(2, &sample), rest.to_vec()].concat())
    };
    let store = Store::new();
    let now = Nanos::from_millis(5);
    let read = |message: &[u8]| {
        v1::decode_with(message, &br_wire::Limits::default(), &mut store.tsdb.known_series(TENANT).look()).expect("good")
    };
    let names = ["first", "second_with_a_longer_name", "third"];
    let all = names.map(|name| series(name, 1.0, &[])).concat();
    let first = read(&all);
    assert_eq!((first.known.len(), first.decoded.value.series.len()), (0, 3));
    store
        .tsdb
        .append_learning(
            TENANT,
            JournalPosition(1),
            &first.decoded.value,
            Learning { identities: &first.identities, policy: 0 },
            now,
        )
        .expect("taken");
    let numbers =
        |message: &[u8]| read(message).known.iter().map(|sample| (sample.series.number, sample.value)).collect::<Vec<_>>();
    assert_eq!(numbers(&all), [(0, 1.0), (1, 1.0), (2, 1.0)]);
    let shuffled = [series("third", 3.0, &[]), series("first", 4.0, &[]), series("fourth", 5.0, &[])].concat();
    assert_eq!(numbers(&shuffled), [(2, 3.0), (0, 4.0)]);
    // A second sample, and an exemplar: labels of neither are taken for something else.
    let two = field(2, &[&[0x09][..], &7f64.to_le_bytes(), &[0x10, 6]].concat());
    assert_eq!(numbers(&series("first", 6.0, &two)), [(0, 6.0), (0, 7.0)]);
    let whole = read(&series("first", 6.0, &field(3, &[])));
    assert_eq!((whole.known.len(), whole.decoded.value.series[0].labels.to_string()), (0, "first{job=\"a\"}".to_owned()));
}

/// Each look at one of these values takes some ten milliseconds, and there are many of them.
#[test]
fn a_slow_expression_holds_up_nobody_and_ends_when_told() {
    let mut store = Store::new();
    let mut seed = 1_u64;
    let mut random_bits = || -> String {
        let bits = (0..2000).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if seed >> 63 == 0 { '0' } else { '1' }
        });
        bits.collect()
    };
    for _ in 0..100 {
        store.floats(&format!("big{{bits={}}}", random_bits()), &[(T0, 1.0)]);
    }
    let slow = vec![matcher(MatchOp::Regex, "bits", "[01]*1[01]{600}0[01]{600}")];
    for file in [false, true] {
        if file {
            store.flush();
            store.reopen();
        }
        let (budget, source) = (Budget::unlimited(), store.tsdb.source(TENANT));
        let query = SeriesQuery { matchers: slow.clone(), from_ms: T0, to_ms: T0 + 1000 };
        slow[0].prepare(&budget).expect("not too large");
        let compiled_bytes = budget.bytes_used();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| source.select(&query, &budget).map(drop));
            // The first value has been looked at.
            while budget.bytes_used() < compiled_bytes + 3000 && !asked.is_finished() {
                std::thread::yield_now();
            }
            let other = batch("other", &[(T0, 1.0)]);
            store.tsdb.append(TENANT, JournalPosition(9000), &other, Nanos::from_millis(T0)).expect("a sound store");
            assert!(!asked.is_finished(), "who writes does not wait for who asks");
            budget.cancel(br_storage::CancelReason::Deadline);
            let answer = asked.join().expect("no panic");
            assert!(answer.is_err_and(|error| error.message().contains("time limit")));
        });
        assert_eq!(store.select(&[matcher(MatchOp::Equal, "__name__", "other")], T0, T0).len(), 1);
    }
}

#[test]
fn exemplars_are_kept_up_to_their_bytes_and_what_is_too_much_is_counted() {
    let mut store = Store::with(TsdbOptions { exemplar_bytes_max: 100_000, ..TsdbOptions::default() });
    let exemplar = |at: i64| Exemplar {
        labels: Labels::from_pairs([("trace_id", format!("{at:032}"))]),
        value: at as f64,
        timestamp_ms: T0 + at,
    };
    let batch = |count| MetricBatch {
        series: vec![SeriesSamples {
            labels: labels("m{a=1}"),
            samples: vec![Sample::float(T0, 1.0)],
            exemplars: (0..count).map(exemplar).collect(),
        }],
        metadata: vec![],
    };
    let outcome = store.append(&batch(500));
    assert_eq!((outcome.rejected_count(), outcome.refused_exemplars), (0, 0), "{outcome:?}");
    let outcome = store.append(&batch(2000));
    let kept = 2000 - outcome.refused_exemplars;
    assert!((600..1000).contains(&kept), "{kept} of about 136 bytes each");
    assert_eq!(outcome.rejected[0].count, outcome.refused_exemplars);
    assert_eq!((outcome.rejected[0].reason, outcome.refused_samples), (RejectReason::ExemplarLimit, 0));
    let query = SeriesQuery { matchers: Vec::new(), from_ms: i64::MIN, to_ms: i64::MAX };
    let count = |store: &Store| {
        let found = store.tsdb.source(TENANT).exemplars(&query, &Budget::unlimited()).expect("read");
        found.iter().map(|(_, exemplars)| exemplars.len() as u64).sum::<u64>()
    };
    assert_eq!(count(&store), kept);
    for at in 0..8 {
        store.floats("m{a=1}", &[(T0 + 10_000 + at, 1.0)]);
        store.flush();
    }
    assert!(store.compact_all() > 0);
    store.reopen();
    assert_eq!(count(&store), kept, "a merge keeps them");
    assert_eq!(store.tsdb.stats().exemplars_dropped, 0);
}

/// A file is not read to take a sample in: that its time has another value shows when both are merged.
#[test]
fn contradictions_that_a_merge_finds_are_counted() {
    let mut store = Store::new();
    store.floats("m", &[(T0, 1.0), (T0 + 1000, 1.0), (T0 + 60_000, 1.0)]);
    store.flush();
    store.reopen();
    store.floats("m", &[(T0 + 61_000, 1.0)]);
    let outcome = store.floats("m", &[(T0, 2.0), (T0 + 1000, 1.0), (T0 + 2000, 2.0)]);
    assert_eq!(outcome.rejected_count(), 0, "what is in files is not known");
    store.flush();
    for at in 0..8 {
        store.floats("other", &[(T0 + at, 1.0)]);
        store.flush();
    }
    assert_eq!(store.tsdb.tenant_stats(TENANT, 0).contradicted, 0);
    assert!(store.compact_all() > 0);
    assert_eq!(store.tsdb.tenant_stats(TENANT, 0).contradicted, 1, "one has another value, one the same");
    let samples = [(T0, 1.0f64), (T0 + 1000, 1.0), (T0 + 2000, 2.0), (T0 + 60_000, 1.0), (T0 + 61_000, 1.0)];
    assert_eq!(store.dump(i64::MIN, i64::MAX)["m"], samples.map(|(time, value)| (time, value.to_bits())), "the first stays");
}
