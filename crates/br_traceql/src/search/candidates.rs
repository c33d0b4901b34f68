//! Which traces are looked at, and in which order.
//!
//! Spans come newest first. A trace ranks by its newest span that may be one of those that come out; its rank is settled as soon as
//! no span is left that starts later. Settled candidates are read together, more of them each time, until there are enough.

use super::{AROUND, Matcher, Rank, TraceMatch};
use crate::hints::{Clause, Requirement, parts_of};
use crate::value::Regexes;
use br_model::TraceId;
use br_std::{Nanos, Result};
use br_storage::{Budget, Held, SpanParts, SpanQuery, SpanSource, StoredSpan, TimeRange};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Candidates that are remembered at a time; when all of them were looked at, the search goes over the spans once more.
const KEPT_MAX: usize = 64 << 10;
/// Traces that are read together, at most.
const TOGETHER_MAX: usize = 8 << 10;
/// A side of an operator narrows the search when no more traces than this have it.
const SIDE_MAX: usize = 20_000;
/// So many traces are read without looking for the other side first.
const DIRECT_MAX: usize = 1024;
/// What a candidate takes in memory, about.
const CANDIDATE_BYTES: u64 = 160;
const ID_BYTES: u64 = 48;

pub(super) fn find(source: &dyn SpanSource, matcher: &Matcher<'_>, budget: &Budget) -> Result<Vec<TraceMatch>> {
    let requirement = Requirement::of(matcher.pipeline);
    let mut search = Search {
        source,
        matcher,
        budget,
        main: requirement.main(),
        parts: parts_of(matcher.pipeline),
        sides: Vec::new(),
        seen: HashSet::new(),
        held: Held::new(budget),
        found: Vec::new(),
    };
    for clause in requirement.others() {
        search.narrow(clause)?;
    }
    let is_few = |search: &Search<'_>| search.sides.iter().any(|side| side.len() <= DIRECT_MAX);
    if is_few(&search) {
        requirement.main().map_or(Ok(()), |clause| search.narrow(clause))?;
        search.look_at_all()?;
    } else {
        search.newest_first()?;
    }
    Ok(search.found)
}

