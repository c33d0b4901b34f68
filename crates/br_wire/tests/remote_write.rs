//! Remote write: what is kept, what is rejected and why, and the round trip of 2.0.

use br_model::{
    BucketSpan, CounterResetHint, Exemplar, FloatHistogram, KnownSeries, Labels, Metadata, MetricBatch, MetricType, Sample,
    SeriesHandle, SeriesSamples, Value, stale_nan,
};
use br_wire::Limits;
use br_wire::remote_write::{self, Version, Written, v1, v2};
use proptest::prelude::*;
use std::sync::Arc;

/// A field with bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    br_std::varint::put_u64(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn v1_series(labels: &[(&[u8], &[u8])], value: f64, timestamp_ms: u8) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        series.extend(field(1, &[field(1, name), field(2, value)].concat()));
    }
    let mut sample = vec![0x09];
    sample.extend(value.to_le_bytes());
    sample.extend([0x10, timestamp_ms]);
    series.extend(field(2, &sample));
    field(1, &series)
}

#[test]
fn bad_series_are_rejected_one_by_one() {
    let good: &[(&[u8], &[u8])] = &[(b"__name__", b"up"), (b"job", b"a")];
    let message = [
        v1_series(good, 1.0, 5),
        v1_series(&[(b"job", b"a")], 1.0, 5),
        v1_series(&[(b"job", b"b"), (b"__name__", b"up")], 2.0, 6),
        v1_series(&[(b"__name__", b"up"), (b"a", b"1"), (b"a", b"2")], 1.0, 5),
        v1_series(&[(b"__name__", b"up"), (b"a", b"\xff")], 1.0, 5),
        v1_series(&[(b"__name__", b"up"), (b"", b"1")], 1.0, 5),
    ]
    .concat();
    let decoded = v1::decode(&message, &Limits::default()).expect("a message");
    let kept: Vec<String> = decoded.value.series.iter().map(|series| series.labels.to_string()).collect();
    assert_eq!(kept, ["up{job=\"a\"}", "up{job=\"b\"}"], "out of order is put in order");
    let reasons: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        [
            "1: no metric name (label __name__) in {job=\"a\"}",
            "3: label \"a\" stands twice in {__name__=\"up\", a=\"1\", a=\"2\"}",
            "4: a label is not valid UTF-8",
            "5: a label without a name",
        ]
    );
    assert_eq!(decoded.rejected_count, 4);
    assert!(v1::decode(&message[..message.len() - 1], &Limits::default()).is_err(), "cut");
}

/// The store finds a series by its labels and by what a sender writes for them: both are one hash.
#[test]
fn identities_are_the_hash_of_sorted_labels_as_they_are_written() {
    let long = "x".repeat(300);
    let labels: &[(&[u8], &[u8])] = &[(b"__name__", "größe".as_bytes()), (b"job", b"a"), (b"path", long.as_bytes())];
    let series = [v1_series(labels, 1.0, 5), v1_series(&[(b"job", b"1"), (b"__name__", b"up")], 2.0, 5)].concat();
    let read = v1::decode_with(&series, &Limits::default(), &mut ()).expect("good");
    let hashes: Vec<u128> =
        read.decoded.value.series.iter().map(|series| series.labels.wire_hash_with(&mut Vec::new())).collect();
    assert_eq!(read.identities[0], hashes[0]);
    assert_ne!(read.identities[1], hashes[1], "written out of order");
}

/// Knows every series that was asked for before.
#[derive(Default)]
struct Directory(Vec<u128>);

impl KnownSeries for Directory {
    fn find(&mut self, identity: u128) -> Option<SeriesHandle> {
        let at = self.0.iter().position(|known| *known == identity);
        if at.is_none() {
            self.0.push(identity);
        }
        at.map(|at| SeriesHandle { number: at as u32, generation: 0 })
    }
}

