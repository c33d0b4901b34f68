//! What version 3 says of a trace without its spans.

use crate::SpanView;
use br_model::SpanStatus;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::io;

/// Writes the summary of one trace. What is zero is left out.
pub fn write_summary(out: &mut dyn io::Write, spans: &[SpanView<'_>]) -> io::Result<()> {
    serde_json::to_writer(out, &summary(spans)).map_err(io::Error::from)
}

fn summary(views: &[SpanView<'_>]) -> Value {
    let spans = || views.iter().map(|view| view.span);
    let root = views.iter().find(|view| view.span.parent_span_id.is_none()).or_else(|| views.first());
    let ids: HashSet<_> = spans().map(|span| span.span_id).collect();
    let orphans = spans().filter(|span| !span.parent_span_id.is_none() && !ids.contains(&span.parent_span_id)).count();
    let mut services: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for view in views {
        let (count, errors) = services.entry(view.resource.service_name()).or_default();
        *count += 1;
        *errors += usize::from(view.span.status == SpanStatus::Error);
    }
    let mut out = Map::new();
    if let Some(root) = root {
        out.insert("traceId".into(), root.span.trace_id.to_string().into());
        out.insert("rootServiceName".into(), root.resource.service_name().into());
        out.insert("rootOperationName".into(), root.span.name.as_str().into());
    }
    let start = spans().map(|span| span.start.0).min().unwrap_or(0);
    let end = spans().map(|span| span.end.0).max().unwrap_or(0);
    out.insert("minStartTimeUnixNano".into(), start.to_string().into());
    out.insert("maxEndTimeUnixNano".into(), end.to_string().into());
    put(&mut out, "spanCount", views.len());
    put(&mut out, "errorSpanCount", services.values().map(|(_, errors)| errors).sum());
    put(&mut out, "orphanSpanCount", orphans);
    let services = services.iter().map(|(name, (count, errors))| {
        let mut service = Map::new();
        service.insert("name".into(), (*name).into());
        put(&mut service, "spanCount", *count);
        put(&mut service, "errorSpanCount", *errors);
        Value::Object(service)
    });
    out.insert("services".into(), services.collect());
    Value::Object(out)
}

fn put(out: &mut Map<String, Value>, key: &str, count: usize) {
    if count > 0 {
        out.insert(key.into(), count.into());
    }
}
