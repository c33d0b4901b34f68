//! Whole traces, found or named, each written as soon as it is read: what Jaeger's and Zipkin's clients ask for.

use crate::app::App;
use crate::written::{self, Text};
use br_model::{SpanKind, TenantId, TraceId};
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::{Budget, SpanHint, SpanParts, SpanQuery, SpanSource, StoredSpan, TimeRange};
use br_traceql::SearchOptions;
use br_wire::SpanView;
use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::time::Duration;

/// Spans that are looked at for names that no list has, newest first.
pub(crate) const LOOKED_AT_MAX: usize = 100_000;

/// A trace is read this far around what is known of it: those that matter are shorter.
const AROUND: Duration = Duration::from_hours(24);

/// Which traces.
pub(crate) enum Wanted {
    /// In this order; those that are not known are left out. `around` is where the client believes them: one that is not there is
    /// looked for everywhere.
    Named { ids: Vec<TraceId>, around: Option<TimeRange> },
    /// By TraceQL, newest first.
    Found { query: String, options: SearchOptions },
}

/// Writes a trace, whose spans come by start and id.
pub(crate) type WriteTrace = fn(&mut Text<'_>, Vec<StoredSpan>) -> io::Result<()>;

/// The traces with commas between them and a frame around, and how many there are.
pub(crate) async fn answer(
    app: &App,
    tenant: TenantId,
    wanted: Wanted,
    frame: (&'static str, &'static str),
    write: WriteTrace,
) -> Result<(usize, String)> {
    let (language, shown) = match &wanted {
        Wanted::Named { ids, .. } => (Language::Lookup, ids.first().map(ToString::to_string).unwrap_or_default()),
        Wanted::Found { query, .. } => (Language::TraceQl, query.clone()),
    };
    app.query(tenant, language, &shown, None, move |sources, budget| {
        let source = sources.spans(tenant);
        let places = places(&*source, wanted, budget)?;
        written(&*source, &places, frame, write, budget)
    })
    .await
}

/// Ids, and where to look for each.
type Places = Vec<(TraceId, TimeRange)>;

fn places(source: &dyn SpanSource, wanted: Wanted, budget: &Budget) -> Result<Places> {
    let (query, options) = match wanted {
        Wanted::Named { ids, around } => {
            let around = around.unwrap_or(TimeRange::ALL);
            return Ok(ids.into_iter().map(|id| (id, around)).collect());
        }
        Wanted::Found { query, options } => (query, options),
    };
    let expr = br_traceql::parse(&query).map_err(|error| Error::fix_request(format!("the search cannot be made: {error}")))?;
    let found = br_traceql::search(source, &expr, &query, &options, budget)?;
    let place = |found: &br_traceql::TraceMatch| {
        let end = br_std::Nanos(found.start.0.saturating_add(found.duration_nanos));
        (found.trace_id, TimeRange::new(found.start - AROUND, end + AROUND))
    };
    Ok(found.iter().map(place).collect())
}

fn written(
    source: &dyn SpanSource,
    places: &Places,
    (before, after): (&str, &str),
    write: WriteTrace,
    budget: &Budget,
) -> Result<(usize, String)> {
    let (mut found, mut failed) = (BTreeSet::new(), None);
    let text = written::text(budget, |out| {
        out.write_all(before.as_bytes())?;
        let mut broken = None;
        let mut read = |places: &Places, found: &mut BTreeSet<TraceId>| {
            source.traces(places, &SpanParts::ALL, budget, &mut |id, spans| {
                let (spans, bytes) = whole(spans, budget)?;
                let comma: &[u8] = if found.is_empty() { b"" } else { b"," };
                found.insert(id);
                broken = out.write_all(comma).and_then(|()| write(out, spans)).err();
                budget.release(bytes);
                Ok(broken.is_none())
            })
        };
        let outcome = read(places, &mut found).and_then(|()| {
            // Where a client looks for a trace is what it believes.
            let elsewhere = |(id, around): &&(TraceId, TimeRange)| *around != TimeRange::ALL && !found.contains(id);
            let rest: Places = places.iter().filter(elsewhere).map(|(id, _)| (*id, TimeRange::ALL)).collect();
            if rest.is_empty() { Ok(()) } else { read(&rest, &mut found) }
        });
        if let Err(error) = outcome {
            failed = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        broken.map_or_else(|| out.write_all(after.as_bytes()), Err)
    });
    match failed {
        Some(error) => Err(error),
        None => Ok((found.len(), text?)),
    }
}

/// A trace as it is written, and what it is charged with. What was sent twice, and the same, comes once.
fn whole(mut spans: Vec<StoredSpan>, budget: &Budget) -> Result<(Vec<StoredSpan>, u64)> {
    budget.check()?;
    // As they are, and once more in the form of the wire.
    let bytes = 2 * spans.iter().map(StoredSpan::heap_bytes).sum::<u64>();
    budget.charge(bytes)?;
    spans.sort_by_key(|stored| (stored.span.start, stored.span.span_id, stored.span.kind as u8));
    spans.dedup_by(|a, b| a.span == b.span && a.resource == b.resource);
    Ok((spans, bytes))
}

pub(crate) fn views(spans: &[StoredSpan]) -> Vec<SpanView<'_>> {
    spans.iter().map(|StoredSpan { resource, scope, span }| SpanView { resource, scope, span }).collect()
}

/// The service that a client's span names.
pub(crate) const PEER: &str = "peer.service";

/// Looks at the newest spans of a service (of all of them when it is empty) for names that no list has: kinds and
/// [`PEER`]s. False when there are more.
pub(crate) fn look(
    source: &dyn SpanSource,
    service: &str,
    range: TimeRange,
    budget: &Budget,
    mut look: impl FnMut(&StoredSpan) -> Result<()>,
) -> Result<bool> {
    let hints = if service.is_empty() { Vec::new() } else { vec![SpanHint::Service(service.to_owned())] };
    let parts = SpanParts { keys: Some(vec![PEER.to_owned()]), ..SpanParts::NONE };
    let mut cursor = source.scan(&SpanQuery { range, hints, parts }, budget)?;
    let mut looked_at = 0;
    while let Some(batch) = cursor.next_batch()? {
        budget.check()?;
        for stored in batch.iter().filter(|stored| range.contains(stored.span.start)) {
            if !service.is_empty() && stored.resource.service_name() != service {
                continue;
            }
            if looked_at == LOOKED_AT_MAX {
                return Ok(false);
            }
            looked_at += 1;
            look(stored)?;
        }
    }
    Ok(true)
}

/// Names of a service's spans with their kinds. Of spans that are not among the newest only the names are known, without a kind.
pub(crate) fn operations(
    source: &dyn SpanSource,
    service: &str,
    range: TimeRange,
    budget: &Budget,
) -> Result<BTreeSet<(String, &'static str)>> {
    let mut found = BTreeSet::new();
    look(source, service, range, budget, |stored| {
        let pair = (stored.span.name.clone(), kind(stored.span.kind));
        if !found.contains(&pair) {
            budget.charge(pair.0.len() as u64 + 64)?;
            found.insert(pair);
        }
        Ok(())
    })?;
    for name in source.operations(service, range, budget)? {
        let is_known = found.range((name.clone(), "")..).next().is_some_and(|(known, _)| *known == name);
        if !is_known {
            found.insert((name, ""));
        }
    }
    Ok(found)
}

fn kind(kind: SpanKind) -> &'static str {
    if kind == SpanKind::Unspecified { "" } else { kind.as_str() }
}

/// A trace id of 16 or 32 digits, or fewer.
pub(crate) fn trace_id(text: &str) -> Result<TraceId> {
    let id = TraceId::from_hex(text).filter(|id| !id.is_none());
    id.ok_or_else(|| Error::fix_request(format!("{text:?} is no trace id: up to 32 hexadecimal digits")))
}
