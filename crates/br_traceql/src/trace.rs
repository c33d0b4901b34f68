//! One trace in memory, with the tree of its spans.

use br_model::SpanId;
use br_storage::StoredSpan;
use std::collections::HashMap;

pub(crate) struct Trace {
    /// By start, then id; each id once.
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
        let mut by_id: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
        let mut at = 0;
        // A span that was sent twice counts once.
        spans.retain(|stored| {
            let is_new = !by_id.contains_key(&stored.span.span_id);
            if is_new {
                by_id.insert(stored.span.span_id, at);
                at += 1;
            }
            is_new
        });
        let parent =
            |at: usize, stored: &StoredSpan| by_id.get(&stored.span.parent_span_id).copied().filter(|parent| *parent != at);
        let parents: Vec<Option<usize>> = spans.iter().enumerate().map(|(at, stored)| parent(at, stored)).collect();
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
