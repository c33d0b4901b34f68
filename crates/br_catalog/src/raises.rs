//! One raise, reported more than once: by two SDKs, or by each of the nested spans that it passes through.
//!
//! Two reports are of the same raise when they have the trace, the type and the place in common, and the stack of one ends as
//! that of the other, to the line. The report that saw most says which issue it is, whatever the order they come in. A reporter
//! tells each raise once at one height of the stack, so the most that one of them told is what is counted: never more than was
//! reported, never less than any one saw.

use crate::ErrorOccurrence;
use crate::catalog::Write;
use br_std::hash::hash64;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::cmp::Reverse;

/// Raises that are remembered, over all tenants. A report that comes later than this many others counts by itself.
const RAISES_MAX: i64 = 10_000;
/// Different raises at one line in one trace that are told apart.
const RAISES_OF_PLACE_MAX: i64 = 16;
/// Reporters of one raise that are counted apart; further ones are taken for repetitions.
const REPORTERS_MAX: usize = 16;

/// What an occurrence changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The issue to count in, as its bits.
    pub(crate) issue: i64,
    /// 0 for a repetition.
    pub(crate) count: i64,
    /// Counted in another issue before it was known better.
    pub(crate) taken_back: Option<(i64, i64)>,
}

/// Remembers an occurrence and tells what it counts for.
pub(crate) async fn take(write: &mut Write, tenant: i64, occurrence: &ErrorOccurrence) -> sqlx::Result<Counted> {
    let alone = Counted { issue: occurrence.issue as i64, count: 1, taken_back: None };
    let Some(place) = occurrence.stack.first().filter(|_| !occurrence.trace_id.is_empty()) else { return Ok(alone) };
    let sql = "SELECT id, issue, custom, counted, stack, reports FROM error_raise \
        WHERE tenant = $1 AND trace_id = $2 AND place = $3 ORDER BY id DESC LIMIT $4";
    let rows = sqlx::query(sql).bind(tenant).bind(&occurrence.trace_id).bind(*place as i64).bind(RAISES_OF_PLACE_MAX);
    let rows = rows.fetch_all(&mut **write).await?;
    for row in &rows {
        let mut known = raise(row)?;
        if known.is_of(&occurrence.stack) {
            let counted = known.add(occurrence);
            update(write, &known).await?;
            return Ok(counted);
        }
    }
    insert(write, tenant, *place as i64, occurrence).await?;
    Ok(alone)
}

/// Reports of one raise, and of its repetitions at the same place in the same trace.
#[derive(Debug)]
struct Raise {
    id: i64,
    issue: i64,
    is_custom: bool,
    counted: i64,
    /// Of the report that saw most; see [`ErrorOccurrence::stack`].
    stack: Vec<u64>,
    /// How often each reporter told it at each height of the stack.
    reports: Vec<(u64, u64)>,
}

impl Raise {
    fn new(occurrence: &ErrorOccurrence) -> Self {
        Self {
            id: 0,
            issue: occurrence.issue as i64,
            is_custom: occurrence.is_custom,
            counted: 1,
            stack: occurrence.stack.clone(),
            reports: vec![(reporter(occurrence), 1)],
        }
    }

    /// One stack ends as the other does.
    fn is_of(&self, stack: &[u64]) -> bool {
        let common = self.stack.len().min(stack.len());
        common > 0 && self.stack[common - 1] == stack[common - 1]
    }

    fn add(&mut self, occurrence: &ErrorOccurrence) -> Counted {
        let reporter = reporter(occurrence);
        match self.reports.iter().position(|(known, _)| *known == reporter) {
            Some(at) => self.reports[at].1 += 1,
            None if self.reports.len() < REPORTERS_MAX => self.reports.push((reporter, 1)),
            None => {}
        }
        let before = self.counted;
        let told = self.reports.iter().map(|(_, count)| *count as i64).max();
        self.counted = before.max(told.unwrap_or(1));
        let issue = occurrence.issue as i64;
        // The tie is broken by the number alone, so that the order of the reports never decides.
        let rank = (occurrence.is_custom, occurrence.stack.len(), Reverse(issue));
        if rank <= (self.is_custom, self.stack.len(), Reverse(self.issue)) {
            return Counted { issue: self.issue, count: self.counted - before, taken_back: None };
        }
        let previous = std::mem::replace(&mut self.issue, issue);
        (self.is_custom, self.stack) = (occurrence.is_custom, longer(&self.stack, &occurrence.stack));
        if previous == issue {
            return Counted { issue, count: self.counted - before, taken_back: None };
        }
        Counted { issue, count: self.counted, taken_back: Some((previous, before)) }
    }
}

fn longer(one: &[u64], other: &[u64]) -> Vec<u64> {
    if one.len() > other.len() { one.to_vec() } else { other.to_vec() }
}

/// Who told it, and at which height of the stack.
fn reporter(occurrence: &ErrorOccurrence) -> u64 {
    let height = occurrence.stack.last().copied().unwrap_or(0);
    hash64(format!("{height:x}\u{1f}{}", occurrence.reporter).as_bytes())
}

