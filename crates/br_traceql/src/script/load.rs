//! Traces of a script, and a source over them.

use super::eval::duration;
use br_model::{AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, TraceId};
use br_std::{Nanos, Result};
use br_storage::{Budget, SpanCursor, SpanParts, SpanQuery, SpanSource, StoredSpan, TakeTrace, TimeRange};
use std::cmp::Reverse;
use std::sync::Arc;

/// Spans that a script loaded, the newest first.
#[derive(Default)]
pub(super) struct MemoryTraces(Vec<StoredSpan>);

impl MemoryTraces {
    /// Lines `trace N`, and below each its spans, each deeper than its parent.
    pub(super) fn load(&mut self, lines: &[&str]) -> std::result::Result<(), String> {
        let mut trace = None;
        // The spans above the one that comes next, with their depths.
        let mut open: Vec<(usize, u8)> = Vec::new();
        let mut last = 0u8;
        for line in lines {
            let depth = line.len() - line.trim_start().len();
            if let Some(number) = line.trim().strip_prefix("trace ") {
                trace = Some(number.parse::<u8>().map_err(|_| format!("not a number of a trace: {number:?}"))?);
                (open, last) = (Vec::new(), 0);
                continue;
            }
            let trace = trace.ok_or_else(|| format!("of no trace: {line:?}"))?;
            open.retain(|(above, _)| *above < depth);
            last = last.checked_add(1).ok_or("too many spans")?;
            let parent = open.last().map_or(0, |(_, id)| *id);
            open.push((depth, last));
            let mut stored = stored(line.trim())?;
            stored.span.trace_id = trace_id(trace);
            (stored.span.span_id, stored.span.parent_span_id) = (span_id(last), span_id(parent));
            self.0.push(stored);
        }
        self.0.sort_by_key(|stored| Reverse(stored.span.start));
        Ok(())
    }
}

fn trace_id(number: u8) -> TraceId {
    TraceId(u128::from(number).to_be_bytes())
}

fn span_id(number: u8) -> SpanId {
    SpanId(u64::from(number).to_be_bytes())
}

/// `service "name" @ 100s for 10s key=value …`
fn stored(line: &str) -> std::result::Result<StoredSpan, String> {
    let words = words(line)?;
    let [service, name, "@", start, "for", length, fields @ ..] = words.as_slice() else {
        return Err(format!("not a span: {line:?}"));
    };
    let start = Nanos(0) + duration(start)?;
    let name = unquoted(name).ok_or_else(|| format!("not a name in quotes: {name:?}"))?;
    let mut span = Span { name, start, end: start + duration(length)?, ..Span::default() };
    let mut resource = Attributes::from_iter([("service.name", (*service).to_owned())]);
    let mut scope = Scope::default();
    for field in fields {
        let (key, text) = field.split_once('=').ok_or_else(|| format!("not key=value: {field:?}"))?;
        set((&mut span, &mut resource, &mut scope), key, text)?;
    }
    Ok(StoredSpan { resource: Arc::new(Resource { attributes: resource }), scope: Arc::new(scope), span })
}

fn set(
    (span, resource, scope): (&mut Span, &mut Attributes, &mut Scope),
    key: &str,
    text: &str,
) -> std::result::Result<(), String> {
    let unknown = || format!("unknown {key}: {text:?}");
    match key {
        "kind" => span.kind = (0..=5).map(SpanKind::from_number).find(|kind| kind.as_str() == text).ok_or_else(unknown)?,
        "status" => {
            span.status = (0..=2).map(SpanStatus::from_number).find(|status| status.as_str() == text).ok_or_else(unknown)?;
        }
        "message" => span.status_message = unquoted(text).ok_or_else(unknown)?,
        "scope" => scope.name = unquoted(text).ok_or_else(unknown)?,
        "scope.version" => scope.version = unquoted(text).ok_or_else(unknown)?,
        "event" => {
            let (name, after) = text.split_once('@').unwrap_or((text, "0"));
            let timestamp = span.start + duration(after)?;
            span.events.push(SpanEvent { timestamp, name: name.to_owned(), attributes: Attributes::default() });
        }
        "link" => {
            let trace_id = trace_id(text.parse().map_err(|_| unknown())?);
            span.links.push(SpanLink { trace_id, span_id: span_id(1), attributes: Attributes::default() });
        }
        _ => {
            let value = value(text).ok_or_else(unknown)?;
            let (attributes, key) = match key.split_once('.') {
                Some(("resource", key)) => (Some(resource), key),
                Some(("scope", key)) => (Some(&mut scope.attributes), key),
                Some(("event", key)) => (span.events.last_mut().map(|event| &mut event.attributes), key),
                Some(("link", key)) => (span.links.last_mut().map(|link| &mut link.attributes), key),
                Some(("span", key)) => (Some(&mut span.attributes), key),
                _ => (Some(&mut span.attributes), key),
            };
            attributes.ok_or_else(|| format!("nothing before {key:?} that it belongs to"))?.push(key, value);
        }
    }
    Ok(())
}

