//! One trace in memory, with the tree of its spans.

use br_model::{SpanId, SpanKind};
use br_std::hash::hash64;
use br_storage::StoredSpan;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

pub(crate) struct Trace {
    /// By start, then id; each id once, and twice where client and server share it.
    pub(crate) spans: Vec<StoredSpan>,
    /// `None` for roots and for spans whose parent is missing.
    pub(crate) parents: Vec<Option<usize>>,
    pub(crate) children: Vec<Vec<usize>>,
    /// Each span after its parent.
    pub(crate) preorder: Vec<usize>,
    /// Numbers in the order of walking down and up, from 1; 0 for spans in a circle.
    pub(crate) nested_set: Vec<(i64, i64)>,
}

impl Trace {
    pub(crate) fn new(mut spans: Vec<StoredSpan>) -> Self {
        spans.sort_by_key(|stored| (stored.span.start, stored.span.span_id));
        let mut seen: HashSet<(SpanId, SpanKind, u64)> = HashSet::with_capacity(spans.len());
        let service = |stored: &StoredSpan| hash64(stored.resource.service_name().as_bytes());
        // A span that was sent twice counts once. Both halves of a call count where client and server share its id, as Zipkin's do.
        spans.retain(|stored| seen.insert((stored.span.span_id, stored.span.kind, service(stored))));
        let parents = parents(&spans);
        let mut children = vec![Vec::new(); spans.len()];
        for (at, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(at);
            }
        }
        let mut trace =
            Self { nested_set: vec![(0, 0); spans.len()], preorder: Vec::with_capacity(spans.len()), spans, parents, children };
        trace.number();
        trace
    }

    /// Walks each tree without recursion: traces can be deep.
    fn number(&mut self) {
        let mut next = 1;
        let mut open: Vec<(usize, usize)> = Vec::new();
        for root in 0..self.spans.len() {
            if self.parents[root].is_some() {
                continue;
            }
            open.push((root, 0));
            while let Some((at, child)) = open.pop() {
                if child == 0 {
                    self.nested_set[at].0 = next;
                    next += 1;
                    self.preorder.push(at);
                }
                if let Some(below) = self.children[at].get(child) {
                    open.push((at, child + 1));
                    open.push((*below, 0));
                } else {
                    self.nested_set[at].1 = next;
                    next += 1;
                }
            }
        }
    }

    /// The earliest span without a parent id, else the earliest of all; `None` for an empty trace.
    pub(crate) fn root(&self) -> Option<&StoredSpan> {
        self.spans.iter().find(|stored| stored.span.parent_span_id.is_none()).or_else(|| self.spans.first())
    }

    /// First start and last end, in nanoseconds.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        let start = self.spans.iter().map(|stored| stored.span.start.0).min().unwrap_or(0);
        let end = self.spans.iter().map(|stored| stored.span.end.0).max().unwrap_or(0);
        (start, end.max(start))
    }
}

/// Spans with the id of an earlier one that can be parents: two share an id as a rule.
const FURTHER_MAX: usize = 8;

/// Where the parent of each span stands. A server's half hangs below its client's. Below a shared id a span belongs to the half of
/// its own service, else to the server's.
fn parents(spans: &[StoredSpan]) -> Vec<Option<usize>> {
    let mut first: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
    let mut further: HashMap<SpanId, Vec<usize>> = HashMap::new();
    for (at, stored) in spans.iter().enumerate() {
        match first.entry(stored.span.span_id) {
            Entry::Vacant(free) => _ = free.insert(at),
            Entry::Occupied(_) => {
                let halves = further.entry(stored.span.span_id).or_default();
                if halves.len() < FURTHER_MAX {
                    halves.push(at);
                }
            }
        }
    }
    let halves = |id: SpanId| {
        let others = further.get(&id).map(Vec::as_slice).unwrap_or_default();
        first.get(&id).into_iter().chain(others).copied()
    };
    let kind = |at: usize| spans[at].span.kind;
    let parent = |(at, stored): (usize, &StoredSpan)| {
        let id = stored.span.span_id;
        if kind(at) == SpanKind::Server
            && let Some(client) = halves(id).find(|half| kind(*half) == SpanKind::Client)
        {
            return Some(client);
        }
        let parent = stored.span.parent_span_id;
        if parent == id {
            return None;
        }
        let service = stored.resource.service_name();
        let own = || halves(parent).find(|half| spans[*half].resource.service_name() == service);
        let server = || halves(parent).find(|half| kind(*half) == SpanKind::Server);
        own().or_else(server).or_else(|| halves(parent).next())
    };
    spans.iter().enumerate().map(parent).collect()
}
