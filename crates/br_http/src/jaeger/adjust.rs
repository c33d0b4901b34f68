//! Jaeger's pages take the id of a span for unique. Both halves of a call have the same one where Zipkin's clients share spans.

use br_model::{SpanId, SpanKind};
use br_std::hash::hash64;
use br_storage::StoredSpan;
use std::collections::HashMap;

/// Gives the server's half of a shared span an id of its own, below the client's half. What the server did hangs below its half.
pub(super) fn unshare(spans: &mut [StoredSpan]) {
    let of_kind = |kind: SpanKind| spans.iter().filter(move |stored| stored.span.kind == kind);
    let clients: HashMap<SpanId, String> =
        of_kind(SpanKind::Client).map(|stored| (stored.span.span_id, service(stored).to_owned())).collect();
    let mut halves: HashMap<SpanId, (SpanId, String)> = HashMap::new();
    for stored in of_kind(SpanKind::Server).filter(|stored| clients.contains_key(&stored.span.span_id)) {
        let id = stored.span.span_id;
        let own = hash64(&[&id.0[..], b"server"].concat()) | 1;
        halves.insert(id, (SpanId(own.to_be_bytes()), service(stored).to_owned()));
    }
    for stored in spans {
        let is_half = stored.span.kind == SpanKind::Server;
        if let Some((own, _)) = halves.get(&stored.span.span_id).filter(|_| is_half) {
            stored.span.parent_span_id = stored.span.span_id;
            stored.span.span_id = *own;
            continue;
        }
        let parent = stored.span.parent_span_id;
        let is_servers = |halved: &&(SpanId, String)| {
            halved.1 == service(stored) && clients.get(&parent).is_none_or(|client| client != service(stored))
        };
        if let Some((own, _)) = halves.get(&parent).filter(is_servers) {
            stored.span.parent_span_id = *own;
        }
    }
}

fn service(stored: &StoredSpan) -> &str {
    stored.resource.service_name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::{Resource, Span};
    use std::sync::Arc;

    #[test]
    fn the_halves_of_a_shared_span_become_parent_and_child() {
        let id = |number: u8| SpanId([number; 8]);
        let span = |service: &str, number: u8, parent: u8, kind: SpanKind| {
            let resource = Arc::new(Resource { attributes: [("service.name", service)].into_iter().collect() });
            let span = Span { span_id: id(number), parent_span_id: id(parent), kind, ..Span::default() };
            StoredSpan { resource, scope: Arc::default(), span }
        };
        let mut spans = vec![
            span("web", 1, 0, SpanKind::Server),
            span("web", 2, 1, SpanKind::Client),
            span("shop", 2, 1, SpanKind::Server),
            span("shop", 3, 2, SpanKind::Internal),
            span("web", 4, 2, SpanKind::Internal),
        ];
        unshare(&mut spans);
        let own = spans[2].span.span_id;
        assert!(own != id(2) && !own.is_none());
        let parents: Vec<SpanId> = spans.iter().map(|stored| stored.span.parent_span_id).collect();
        assert_eq!(parents, [id(0), id(1), id(2), own, id(2)]);
    }
}
