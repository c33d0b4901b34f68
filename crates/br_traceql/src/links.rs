//! Who calls whom: links between services, from the spans of a range.

use br_model::{SpanId, SpanKind, SpanStatus, TraceId};
use br_std::Result;
use br_storage::{Budget, SpanParts, SpanQuery, SpanSource, StoredSpan, TimeRange};
use std::collections::{BTreeMap, HashMap};

/// One service calls another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLink {
    pub parent: String,
    pub child: String,
    pub calls: u64,
    /// Of them, those that failed.
    pub errors: u64,
}

/// The links, sorted by their names, and whether all spans of the range were looked at: the newest `spans_max` are.
///
/// The service that a client names.
const PEER: &str = "peer.service";

/// A span whose parent is another service's is a call. Of a client's span that nobody answered, the service that it names (its
/// attribute `peer.service`: a database, a broker) was called; messages go from their producer to the broker and from there to
/// their consumer. A service does not call itself.
pub fn service_links(
    source: &dyn SpanSource,
    range: TimeRange,
    spans_max: usize,
    budget: &Budget,
) -> Result<(Vec<ServiceLink>, bool)> {
    let mut graph = Graph::default();
    let mut is_whole = true;
    let parts = SpanParts { keys: Some(vec![PEER.to_owned()]), ..SpanParts::NONE };
    let mut cursor = source.scan(&SpanQuery { range, hints: Vec::new(), parts }, budget)?;
    'spans: while let Some(batch) = cursor.next_batch()? {
        budget.check()?;
        for stored in batch.iter().filter(|stored| range.contains(stored.span.start)) {
            if graph.nodes.len() == spans_max {
                is_whole = false;
                break 'spans;
            }
            budget.charge(NODE_BYTES)?;
            graph.add(stored);
        }
    }
    drop(cursor);
    Ok((graph.links(), is_whole))
}

/// What a span takes here, about: itself and its place in the order.
const NODE_BYTES: u64 = 2 * size_of::<Node>() as u64;

#[derive(Clone, Copy)]
struct Node {
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    service: u32,
    peer: Option<u32>,
    kind: SpanKind,
    is_error: bool,
}

#[derive(Default)]
struct Graph {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    nodes: Vec<Node>,
}

impl Graph {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn add(&mut self, stored: &StoredSpan) {
        let span = &stored.span;
        let service = self.number(stored.resource.service_name());
        let peer = span.attributes.get_str(PEER).filter(|peer| !peer.is_empty()).map(|peer| self.number(peer));
        self.nodes.push(Node {
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
            service,
            peer,
            kind: span.kind,
            is_error: span.status == SpanStatus::Error,
        });
    }

    fn links(mut self) -> Vec<ServiceLink> {
        // The client's half of a span that both sides share comes before the server's.
        self.nodes.sort_by_key(|node| (node.trace, node.id, node.kind == SpanKind::Server, node.service));
        // What was sent twice is one call.
        self.nodes.dedup_by_key(|node| (node.trace, node.id, node.kind, node.service));
        let mut counts: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
        let mut count = |parent: u32, child: u32, is_error: bool| {
            if parent != child {
                let (calls, errors) = counts.entry((parent, child)).or_default();
                *calls += 1;
                *errors += u64::from(is_error);
            }
        };
        let mut is_answered = vec![false; self.nodes.len()];
        for node in &self.nodes {
            if node.kind == SpanKind::Consumer && node.peer.is_some() {
                continue;
            }
            let Some(caller) = self.caller(node) else { continue };
            let is_call = self.nodes[caller].service != node.service;
            // A message that went through a broker is counted there.
            let is_through_broker = self.nodes[caller].kind == SpanKind::Producer && self.nodes[caller].peer.is_some();
            if is_call && !is_through_broker {
                is_answered[caller] = true;
                count(self.nodes[caller].service, node.service, node.is_error || self.nodes[caller].is_error);
            }
        }
        for (node, is_answered) in self.nodes.iter().zip(is_answered) {
            let Some(peer) = node.peer else { continue };
            match node.kind {
                SpanKind::Consumer => count(peer, node.service, node.is_error),
                SpanKind::Client | SpanKind::Producer if !is_answered => count(node.service, peer, node.is_error),
                _ => {}
            }
        }
        let mut links: Vec<ServiceLink> = counts
            .into_iter()
            .map(|((parent, child), (calls, errors))| {
                let name = |number: u32| self.names[number as usize].clone();
                ServiceLink { parent: name(parent), child: name(child), calls, errors }
            })
            .collect();
        links.sort_by(|a, b| (&a.parent, &a.child).cmp(&(&b.parent, &b.child)));
        links
    }

    /// The client's half of the same span, else the parent: of its halves the one in the span's own service, else the server's.
    fn caller(&self, node: &Node) -> Option<usize> {
        if node.kind == SpanKind::Server {
            let half = self.with_id(node.trace, node.id).find(|at| self.nodes[*at].kind == SpanKind::Client);
            if half.is_some() {
                return half;
            }
        }
        if node.parent.is_none() || node.parent == node.id {
            return None;
        }
        let parents = || self.with_id(node.trace, node.parent);
        parents().find(|at| self.nodes[*at].service == node.service).or_else(|| parents().last())
    }

    fn with_id(&self, trace: TraceId, id: SpanId) -> impl Iterator<Item = usize> {
        let first = self.nodes.partition_point(|node| (node.trace, node.id) < (trace, id));
        (first..self.nodes.len()).take_while(move |at| (self.nodes[*at].trace, self.nodes[*at].id) == (trace, id))
    }
}
