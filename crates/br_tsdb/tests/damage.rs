//! Bytes that flip on the disk: found, counted, left out, and the rest answers.

mod common;

use br_env::Rng;
use common::{Store, T0};
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
    let job = store.tsdb.plan_compaction().expect("ten files");
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