async fn insert(write: &mut Write, tenant: i64, place: i64, occurrence: &ErrorOccurrence) -> sqlx::Result<()> {
    let raise = Raise::new(occurrence);
    let sql = "INSERT INTO error_raise (tenant, trace_id, place, issue, custom, counted, stack, reports) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let done = sqlx::query(sql).bind(tenant).bind(&occurrence.trace_id).bind(place).bind(raise.issue).bind(raise.is_custom);
    let done = done.bind(raise.counted).bind(bytes_of(&raise.stack)).bind(bytes_of_pairs(&raise.reports));
    let id = done.execute(&mut **write).await?.last_insert_rowid();
    // By the number and not by the clock: a replay forgets the same.
    sqlx::query("DELETE FROM error_raise WHERE id <= $1").bind(id - RAISES_MAX).execute(&mut **write).await?;
    Ok(())
}

async fn update(write: &mut Write, raise: &Raise) -> sqlx::Result<()> {
    let sql = "UPDATE error_raise SET issue = $2, custom = $3, counted = $4, stack = $5, reports = $6 WHERE id = $1";
    let done = sqlx::query(sql).bind(raise.id).bind(raise.issue).bind(raise.is_custom).bind(raise.counted);
    done.bind(bytes_of(&raise.stack)).bind(bytes_of_pairs(&raise.reports)).execute(&mut **write).await?;
    Ok(())
}

fn raise(row: &SqliteRow) -> sqlx::Result<Raise> {
    let numbers = |name: &str| -> sqlx::Result<Vec<u64>> {
        let bytes: Vec<u8> = row.try_get(name)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect())
    };
    let reports = numbers("reports")?;
    Ok(Raise {
        id: row.try_get("id")?,
        issue: row.try_get("issue")?,
        is_custom: row.try_get("custom")?,
        counted: row.try_get("counted")?,
        stack: numbers("stack")?,
        reports: reports.as_chunks::<2>().0.iter().map(|[reporter, count]| (*reporter, *count)).collect(),
    })
}

fn bytes_of(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn bytes_of_pairs(pairs: &[(u64, u64)]) -> Vec<u8> {
    bytes_of(&pairs.iter().flat_map(|(first, second)| [*first, *second]).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(issue: u64, stack: &[u64], reporter: &str) -> ErrorOccurrence {
        ErrorOccurrence { issue, stack: stack.to_vec(), reporter: reporter.into(), ..ErrorOccurrence::default() }
    }

    /// Adds the later ones to the first, and shows where how many were counted in the end.
    fn check(occurrences: &[ErrorOccurrence], expect: (i64, i64)) {
        let mut counts = std::collections::BTreeMap::from([(occurrences[0].issue as i64, 1)]);
        let mut raise = Raise::new(&occurrences[0]);
        for occurrence in &occurrences[1..] {
            assert!(raise.is_of(&occurrence.stack), "{occurrence:?}");
            let counted = raise.add(occurrence);
            *counts.entry(counted.issue).or_default() += counted.count;
            if let Some((issue, count)) = counted.taken_back {
                *counts.entry(issue).or_default() -= count;
            }
        }
        counts.retain(|_, count| *count != 0);
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [expect], "{occurrences:?}");
        assert_eq!((raise.issue, raise.counted), expect);
    }

    #[test]
    fn the_report_that_saw_most_decides_and_the_order_does_not() {
        let (inner, outer) = (occurrence(1, &[5, 6], "otel"), occurrence(2, &[5, 6, 7], "otel"));
        let sentry = occurrence(3, &[5, 6, 7], "sentry");
        for all in [[&inner, &outer, &sentry], [&outer, &sentry, &inner], [&sentry, &inner, &outer], [&sentry, &outer, &inner]] {
            check(&all.map(Clone::clone), (2, 1));
        }
        let custom = ErrorOccurrence { is_custom: true, ..occurrence(9, &[5], "sentry") };
        check(&[outer.clone(), custom.clone(), inner.clone()], (9, 1));
        check(&[custom, inner, outer], (9, 1));
    }

    #[test]
    fn a_loop_counts_as_often_as_one_reporter_told_it() {
        let (inner, outer) = (occurrence(1, &[5], "otel"), occurrence(2, &[5, 6], "otel"));
        let sentry = occurrence(2, &[5, 6], "sentry");
        check(&[inner.clone(), inner.clone(), inner.clone(), outer.clone(), sentry.clone()], (2, 3));
        check(&[sentry.clone(), outer, inner.clone(), inner.clone(), inner], (2, 3));
        check(&[sentry.clone(), sentry], (2, 2));
    }

    #[test]
    fn other_ways_to_the_same_line_are_other_raises() {
        let raise = Raise::new(&occurrence(1, &[5, 6, 7], ""));
        assert!(raise.is_of(&[5]) && raise.is_of(&[5, 6, 7, 8]));
        assert!(!raise.is_of(&[5, 9]) && !raise.is_of(&[]));
    }
}
