//! Samples that stay in memory after their files were written.

mod common;

use br_model::{Exemplar, Labels, MetricBatch, SeriesSamples};
use br_storage::{Budget, MatchOp, SeriesQuery};
use br_tsdb::TsdbOptions;
use common::{Store, T0, TENANT, labels, matcher};
use futures::executor::block_on;
use object_store::ObjectStoreExt;
use object_store::path::Path;

const MINUTE: i64 = 60_000;

/// Without its objects the store has only what is in memory: a query that reads a file finds it damaged.
fn delete_objects(store: &Store) {
    for file in &store.files {
        block_on(store.objects.delete(&Path::from(file.path.as_str()))).expect("deleted");
    }
}

/// A minute of two series, flushed, for each of these minutes.
fn fill(store: &mut Store, minutes: std::ops::Range<i64>) {
    for minute in minutes {
        store.now_ms = T0 + minute * MINUTE;
        for (series, value) in [("m{a=1}", minute as f64), ("m{a=2}", 0.5)] {
            store.floats(series, &[(store.now_ms, value), (store.now_ms + 30_000, value + 0.25)]);
        }
        store.flush();
    }
}

#[test]
fn the_last_minutes_need_no_file() {
    let mut store = Store::new();
    fill(&mut store, 0..20);
    let (from, to) = (T0 + 10 * MINUTE, T0 + 20 * MINUTE);
    let expect = store.dump(from, to);
    assert_eq!(expect["m{a=\"1\"}"].len(), 20);
    delete_objects(&store);
    assert_eq!(store.dump(from, to), expect);
    let source = store.tsdb.source(TENANT);
    let query = |from_ms, to_ms| SeriesQuery { matchers: vec![matcher(MatchOp::Regex, "a", ".+")], from_ms, to_ms };
    let budget = Budget::unlimited();
    assert_eq!(source.series(&[query(from, to)], &budget).expect("read"), [labels("m{a=1}"), labels("m{a=2}")]);
    assert_eq!(source.label_values("a", &query(from, from), &budget).expect("read"), ["1", "2"]);
    assert!(
        source.label_values("a", &query(from + 30_001, from + 59_999), &budget).expect("read").is_empty(),
        "between two flushes"
    );
    assert_eq!(store.tsdb.stats().damaged_files, 0, "no file was asked for");
    assert!(store.dump(T0, to)["m{a=\"1\"}"].len() < 40);
    assert!(store.tsdb.stats().damaged_files > 0, "the files of the first minutes were asked for");
}

#[test]
fn what_is_in_memory_stays_so_when_its_files_are_merged() {
    let mut store = Store::new();
    fill(&mut store, 0..24);
    let expect = store.dump(T0, T0 + 24 * MINUTE);
    assert!(store.compact_all() > 0);
    assert_eq!(store.dump(T0, T0 + 24 * MINUTE), expect, "files and memory together");
    delete_objects(&store);
    let recent = store.dump(T0 + 16 * MINUTE, T0 + 24 * MINUTE);
    assert_eq!(recent["m{a=\"1\"}"], expect["m{a=\"1\"}"][32..]);
    assert_eq!(store.tsdb.stats().damaged_files, 0);
}

#[test]
fn the_oldest_go_beyond_the_budget() {
    let mut store = Store::with(TsdbOptions { retained_bytes_max: 0, ..TsdbOptions::default() });
    fill(&mut store, 0..3);
    assert_eq!(store.tsdb.tenant_stats(TENANT, 1).retained_bytes, 0);
    assert_eq!(store.dump(T0, T0 + 3 * MINUTE)["m{a=\"1\"}"].len(), 6, "out of files");

    let mut store = Store::new();
    fill(&mut store, 0..1);
    let of_one = store.tsdb.tenant_stats(TENANT, 1).retained_bytes;
    assert!(of_one > 0);
    let mut store = Store::with(TsdbOptions { retained_bytes_max: of_one as usize * 3, ..TsdbOptions::default() });
    fill(&mut store, 0..9);
    let retained = store.tsdb.tenant_stats(TENANT, 1).retained_bytes;
    assert!((of_one * 2..=of_one * 3).contains(&retained), "{retained} B, {of_one} B each");
    let expect = store.dump(T0 + 7 * MINUTE, T0 + 9 * MINUTE);
    assert_eq!(store.dump(T0, T0 + 9 * MINUTE)["m{a=\"1\"}"].len(), 18);
    delete_objects(&store);
    assert_eq!(store.dump(T0 + 7 * MINUTE, T0 + 9 * MINUTE), expect);
    assert_eq!(store.tsdb.stats().damaged_files, 0);
}

#[test]
fn exemplars_and_late_samples_are_kept_too() {
    let mut store = Store::new();
    fill(&mut store, 0..2);
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "t")]), value: 0.5, timestamp_ms: T0 + 5 };
    let series = SeriesSamples { labels: labels("m{a=1}"), samples: vec![], exemplars: vec![exemplar.clone()] };
    store.append(&MetricBatch { series: vec![series], metadata: vec![] });
    assert_eq!(store.floats("m{a=1}", &[(T0 + 10_000, 9.0)]).accepted, 1, "late");
    store.flush();
    let expect = store.dump(T0, T0 + 2 * MINUTE);
    let times: Vec<i64> = expect["m{a=\"1\"}"].iter().map(|(time, _)| *time - T0).collect();
    assert_eq!(times, [0, 10_000, 30_000, MINUTE, MINUTE + 30_000]);
    delete_objects(&store);
    assert_eq!(store.dump(T0, T0 + 2 * MINUTE), expect);
    let query = SeriesQuery { matchers: vec![matcher(MatchOp::Equal, "a", "1")], from_ms: T0, to_ms: T0 + 10 };
    let found = store.tsdb.source(TENANT).exemplars(&query, &Budget::unlimited()).expect("read");
    assert_eq!(found, vec![(labels("m{a=1}"), vec![exemplar])]);
    assert_eq!(store.tsdb.stats().damaged_files, 0);
}
