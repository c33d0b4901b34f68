//! The life of data: caps on series, deletion, retention by rule.

mod common;

use br_env::Clock;
use br_env::sim::SimClock;
use br_model::{BucketSpan, FloatHistogram, Labels, MetricBatch, Sample, SeriesSamples, TenantId, Value};
use br_std::Nanos;
use br_storage::{Budget, CancelReason, JournalPosition, MatchOp, Matcher, SeriesQuery};
use br_tsdb::{AppendOutcome, BlockStats, Cap, Deletion, Foreseen, RejectReason, RetentionRule, RetentionRules, TsdbOptions};
use common::{Store, T0, TENANT, labels, matcher};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn reason_of(outcome: &AppendOutcome) -> Option<RejectReason> {
    outcome.rejected.first().map(|rejection| rejection.reason)
}

#[test]
fn caps_refuse_new_series_and_name_what_is_full() {
    let options = TsdbOptions {
        series_per_target_max: 2,
        series_per_job_max: 3,
        series_per_metric_max: 4,
        flush_interval: Duration::ZERO,
        idle_flushes_max: 0,
        ..TsdbOptions::default()
    };
    let mut store = Store::with(options);
    for (series, reason, words) in [
        ("a{job=x,instance=1}", None, ""),
        ("b{job=x,instance=1}", None, ""),
        (
            "c{job=x,instance=1}",
            Some(RejectReason::TargetSeriesLimit),
            r#"target {instance="1", job="x"} has 2 active series, and 2"#,
        ),
        ("a{job=x,instance=2}", None, ""),
        ("b{job=x,instance=3}", Some(RejectReason::JobSeriesLimit), r#"job "x" has 3 active series, and 3 are"#),
        ("a{job=y,instance=1}", None, ""),
        ("a{instance=1}", None, ""),
        ("a{job=z}", Some(RejectReason::MetricSeriesLimit), r#"metric "a" has 4 active series, and 4 are"#),
        ("d{job=z}", None, ""),
        // Known ones go on.
        ("a{job=x,instance=1}", None, ""),
        ("b{job=x,instance=1}", None, ""),
    ] {
        store.now_ms += 1000;
        let outcome = store.floats(series, &[(store.now_ms, 1.0)]);
        assert_eq!(reason_of(&outcome), reason, "{series}: {outcome:?}");
        assert_eq!(outcome.accepted, u64::from(reason.is_none()), "{series}");
        assert!(outcome.rejected.iter().all(|rejection| rejection.example.contains(words)), "{outcome:?}");
    }
    store.floats("e{job=x,instance=1}", &[(store.now_ms, 1.0), (store.now_ms + 1, 1.0)]);
    let hits = store.tsdb.tenant_stats(TENANT, 9).cap_hits;
    let target = hits.iter().find(|hit| hit.cap == Cap::Target).expect("the target is named");
    assert_eq!(target.labels, Labels::from_pairs([("job", "x"), ("instance", "1")]));
    assert_eq!((target.series, target.series_max, target.refused_samples), (2, 2, 3));
    assert_eq!(hits.len(), 3);
    // Series that leave make room.
    for _ in 0..4 {
        store.flush();
    }
    assert_eq!(store.tsdb.tenant_stats(TENANT, 9).series, 0);
    assert_eq!(store.floats("e{job=x,instance=1}", &[(store.now_ms + 2, 1.0)]).accepted, 1);
}

/// Flushes that come before their time, for the size of a head or for a deletion of another tenant, leave a series with a long
/// interval where it is; the flushes of ten minutes do not.
#[test]
fn a_series_is_idle_by_time_however_often_is_flushed() {
    let mut store = Store::with(TsdbOptions { series_max: 1, ..TsdbOptions::default() });
    store.floats("slow", &[(T0, 1.0)]);
    store.flush();
    let other = |store: &mut Store, ms: i64| {
        store.now_ms += ms;
        store.position += 1;
        let (position, now) = (JournalPosition(store.position), Nanos::from_millis(store.now_ms));
        let batch = common::batch("busy", &[(store.now_ms, 1.0)]);
        store.tsdb.append(TenantId(2), position, &batch, now).expect("sound store");
        store.flush();
    };
    for _ in 0..50 {
        other(&mut store, 1000);
    }
    assert_eq!(store.tsdb.tenant_stats(TENANT, 1).series, 1, "not a minute has passed");
    let outcome = store.floats("slow", &[(T0, 1.0), (T0 + 1, 2.0)]);
    assert_eq!((outcome.repeated, outcome.accepted), (1, 1), "its newest sample is known");
    for _ in 0..9 * 12 {
        other(&mut store, 5000);
    }
    assert_eq!(store.tsdb.tenant_stats(TENANT, 1).series, 1, "not ten minutes have passed");
    for _ in 0..3 {
        other(&mut store, 60_000);
    }
    assert_eq!(store.tsdb.tenant_stats(TENANT, 1).series, 0);
    // While nothing comes in, the clock goes on.
    let (busy, clock) = (TenantId(2), store.now_ms);
    let quiet = |at_ms| assert!(store.tsdb.seal_at(JournalPosition(store.position), Nanos::from_millis(clock + at_ms)).is_none());
    (0..100).for_each(|at| quiet(at * 100));
    assert_eq!(store.tsdb.tenant_stats(busy, 1).series, 1);
    (0..14).for_each(|at| quiet(at * 60_000));
    assert_eq!(store.tsdb.tenant_stats(busy, 1).series, 0);
    let (from, to) = (T0, T0 + 600_000);
    assert_eq!(store.dump(from, to)["slow"], [(T0, 1f64.to_bits()), (T0 + 1, 2f64.to_bits())], "out of files");
}

/// A file of a sample or two of each series would be all rows.
#[test]
fn a_flush_before_its_time_waits_for_some_samples_of_each_series() {
    let mut store = Store::with(TsdbOptions { head_bytes_wanted: 10_000, ..TsdbOptions::default() });
    let scrape = |store: &mut Store, at: i64| {
        for series in 0..2000 {
            store.floats(&format!("m{{i={series}}}"), &[(T0 + at * 15_000, (series * at) as f64 + 0.1)]);
        }
        store.tsdb.is_flush_wanted()
    };
    let wanted: Vec<bool> = (0..8).map(|at| scrape(&mut store, at)).collect();
    let first = wanted.iter().position(|is_wanted| *is_wanted).expect("wanted at last");
    assert!((2..8).contains(&first), "{wanted:?}");
    store.flush();
    assert!(!scrape(&mut store, 8));
}

/// What is sealed and in no file counts until it is.
#[test]
fn samples_that_no_file_holds_have_a_limit() {
    let mut store = Store::with(TsdbOptions { head_bytes_max: 20_000, ..TsdbOptions::default() });
    let (mut at, mut sealed) = (0, Vec::new());
    while store.tsdb.has_room() {
        at += 1;
        store.floats(&format!("m{{i={at}}}"), &[(T0, 1.0)]);
        if at % 100 == 0 {
            sealed.extend(store.tsdb.seal(JournalPosition(store.position)));
        }
        assert!(at < 5000, "it has an end");
    }
    assert!(sealed.len() > 2, "not by what is open alone");
    store.pending = sealed;
    store.flush();
    assert!(store.tsdb.has_room());
    assert_eq!(store.dump(T0, T0).len(), at);
}

/// In order and late ones.
#[test]
fn large_histograms_count_by_their_buckets() {
    let wide = |count: f64| {
        let histogram = FloatHistogram {
            count,
            positive_spans: vec![BucketSpan { offset: 0, length: 4000 }],
            positive_buckets: vec![count; 4000],
            ..FloatHistogram::default()
        };
        Sample { timestamp_ms: 0, value: Value::Histogram(Arc::new(histogram)), start_ms: None }
    };
    for step_ms in [1000, -1000] {
        let mut store = Store::with(TsdbOptions { head_bytes_max: 1 << 20, ..TsdbOptions::default() });
        let mut count = 0;
        while store.tsdb.has_room() {
            count += 1;
            let sample = Sample { timestamp_ms: T0 + count * step_ms, ..wide(count as f64) };
            let series = SeriesSamples { labels: labels("h"), samples: vec![sample], exemplars: vec![] };
            assert_eq!(store.append(&MetricBatch { series: vec![series], metadata: vec![] }).accepted, 1);
            assert!(count < 40, "40 take more than the megabyte");
        }
        assert!(count > 30, "{count}");
    }
}

/// A target that makes new series with every request fills its own cap: what the others have goes on, and memory stays flat.
#[test]
fn a_bomb_of_new_series_leaves_the_others_whole() {
    let mut store = Store::with(TsdbOptions { series_per_target_max: 1000, ..TsdbOptions::default() });
    let others = |at: i64| {
        let series = (0..200).map(|number| SeriesSamples {
            labels: labels(&format!("requests{{job=shop,instance=i{},code=c{number}}}", number % 10)),
            samples: vec![Sample::float(T0 + at * 1000, at as f64)],
            exemplars: vec![],
        });
        MetricBatch { series: series.collect(), metadata: vec![] }
    };
    let bomb = |at: i64| {
        let series = (0..2000).map(|number| SeriesSamples {
            labels: labels(&format!("requests{{job=shop,instance=bad,user=u{}}}", at * 2000 + number)),
            samples: vec![Sample::float(T0 + at * 1000, 1.0)],
            exemplars: vec![],
        });
        MetricBatch { series: series.collect(), metadata: vec![] }
    };
    let (mut accepted, mut bytes) = (0, Vec::new());
    for at in 0..50 {
        store.now_ms = T0 + at * 1000;
        assert_eq!(store.append(&others(at)).accepted, 200, "round {at}");
        accepted += store.append(&bomb(at)).accepted;
        bytes.push(store.tsdb.tenant_stats(TENANT, 0).registry_bytes);
    }
    let stats = store.tsdb.tenant_stats(TENANT, 3);
    assert_eq!((accepted, stats.series), (1000, 1200));
    assert_eq!(bytes[49], bytes[1], "100 000 series that were refused take nothing");
    assert_eq!(stats.cap_hits[0].refused_samples, 99_000);
    assert_eq!(store.select(&[matcher(MatchOp::NotEqual, "code", "")], T0, T0 + 49_000).len(), 200);
}

#[test]
fn what_is_refused_is_counted_for_a_bounded_number_of_names() {
    let mut store = Store::with(TsdbOptions { series_per_target_max: 1, ..TsdbOptions::default() });
    for at in 0..3000 {
        for metric in ["a", "b"] {
            store.floats(&format!("{metric}{{job=j,instance=i{at}}}"), &[(T0, 1.0)]);
        }
    }
    let stats = store.tsdb.tenant_stats(TENANT, usize::MAX);
    let refused: u64 = stats.cap_hits.iter().map(|hit| hit.refused_samples).sum();
    assert_eq!(refused, 3000);
    assert!(stats.cap_hits.len() <= 1001, "{} names", stats.cap_hits.len());
}

fn of_metric(name: &str) -> Vec<Matcher> {
    vec![matcher(MatchOp::Equal, "__name__", name)]
}

#[test]
fn deleted_series_are_gone_everywhere_and_what_comes_later_stays() {
    let mut store = Store::new();
    let everything = |store: &Store| store.dump(i64::MIN, i64::MAX);
    store.floats("a{x=1}", &[(T0, 1.0), (T0 + 1000, 2.0)]);
    store.floats("b", &[(T0, 5.0)]);
    store.flush();
    store.floats("a{x=1}", &[(T0 + 2000, 3.0)]);
    store.delete(of_metric("a"), i64::MIN, i64::MAX);
    let check_gone = |store: &Store| {
        assert_eq!(everything(store).into_keys().collect::<Vec<_>>(), ["b"]);
        let source = store.tsdb.source(TENANT);
        let query = SeriesQuery { matchers: vec![], from_ms: T0, to_ms: T0 + HOUR };
        let budget = Budget::unlimited();
        assert_eq!(source.series(std::slice::from_ref(&query), &budget).expect("read"), [labels("b")]);
        assert_eq!(source.label_names(&query, &budget).expect("read"), ["__name__"]);
        assert_eq!(source.label_values("__name__", &query, &budget).expect("read"), ["b"]);
    };
    check_gone(&store);
    store.flush();
    check_gone(&store);
    store.reopen();
    check_gone(&store);
    assert!(store.dump_files().contains_key("a{x=\"1\"}"), "in the files still");
    // The same times again, one of them with the value that it had.
    assert_eq!(store.floats("a{x=1}", &[(T0 + 1000, 2.0), (T0 + 2000, 7.0)]).accepted, 2);
    let expect = vec![(T0 + 1000, 2f64.to_bits()), (T0 + 2000, 7f64.to_bits())];
    assert_eq!(everything(&store)["a{x=\"1\"}"], expect);
    store.flush();
    assert_eq!(everything(&store)["a{x=\"1\"}"], expect);
    assert_eq!(store.rewrite_all(), 2, "the file of each flush before the deletion, and not the one after it");
    assert_eq!(everything(&store)["a{x=\"1\"}"], expect);
    assert_eq!(store.dump_files(), everything(&store));
    store.rewrite_all();
    assert!(store.tsdb.tombstones().is_empty(), "carried out");
}

/// Newest samples are compared with those that come again: not with deleted ones.
#[test]
fn a_deleted_sample_may_come_again() {
    let mut store = Store::new();
    for round in 0..3 {
        assert_eq!(store.floats("a", &[(T0, 1.0)]).accepted, 1, "round {round}");
        assert_eq!(store.floats("a", &[(T0 - 5, 1.5)]).accepted, 1, "round {round}, out of order");
        store.delete(of_metric("a"), T0, T0);
        assert_eq!(store.dump(T0, T0).len(), 0);
        if round == 1 {
            store.flush();
        }
        store.delete(of_metric("a"), i64::MIN, i64::MAX);
    }
    assert!(store.dump(i64::MIN, i64::MAX).is_empty());
}

#[test]
fn a_replay_applies_a_deletion_where_it_stood() {
    let mut store = Store::new();
    store.floats("a", &[(T0, 1.0)]);
    store.flush();
    // Position 2 to 4 are lost with the memory and come again from the journal.
    let replay = |store: &mut Store| {
        store.floats("a", &[(T0 + 1000, 2.0)]);
        store.delete(of_metric("a"), i64::MIN, T0 + 5000);
        store.floats("a", &[(T0 + 1500, 3.0)]);
    };
    replay(&mut store);
    let expect = store.dump(i64::MIN, i64::MAX);
    assert_eq!(expect["a"], [(T0 + 1500, 3f64.to_bits())]);
    store.pending.clear();
    store.reopen();
    store.position = 1;
    replay(&mut store);
    assert_eq!(store.dump(i64::MIN, i64::MAX), expect);
    store.flush();
    store.rewrite_all();
    assert_eq!(store.dump_files(), expect);
}

#[test]
fn deletions_that_would_take_everything_are_refused() {
    let deletion = |matchers: Vec<Matcher>, from, to| Deletion::new(vec![matchers], from, to).map(drop);
    assert!(deletion(vec![], 0, 1).is_err());
    assert!(deletion(vec![matcher(MatchOp::Regex, "a", ".*")], 0, 1).is_err());
    assert!(deletion(of_metric("a"), 2, 1).is_err());
    assert!(deletion(vec![matcher(MatchOp::Regex, "a", ".*"), matcher(MatchOp::NotEqual, "b", "")], 0, 1).is_ok());
    assert!(Deletion::decode(b"{}").is_err() && Deletion::decode(&[0xff]).is_err());
    assert!(Deletion::decode(br#"{"version":1,"from_ms":0,"to_ms":1,"selectors":[[["a","=~","("]]]}"#).is_err());
}

fn rule(matchers: Vec<Matcher>, days: u64) -> RetentionRule {
    RetentionRule { matchers, keep: Duration::from_hours(24 * days) }
}

#[test]
fn retention_by_rule_hides_at_once_and_shrinks_files_later() {
    let mut store = Store::new();
    let rules = vec![
        rule(vec![matcher(MatchOp::Equal, "tier", "gold")], 30),
        rule(vec![matcher(MatchOp::Regex, "__name__", "debug_.*")], 3),
    ];
    let clock = Arc::new(SimClock::at(Nanos::from_millis(T0)));
    let rules = RetentionRules::new(rules, Duration::from_hours(24 * 15), clock.clone());
    store.tsdb.set_retention(rules.clone());
    let names = ["debug_a", "debug_a{tier=gold}", "plain", "plain{tier=gold}"];
    for day in 0..4 {
        store.now_ms = T0 + day * DAY + 12 * HOUR;
        for name in names {
            store.floats(name, &[(T0 + day * DAY, day as f64), (store.now_ms, day as f64)]);
        }
        store.flush();
    }
    store.compact_all();
    store.reopen();
    store.tsdb.set_retention(rules);
    let kept = |store: &Store| {
        let found = store.dump(i64::MIN, i64::MAX);
        names.map(|name| found.get(&labels(name).to_string()).map_or(0, Vec::len))
    };
    let samples =
        |store: &Store| -> u64 { store.files.iter().map(|file| BlockStats::of(file).expect("a summary").samples).sum() };
    for (days, expect) in [
        (0, [8, 8, 8, 8]),
        // At the very time it is there still, a moment later it is over.
        (3 * DAY, [8, 8, 8, 8]),
        (3 * DAY + 1, [7, 8, 8, 8]),
        (5 * DAY, [4, 8, 8, 8]),
        (10 * DAY, [0, 8, 8, 8]),
        (16 * DAY + 1, [0, 8, 5, 8]),
        (20 * DAY, [0, 8, 0, 8]),
        (32 * DAY, [0, 4, 0, 4]),
    ] {
        clock.advance(Duration::from_millis((T0 + days - clock.now().as_millis()) as u64));
        assert_eq!(kept(&store), expect, "after {} h", days / HOUR);
        let before = samples(&store);
        let rewritten = store.rewrite_all();
        assert_eq!(kept(&store), expect, "after {} h, written anew", days / HOUR);
        let after = samples(&store);
        assert!(rewritten == 0 || after < before, "{before} samples became {after}");
        assert_eq!(store.rewrite_all(), 0, "once is enough");
    }
    let left = store.dump_files();
    assert!(!left.contains_key("debug_a") && !left.contains_key("plain"), "{:?}", left.keys());
    assert_eq!(left.len(), 2);
}

#[test]
fn what_is_past_its_rule_is_refused_with_the_reason() {
    let mut store = Store::new();
    let clock = Arc::new(SimClock::at(Nanos::from_millis(store.now_ms)));
    let rule = RetentionRule { matchers: vec![matcher(MatchOp::Equal, "__name__", "debug")], keep: Duration::from_hours(1) };
    store.tsdb.set_retention(RetentionRules::new(vec![rule], Duration::from_hours(24), clock));
    let old = store.now_ms - 2 * HOUR;
    let outcome = store.floats("debug", &[(old, 1.0), (store.now_ms, 2.0)]);
    assert_eq!((outcome.accepted, outcome.refused_samples, reason_of(&outcome)), (1, 1, Some(RejectReason::TooOld)));
    assert!(outcome.rejected[0].example.contains("older than the 1h"), "{outcome:?}");
    assert_eq!(store.floats("plain", &[(old, 1.0)]).accepted, 1, "another rule's");
    let too_old = store.tsdb.tenant_stats(TENANT, 0).rejected;
    assert!(too_old.contains(&(RejectReason::TooOld, 1)), "{too_old:?}");
    let kept = store.dump(i64::MIN, i64::MAX);
    assert_eq!((kept.len(), kept.values().map(Vec::len).sum::<usize>()), (2, 2), "{kept:?}");
}

/// Values that this expression takes long to look at.
const SLOW: &str = "[01]*1[01]{600}";

fn series_with_long_values(store: &mut Store, count: usize) {
    for at in 0..count {
        let mut state = at as u64;
        let mut bit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if state >> 63 == 1 { '1' } else { '0' }
        };
        let bits: String = (0..3000).map(|_| bit()).collect();
        store.floats(&format!("slow{{big={bits}}}"), &[(T0, at as f64)]);
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    #[allow(clippy::disallowed_methods, reason = "measures real time")]
    let start = Instant::now();
    let made = work();
    (made, start.elapsed())
}

/// An expression takes its time where nobody waits for it, and never in what the lane does.
#[test]
fn a_slow_deletion_holds_up_no_one() {
    let mut store = Store::new();
    series_with_long_values(&mut store, 6);
    store.floats("slow{big=2}", &[(T0, 7.0)]);
    let slow = |from_ms, to_ms| Deletion::new(vec![vec![matcher(MatchOp::Regex, "big", SLOW)]], from_ms, to_ms).expect("valid");
    let gone = Budget::unlimited();
    gone.cancel(CancelReason::Caller);
    let everything = slow(i64::MIN, i64::MAX);
    assert!(store.tsdb.foresee(TENANT, &everything, &gone).is_err(), "whoever asked may go");
    let (_, asking) = timed(|| store.tsdb.foresee(TENANT, &everything, &Budget::unlimited()).expect("no limit"));
    // As in a replay: nothing is foreseen.
    for deletion in [slow(T0 - 20, T0 - 10), everything] {
        store.position += 1;
        let (position, now) = (JournalPosition(store.position), Nanos::from_millis(T0));
        let (sealed, took) = timed(|| store.tsdb.delete(TENANT, position, deletion, Foreseen::default(), now));
        store.pending.extend(sealed);
        println!("to ask takes {asking:?}, the deletion {took:?}");
        assert!(took * 3 < asking, "everything that comes in waited {took:?}; to ask takes {asking:?}");
    }
    series_with_long_values(&mut store, 6);
    let left = store.dump(i64::MIN, i64::MAX);
    assert_eq!(left.len(), 7, "written again at the time that was deleted");
    assert_eq!(left["slow{big=\"2\"}"], [(T0, 7.0f64.to_bits())], "this one is still there");
}

/// The newest sample may lie in the range though all samples are in files.
#[test]
fn a_deletion_of_what_is_in_files_is_foreseen_too() {
    let mut store = Store::with(TsdbOptions { retained_bytes_max: 0, ..TsdbOptions::default() });
    series_with_long_values(&mut store, 1);
    store.flush();
    let gone = Budget::unlimited();
    gone.cancel(CancelReason::Caller);
    let deletion = |at| Deletion::new(vec![vec![matcher(MatchOp::Regex, "big", SLOW)]], at, at).expect("valid");
    assert!(store.tsdb.foresee(TENANT, &deletion(T0), &gone).is_err(), "the value is asked about");
    assert!(store.tsdb.foresee(TENANT, &deletion(T0 - 1), &gone).is_ok(), "no series has its newest sample there");
}

#[test]
fn what_was_foreseen_of_a_deletion_is_what_it_does() {
    let mut store = Store::new();
    series_with_long_values(&mut store, 3);
    store.floats("slow{big=2}", &[(T0, 7.0)]);
    store.delete(vec![matcher(MatchOp::Regex, "big", "[01]*1[01]*")], T0, T0);
    assert_eq!(store.dump(i64::MIN, i64::MAX).into_keys().collect::<Vec<_>>(), ["slow{big=\"2\"}"]);
    series_with_long_values(&mut store, 3);
    assert_eq!(store.dump(i64::MIN, i64::MAX).len(), 4, "written again at the time that was deleted");
    let outcome = store.floats("slow{big=2}", &[(T0, 8.0)]);
    assert_eq!(outcome.rejected_count(), 1, "this one is still there");
}
