//! Reading spans.

use crate::{Budget, TimeRange};
use br_model::{AttributeValue, Resource, Scope, Span, TraceId};
use br_std::{Nanos, Result};
use std::sync::Arc;

/// Which spans: those that start in the range. They come newest first by window of time, so that a search can stop early.
#[derive(Clone, Debug)]
pub struct SpanQuery {
    pub range: TimeRange,
    /// What the caller will keep only. A store may use these to skip, and may hand out spans that fail them.
    pub hints: Vec<SpanHint>,
    /// What the caller looks at.
    pub parts: SpanParts,
}

/// What of a span is wanted beside its ids, name, kind, times, status, resource and scope. A store may leave the rest empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanParts {
    /// The span's own attributes with these keys; `None` for all. Of a key that a span has more than once, with values of
    /// different types, any may come first.
    pub keys: Option<Vec<String>>,
    pub events: bool,
    pub links: bool,
    /// Status message and trace state.
    pub texts: bool,
}

impl SpanParts {
    pub const ALL: Self = Self { keys: None, events: true, links: true, texts: true };
    pub const NONE: Self = Self { keys: Some(Vec::new()), events: false, links: false, texts: false };

    /// Wants the attribute as well.
    pub fn add_key(&mut self, key: &str) {
        if let Some(keys) = &mut self.keys
            && !keys.iter().any(|known| known == key)
        {
            keys.push(key.to_owned());
        }
    }
}

/// Takes a trace, and says whether to go on.
pub type TakeTrace<'t> = dyn FnMut(TraceId, Vec<StoredSpan>) -> Result<bool> + 't;

/// A condition that every span the caller keeps will satisfy.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanHint {
    Service(String),
    Name(String),
    /// An attribute of the span or of its resource; of an array, one element is enough.
    AttributeEquals {
        key: String,
        value: AttributeValue,
    },
    /// The span or its resource has this attribute; where it is a number, it lies between these, both included.
    NumberBetween {
        key: String,
        low: f64,
        high: f64,
    },
    DurationNanosAtLeast(i64),
    DurationNanosAtMost(i64),
    IsError,
    TraceId(TraceId),
}

/// One tenant's spans.
pub trait SpanSource: Send + Sync {
    fn scan<'a>(&'a self, query: &SpanQuery, budget: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>>;

    /// Many traces at once, each handed over when it is complete, in the order in which they are named; a trace that is not known is
    /// left out, one that is named twice comes once. The spans of each are those that start in its range, in no particular order.
    /// They are charged while they are gathered: whoever holds them then charges [`StoredSpan::heap_bytes`].
    fn traces(&self, wanted: &[(TraceId, TimeRange)], parts: &SpanParts, budget: &Budget, take: &mut TakeTrace<'_>)
    -> Result<()>;

    /// One of [`Self::traces`], whole; empty when it is not known.
    /// `around` narrows where to look when the caller knows it.
    fn trace(&self, id: TraceId, around: Option<TimeRange>, budget: &Budget) -> Result<Vec<StoredSpan>> {
        let mut found = Vec::new();
        self.traces(&[(id, around.unwrap_or(TimeRange::ALL))], &SpanParts::ALL, budget, &mut |_, spans| {
            found = spans;
            Ok(false)
        })?;
        Ok(found)
    }

    /// Sorted names of the services with a span in the range.
    fn services(&self, range: TimeRange, budget: &Budget) -> Result<Vec<String>>;

    /// Sorted names of the spans of a service.
    fn operations(&self, service: &str, range: TimeRange, budget: &Budget) -> Result<Vec<String>>;
}

pub trait SpanCursor {
    /// `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>>;

    /// No span that is still to come starts later than this; `None` when that is not known.
    fn newest_left(&self) -> Option<Nanos> {
        None
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoredSpan {
    pub resource: Arc<Resource>,
    pub scope: Arc<Scope>,
    pub span: Span,
}

impl StoredSpan {
    /// What the span takes in memory, about; what it shares with others does not count.
    pub fn heap_bytes(&self) -> u64 {
        let Span { trace_state, name, status_message, attributes, events, links, .. } = &self.span;
        let texts = trace_state.len() + name.len() + status_message.len();
        let of_events: usize = events.iter().map(|event| 64 + event.name.len() + event.attributes.heap_bytes()).sum();
        let of_links: usize = links.iter().map(|link| 64 + link.attributes.heap_bytes()).sum();
        (size_of::<Self>() + texts + attributes.heap_bytes() + of_events + of_links) as u64
    }
}
