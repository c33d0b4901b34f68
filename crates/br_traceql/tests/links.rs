//! Links between services.

use br_model::*;
use br_std::{Nanos, Result};
use br_storage::{Budget, SpanCursor, SpanParts, SpanQuery, SpanSource, StoredSpan, TakeTrace, TimeRange};
use br_traceql::service_links;
use std::sync::Arc;

struct Spans(Vec<StoredSpan>);

struct AtOnce(Option<Vec<StoredSpan>>);

impl SpanCursor for AtOnce {
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        Ok(self.0.take())
    }
}

impl SpanSource for Spans {
    fn scan<'a>(&'a self, _: &SpanQuery, _: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        Ok(Box::new(AtOnce(Some(self.0.clone()))))
    }

    fn traces(&self, _: &[(TraceId, TimeRange)], _: &SpanParts, _: &Budget, _: &mut TakeTrace<'_>) -> Result<()> {
        Ok(())
    }

    fn services(&self, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn operations(&self, _: &str, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

fn span(service: &str, id: u8, parent: u8, kind: SpanKind, peer: &str) -> StoredSpan {
    let mut attributes = Attributes::default();
    if !peer.is_empty() {
        attributes.push("peer.service", peer);
    }
    let resource = Resource { attributes: [("service.name", service)].into_iter().collect() };
    let span = Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([0, 0, 0, 0, 0, 0, 0, id]),
        parent_span_id: SpanId([0, 0, 0, 0, 0, 0, 0, parent]),
        kind,
        attributes,
        start: Nanos(5),
        ..Span::default()
    };
    StoredSpan { resource: Arc::new(resource), scope: Arc::default(), span }
}

fn check(spans: Vec<StoredSpan>, expect: &[(&str, &str, u64, u64)]) {
    let links = service_links(&Spans(spans), TimeRange::ALL, 100, &Budget::unlimited()).expect("links");
    let found: Vec<(&str, &str, u64, u64)> =
        links.0.iter().map(|link| (link.parent.as_str(), link.child.as_str(), link.calls, link.errors)).collect();
    assert_eq!((found.as_slice(), links.1), (expect, true));
}

#[test]
fn calls_are_counted_between_services() {
    use SpanKind::{Client, Consumer, Internal, Producer, Server};
    let mut failed = span("bank", 4, 3, Server, "");
    failed.span.status = SpanStatus::Error;
    let web = || span("web", 1, 0, Server, "");
    let calls = vec![web(), span("web", 3, 1, Client, "bank"), failed, span("bank", 5, 4, Internal, "")];
    check(calls, &[("web", "bank", 1, 1)]);
    // Twice the same, and a database that sends no spans.
    let database = || span("web", 2, 1, Client, "postgres");
    check(vec![web(), web(), database(), database()], &[("web", "postgres", 1, 0)]);
    // Both halves have one id; the child of the server's half is its own.
    let shared = vec![web(), span("web", 2, 1, Client, ""), span("shop", 2, 1, Server, ""), span("shop", 3, 2, Internal, "")];
    check(shared, &[("web", "shop", 1, 0)]);
    let messages = vec![web(), span("web", 2, 1, Producer, "kafka"), span("mail", 3, 2, Consumer, "kafka")];
    check(messages, &[("kafka", "mail", 1, 0), ("web", "kafka", 1, 0)]);
    check(vec![web(), span("web", 2, 1, Producer, ""), span("mail", 3, 2, Consumer, "")], &[("web", "mail", 1, 0)]);
    check(vec![span("web", 1, 1, Server, ""), span("web", 2, 9, Client, "web")], &[]);
}

#[test]
fn no_more_spans_are_held_than_asked_for() {
    let spans = (1..=10).map(|id| span("web", id, 0, SpanKind::Client, "db")).collect();
    let (links, is_whole) = service_links(&Spans(spans), TimeRange::ALL, 4, &Budget::unlimited()).expect("links");
    assert_eq!((links[0].calls, is_whole), (4, false));
}
