//! Prometheus' files: what is packed comes back, damage is found, and files of the real programs are read.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "the data set lies outside, and a test without it says so")]

use br_model::metrics::{is_stale, stale_nan};
use br_model::{BucketSpan, CounterResetHint, FloatHistogram, Value};
use br_wire::prometheus_tsdb::aggregate::{self, Aggregate};
use br_wire::prometheus_tsdb::chunk::{self, ChunkValues, Encoding};
use br_wire::prometheus_tsdb::index::Index;
use br_wire::prometheus_tsdb::{ReadAt, meta, segment, tombstones, wal};
use proptest::prelude::*;
use std::sync::Arc;

fn histogram(buckets: &[u8], hint: CounterResetHint, has_custom_buckets: bool) -> FloatHistogram {
    let positive: Vec<f64> = buckets.iter().map(|count| f64::from(*count) * 1.5).collect();
    let span = |offset, length: usize| BucketSpan { offset, length: length as u32 };
    let mut made = FloatHistogram {
        counter_reset_hint: hint,
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        zero_count: 2.0,
        count: positive.iter().sum::<f64>() + 2.0,
        sum: -0.25,
        positive_spans: vec![span(-7, 1), span(2, buckets.len() - 1)],
        positive_buckets: positive.clone(),
        negative_spans: vec![span(3, 1)],
        negative_buckets: vec![0.0],
        custom_values: Vec::new(),
    };
    if has_custom_buckets {
        made.schema = br_model::histogram::CUSTOM_BUCKETS_SCHEMA;
        (made.zero_threshold, made.zero_count) = (0.0, 0.0);
        (made.negative_spans, made.negative_buckets) = (Vec::new(), Vec::new());
        made.custom_values = (0..buckets.len()).map(|at| at as f64 * 0.1 - 0.1).collect();
    }
    made
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => prop_oneof![any::<f64>(), (-5i32..5).prop_map(f64::from), Just(stale_nan()), Just(1.0)].prop_map(Value::Float),
        3 => (prop::collection::vec(0u8..3, 2..5), 0u8..4, any::<bool>()).prop_map(|(buckets, hint, custom)| {
            let hints = [CounterResetHint::Unknown, CounterResetHint::Reset, CounterResetHint::NotReset, CounterResetHint::Gauge];
            Value::Histogram(Arc::new(histogram(&buckets, hints[usize::from(hint)], custom)))
        }),
        1 => Just(Value::Histogram(Arc::new(FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() }))),
    ]
}

/// Values by their bits: NaN and -0.0 count. Of a hint only what a reader must not get wrong.
fn seen(value: &Value) -> String {
    match value {
        Value::Float(value) => format!("{:x}", value.to_bits()),
        Value::Histogram(histogram) if is_stale(histogram.sum) => "stale".to_owned(),
        Value::Histogram(histogram) => {
            let is_gauge = histogram.counter_reset_hint == CounterResetHint::Gauge;
            format!("{is_gauge} {:?}", FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..(**histogram).clone() })
        }
    }
}

fn unpack(encoding: Encoding, data: &[u8]) -> Vec<(i64, Value)> {
    let samples = chunk::decode(encoding, data).expect("packed just now");
    let values: Vec<Value> = match samples.values {
        ChunkValues::Floats(values) => values.into_iter().map(Value::Float).collect(),
        ChunkValues::Histograms(values) => values.into_iter().map(Value::Histogram).collect(),
    };
    samples.times_ms.into_iter().zip(values).collect()
}

proptest! {
    #[test]
    fn what_is_packed_comes_back(
        start in -1_000_000_000_000i64..2_000_000_000_000,
        samples in prop::collection::vec((prop_oneof![Just(15_000i64), 1i64..100_000, 1i64..1 << 40], value()), 0..300),
    ) {
        let mut time = start;
        let samples: Vec<(i64, Value)> = samples.into_iter().map(|(step, value)| { time += step; (time, value) }).collect();
        let chunks = chunk::encode(samples.iter().cloned());
        let mut back = Vec::new();
        for chunk in &chunks {
            let samples = unpack(chunk.encoding, &chunk.data);
            prop_assert_eq!((samples[0].0, samples[samples.len() - 1].0), (chunk.min_ms, chunk.max_ms));
            back.extend(samples);
        }
        let shown = |samples: &[(i64, Value)]| -> Vec<(i64, String)> { samples.iter().map(|(time, value)| (*time, seen(value))).collect() };
        prop_assert_eq!(shown(&samples), shown(&back));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for encoding in [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram, Encoding::Xor2] {
            let _ = chunk::decode(encoding, &bytes);
        }
        let _ = aggregate::decode(&bytes);
        let _ = tombstones::parse(&bytes);
        let _ = meta::parse(&bytes);
        let _ = wal::parse(&bytes);
        let _ = wal::Pages::default().read(&bytes, |_, record| wal::parse(record).map(drop));
        let _ = segment::read_chunk(&&bytes[..], 0);
        let _ = Index::open(&bytes[..]);
    }
}

