//! Files of metrics with damage: nothing panics, and of what is answered each sample is one that was stored.
//!
//! The input is a list of changes of four bytes each to a sound file, three for the place and one for the bits, or, behind a byte
//! 255, a file as a whole.
#![no_main]

use br_env::sim::Sim;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_std::Nanos;
use br_storage::{Budget, FileEntry, JournalPosition, SeriesQuery, Values};
use br_tsdb::{Tsdb, TsdbOptions};
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutOptions};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const TENANT: TenantId = TenantId(1);
const T0: i64 = 1_700_006_400_000;

type Dump = BTreeMap<String, Vec<(i64, u64)>>;

struct Sound {
    entry: FileEntry,
    bytes: Vec<u8>,
    answer: Dump,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    // Panics inside the Parquet reader are caught and told as damage: only those that reach this program count.
    std::panic::set_hook(Box::new(|_| {}));
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let tsdb = Tsdb::open(Vec::new(), objects.clone(), Sim::new(1).rng.clone(), TsdbOptions::default());
    let series = (0..40).map(|number: i64| {
        let labels = Labels::from_pairs([("__name__", format!("m{}", number % 4)), ("i", number.to_string())]);
        let samples = (0..50).map(|at| Sample::float(T0 + at * 1000, (at * number) as f64 / 7.0)).collect();
        SeriesSamples { labels, samples, exemplars: Vec::new() }
    });
    let batch = MetricBatch { series: series.collect(), metadata: Vec::new() };
    tsdb.append(TENANT, JournalPosition(1), &batch, Nanos::from_millis(T0)).expect("taken in");
    let sealed = tsdb.seal(JournalPosition(1)).expect("something");
    let entry = sealed.write(&objects).expect("written").swap_remove(0);
    let bytes =
        block_on(async { objects.get(&Path::from(entry.path.as_str())).await.expect("there").bytes().await.expect("read") });
    let bytes = bytes.to_vec();
    let answer = dump(entry.clone(), bytes.clone());
    assert_eq!(answer.len(), 40);
    Sound { entry, bytes, answer }
});

/// What a new store says of one file.
fn dump(mut entry: FileEntry, bytes: Vec<u8>) -> Dump {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    entry.size_bytes = bytes.len() as u64;
    block_on(objects.put_opts(&Path::from(entry.path.as_str()), bytes.into(), PutOptions::default())).expect("in memory");
    let source = Tsdb::open(vec![entry], objects, Sim::new(1).rng.clone(), TsdbOptions::default()).source(TENANT);
    let budget = Budget::new(64 << 20);
    let query = SeriesQuery { matchers: Vec::new(), from_ms: i64::MIN, to_ms: i64::MAX };
    let _ = source.series(std::slice::from_ref(&query), &budget);
    let _ = source.metadata(None, &Budget::unlimited());
    let mut found = Dump::new();
    let Ok(mut cursor) = source.select(&query, &budget) else { return found };
    while let Ok(Some(batch)) = cursor.next_batch() {
        for series in batch {
            let times = series.points.timestamps_ms.iter().copied();
            let Values::Floats(values) = &series.points.values else { continue };
            found.insert(series.labels.to_string(), times.zip(values.iter().map(|value| value.to_bits())).collect());
        }
    }
    found
}

fuzz_target!(|input: &[u8]| {
    let sound = &*SOUND;
    let run = std::panic::catch_unwind(|| {
        if let Some((255, file)) = input.split_first() {
            dump(sound.entry.clone(), file.to_vec());
            return true;
        }
        let mut bytes = sound.bytes.clone();
        for change in input.chunks_exact(4) {
            let place = u32::from_be_bytes([0, change[0], change[1], change[2]]) as usize % bytes.len();
            bytes[place] ^= change[3];
        }
        // A checksum of 32 bits is beaten by chance alone in four billion tries, not in these.
        dump(sound.entry.clone(), bytes).iter().all(|(labels, samples)| sound.answer.get(labels) == Some(samples))
    });
    if !matches!(run, Ok(true)) {
        eprintln!("{}", if run.is_err() { "a panic got out" } else { "an answer that was never stored" });
        std::process::abort();
    }
});
