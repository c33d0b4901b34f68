//! What is asked of spans through Tempo's API, and what must come back.

use super::Period;
use super::ask::Question;
use super::known::Traces;
use super::span_records::{
    KEY, KnownSpans, LIMIT, LONG_MS, LONGER_MS, NAME, PARENT_NAME, SERVICE, SPANS_PER_TRACE, SpanRecords, VALUE,
};
use crate::load::url_encoded;
use anyhow::{Context, Result};
use br_model::{SpanId, TraceId};
use br_std::Nanos;
use std::collections::BTreeSet;

pub(super) fn questions(records: &SpanRecords, period: Period) -> Result<Vec<Question>> {
    let (known, half) = (&records.known, records.half());
    let KnownSpans { of_service, long, attribute, all_filters, child, all, .. } = known;
    let (id, spans) = known.trace.as_ref().context("no trace from the middle")?;
    let range = (period.start, period.end());
    let search = |name, at_most, range, query: String, known: &Traces, condition: String| {
        let sql = format!(
            "select trace_id, max(ts) as newest from @table where {condition} group by trace_id order by newest desc limit {LIMIT}"
        );
        Question { at_most, sql, ..search(name, range, &query, known) }
    };
    Ok(vec![
        by_id(*id, spans),
        search(
            "by service",
            None,
            range,
            format!("{{ resource.service.name = \"{SERVICE}\" }}"),
            of_service,
            format!("service = '{SERVICE}'"),
        ),
        search("by duration", None, range, format!("{{ duration > {LONG_MS}ms }}"), long, format!("duration > {LONG_MS}000000")),
        search(
            "attribute search",
            Some(300.0),
            range,
            format!("{{ span.{KEY} = \"{VALUE}\" }}"),
            attribute,
            format!("@attribute({KEY}:s) = '{VALUE}'"),
        ),
        search(
            "all filters",
            Some(80.0),
            (half, period.end()),
            format!(
                "{{ resource.service.name = \"{SERVICE}\" && name = \"{NAME}\" && span.{KEY} = \"{VALUE}\" && duration > {LONGER_MS}ms }}"
            ),
            all_filters,
            format!(
                "service = '{SERVICE}' and name = '{NAME}' and @attribute({KEY}:s) = '{VALUE}' and duration > {LONGER_MS}000000 and ts >= @time({})",
                half.as_secs()
            ),
        ),
        Question {
            sql: format!(
                "select child.trace_id, max(child.ts) as newest from @table as child join @table as parent on parent.trace_id = child.trace_id and parent.span_id = child.parent_span_id where child.name = '{NAME}' and parent.name = '{PARENT_NAME}' group by child.trace_id order by newest desc limit {LIMIT}"
            ),
            ..self::search("structural >", range, &format!("{{ name = \"{PARENT_NAME}\" }} > {{ name = \"{NAME}\" }}"), child)
        },
        search("latest 20 of everything", None, range, "{ }".to_owned(), all, "true".to_owned()),
    ])
}

fn by_id(id: TraceId, spans: &[SpanId]) -> Question {
    let expect: Vec<String> = spans.iter().map(|span| format!("\"{span}\"")).collect();
    Question {
        name: "trace by id",
        path: format!("/tempo/api/traces/{id}"),
        check: Box::new(move |answer| {
            let text = answer.to_string();
            let found = text.matches("\"spanId\"").count();
            if found == expect.len() && expect.iter().all(|span| text.contains(span)) {
                return Ok(());
            }
            Err(format!("{found} spans instead of {}, or others", expect.len()))
        }),
        at_most: Some(15.0),
        sql: format!("select * from @table where trace_id = @hex({id})"),
        sql_rows: SPANS_PER_TRACE as usize,
    }
}

fn search(name: &'static str, (from, to): (Nanos, Nanos), query: &str, known: &Traces) -> Question {
    let expect: BTreeSet<String> = known.iter().map(|(_, id)| id.to_string()).collect();
    let sql_rows = expect.len();
    Question {
        name,
        // Some spans start a little after the end.
        path: format!(
            "/tempo/api/search?q={}&limit={LIMIT}&start={}&end={}",
            url_encoded(query),
            from.as_secs(),
            to.as_secs() + 60
        ),
        check: Box::new(move |answer| {
            let traces = answer["traces"].as_array().ok_or_else(|| format!("no traces: {answer:.200}"))?;
            let found: BTreeSet<String> =
                traces.iter().filter_map(|trace| trace["traceID"].as_str()).map(str::to_owned).collect();
            if found == expect && traces.len() == expect.len() {
                return Ok(());
            }
            let missing = expect.difference(&found).count();
            Err(format!("{} traces instead of {}, {missing} of them missing", traces.len(), expect.len()))
        }),
        at_most: None,
        sql: String::new(),
        sql_rows,
    }
}
