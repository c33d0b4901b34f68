//! Files of logs and spans with damage: nothing panics; while the catalog vouches for a file, each record that is answered is one
//! that was stored, and what is missing is told; and a file that the catalog has lost is described, and read, or refused.
//!
//! The first byte says which file (its lowest bit) and whether the catalog still knows it (the next one). Then comes a list of changes
//! of four bytes each to the sound file, three for the place, counted from the end, and one for the bits. Behind a byte 254 or 255 there
//! is a file as a whole instead, of logs or of spans.
#![no_main]

#[path = "../events.rs"]
mod events;

use br_events::{EventStore, describe};
use br_logql::{Expr, LogExpr, LogOptions, parse, query_log};
use br_storage::{Budget, Direction, FileEntry, SpanParts, SpanQuery, Table, TimeRange};
use events::{TENANT, options};
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutOptions};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

struct Sound {
    entry: FileEntry,
    bytes: Vec<u8>,
    answer: BTreeSet<String>,
}

static SOUND: LazyLock<[Sound; 2]> = LazyLock::new(|| {
    // Panics inside the Parquet reader are caught and told as damage: only those that reach this program count.
    std::panic::set_hook(Box::new(|_| {}));
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let files = events::files(&objects);
    [Table::Logs, Table::Spans].map(|table| {
        let entry = files.iter().find(|file| file.table == table).expect("one of each").clone();
        let bytes =
            block_on(async { objects.get(&Path::from(entry.path.as_str())).await.expect("there").bytes().await.expect("read") });
        let bytes = bytes.to_vec();
        let (answer, is_told) = read(entry.clone(), bytes.clone());
        assert!(answer.len() == 24 && !is_told);
        Sound { entry, bytes, answer }
    })
});

fn put(entry: &FileEntry, bytes: Vec<u8>) -> Arc<dyn ObjectStore> {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    block_on(objects.put_opts(&Path::from(entry.path.as_str()), bytes.into(), PutOptions::default())).expect("in memory");
    objects
}

/// What a new store says of one file, and whether it says that something is amiss.
fn read(mut entry: FileEntry, bytes: Vec<u8>) -> (BTreeSet<String>, bool) {
    entry.size_bytes = bytes.len() as u64;
    let objects = put(&entry, bytes);
    ask(&EventStore::open(vec![entry.clone()], objects, options()), entry.table)
}

fn ask(store: &Arc<EventStore>, table: Table) -> (BTreeSet<String>, bool) {
    let budget = Budget::new(64 << 20);
    let (found, is_whole) = if table == Table::Logs { logs(store, &budget) } else { spans(store, &budget) };
    let is_told = !is_whole || !budget.damage().warnings().is_empty() || !store.counters().damages().is_empty();
    (found, is_told)
}

fn logs(store: &Arc<EventStore>, budget: &Budget) -> (BTreeSet<String>, bool) {
    let (source, mut found, mut is_whole) = (store.logs(TENANT), BTreeSet::new(), true);
    for text in [r#"{zone="eu"}"#, r#"{zone=~".+"} |= " needle ""#, r#"{service_name="shop"} | n="3""#] {
        let log = selector(text);
        for direction in [Direction::Backward, Direction::Forward] {
            let options = LogOptions { range: TimeRange::ALL, direction, limit: 1000, categorize: true };
            let Ok(answer) = query_log(&*source, &log, &options, budget) else {
                is_whole = false;
                continue;
            };
            for stream in answer.streams {
                found.extend(stream.entries.iter().map(|entry| format!("{} {entry:?}", stream.labels)));
            }
        }
    }
    let _ = source.streams(TimeRange::ALL, &[], budget);
    (found, is_whole)
}

fn selector(text: &str) -> LogExpr {
    let Ok(Expr::Log(log)) = parse(text) else { panic!("a selector") };
    log
}

fn spans(store: &Arc<EventStore>, budget: &Budget) -> (BTreeSet<String>, bool) {
    let (source, mut found) = (store.spans(TENANT), BTreeSet::new());
    let query = SpanQuery { range: TimeRange::ALL, hints: Vec::new(), parts: SpanParts::ALL };
    let mut is_whole = false;
    if let Ok(mut cursor) = source.scan(&query, budget) {
        is_whole = loop {
            match cursor.next_batch() {
                Ok(Some(spans)) => found.extend(spans.iter().map(|span| format!("{span:?}"))),
                ended => break ended.is_ok(),
            }
        };
    }
    for number in 1..=6u128 {
        let spans = source.trace(br_model::TraceId(number.to_be_bytes()), None, budget);
        is_whole &= spans.is_ok();
        found.extend(spans.iter().flatten().map(|span| format!("{span:?}")));
    }
    let _ = source.services(TimeRange::ALL, budget);
    let _ = source.operations("shop", TimeRange::ALL, budget);
    (found, is_whole)
}

/// As a server does that has lost its catalog.
fn describe_and_read(entry: &FileEntry, bytes: Vec<u8>) {
    let size_bytes = bytes.len() as u64;
    let objects = put(entry, bytes);
    if let Ok(found) = describe(&objects, &entry.path, size_bytes, &options()) {
        ask(&EventStore::open(vec![found.entry], objects, options()), entry.table);
    }
}

/// Whether all is as it should be.
fn check(input: &[u8]) -> bool {
    let Some((first, changes)) = input.split_first() else { return true };
    let sound = &SOUND[usize::from(first & 1)];
    if *first >= 254 {
        read(sound.entry.clone(), changes.to_vec());
        describe_and_read(&sound.entry, changes.to_vec());
        return true;
    }
    let mut bytes = sound.bytes.clone();
    for change in changes.chunks_exact(4) {
        let place = u32::from_be_bytes([0, change[0], change[1], change[2]]) as usize % bytes.len();
        let from_the_end = bytes.len() - 1 - place;
        bytes[from_the_end] ^= change[3];
    }
    if first & 2 != 0 {
        describe_and_read(&sound.entry, bytes);
        return true;
    }
    let (answer, is_told) = read(sound.entry.clone(), bytes);
    // A checksum of 32 bits is beaten by chance alone in four billion tries, not in these.
    answer.is_subset(&sound.answer) && (answer.len() == sound.answer.len() || is_told)
}

fuzz_target!(|input: &[u8]| {
    let run = std::panic::catch_unwind(|| check(input));
    if !matches!(run, Ok(true)) {
        eprintln!(
            "{}",
            if run.is_err() { "a panic got out" } else { "an answer that was never stored, or less than was, untold" }
        );
        std::process::abort();
    }
});