/// The traces that have a side of an operator, when a store can find them quickly and they are not many.
pub(crate) fn side(
    source: &dyn SpanSource,
    clause: &Clause<'_>,
    range: TimeRange,
    regexes: &Regexes,
    budget: &Budget,
) -> Result<Option<BTreeSet<TraceId>>> {
    let hints = clause.hints();
    if hints.is_empty() {
        return Ok(None);
    }
    let mut held = Held::new(budget);
    let mut ids = BTreeSet::new();
    let mut cursor = source.scan(&SpanQuery { range, hints, parts: clause.parts() }, budget)?;
    while let Some(spans) = cursor.next_batch()? {
        budget.check()?;
        for stored in spans.iter().filter(|stored| clause.may_hold(stored, regexes)) {
            if ids.insert(stored.span.trace_id) {
                held.add(ID_BYTES)?;
            }
        }
        if ids.len() > SIDE_MAX {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}

struct Search<'a> {
    source: &'a dyn SpanSource,
    matcher: &'a Matcher<'a>,
    budget: &'a Budget,
    /// What spans that come out satisfy.
    main: Option<&'a Clause<'a>>,
    /// What whole traces are judged by.
    parts: SpanParts,
    /// A trace that matches is in each of them.
    sides: Vec<BTreeSet<TraceId>>,
    /// Traces that were looked at, or that rank before those that are wanted.
    seen: HashSet<TraceId>,
    held: Held<'a>,
    found: Vec<TraceMatch>,
}

impl<'a> Search<'a> {
    fn missing(&self) -> usize {
        self.matcher.options.limit.saturating_sub(self.found.len())
    }

    fn is_candidate(&self, stored: &StoredSpan) -> bool {
        self.matcher.options.range.contains(stored.span.start)
            && self.main.is_none_or(|clause| clause.may_hold(stored, &self.matcher.expr.regexes))
    }

    /// Where spans of traces that are wanted may start.
    fn wide_range(&self) -> TimeRange {
        let range = self.matcher.options.range;
        TimeRange::new(range.from - AROUND, range.to + AROUND)
    }

    fn narrow(&mut self, clause: &Clause<'_>) -> Result<()> {
        let found = side(self.source, clause, self.wide_range(), &self.matcher.expr.regexes, self.budget)?;
        if let Some(ids) = found {
            self.held.add(ids.len() as u64 * ID_BYTES)?;
            self.sides.push(ids);
        }
        Ok(())
    }

    /// Looks at each trace that has all sides, and keeps the newest.
    fn look_at_all(&mut self) -> Result<()> {
        let range = self.wide_range();
        let is_on_all_sides = |id: &&TraceId| self.sides.iter().all(|side| side.contains(*id));
        let ids = self.sides.iter().min_by_key(|side| side.len()).into_iter().flatten();
        let wanted: Vec<(TraceId, TimeRange)> = ids.filter(is_on_all_sides).map(|id| (*id, range)).collect();
        let options = self.matcher.options;
        let mut best: BTreeMap<Rank, TraceMatch> = BTreeMap::new();
        self.source.traces(&wanted, &self.parts, self.budget, &mut |id, mut spans| {
            let Some(newest) = spans.iter().filter(|stored| self.is_candidate(stored)).map(|stored| stored.span.start).max()
            else {
                return Ok(true);
            };
            let rank = Rank::new(newest, id);
            let is_late = best.len() >= options.limit && best.last_key_value().is_some_and(|(last, _)| rank > *last);
            if is_late || options.after.is_some_and(|after| rank <= after) {
                return Ok(true);
            }
            let around = around(newest);
            spans.retain(|stored| around.contains(stored.span.start));
            if let Some(matched) = self.matcher.look_at(id, newest, spans, self.budget)? {
                best.insert(rank, matched);
                if best.len() > options.limit
                    && let Some((_, late)) = best.pop_last()
                {
                    self.budget.release(late.heap_bytes());
                }
            }
            Ok(true)
        })?;
        self.found = best.into_values().collect();
        Ok(())
    }

    fn newest_first(&mut self) -> Result<()> {
        let is_local = self.matcher.is_plain() && self.main.is_some_and(Clause::is_local);
        let mut kept_max = if is_local { self.missing() } else { KEPT_MAX.max(self.missing()) };
        let mut together = self.missing();
        while self.pass(kept_max, is_local, &mut together)? {
            kept_max = kept_max.saturating_mul(8);
        }
        Ok(())
    }

    /// Goes over the spans once. Whether another time could find more.
    fn pass(&mut self, kept_max: usize, is_local: bool, together: &mut usize) -> Result<bool> {
        let query = SpanQuery {
            range: self.matcher.options.range,
            hints: self.main.map(Clause::hints).unwrap_or_default(),
            parts: self.main.map_or(SpanParts::NONE, Clause::parts),
        };
        let mut candidates = Candidates::new(kept_max, self.budget);
        let mut cursor = self.source.scan(&query, self.budget)?;
        loop {
            let batch = cursor.next_batch()?;
            self.budget.check()?;
            for stored in batch.iter().flatten() {
                if self.is_candidate(stored) {
                    self.offer(&mut candidates, Rank::new(stored.span.start, stored.span.trace_id))?;
                }
            }
            let left = if batch.is_none() { Some(Nanos::MIN) } else { cursor.newest_left() };
            while self.missing() > 0 {
                let count = if is_local { self.missing() } else { self.missing().max(*together) };
                let ranks = candidates.take_settled(left, count, batch.is_none());
                if ranks.is_empty() {
                    break;
                }
                self.look_at(&ranks)?;
                *together = together.saturating_mul(4).min(TOGETHER_MAX);
            }
            if self.missing() == 0 {
                return Ok(false);
            }
            if batch.is_none() {
                return Ok(candidates.floor.is_some());
            }
        }
    }

    fn offer(&mut self, candidates: &mut Candidates<'a>, rank: Rank) -> Result<()> {
        let id = rank.trace_id;
        if self.seen.contains(&id) || !self.sides.iter().all(|side| side.contains(&id)) {
            return Ok(());
        }
        if self.matcher.options.after.is_some_and(|after| rank <= after) {
            candidates.remove(id);
            self.held.add(ID_BYTES)?;
            self.seen.insert(id);
            return Ok(());
        }
        candidates.offer(rank)
    }

    /// Reads the traces, which are in order, until there are enough.
    fn look_at(&mut self, ranks: &[Rank]) -> Result<()> {
        self.held.add(ranks.len() as u64 * ID_BYTES)?;
        self.seen.extend(ranks.iter().map(|rank| rank.trace_id));
        let wanted: Vec<(TraceId, TimeRange)> = ranks.iter().map(|rank| (rank.trace_id, around(rank.newest.0))).collect();
        let newest: HashMap<TraceId, Nanos> = ranks.iter().map(|rank| (rank.trace_id, rank.newest.0)).collect();
        let (matcher, budget, limit) = (self.matcher, self.budget, self.matcher.options.limit);
        let found = &mut self.found;
        self.source.traces(&wanted, &self.parts, budget, &mut |id, spans| {
            let newest = newest.get(&id).copied().unwrap_or_default();
            found.extend(matcher.look_at(id, newest, spans, budget)?);
            Ok(found.len() < limit)
        })
    }
}

fn around(time: Nanos) -> TimeRange {
    TimeRange::new(time - AROUND, time + AROUND)
}

/// The newest of the traces that may match, as far as they are known.
struct Candidates<'b> {
    kept_max: usize,
    newest: HashMap<TraceId, Rank>,
    ranked: BTreeSet<Rank>,
    /// Whatever ranks here or behind is not kept.
    floor: Option<Rank>,
    held: Held<'b>,
}