#[test]
fn labels_of_known_series_are_not_read() {
    let labels: &[(&[u8], &[u8])] = &[(b"__name__", b"up"), (b"job", b"a")];
    let plain = [v1_series(labels, 1.0, 5), v1_series(&[(b"__name__", b"other")], 2.0, 5)].concat();
    let mut directory = Directory::default();
    let decode =
        |message: &[u8], directory: &mut Directory| v1::decode_with(message, &Limits::default(), directory).expect("good");
    let first = decode(&plain, &mut directory);
    assert_eq!((first.decoded.value.series.len(), first.known.len()), (2, 0));
    assert_eq!(first.identities, directory.0);
    let again = decode(&[v1_series(&[(b"__name__", b"other")], 3.0, 6), v1_series(labels, 4.0, 7)].concat(), &mut directory);
    let known: Vec<_> = again.known.iter().map(|sample| (sample.series.number, sample.timestamp_ms, sample.value)).collect();
    assert_eq!((again.decoded.value.series.len(), known), (0, vec![(1, 6, 3.0), (0, 7, 4.0)]));

    // What holds more than float samples is read in full, and a broken sample is found in either case.
    let series = &v1_series(labels, 1.0, 5)[2..];
    let with_exemplar = field(1, &[series, &field(3, &[])].concat());
    let read = decode(&with_exemplar, &mut directory);
    assert_eq!((read.decoded.value.series.len(), read.known.len(), read.identities.len()), (1, 0, 1));
    let broken = field(1, &[series, &field(2, &[0x09, 1])].concat());
    assert!(v1::decode_with(&broken, &Limits::default(), &mut directory).is_err());
}

#[test]
fn content_types_and_encodings() {
    for (content_type, expect) in [
        ("application/x-protobuf", Some(Version::V1)),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Version::V1)),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(Version::V2)),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
        ("text/plain", None),
    ] {
        assert_eq!(Version::from_content_type(content_type).ok(), expect, "{content_type}");
    }
    let body = v2::encode(&batch());
    let decode = |encoding| remote_write::decode(&body, v2::CONTENT_TYPE, encoding, &Limits::default());
    assert_eq!(decode("snappy").expect("valid").value, batch());
    assert_eq!(decode("").expect("valid").value, batch());
    assert_eq!(decode("zip").expect_err("unknown").http_status(), 415);
    assert_eq!(decode("gzip").expect_err("not gzip").http_status(), 400);
}

fn batch() -> MetricBatch {
    let histogram = FloatHistogram {
        counter_reset_hint: CounterResetHint::NotReset,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 1.0,
        count: 6.0,
        sum: -2.5,
        positive_spans: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 4, length: 1 }],
        positive_buckets: vec![1.0, 2.0, 0.5],
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        negative_buckets: vec![1.5],
        custom_values: Vec::new(),
    };
    let custom = FloatHistogram {
        schema: -53,
        count: 3.0,
        sum: 4.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 1.0, 1.0],
        custom_values: vec![0.5, 1.0],
        ..FloatHistogram::default()
    };
    let sample = |timestamp_ms, value, start_ms| Sample { timestamp_ms, value, start_ms };
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "abc")]), value: 0.25, timestamp_ms: -7 };
    MetricBatch {
        series: vec![
            SeriesSamples {
                labels: Labels::from_pairs([("__name__", "jobs_total"), ("job", "a")]),
                samples: vec![sample(1, Value::Float(-0.0), Some(-5)), sample(-2, Value::Float(f64::INFINITY), None)],
                exemplars: vec![exemplar],
            },
            SeriesSamples {
                labels: Labels::from_pairs([("__name__", "latency")]),
                samples: vec![
                    sample(1, Value::Histogram(Arc::new(histogram)), Some(9)),
                    sample(2, Value::Float(1.0), None),
                    sample(3, Value::Histogram(Arc::new(custom)), None),
                ],
                exemplars: Vec::new(),
            },
        ],
        metadata: vec![(
            "jobs_total".into(),
            Metadata { metric_type: MetricType::Counter, help: "Jobs.".into(), unit: String::new() },
        )],
    }
}

