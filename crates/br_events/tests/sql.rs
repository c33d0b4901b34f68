//! Events in SQL: the same counts from heads, files and both.

mod support;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use br_events::{EventStore, sql_functions, sql_rewrites};
use br_model::*;
use br_storage::{Budget, JournalPosition};
use datafusion::common::config::Dialect;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;
use support::*;

async fn ask(events: &Arc<EventStore>, sql: &str) -> Vec<RecordBatch> {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let mut session = SessionContext::new_with_config(config);
    for rewrite in sql_rewrites() {
        session.register_function_rewrite(rewrite).expect("a session takes them");
    }
    for function in sql_functions() {
        session.register_udf(function);
    }
    for (name, table) in events.tables(TENANT, &Arc::new(Budget::unlimited())) {
        session.register_table(name, table).expect("new name");
    }
    let plan = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    plan.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn count(events: &Arc<EventStore>, sql: &str) -> i64 {
    let batches = ask(events, sql).await;
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().flatten()).sum()
}

fn batch(service: &str, from: i64) -> LogBatch {
    let record = |at: i64| {
        let mut record = log(START + at, &format!("order {at} was paid"));
        record.trace_id = TraceId([at as u8 + 1; 16]);
        record.severity = if at % 10 == 0 { Severity::ERROR } else { Severity::INFO };
        record.attributes.push("http.status", 200 + at % 2);
        if at % 2 == 0 {
            record.attributes.push("clash", at);
        } else {
            record.attributes.push("clash", "text");
        }
        if at == from + 1 {
            record.kind = LogKind::Event;
        }
        if at == from {
            record.kind = LogKind::Error;
            record.error = Some(Box::new(ErrorEvent { message: "boom".into(), ..ErrorEvent::default() }));
        }
        record
    };
    logs(service, (from..from + 100).map(record).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_the_same_in_head_and_files() {
    let store = CountingStore::new();
    let events = open(&store);
    events.append_logs(TENANT, JournalPosition(1), &batch("shop", 0)).expect("append");
    let trace_id = TraceId([9; 16]);
    let span = Span { trace_id, name: "charge".into(), status: SpanStatus::Error, end: br_std::Nanos(5), ..Span::default() };
    let spans =
        SpanBatch { groups: vec![ResourceSpans { resource: resource("pay", "1"), scope: Arc::default(), spans: vec![span] }] };
    events.append_spans(TENANT, JournalPosition(2), &spans).expect("append");
    for stage in ["head", "file and head", "files"] {
        let services = if stage == "head" { 1 } else { 2 };
        let check = async |sql: &str, expect: i64| assert_eq!(count(&events, sql).await, expect, "{stage}: {sql}");
        check("SELECT count(*) FROM logs", 100 * services).await;
        check("SELECT count(*) FROM logs WHERE service = 'shop'", 100).await;
        check("SELECT count(*) FROM logs WHERE service_name = 'shop' AND pod = '0'", 100).await;
        check("SELECT count(*) FROM logs WHERE level = 'error'", 10 * services).await;
        check("SELECT count(*) FROM logs WHERE severity >= 17", 10 * services).await;
        check("SELECT count(*) FROM errors WHERE error_title = 'boom'", services).await;
        check("SELECT count(*) FROM logs WHERE http_status = 201", 50 * services).await;
        check("SELECT count(*) FROM logs WHERE attributes['http.status'] = '201'", 50 * services).await;
        check("SELECT count(*) FROM logs WHERE attr(attributes, 'http.status') = '201'", 50 * services).await;
        check("SELECT count(*) FROM logs WHERE clash = 'text'", 50 * services).await;
        check("SELECT count(*) FROM logs WHERE clash = '42'", 1).await;
        // Of the texts of an attribute whose type senders disagree on, those are compared with a number that are one.
        check("SELECT count(*) FROM logs WHERE clash = 42", 1).await;
        check("SELECT count(*) FROM logs WHERE 50.5 < clash", 24 + 50 * (services - 1)).await;
        check("SELECT count(*) FROM logs WHERE clash BETWEEN 2 AND 6 OR clash IN (8, 12)", 5).await;
        check("SELECT count(*) FROM logs WHERE clash LIKE 'te%' AND clash_int IS NULL", 50 * services).await;
        check("SELECT max(clash_int) FROM logs WHERE clash_int >= 0 AND service = 'shop'", 98).await;
        check("SELECT count(*) FROM events", services).await;
        check("SELECT count(*) FROM logs WHERE match(body, 'PAID 42')", 1).await;
        check("SELECT count(*) FROM (SELECT template(body) FROM logs WHERE body LIKE '%paid%' GROUP BY 1)", 1).await;
        check("SELECT count(*) FROM logs WHERE body LIKE '% 42 %'", 1).await;
        check("SELECT count(*) FROM logs WHERE trace_id = '05050505050505050505050505050505'", 1).await;
        let time = START / 1_000_000_000;
        check(&format!("SELECT count(*) FROM logs WHERE ts > to_timestamp({time}) AND service = 'shop'"), 99).await;
        check("SELECT count(*) FROM (SELECT body FROM logs WHERE service = 'shop' ORDER BY ts DESC LIMIT 7)", 7).await;
        check("SELECT count(*) FROM spans WHERE status = 'error' AND duration >= 5 AND name = 'charge'", 1).await;
        check("SELECT count(*) FROM spans WHERE duration > 5", 0).await;
        check("SELECT spans + errors FROM traces WHERE root_name = 'charge' AND root_service = 'pay' AND duration = 5", 2).await;
        if stage == "head" {
            flush(&events, &store, 2);
            events.append_logs(TENANT, JournalPosition(3), &batch("pay", 100)).expect("append");
        } else {
            flush(&events, &store, 3);
        }
    }
}

/// The columns of a table that are made of keys.
async fn keyed_columns(events: &Arc<EventStore>) -> Vec<String> {
    let batches = ask(events, "SELECT * FROM logs LIMIT 1").await;
    let names =
        batches[0].schema().fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect::<Vec<_>>();
    names.into_iter().skip_while(|name| !name.starts_with("attributes")).skip(1).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_clashing_types_stand_beside_each_other() {
    let store = CountingStore::new();
    let events = open(&store);
    let record = |at: i64, value: AttributeValue| {
        let mut record = log(START + at, "x");
        record.attributes.push("a.b", value);
        record.attributes.push("n", at);
        record
    };
    let values = vec![record(0, 1.into()), record(1, 2.5.into()), record(2, true.into()), record(3, "9".into())];
    events.append_logs(TENANT, JournalPosition(1), &logs("shop", values)).expect("append");
    let mut other = log(START + 4, "y");
    other.attributes.push("a_b", "of the same name");
    other.attributes.push("n_int", "an attribute of its own");
    events.append_logs(TENANT, JournalPosition(2), &logs("shop", vec![other])).expect("append");
    let expect = [
        "a_b: Utf8",
        "a_b_bool: Boolean",
        "a_b_double: Float64",
        "a_b_int: Int64",
        "n: Int64",
        "n_int: Utf8",
        "pod: Utf8",
        "service_name: Utf8",
    ];
    for stage in ["head", "file"] {
        assert_eq!(keyed_columns(&events).await, expect, "{stage}");
        let check = async |sql: &str, expect: i64| assert_eq!(count(&events, sql).await, expect, "{stage}: {sql}");
        check("SELECT count(*) FROM logs WHERE a_b IN ('1', '2.5', 'true', '9', 'of the same name')", 5).await;
        check("SELECT count(*) FROM logs WHERE a_b >= 1", 3).await;
        check("SELECT count(*) FROM logs WHERE a_b = true", 1).await;
        check("SELECT count(*) FROM logs WHERE a_b_bool", 1).await;
        check("SELECT CAST(sum(a_b_double) * 10 AS BIGINT) FROM logs", 35).await;
        check("SELECT sum(a_b_int) FROM logs", 1).await;
        flush(&events, &store, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_rows_are_found_without_reading_the_others() {
    let store = CountingStore::new();
    let events = open(&store);
    for hour in 0..40i64 {
        let body = |at: i64| format!("{:x}", br_std::hash::hash64(&(hour * 1000 + at).to_le_bytes())).repeat(4);
        let records = (0..500).map(|at| log(START + hour * HOUR + at, &body(at))).collect();
        events.append_logs(TENANT, JournalPosition(hour as u64 + 1), &logs("shop", records)).expect("append");
    }
    flush(&events, &store, 40);
    let total: u64 = events.files().iter().map(|file| file.size_bytes).sum();
    ask(&events, "SELECT body FROM logs WHERE body = 'tails are kept'").await;
    for (order, first) in [("DESC", START + 39 * HOUR + 499), ("ASC", START)] {
        store.take_bytes_read();
        let sql = format!("SELECT CAST(ts AS BIGINT) AS at, body FROM logs ORDER BY ts {order} LIMIT 20");
        let batches = ask(&events, &sql).await;
        let bytes = store.take_bytes_read();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20, "{order}");
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), first, "{order}");
        if order == "DESC" {
            assert!(bytes * 3 < total, "{bytes} of {total} bytes");
        }
    }
}