impl<'b> Candidates<'b> {
    fn new(kept_max: usize, budget: &'b Budget) -> Self {
        Self { kept_max, newest: HashMap::new(), ranked: BTreeSet::new(), floor: None, held: Held::new(budget) }
    }

    fn offer(&mut self, rank: Rank) -> Result<()> {
        let known = self.newest.get(&rank.trace_id).copied();
        if known.is_some_and(|known| known <= rank) || self.floor.is_some_and(|floor| rank >= floor) {
            return Ok(());
        }
        match known {
            Some(known) => _ = self.ranked.remove(&known),
            None => self.held.add(CANDIDATE_BYTES)?,
        }
        self.newest.insert(rank.trace_id, rank);
        self.ranked.insert(rank);
        if self.ranked.len() > self.kept_max
            && let Some(last) = self.ranked.pop_last()
        {
            self.newest.remove(&last.trace_id);
            self.held.give_back(CANDIDATE_BYTES);
            self.floor = Some(last);
        }
        Ok(())
    }

    fn remove(&mut self, id: TraceId) {
        if let Some(rank) = self.newest.remove(&id) {
            self.ranked.remove(&rank);
            self.held.give_back(CANDIDATE_BYTES);
        }
    }

    /// Takes `count` traces in order that start later than all spans that are left; fewer at the end only.
    fn take_settled(&mut self, left: Option<Nanos>, count: usize, is_end: bool) -> Vec<Rank> {
        let Some(left) = left else { return Vec::new() };
        let is_settled = |rank: &&Rank| is_end || rank.newest.0 > left;
        let settled: Vec<Rank> = self.ranked.iter().take(count).take_while(is_settled).copied().collect();
        // At the floor there are no more to wait for.
        let is_all = settled.len() == self.ranked.len() && self.floor.is_some_and(|floor| floor.newest.0 > left);
        if settled.len() < count && !is_end && !is_all {
            return Vec::new();
        }
        for rank in &settled {
            self.remove(rank.trace_id);
        }
        settled
    }
}