#[test]
fn version_2_round_trips_everything() {
    let decoded = v2::decode(&v2::encode_message(&batch()), &Limits::default()).expect("valid");
    assert_eq!((decoded.value, decoded.rejected_count), (batch(), 0));
    let written = Written::of(&batch());
    assert_eq!(written, Written { samples: 3, histograms: 2, exemplars: 1 });
    assert_eq!(written.headers()[1].1, "2");
}

#[test]
fn staleness_keeps_its_bits() {
    let labels = Labels::from_pairs([("__name__", "up")]);
    let series = SeriesSamples { labels, samples: vec![Sample::float(1, stale_nan())], exemplars: Vec::new() };
    let message = v2::encode_message(&MetricBatch { series: vec![series], metadata: Vec::new() });
    let decoded = v2::decode(&message, &Limits::default()).expect("valid").value;
    assert!(decoded.series[0].samples[0].value.is_stale());
}

#[test]
fn whole_counts_add_up() {
    let whole = |count: u8, sum: f64| {
        // Field 1 is the whole count, 3 the sum, 11 a span of two buckets, 12 the deltas 1 and 1, 15 the time.
        let mut message = vec![0x08, count, 0x19];
        message.extend(sum.to_le_bytes());
        message.extend([0x5a, 4, 0x08, 0, 0x10, 2, 0x62, 2, 2, 2, 0x78, 5]);
        let series = [field(1, &[field(1, b"__name__"), field(2, b"h")].concat()), field(4, &message)].concat();
        v1::decode(&field(1, &series), &Limits::default()).expect("a message")
    };
    for (count, sum, is_right) in [(3, 1.5, true), (4, 1.5, false), (2, 1.5, false), (4, f64::NAN, true), (2, f64::NAN, false)] {
        let decoded = whole(count, sum);
        let reasons: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
        assert_eq!(reasons.is_empty(), is_right, "{count} {sum}: {reasons:?}");
        assert!(
            is_right || reasons[0].contains(&format!("3 observations in the buckets, the count says {count}")),
            "{reasons:?}"
        );
    }
}

#[test]
fn histograms_that_make_no_sense_leave_the_rest() {
    // A delta bucket without a span.
    let histogram = field(3, &[0x62, 1, 2]);
    let mut message = field(4, b"");
    message.extend(field(4, b"__name__"));
    message.extend(field(4, b"h"));
    message.extend(field(5, &[field(1, &[1, 2]), histogram, field(2, &[0x10, 7])].concat()));
    message.extend(field(5, &[field(1, &[1, 9]), field(2, &[0x10, 7])].concat()));
    let decoded = v2::decode(&message, &Limits::default()).expect("valid");
    assert_eq!(decoded.value.series.len(), 1);
    let reasons: Vec<String> = decoded.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        ["0: histogram: positive side: the spans cover 0 buckets, 1 are sent", "1: symbol 9 is not in the table of 3"]
    );
}

proptest! {
    #[test]
    fn any_float_batch_round_trips(
        series in prop::collection::vec((
            prop::collection::btree_map("[a-z]{1,4}", "\\PC{1,6}", 0..5),
            prop::collection::vec((any::<i64>(), any::<u64>(), prop::option::of(1..i64::MAX)), 1..5),
        ), 0..8)
    ) {
        let series = series.into_iter().map(|(labels, samples)| SeriesSamples {
            labels: Labels::from_pairs(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain([("__name__", "m")])),
            samples: samples.into_iter().map(|(timestamp_ms, bits, start_ms)| Sample { timestamp_ms, value: Value::Float(f64::from_bits(bits)), start_ms }).collect(),
            exemplars: Vec::new(),
        });
        let batch = MetricBatch { series: series.collect(), metadata: Vec::new() };
        let decoded = v2::decode(&v2::encode_message(&batch), &Limits::default()).expect("valid").value;
        // NaN is not equal to itself: the bits are compared.
        prop_assert_eq!(bits(&decoded), bits(&batch));
    }
}

