//! Who calls whom: links between services, from the spans of a range.

use br_model::{SpanId, SpanKind, SpanStatus, TraceId};
use br_std::Result;
use br_storage::{Budget, SpanParts, SpanQuery, SpanSource, StoredSpan, TimeRange};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One service calls another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLink {
    pub parent: Arc<str>,
    pub child: Arc<str>,
    pub calls: u64,
    /// Of them, those that failed.
    pub errors: u64,
}

/// The service that a client names.
const PEER: &str = "peer.service";

/// The links, sorted by their names, and whether all spans of the range were looked at: the newest `spans_max` are.
///
/// A span whose parent is another service's is a call. Of a client's span that nobody answered, the service that it names (its
/// attribute `peer.service`: a database, a broker) was called; messages go from their producer to the broker and from there to
/// their consumer. A server's span that nobody is known to have called was called by the service that it names. A service does not
/// call itself.
pub fn service_links(
    source: &dyn SpanSource,
    range: TimeRange,
    spans_max: usize,
    budget: &Budget,
) -> Result<(Vec<ServiceLink>, bool)> {
    let mut graph = Graph::new(budget);
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
            graph.add(stored)?;
        }
    }
    drop(cursor);
    Ok((graph.links()?, is_whole))
}

/// What a span takes here, about: itself and its place in the order.
const NODE_BYTES: u64 = 2 * size_of::<Node>() as u64;
/// What a name takes beside its text.
const NAME_BYTES: u64 = 96;
/// What a link takes as it is counted and as it is told.
const LINK_BYTES: u64 = 3 * size_of::<ServiceLink>() as u64;

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

impl Node {
    /// The client's half of a span that both sides share comes before the server's.
    fn rank(&self) -> u8 {
        match self.kind {
            SpanKind::Client => 0,
            SpanKind::Server => RANKS - 1,
            _ => 1,
        }
    }

    /// By it those with one id stand together, and of these the ones of a rank by their services: any is found without a walk,
    /// however many share an id.
    fn place(&self) -> (TraceId, SpanId, u8, u32) {
        (self.trace, self.id, self.rank(), self.service)
    }
}

const RANKS: u8 = 3;

struct Graph<'b> {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    nodes: Vec<Node>,
    /// Calls and failures, by the numbers of both sides.
    counts: BTreeMap<(u32, u32), (u64, u64)>,
    budget: &'b Budget,
}

impl<'b> Graph<'b> {
    fn new(budget: &'b Budget) -> Self {
        Self { names: Vec::new(), numbers: HashMap::new(), nodes: Vec::new(), counts: BTreeMap::new(), budget }
    }

