//! Jaeger's pages take the id of a span for unique. Both halves of a call have the same one where Zipkin's clients share spans.

use br_model::{Resource, SpanId, SpanKind};
use br_std::hash::hash64;
use br_storage::StoredSpan;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Gives each server's half of a shared span an id of its own, below the client's half. What a server did hangs below its half.
pub(super) fn unshare(spans: &mut [StoredSpan]) {
    let mut services = Services::default();
    let clients = sharing_clients(spans, &mut services);
    if clients.is_empty() {
        return;
    }
    let is_half = |stored: &StoredSpan| stored.span.kind == SpanKind::Server && clients.contains_key(&stored.span.span_id);
    // How many got an id: several answer a call that is sent to several, or once more.
    let mut halves: HashMap<(SpanId, Service), u64> = HashMap::new();
    for stored in spans.iter().filter(|stored| is_half(stored)) {
        halves.insert((stored.span.span_id, services.of(stored)), 0);
    }
    for stored in spans {
        let service = services.of(stored);
        if is_half(stored) {
            let shared = stored.span.span_id;
            let earlier = halves.entry((shared, service)).or_default();
            stored.span.parent_span_id = shared;
            stored.span.span_id = own_id(shared, service, *earlier);
            *earlier += 1;
            continue;
        }
        let parent = stored.span.parent_span_id;
        let is_servers = clients.get(&parent).is_some_and(|client| *client != service);
        if is_servers && halves.contains_key(&(parent, service)) {
            stored.span.parent_span_id = own_id(parent, service, 0);
        }
    }
}

/// The clients' halves of shared spans by their ids, with their services.
fn sharing_clients(spans: &[StoredSpan], services: &mut Services) -> HashMap<SpanId, Service> {
    let of_kind = |kind: SpanKind| spans.iter().filter(move |stored| stored.span.kind == kind);
    let servers: HashSet<SpanId> = of_kind(SpanKind::Server).map(|stored| stored.span.span_id).collect();
    let sharing = of_kind(SpanKind::Client).filter(|stored| servers.contains(&stored.span.span_id));
    sharing.map(|stored| (stored.span.span_id, services.of(stored))).collect()
}

fn own_id(shared: SpanId, service: Service, earlier: u64) -> SpanId {
    let told = [&shared.0[..], b"server", &service.to_be_bytes(), &earlier.to_be_bytes()].concat();
    SpanId((hash64(&told) | 1).to_be_bytes())
}

/// A name's hash: names may be long, and many spans have the same.
type Service = u64;

/// Those of the resources that were met. Each is read once; the spans hold them meanwhile.
#[derive(Default)]
struct Services(HashMap<*const Resource, Service>);

impl Services {
    fn of(&mut self, stored: &StoredSpan) -> Service {
        let name = || hash64(stored.resource.service_name().as_bytes());
        *self.0.entry(Arc::as_ptr(&stored.resource)).or_insert_with(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::Span;

    fn id(number: u8) -> SpanId {
        SpanId([number; 8])
    }

    fn span(service: &str, number: u8, parent: u8, kind: SpanKind) -> StoredSpan {
        let resource = Arc::new(Resource { attributes: [("service.name", service)].into_iter().collect() });
        let span = Span { span_id: id(number), parent_span_id: id(parent), kind, ..Span::default() };
        StoredSpan { resource, scope: Arc::default(), span }
    }

    #[test]
    fn the_halves_of_a_shared_span_become_parent_and_child() {
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

    #[test]
    fn each_server_of_one_call_has_an_id_of_its_own() {
        let mut spans = vec![
            span("web", 2, 1, SpanKind::Client),
            span("shop", 2, 1, SpanKind::Server),
            span("bank", 2, 1, SpanKind::Server),
            span("shop", 2, 1, SpanKind::Server),
            span("shop", 3, 2, SpanKind::Internal),
            span("bank", 4, 2, SpanKind::Internal),
        ];
        unshare(&mut spans);
        let ids: HashSet<SpanId> = spans.iter().map(|stored| stored.span.span_id).collect();
        assert_eq!(ids.len(), spans.len());
        assert_eq!(spans[4].span.parent_span_id, spans[1].span.span_id);
        assert_eq!(spans[5].span.parent_span_id, spans[2].span.span_id);
        assert!(spans[1..4].iter().all(|stored| stored.span.parent_span_id == id(2)));
    }

    /// A name of 64 KiB of which each client's span had a copy made gigabytes of a trace of megabytes.
    #[test]
    fn only_what_is_shared_is_held_and_no_names() {
        let mut services = Services::default();
        let client = span("web", 2, 1, SpanKind::Client);
        let spans: Vec<StoredSpan> = std::iter::repeat_n(client, 1000).chain([span("shop", 3, 1, SpanKind::Server)]).collect();
        assert!(sharing_clients(&spans, &mut services).is_empty() && services.0.is_empty());
        let spans = [&spans[..], &[span("shop", 2, 1, SpanKind::Server)]].concat();
        assert_eq!((sharing_clients(&spans, &mut services).len(), services.0.len()), (1, 1));
    }
}