/// A reset inside a run of histograms begins a chunk: a reader takes those of one chunk for one count that grows.
#[test]
fn a_reset_begins_a_chunk() {
    let check = |one: FloatHistogram, two: FloatHistogram, expect: usize| {
        let samples = [(1, Value::Histogram(Arc::new(one))), (2, Value::Histogram(Arc::new(two)))];
        assert_eq!(chunk::encode(samples).len(), expect);
    };
    let unknown = CounterResetHint::Unknown;
    check(histogram(&[1, 2], unknown, false), histogram(&[1, 3], unknown, false), 1);
    check(histogram(&[1, 2], unknown, false), histogram(&[0, 9], unknown, false), 2);
    check(histogram(&[1, 2], unknown, false), histogram(&[1, 3], CounterResetHint::Reset, false), 2);
    check(histogram(&[1, 2], unknown, false), histogram(&[1, 3], unknown, true), 2);
    check(histogram(&[3, 2], CounterResetHint::Gauge, false), histogram(&[1, 3], CounterResetHint::Gauge, false), 1);
}

/// Bytes that Prometheus' own encoder made: two samples of a 1-hour aggregate of Thanos' test block.
#[test]
fn a_chunk_of_aggregates() {
    let Some(folder) = data() else { return };
    let block = folder.join("thanos-snapshot/01KKS78PXE91TK8YX406DERWV2");
    let file = std::fs::read(block.join("chunks/000001")).expect("the data set has it");
    let (encoding, data) = segment::read_chunk(&&file[..], 8).expect("sound");
    assert_eq!(encoding, Encoding::Aggregates);
    let aggregates = aggregate::decode(&data).expect("sound");
    assert_eq!(aggregates.iter().map(|found| found.0).collect::<Vec<_>>(), Aggregate::ALL);
    assert_eq!(aggregates[0].1, [1_735_689_600_000, 1_735_693_200_000]);
    assert_eq!(aggregates.iter().map(|found| found.2[1]).collect::<Vec<_>>(), [60.0, 53700.0, 600.0, 1190.0, 1190.0]);
}

#[test]
fn real_blocks_are_read_and_their_damage_is_found() {
    let Some(folder) = data() else { return };
    for (path, samples) in [
        ("mimir-tsdb/anonymous/01JFJBS3YP1SHZ3PJQ6HK76EC3", 400),
        ("prometheus/snapshots/20250602T205846Z-7e03e43cf46dda03/01JWS713P2E4MQW7T643GYGD69", 2434),
        ("thanos-snapshot/01KKS78P6B68DNJC87ZVPRGC3X", 480),
    ] {
        let block = folder.join(path);
        let read = |name: &str| std::fs::read(block.join(name)).expect("the data set has it");
        let meta = meta::parse(&read("meta.json")).expect("sound");
        assert_eq!(meta.stats.num_samples, samples, "{path}");
        if block.join("tombstones").is_file() {
            assert_eq!(tombstones::parse(&read("tombstones")).expect("sound").len(), 0, "{path}");
        }
        let (index, chunks) = (read("index"), read("chunks/000001"));
        assert_eq!(count_samples(&index, &chunks), Ok(samples as usize), "{path}");
        // Every tenth byte is enough, and each must be noticed or be one that nothing is read from.
        let mut noticed = 0;
        for at in (0..chunks.len()).step_by(chunks.len() / 40) {
            let mut damaged = chunks.clone();
            damaged[at] ^= 0x10;
            match count_samples(&index, &damaged) {
                Err(message) => {
                    assert!(message.contains("byte"), "{message}");
                    noticed += 1;
                }
                Ok(count) => assert!((5..8).contains(&at) && count == samples as usize, "{path}: byte {at} went unnoticed"),
            }
        }
        assert!(noticed > 30);
    }
}

fn count_samples(index: &[u8], chunks: &[u8]) -> Result<usize, String> {
    let text = |error: br_wire::WireError| error.to_string();
    segment::check_header(&chunks).map_err(text)?;
    let index = Index::open(index).map_err(text)?;
    let mut count = 0;
    for (name, postings) in index.metrics() {
        for reference in index.postings(postings).map_err(text)? {
            let series = index.series(reference).map_err(text)?;
            assert_eq!(series.labels.metric_name(), name);
            for place in series.chunks {
                let (encoding, data) = segment::read_chunk(&chunks, u64::from(place.offset)).map_err(text)?;
                let samples = chunk::decode(encoding, &data).map_err(text)?;
                check_packing(encoding, &samples, &data);
                assert_eq!((samples.times_ms.first(), samples.times_ms.last()), (Some(&place.min_ms), Some(&place.max_ms)));
                count += samples.times_ms.len();
            }
        }
    }
    Ok(count)
}

/// Prometheus' encoder and ours write the same bits; older releases put a byte of zeros behind them that nobody reads.
fn check_packing(encoding: Encoding, samples: &chunk::ChunkSamples, data: &[u8]) {
    let ChunkValues::Floats(values) = &samples.values else { return };
    let again = chunk::encode(samples.times_ms.iter().copied().zip(values.iter().copied().map(Value::Float)));
    assert_eq!(encoding, Encoding::Xor);
    assert_eq!(again.len(), 1, "one chunk of at most 120 samples");
    let (bits, padding) = data.split_at_checked(again[0].data.len()).expect("at least as long");
    assert_eq!(again[0].data, bits, "other bits than Prometheus'");
    assert!(padding.is_empty() || padding == [0], "{padding:?}");
}

/// Where the blocks of real programs are, where they are at all.
fn data() -> Option<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/metrics/victoriametrics");
    let folder = root.join("apptest/tests/testdata");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn reading_stays_within_the_file() {
    let mut buffer = [0; 4];
    assert!((&[1u8, 2, 3][..]).read_exact_at(0, &mut buffer).is_err());
    assert!((&[1u8, 2, 3, 4][..]).read_exact_at(u64::MAX, &mut buffer).is_err());
}
