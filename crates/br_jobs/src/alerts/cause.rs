//! Where the failing requests of an alert began to fail: often in another service than the one that the alert is about.

use super::evidence::{CauseEvidence, Evidence};
use super::gather::LOOKBACK;
use br_model::{Span, SpanId, SpanKind, SpanStatus, TraceId};
use br_std::{Nanos, Result};
use br_storage::{Budget, SpanParts, SpanSource, StoredSpan, TimeRange};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of a message this much is kept.
const MESSAGE_BYTES_MAX: usize = 300;
/// Exporters send in batches: of a request that has just ended the other services' parts may not be here yet.
const AFTER: Duration = Duration::from_secs(30);

impl Evidence {
    /// Counts where the traces at hand began to fail, the commonest first; after those the calls of which the other side is not known.
    pub(super) fn gather_causes(&mut self, spans: &dyn SpanSource, at: Nanos, budget: &Budget) -> Result<()> {
        let around = TimeRange::new(at - LOOKBACK, at + AFTER);
        let mut causes: BTreeMap<(String, String), (bool, CauseEvidence)> = BTreeMap::new();
        let wanted: Vec<(TraceId, TimeRange)> =
            self.traces.iter().filter_map(|trace| TraceId::from_hex(&trace.trace_id)).map(|id| (id, around)).collect();
        spans.traces(&wanted, &SpanParts::ALL, budget, &mut |id, trace| {
            let Some(first) = first_failure(&trace) else { return Ok(true) };
            let service = first.resource.service_name().to_owned();
            let (is_open_ended, cause) = causes.entry((service.clone(), first.span.name.clone())).or_default();
            *is_open_ended = matches!(first.span.kind, SpanKind::Client | SpanKind::Producer);
            (cause.service, cause.span) = (service, first.span.name.clone());
            cause.message = message_of(&first.span);
            cause.trace_id = id.to_string();
            cause.traces += 1;
            Ok(true)
        })?;
        // A call that failed and has nothing below it: the other side's part is not here yet, or never will be. What is known goes first.
        let mut causes: Vec<(bool, CauseEvidence)> = causes.into_values().collect();
        causes.sort_by_key(|(is_open_ended, cause)| (*is_open_ended, std::cmp::Reverse(cause.traces)));
        self.causes = causes.into_iter().map(|(_, cause)| cause).collect();
        Ok(())
    }
}

/// Of the spans that failed and have no failed span below them, the one that ended first. What fails above only passes it on.
fn first_failure(trace: &[StoredSpan]) -> Option<&StoredSpan> {
    let failed = || trace.iter().filter(|stored| stored.span.status == SpanStatus::Error);
    let above: BTreeSet<SpanId> = failed().map(|stored| stored.span.parent_span_id).collect();
    failed().filter(|stored| !above.contains(&stored.span.span_id)).min_by_key(|stored| stored.span.end)
}

/// What the span says of its failure: its status, else the exception that it recorded last.
fn message_of(span: &Span) -> String {
    let recorded = || {
        let event = span.events.iter().rev().find(|event| event.name == "exception")?;
        let text = |name: &str| event.attributes.get_str(name);
        Some(format!("{}: {}", text("exception.type")?, text("exception.message").unwrap_or_default()))
    };
    let message = if span.status_message.is_empty() { recorded().unwrap_or_default() } else { span.status_message.clone() };
    message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::Resource;
    use std::sync::Arc;

    fn stored(service: &str, id: u8, parent: u8, end: i64, is_failed: bool) -> StoredSpan {
        let mut resource = Resource::default();
        resource.attributes.push("service.name", service);
        let status = if is_failed { SpanStatus::Error } else { SpanStatus::Unset };
        let ids = |number: u8| SpanId([number; 8]);
        let span = Span { span_id: ids(id), parent_span_id: ids(parent), end: Nanos(end), status, ..Span::default() };
        StoredSpan { resource: Arc::new(resource), scope: Arc::default(), span }
    }

    #[test]
    fn a_failure_is_traced_to_where_it_began() {
        let check = |trace: &[StoredSpan], expect: Option<&str>| {
            assert_eq!(first_failure(trace).map(|found| found.resource.service_name()), expect);
        };
        let front = stored("front", 1, 0, 90, true);
        let call = stored("front", 2, 1, 80, true);
        check(&[front.clone(), call.clone(), stored("payments", 3, 2, 70, true)], Some("payments"));
        check(&[front.clone(), call.clone(), stored("payments", 3, 2, 70, false)], Some("front"));
        // Two began apart: the earlier one.
        check(&[front, stored("stock", 4, 1, 50, true), stored("payments", 3, 1, 40, true)], Some("payments"));
        check(&[stored("front", 1, 0, 90, false)], None);
    }
}
