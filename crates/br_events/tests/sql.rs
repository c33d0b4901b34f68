//! Events in SQL: the same counts from heads, files and both.

mod support;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use br_events::{EventStore, sql_functions};
use br_model::*;
use br_storage::{Budget, JournalPosition};
use datafusion::common::config::Dialect;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;
use support::*;

async fn count(events: &Arc<EventStore>, sql: &str) -> i64 {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let session = SessionContext::new_with_config(config);
    for function in sql_functions() {
        session.register_udf(function);
    }
    for (name, table) in events.tables(TENANT, &Arc::new(Budget::unlimited())) {
        session.register_table(name, table).expect("new name");
    }
    let plan = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches = plan.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
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
    let span = Span { name: "charge".into(), status: SpanStatus::Error, end: br_std::Nanos(5), ..Span::default() };
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
        check("SELECT count(*) FROM logs WHERE match(body, 'PAID 42')", 1).await;
        check("SELECT count(*) FROM logs WHERE body LIKE '% 42 %'", 1).await;
        check("SELECT count(*) FROM logs WHERE trace_id = '05050505050505050505050505050505'", 1).await;
        let time = START / 1_000_000_000;
        check(&format!("SELECT count(*) FROM logs WHERE ts > to_timestamp({time}) AND service = 'shop'"), 99).await;
        check("SELECT count(*) FROM (SELECT body FROM logs WHERE service = 'shop' ORDER BY ts DESC LIMIT 7)", 7).await;
        check("SELECT count(*) FROM spans WHERE status = 'error' AND duration >= 5 AND name = 'charge'", 1).await;
        check("SELECT count(*) FROM spans WHERE duration > 5", 0).await;
        if stage == "head" {
            flush(&events, &store, 2);
            events.append_logs(TENANT, JournalPosition(3), &batch("pay", 100)).expect("append");
        } else {
            flush(&events, &store, 3);
        }
    }
}
