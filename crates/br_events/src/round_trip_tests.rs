//! Random records through columns, files and back.

use crate::counters::EventCounters;
use crate::logs_codec::{LogReader, encode_logs};
use crate::options::RecordLimits;
use crate::origin::Origin;
use crate::promote::{Promotion, Widener, count_keys, narrow};
use crate::spans_codec::{SpanReader, encode_spans};
use crate::stored::{from_stored, to_stored};
use arrow::array::RecordBatch;
use br_model::*;
use br_std::Nanos;
use br_storage::SpanParts;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        ".{0,8}".prop_map(AttributeValue::String),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<i64>().prop_map(AttributeValue::Int),
        (any::<i32>(), 1..100i32).prop_map(|(over, under)| AttributeValue::Double(f64::from(over) / f64::from(under))),
        Just(AttributeValue::Double(f64::NEG_INFINITY)),
        Just(AttributeValue::Double(-0.0)),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(AttributeValue::Bytes),
        Just(AttributeValue::Empty),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(AttributeValue::Array),
            attributes_of(inner).prop_map(AttributeValue::Map),
        ]
    })
}

/// Few keys, so that they repeat within and between records and clash in type.
fn attributes_of(value: impl Strategy<Value = AttributeValue>) -> impl Strategy<Value = Attributes> {
    let key = prop_oneof![Just("a"), Just("b.c"), Just("$bytes"), Just("d:e"), Just("é"), Just("")];
    prop::collection::vec((key.prop_map(str::to_owned), value), 0..6).prop_map(Attributes)
}

fn record() -> impl Strategy<Value = LogRecord> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 8]>());
    let error = prop::option::of((".{0,5}", any::<Option<bool>>(), any::<u32>()));
    (any::<i64>(), any::<i64>(), 0..30u8, ".{0,20}", attributes_of(value()), ids, error).prop_map(
        |(timestamp, observed, severity, body, attributes, (trace_id, span_id), error)| LogRecord {
            timestamp: Nanos(timestamp),
            observed: Nanos(observed),
            kind: if error.is_some() { LogKind::Error } else { LogKind::Event },
            severity: Severity(severity),
            severity_text: body.chars().take(2).collect(),
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            error: error.map(|(text, handled, line)| {
                let frame = Frame { function: text.clone(), path: text.clone(), line, in_app: true, ..Frame::default() };
                let exception = Exception {
                    exception_type: text.clone(),
                    is_group: line.is_multiple_of(2),
                    frames: vec![frame],
                    ..Exception::default()
                };
                Box::new(ErrorEvent {
                    exceptions: vec![exception],
                    message_template: text.clone(),
                    handled,
                    raw: format!("{{{text}"),
                    ..ErrorEvent::default()
                })
            }),
            body,
            attributes,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 8]>());
    (any::<i64>(), any::<i64>(), 0..6i32, ".{0,9}", attributes_of(value()), attributes_of(value()), ids).prop_map(
        |(start, end, kind, name, attributes, child, (trace_id, span_id))| Span {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            name: name.clone(),
            kind: SpanKind::from_number(kind),
            status: SpanStatus::from_number(kind / 2),
            start: Nanos(start),
            end: Nanos(end),
            events: vec![SpanEvent { timestamp: Nanos(end), name, attributes: child.clone() }; kind as usize % 3],
            links: vec![SpanLink { trace_id: TraceId(trace_id), span_id: SpanId([0; 8]), attributes: child }; kind as usize % 2],
            attributes,
            ..Span::default()
        },
    )
}

/// As it comes back from a file.
fn through_a_file(narrow: &RecordBatch) -> RecordBatch {
    let keys = count_keys(std::slice::from_ref(narrow)).expect("keys");
    let wide = Widener::new(Promotion::choose(&keys, narrow.num_rows(), 3)).widen(narrow).expect("widen");
    from_stored(&to_stored(&wide).expect("stored")).expect("read back")
}

/// Attributes are a set: a file keeps the order only of those that have one key.
fn by_key(attributes: &Attributes) -> Attributes {
    let mut sorted = attributes.clone();
    sorted.0.sort_by(|(key, _), (other, _)| key.cmp(other));
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn log_records_come_back_as_they_went_in(records in prop::collection::vec(record(), 1..40), attributes in attributes_of(value())) {
        let (resource, scope) = (Resource { attributes: attributes.clone() }, Scope { name: "lib".into(), version: "1".into(), attributes });
        let rows: Vec<(usize, &LogRecord)> = records.iter().map(|record| (0, record)).collect();
        let origins = [Origin::new(&resource, &scope)];
        let batch = encode_logs(&rows, &origins, &RecordLimits::default(), &EventCounters::default()).expect("encode");
        let wide = through_a_file(&batch);
        for read in [&batch, &wide, &narrow(&wide).expect("narrow")] {
            let mut reader = LogReader::new(read).expect("columns");
            for (row, record) in records.iter().enumerate() {
                let (read_resource, read_scope, read_record) = reader.record(row).expect("row");
                prop_assert_eq!(&*read_resource, &resource);
                prop_assert_eq!(&*read_scope, &scope);
                let sorted = |record: &LogRecord| LogRecord { attributes: by_key(&record.attributes), ..record.clone() };
                prop_assert_eq!(sorted(&read_record), sorted(record));
            }
        }
    }

    #[test]
    fn spans_come_back_as_they_went_in(spans in prop::collection::vec(span(), 1..30)) {
        let rows: Vec<(usize, &Span)> = spans.iter().map(|span| (0, span)).collect();
        let origins = [Origin::new(&Resource::default(), &Scope::default())];
        let batch = encode_spans(&rows, &origins, &RecordLimits::default(), &EventCounters::default()).expect("encode");
        let wide = through_a_file(&batch);
        let mut reader = SpanReader::new(&wide, &SpanParts::ALL).expect("columns");
        for (row, span) in spans.iter().enumerate() {
            let sorted = |span: &Span| Span { attributes: by_key(&span.attributes), ..span.clone() };
            prop_assert_eq!(sorted(&reader.span(row).expect("row").span), sorted(span));
        }
        // Parts are the same for whoever asks for less.
        let parts = SpanParts { keys: Some(vec!["a".into()]), events: true, ..SpanParts::NONE };
        for (read, name) in [(&batch, "narrow"), (&wide, "wide")] {
            let mut reader = SpanReader::new(read, &parts).expect("columns");
            for (row, span) in spans.iter().enumerate() {
                let part = reader.span(row).expect("row").span;
                let sorted = |span: &Span| {
                    let mut values: Vec<String> =
                        span.attributes.iter().filter(|(key, _)| key == "a").map(|(_, value)| format!("{value:?}")).collect();
                    values.sort();
                    values
                };
                prop_assert_eq!(sorted(&part), sorted(span), "{}", name);
                prop_assert_eq!(part.attributes.len(), sorted(span).len());
                prop_assert_eq!((&part.events, &part.links, part.start), (&span.events, &Vec::new(), span.start));
            }
        }
    }
}
