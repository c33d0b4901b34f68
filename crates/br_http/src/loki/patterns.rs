//! What the lines of a selector have in common, and how often each of it came.

use super::{Answer, json_text, range, success_text};
use crate::app::App;
use crate::params::Params;
use axum::Extension;
use axum::extract::State;
use br_logql::{Expr, LogExpr, LogOptions};
use br_model::Principal;
use br_query::door::Language;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, Direction, LogSource, TimeRange};
use br_template::{Miner, MinerLimits};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The range is looked at in so many parts, and of each the newest lines: what is frequent shows in a sample as well, and the whole of a
/// day would be read for seconds.
const PARTS: u32 = 12;
const LINES_OF_PART: usize = 5000;
const STEPS_MAX: u128 = 11_000;
const LEVEL: &str = "detected_level";

#[derive(Serialize)]
struct Found {
    pattern: String,
    level: String,
    /// Second and lines, by step.
    samples: Vec<(i64, u64)>,
}

pub(super) async fn patterns(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let Expr::Log(log) = br_logql::parse(&text).map_err(Error::from)? else {
        return Err(Error::fix_request(format!("invalid parameter \"query\": {text:?} is not a log query")).into());
    };
    let (tenant, range) = (principal.tenant, range(&app, &params)?);
    let step = params.duration("step")?.unwrap_or_else(|| default_step(range));
    if step.is_zero() || range.to.since(range.from).as_nanos() / step.as_nanos() > STEPS_MAX {
        return Err(Error::fix_request("invalid parameter \"step\": it must give between 1 and 11,000 samples").into());
    }
    let shown = text.clone();
    let text = app
        .query(tenant, Language::LogQl, &shown, None, move |sources, budget| {
            let found = mine(&*sources.logs(tenant), &log, range, step, budget)?;
            success_text(&found, None, budget)
        })
        .await?;
    json_text(text)
}

fn default_step(range: TimeRange) -> Duration {
    Duration::from_secs((range.to.since(range.from).as_secs() / 250).max(10))
}

/// Lines by template, level and step.
struct Counts {
    step: Duration,
    counts: BTreeMap<(usize, String), BTreeMap<i64, f64>>,
}

fn mine(source: &dyn LogSource, log: &LogExpr, range: TimeRange, step: Duration, budget: &Budget) -> Result<Vec<Found>> {
    let mut miner = Miner::new(MinerLimits::default());
    let mut counts = Counts { step, counts: BTreeMap::new() };
    let part = range.to.since(range.from) / PARTS;
    for number in 0..PARTS {
        let from = range.from + part * number;
        let to = if number + 1 == PARTS { range.to } else { from + part };
        if from < to {
            mine_part(source, log, TimeRange::new(from, to), &mut miner, &mut counts, budget)?;
        }
    }
    let mut found: Vec<(f64, Found)> = Vec::new();
    for ((number, level), steps) in counts.counts {
        let Some(pattern) = miner.pattern(number) else { continue };
        let samples = steps.iter().map(|(second, count)| (*second, count.round().max(1.0) as u64)).collect();
        found.push((steps.values().sum(), Found { pattern, level, samples }));
    }
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    Ok(found.into_iter().map(|(_, pattern)| pattern).collect())
}

/// Counts the newest lines of a part. Where there are more, each stands for as many as fit into the rest of the time.
fn mine_part(
    source: &dyn LogSource,
    log: &LogExpr,
    range: TimeRange,
    miner: &mut Miner,
    counts: &mut Counts,
    budget: &Budget,
) -> Result<()> {
    let options = LogOptions { range, direction: Direction::Backward, limit: LINES_OF_PART, categorize: true };
    let result = br_logql::query_log(source, log, &options, budget)?;
    let entries = || result.streams.iter().flat_map(|stream| &stream.entries);
    let all = range.to.since(range.from).as_secs_f64();
    let is_cut = entries().count() >= LINES_OF_PART;
    let oldest = entries().map(|entry| entry.timestamp).min().filter(|_| is_cut).unwrap_or(range.from);
    let weight = all / range.to.since(oldest).as_secs_f64().max(all / 1e6);
    for entry in entries() {
        if let Some(number) = miner.observe(&entry.line) {
            let level = entry.metadata.get(LEVEL).filter(|level| !level.is_empty()).unwrap_or("unknown").to_owned();
            // What was not read lies before the oldest line: its share is spread over the whole part.
            let at = stretched(entry.timestamp, oldest, range);
            let second = at.window(counts.step).as_secs();
            *counts.counts.entry((number, level)).or_default().entry(second).or_default() += weight;
        }
    }
    Ok(())
}

/// Where a time between `oldest` and the end would be, if that were the whole range.
fn stretched(at: Nanos, oldest: Nanos, range: TimeRange) -> Nanos {
    if oldest <= range.from {
        return at;
    }
    let share = at.since(oldest).as_secs_f64() / range.to.since(oldest).as_secs_f64().max(1e-9);
    range.from + range.to.since(range.from).mul_f64(share.clamp(0.0, 1.0))
}
