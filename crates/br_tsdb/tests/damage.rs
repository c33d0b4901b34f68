//! Bytes that flip on the disk: found, counted, left out, and the rest answers.

mod common;

use br_env::Rng;
use br_std::Nanos;
use br_storage::{Budget, SeriesQuery};
use common::{Store, T0, TENANT};
use futures::executor::block_on;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutOptions};

fn read(store: &Store, path: &str) -> Vec<u8> {
    block_on(async {
        let object = store.objects.get(&Path::from(path)).await.expect("there");
        object.bytes().await.expect("read").to_vec()
    })
}

fn write(store: &Store, path: &str, bytes: Vec<u8>) {
    block_on(store.objects.put_opts(&Path::from(path), bytes.into(), PutOptions::default())).expect("written");
}

fn filled() -> Store {
    let mut store = Store::new();
    for part in 0..2 {
        for series in 0..40 {
            let samples: Vec<_> = (0..50).map(|at| (T0 + part * 60_000 + at * 1000, (at * series) as f64 / 7.0)).collect();
            store.floats(&format!("m{part}{{i={series}}}"), &samples);
        }
        store.flush();
    }
    store
}

/// A flipped bit changes no answer unnoticed: each sample that is answered is one that was stored.
#[test]
fn a_flipped_bit_is_found() {
    let mut store = filled();
    let expect = store.dump(i64::MIN, i64::MAX);
    let path = store.files[0].path.clone();
    let bytes = read(&store, &path);
    let (mut found, mut unchanged) = (0, 0);
    for round in 0..400u64 {
        let bit = store.sim.rng.below(bytes.len() as u64 * 8);
        let mut damaged = bytes.clone();
        damaged[bit as usize / 8] ^= 1 << (bit % 8);
        write(&store, &path, damaged);
        store.reopen();
        let answer = store.dump(i64::MIN, i64::MAX);
        for (series, samples) in &answer {
            assert_eq!(samples, &expect[series], "round {round}, bit {bit}, {series}");
        }
        let untouched = answer.keys().filter(|series| series.starts_with("m1")).count();
        assert_eq!(untouched, 40, "the other file answers");
        let stats = store.tsdb.stats();
        let is_reported = stats.damaged_files + stats.damaged_chunks > 0;
        assert!(is_reported || answer == expect, "round {round}, bit {bit}: something is missing and nobody says so");
        if is_reported { found += 1 } else { unchanged += 1 }
    }
    assert!(found > 200, "{found} found, {unchanged} without effect");
}

#[test]
fn a_cut_or_missing_file_is_set_aside_and_compaction_goes_on_without_it() {
    let mut store = filled();
    for at in 0..8 {
        store.floats("later", &[(T0 + 200_000 + at, 1.0)]);
        store.flush();
    }
    let expect = store.dump(i64::MIN, i64::MAX);
    let bytes = read(&store, &store.files[0].path);
    write(&store, &store.files[0].path, bytes[..bytes.len() / 2].to_vec());
    block_on(store.objects.delete(&Path::from(store.files[1].path.as_str()))).expect("deleted");
    store.reopen();
    let job = store.tsdb.plan_compaction(Nanos::MAX).expect("ten files");
    let error = store.tsdb.compact(&job).expect_err("the first input is cut");
    assert!(error.message().contains(&store.files[0].path), "{error}");
    assert_eq!(store.dump(i64::MIN, i64::MAX).len(), 1);
    assert_eq!(store.tsdb.damaged_files().len(), 2);
    store.compact_all();
    assert_eq!(store.dump(i64::MIN, i64::MAX)["later"], expect["later"]);
}

#[test]
fn a_summary_that_is_no_json_is_damage_of_one_file() {
    let mut store = filled();
    store.files[0].stats = "{".to_owned();
    store.reopen();
    assert_eq!(store.dump(i64::MIN, i64::MAX).len(), 40);
    assert_eq!(store.tsdb.stats().damaged_files, 1);
}

/// What a query over everything is told, and how many series it finds.
fn ask(store: &Store) -> (Vec<String>, usize) {
    let budget = Budget::unlimited();
    let source = store.tsdb.source(TENANT);
    let query = SeriesQuery { matchers: Vec::new(), from_ms: i64::MIN, to_ms: i64::MAX };
    let mut cursor = source.select(&query, &budget).expect("selected");
    let mut count = 0;
    while let Some(batch) = cursor.next_batch().expect("read") {
        count += batch.len();
    }
    drop(cursor);
    (budget.damage().warnings(), count)
}

#[test]
fn a_damaged_chunk_is_told_to_who_asks_and_costs_nothing_but_itself() {
    let mut store = filled();
    for at in 0..8 {
        store.floats("later", &[(T0 + 200_000 + at, 1.0)]);
        store.flush();
    }
    let path = store.files[0].path.clone();
    let bytes = read(&store, &path);
    // Somewhere in it lies a chunk.
    let mut is_of_a_chunk = |place: &usize| {
        let mut damaged = bytes.clone();
        damaged[*place] ^= 0x55;
        write(&store, &path, damaged);
        store.reopen();
        ask(&store);
        let stats = store.tsdb.stats();
        (stats.damaged_files, stats.damaged_chunks) == (0, 1)
    };
    (0..bytes.len()).step_by(37).find(|place| is_of_a_chunk(place)).expect("most bytes are of chunks");
    store.reopen();
    for _ in 0..2 {
        let (warnings, count) = ask(&store);
        assert_eq!(count, 80, "of 81");
        assert_eq!(warnings, [format!("1 chunk of {path} is damaged: the answer lacks its samples")]);
    }
    assert_eq!(store.tsdb.stats().damaged_chunks, 1, "counted once");
    assert_eq!(store.tsdb.damaged_chunks()[0].rows.len(), 1);

    // A merge finds it first.
    store.reopen();
    let job = store.tsdb.plan_compaction(Nanos::MAX).expect("ten files");
    let error = store.tsdb.compact(&job).expect_err("a merge loses nothing silently");
    assert!(error.message().contains(&path), "{error}");
    assert_eq!(store.tsdb.damaged_files().len(), 1);
    assert_eq!(ask(&store).1, 80, "what is sound of it answers");
    assert!(store.compact_all() > 0);
    assert_eq!(ask(&store).1, 80);
    assert!(store.files.iter().any(|file| file.path == path));

    write(&store, &path, vec![0; store.files.iter().find(|file| file.path == path).expect("listed").size_bytes as usize]);
    store.reopen();
    let (warnings, count) = ask(&store);
    assert_eq!((warnings, count), (vec![format!("{path} is damaged: the answer lacks what it holds")], 41));
}