    fn number(&mut self, name: &str) -> Result<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        self.budget.charge(name.len() as u64 + NAME_BYTES)?;
        let (name, number) = (Arc::<str>::from(name), self.names.len() as u32);
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        Ok(number)
    }

    fn add(&mut self, stored: &StoredSpan) -> Result<()> {
        self.budget.charge(NODE_BYTES)?;
        let span = &stored.span;
        let service = self.number(stored.resource.service_name())?;
        let peer = span.attributes.get_str(PEER).filter(|peer| !peer.is_empty());
        let peer = peer.map(|peer| self.number(peer)).transpose()?;
        self.nodes.push(Node {
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
            service,
            peer,
            kind: span.kind,
            is_error: span.status == SpanStatus::Error,
        });
        Ok(())
    }

    fn count(&mut self, parent: u32, child: u32, is_error: bool) -> Result<()> {
        if parent == child {
            return Ok(());
        }
        if !self.counts.contains_key(&(parent, child)) {
            self.budget.charge(LINK_BYTES)?;
        }
        let (calls, errors) = self.counts.entry((parent, child)).or_default();
        *calls += 1;
        *errors += u64::from(is_error);
        Ok(())
    }

    fn links(mut self) -> Result<Vec<ServiceLink>> {
        self.nodes.sort_by_key(|node| (node.place(), node.kind as u8));
        // What was sent twice is one call.
        self.nodes.dedup_by_key(|node| (node.place(), node.kind as u8));
        let is_answered = self.count_calls()?;
        for (at, is_answered) in is_answered.into_iter().enumerate() {
            self.budget.check()?;
            let node = self.nodes[at];
            let Some(peer) = node.peer else { continue };
            match node.kind {
                SpanKind::Consumer => self.count(peer, node.service, node.is_error)?,
                // Zipkin's older clients give no kind.
                SpanKind::Client | SpanKind::Producer | SpanKind::Unspecified if !is_answered => {
                    self.count(node.service, peer, node.is_error)?;
                }
                _ => {}
            }
        }
        self.told()
    }

    /// Counts the spans that another service's is the caller of, and says of each span whether it is such a caller.
    fn count_calls(&mut self) -> Result<Vec<bool>> {
        let mut is_answered = vec![false; self.nodes.len()];
        for at in 0..self.nodes.len() {
            self.budget.check()?;
            let node = self.nodes[at];
            if node.kind == SpanKind::Consumer && node.peer.is_some() {
                continue;
            }
            let Some(place) = self.caller(&node) else {
                // Whoever called sends no spans: an app on a phone, say.
                if let (SpanKind::Server, Some(peer)) = (node.kind, node.peer) {
                    self.count(peer, node.service, node.is_error)?;
                }
                continue;
            };
            let caller = self.nodes[place];
            // A message that went through a broker is counted there.
            let is_through_broker = caller.kind == SpanKind::Producer && caller.peer.is_some();
            if caller.service != node.service && !is_through_broker {
                is_answered[place] = true;
                self.count(caller.service, node.service, node.is_error || caller.is_error)?;
            }
        }
        Ok(is_answered)
    }

    /// The links by name. Names are compared once each: they may be long and alike.
    fn told(self) -> Result<Vec<ServiceLink>> {
        let mut by_name: Vec<usize> = (0..self.names.len()).collect();
        by_name.sort_by(|a, b| self.names[*a].cmp(&self.names[*b]));
        self.budget.check()?;
        let mut orders = vec![0; self.names.len()];
        for (order, number) in by_name.into_iter().enumerate() {
            orders[number] = order;
        }
        let order = |number: u32| orders[number as usize];
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_by_key(|((parent, child), _)| (order(*parent), order(*child)));
        let name = |number: u32| self.names[number as usize].clone();
        let link = |((parent, child), (calls, errors))| ServiceLink { parent: name(parent), child: name(child), calls, errors };
        Ok(counts.into_iter().map(link).collect())
    }

    /// The client's half of the same span, else the parent: of its halves the one in the span's own service, else the server's.
    fn caller(&self, node: &Node) -> Option<usize> {
        if node.kind == SpanKind::Server {
            let first = self.first_from((node.trace, node.id, 0, 0));
            if self.nodes.get(first).is_some_and(|half| half.kind == SpanKind::Client && is_of(half, node.trace, node.id)) {
                return Some(first);
            }
        }
        if node.parent.is_none() || node.parent == node.id {
            return None;
        }
        let own = (0..RANKS).find_map(|rank| {
            let place = (node.trace, node.parent, rank, node.service);
            let at = self.first_from(place);
            self.nodes.get(at).is_some_and(|half| half.place() == place).then_some(at)
        });
        own.or_else(|| {
            let behind = self.first_from((node.trace, node.parent, RANKS, 0));
            behind.checked_sub(1).filter(|last| is_of(&self.nodes[*last], node.trace, node.parent))
        })
    }

    fn first_from(&self, place: (TraceId, SpanId, u8, u32)) -> usize {
        self.nodes.partition_point(|node| node.place() < place)
    }
}

fn is_of(node: &Node, trace: TraceId, id: SpanId) -> bool {
    (node.trace, node.id) == (trace, id)
}