/// Text in quotes, a number, true or false, or several of them as `[a,b]`.
fn value(text: &str) -> Option<AttributeValue> {
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return inside.split(',').map(value).collect::<Option<_>>().map(AttributeValue::Array);
    }
    match text {
        "true" => return Some(AttributeValue::Bool(true)),
        "false" => return Some(AttributeValue::Bool(false)),
        _ => {}
    }
    let number = || text.parse().ok().map(AttributeValue::Int).or_else(|| text.parse().ok().map(AttributeValue::Double));
    unquoted(text).map(AttributeValue::String).or_else(number)
}

pub(super) fn unquoted(text: &str) -> Option<String> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(inside.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// Words between blanks that stand outside of quotes.
pub(super) fn words(line: &str) -> std::result::Result<Vec<&str>, String> {
    let (mut words, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), None, false, false);
    for (at, character) in line.char_indices() {
        match character {
            ' ' if !is_quoted => {
                words.extend(start.take().map(|start: usize| &line[start..at]));
                continue;
            }
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
        start = start.or(Some(at));
    }
    if is_quoted {
        return Err(format!("a quote is not closed: {line:?}"));
    }
    words.extend(start.map(|start| &line[start..]));
    Ok(words)
}

/// A few spans at a time, so that a search ends in the middle of them.
struct Cursor(std::vec::IntoIter<StoredSpan>);

impl SpanCursor for Cursor {
    fn next_batch(&mut self) -> Result<Option<Vec<StoredSpan>>> {
        let batch: Vec<StoredSpan> = self.0.by_ref().take(2).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn newest_left(&self) -> Option<Nanos> {
        Some(self.0.as_slice().first().map_or(Nanos::MIN, |stored| stored.span.start))
    }
}

impl SpanSource for MemoryTraces {
    fn scan<'a>(&'a self, query: &SpanQuery, _: &'a Budget) -> Result<Box<dyn SpanCursor + 'a>> {
        let in_range = |stored: &&StoredSpan| query.range.contains(stored.span.start);
        let spans: Vec<StoredSpan> = self.0.iter().filter(in_range).map(|stored| narrowed(stored, &query.parts)).collect();
        Ok(Box::new(Cursor(spans.into_iter())))
    }

    fn traces(&self, wanted: &[(TraceId, TimeRange)], parts: &SpanParts, _: &Budget, take: &mut TakeTrace<'_>) -> Result<()> {
        for (id, range) in wanted {
            let is_wanted = |stored: &&StoredSpan| stored.span.trace_id == *id && range.contains(stored.span.start);
            let spans: Vec<StoredSpan> = self.0.iter().filter(is_wanted).map(|stored| narrowed(stored, parts)).collect();
            if !spans.is_empty() && !take(*id, spans)? {
                break;
            }
        }
        Ok(())
    }

    fn services(&self, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn operations(&self, _: &str, _: TimeRange, _: &Budget) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Without anything that was not asked for: a query that needs it and does not say so finds nothing.
fn narrowed(stored: &StoredSpan, parts: &SpanParts) -> StoredSpan {
    let mut stored = stored.clone();
    let span = &mut stored.span;
    if let Some(keys) = &parts.keys {
        span.attributes.0.retain(|(key, _)| keys.contains(key));
    }
    if !parts.events {
        span.events.clear();
    }
    if !parts.links {
        span.links.clear();
    }
    if !parts.texts {
        span.status_message.clear();
    }
    stored
}