type Bits = (i64, u64, Option<i64>);

fn bits(batch: &MetricBatch) -> Vec<(Labels, Vec<Bits>)> {
    let sample = |sample: &Sample| match &sample.value {
        Value::Float(value) => (sample.timestamp_ms, value.to_bits(), sample.start_ms),
        Value::Histogram(_) => (sample.timestamp_ms, 0, sample.start_ms),
    };
    batch.series.iter().map(|series| (series.labels.clone(), series.samples.iter().map(sample).collect())).collect()
}

/// A bucket may be a byte of the message, and is eight in memory.
#[test]
fn buckets_take_a_bounded_room() {
    let histogram = FloatHistogram {
        schema: 0,
        count: 600.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 600 }],
        positive_buckets: vec![1.0; 600],
        ..FloatHistogram::default()
    };
    let sample = |timestamp_ms| Sample { timestamp_ms, value: Value::Histogram(Arc::new(histogram.clone())), start_ms: None };
    let labels = Labels::from_pairs([("__name__", "m")]);
    let series = vec![SeriesSamples { labels, samples: vec![sample(1), sample(2)], exemplars: Vec::new() }];
    let message = v2::encode_message(&MetricBatch { series, metadata: Vec::new() });
    let decode = |buckets: usize| v2::decode(&message, &Limits { decoded_bytes_max: 8 * buckets, ..Limits::default() });
    assert!(decode(1300).is_ok());
    let error = decode(1000).expect_err("twice 600 and their spans").to_string();
    assert!(error.contains("more than 1000 buckets of native histograms in one request"), "{error}");

    let many = [field(12, &vec![0; 1 << 20]), vec![0x78, 5]].concat();
    let message = field(1, &[field(1, &[field(1, b"__name__"), field(2, b"m")].concat()), field(4, &many)].concat());
    let decoded = v1::decode(&message, &Limits::default()).expect("a message");
    assert!(decoded.value.series.is_empty() && decoded.rejected[0].reason.contains("16385 buckets"), "{:?}", decoded.rejected);
}

/// A symbol is sent once and may be named by any number of exemplars and families, each of which would copy it.
#[test]
fn a_symbol_that_many_name_is_not_copied_for_each() {
    let message = |symbol_bytes: usize, series: usize| {
        let long = vec![b'h'; symbol_bytes];
        let mut message: Vec<u8> = [&b""[..], b"__name__", b"m", &long].iter().flat_map(|symbol| field(4, symbol)).collect();
        let sample = [&[0x09][..], &1.0f64.to_le_bytes(), &[0x10, 5]].concat();
        let exemplar = field(1, &[1, 3]);
        let one = [field(1, &[1, 2]), field(2, &sample), field(4, &exemplar), field(5, &[0x08, 1, 0x18, 3])].concat();
        message.extend((0..series).flat_map(|_| field(5, &one)));
        message
    };
    let decoded = v2::decode(&message(1 << 20, 1000), &Limits::default()).expect("the samples are good");
    assert_eq!((decoded.value.series.len(), decoded.value.metadata.len()), (1000, 0));
    assert!(decoded.value.series.iter().all(|series| series.exemplars.is_empty()));
    assert!(decoded.rejected[0].reason.contains("its texts take 1048"), "{}", decoded.rejected[0].reason);
    let limits = Limits { decoded_bytes_max: 1 << 20, ..Limits::default() };
    let error = v2::decode(&message(4000, 1000), &limits).expect_err("8 MB of copies").to_string();
    assert!(error.contains("bytes of exemplars and metadata"), "{error}");
    assert!(v2::decode(&message(4000, 100), &limits).is_ok());
}
