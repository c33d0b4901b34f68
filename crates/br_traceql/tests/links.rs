//! Links between services.

use br_model::*;
use br_std::{Nanos, Result};
use br_storage::{Budget, CancelReason, SpanCursor, SpanParts, SpanQuery, SpanSource, StoredSpan, TakeTrace, TimeRange};
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
    let number = |id: u8| SpanId([0, 0, 0, 0, 0, 0, 0, id]);
    let span = Span {
        trace_id: TraceId([1; 16]),
        span_id: number(id),
        parent_span_id: number(parent),
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
        links.0.iter().map(|link| (&*link.parent, &*link.child, link.calls, link.errors)).collect();
    assert_eq!((found.as_slice(), links.1), (expect, true));
}

#[test]
fn calls_are_counted_between_services() {
    use SpanKind::{Client, Consumer, Internal, Producer, Server, Unspecified};
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
    // Whoever sends no spans is known by name alone.
    check(
        vec![span("web", 1, 0, Server, "phone"), span("web", 2, 1, Unspecified, "db")],
        &[("phone", "web", 1, 0), ("web", "db", 1, 0)],
    );
    check(vec![span("web", 2, 0, Client, ""), span("shop", 3, 2, Server, "front")], &[("web", "shop", 1, 0)]);
    check(vec![span("web", 1, 1, Server, ""), span("web", 2, 9, Client, "web")], &[]);
}

#[test]
fn no_more_spans_are_held_than_asked_for() {
    let spans = (1..=10).map(|id| span("web", id, 0, SpanKind::Client, "db")).collect();
    let (links, is_whole) = service_links(&Spans(spans), TimeRange::ALL, 4, &Budget::unlimited()).expect("links");
    assert_eq!((links[0].calls, is_whole), (4, false));
}

/// All parents of one id, each in its own service, and as many children below it.
#[test]
#[allow(clippy::disallowed_methods, reason = "how long it takes is the point")]
fn spans_that_share_an_id_are_not_walked_one_by_one() {
    use SpanKind::{Internal, Producer, Server};
    const PARENTS: usize = 30_000;
    let parents = (0..PARENTS).map(|at| span(&format!("s{at}"), 1, 0, Producer, ""));
    let children = (0..PARENTS).map(|at| {
        let mut child = span("below", 2, 1, if at % 2 == 0 { Internal } else { Server }, "");
        child.span.span_id = SpanId((at as u64 + 10).to_be_bytes());
        child
    });
    let halves = (0..PARENTS).map(|at| span(&format!("s{at}"), 1, 0, Server, ""));
    let spans = Spans(parents.chain(children).chain(halves).collect());
    let began = std::time::Instant::now();
    let (links, _) = service_links(&spans, TimeRange::ALL, usize::MAX, &Budget::unlimited()).expect("links");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let last = format!("s{}", PARENTS - 1);
    assert_eq!((links.len(), &*links[0].parent, &*links[0].child, links[0].calls), (1, &*last, "below", PARENTS as u64));
}

/// Many calls to services of all names from one whose name is long.
#[test]
fn names_and_links_are_paid_for() {
    let long = "n".repeat(64 << 10);
    let calls = |peers: usize| {
        let spans = (0..peers).map(|at| {
            let mut call = span(&long, 1, 0, SpanKind::Client, &format!("p{at}"));
            call.span.span_id = SpanId((at as u64 + 1).to_be_bytes());
            call
        });
        Spans(spans.collect())
    };
    let budget = Budget::new(u64::MAX);
    let (links, _) = service_links(&calls(1000), TimeRange::ALL, usize::MAX, &budget).expect("links");
    assert_eq!(links.len(), 1000);
    assert!(Arc::ptr_eq(&links[0].parent, &links[999].parent), "the name is there once");
    // Each span, the name of its peer and its link; and the long name.
    assert!((350_000..700_000).contains(&budget.bytes_used()), "{}", budget.bytes_used());
    let error = service_links(&calls(1), TimeRange::ALL, usize::MAX, &Budget::new(60 << 10)).expect_err("the name is longer");
    assert_eq!(error.kind(), br_std::Kind::OverLimit);
}

struct CancelledAtTheEnd<'b>(&'b Budget);

impl SpanCursor for CancelledAtTheEnd<'_> {
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        self.0.cancel(CancelReason::Deadline);
        Ok(None)
    }
}

struct Cancelled;

impl SpanSource for Cancelled {
    fn scan<'a>(&'a self, _: &SpanQuery, budget: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        Ok(Box::new(CancelledAtTheEnd(budget)))
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

#[test]
fn counting_ends_with_its_query() {
    let budget = Budget::unlimited();
    let error = service_links(&Cancelled, TimeRange::ALL, 10, &budget).expect_err("out of time");
    assert_eq!(CancelReason::of(&error), Some(CancelReason::Deadline));
}
