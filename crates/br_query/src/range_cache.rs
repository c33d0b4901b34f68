//! Answers of range queries that are asked again a little later: only the steps that are new, or that samples have changed since,
//! are evaluated.
//!
//! An answer is kept with the version of the store from before it was read. When it is used again, the store says from which
//! time on anything may have changed since that version; a step sees samples up to its own time only, so that those before stay
//! right; what has come late of metrics that the query does not read is left out of account. What can see further, or depends on where the query begins and ends, is not kept.

use br_model::labels::METRIC_NAME;
use br_model::{Labels, TenantId};
use br_promql::{AggregateOp, DurationExpr, Engine, Expr, ExprKind, Extension, Point, QueryOutput, Series, Value};
use br_std::Result;
use br_storage::{Budget, MatchOp, MetricSource};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A range query: every step from `start_ms` to `end_ms`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Steps {
    /// The last step.
    fn last_ms(self) -> i64 {
        self.end_ms - (self.end_ms - self.start_ms).rem_euclid(self.step_ms)
    }
}

/// For `/metrics`. The hit ratio is that of the steps.
#[derive(Debug, Default)]
pub struct RangeCacheCounters {
    pub steps_reused: AtomicU64,
    pub steps_evaluated: AtomicU64,
    /// Queries that cannot be kept, or whose caller did not want it.
    pub bypassed: AtomicU64,
    /// What all entries hold now.
    pub bytes: AtomicU64,
}

pub struct RangeCache {
    bytes_max: u64,
    tenant_bytes_max: u64,
    entries: Mutex<Entries>,
    pub counters: RangeCacheCounters,
}

/// The same query over a span of the same length: a dashboard that moves on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    tenant: TenantId,
    query: String,
    lookback_ms: i64,
    step_ms: i64,
    steps: i64,
}

#[derive(Clone)]
struct Entry {
    first_ms: i64,
    last_ms: i64,
    series: Vec<Series>,
    version: u64,
    bytes: u64,
    /// Ticks of [`Entries::clock`].
    used: u64,
}

/// What an entry takes beside its answer and the text of its query: one that found nothing is kept as well.
const ENTRY_BYTES: u64 = 300;

#[derive(Default)]
struct Entries {
    by_key: BTreeMap<Arc<Key>, Entry>,
    /// By [`Entry::used`].
    by_use: BTreeMap<u64, Arc<Key>>,
    /// The same for each tenant.
    by_tenant_use: BTreeMap<(TenantId, u64), Arc<Key>>,
    /// What all entries hold, and those of each tenant.
    bytes: u64,
    tenant_bytes: BTreeMap<TenantId, u64>,
    clock: u64,
}

impl RangeCache {
    /// A tenant has at most a quarter of it.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, tenant_bytes_max: bytes_max / 4, entries: Mutex::default(), counters: RangeCacheCounters::default() }
    }

    /// The answer that `engine` would give, with what is known of it.
    pub fn range(
        &self,
        engine: &Engine,
        tenant: TenantId,
        source: &dyn MetricSource,
        expr: &Expr,
        steps: Steps,
        budget: &Budget,
    ) -> Result<QueryOutput> {
        // Read before the data: what changes meanwhile is then found to have changed.
        let version = source.version();
        let is_aligned = steps.step_ms > 0 && steps.end_ms >= steps.start_ms && steps.start_ms.rem_euclid(steps.step_ms) == 0;
        let (true, Some(version)) = (is_aligned && is_kept(expr), version) else {
            return self.bypass(engine, source, expr, steps, budget);
        };
        let (first_ms, last_ms) = (steps.start_ms, steps.last_ms());
        let key = Key {
            tenant,
            query: format!("{expr} {:?}", engine.options().source_resolution),
            lookback_ms: engine.options().lookback_ms,
            step_ms: steps.step_ms,
            steps: (last_ms - first_ms) / steps.step_ms,
        };
        let known = self.known(&key, source, metrics_of(expr).as_deref(), (first_ms, last_ms));
        let mut parts = Vec::new();
        let evaluate = |start_ms: i64, end_ms: i64| {
            let count = (end_ms - start_ms) / steps.step_ms + 1;
            self.counters.steps_evaluated.fetch_add(count as u64, Ordering::Relaxed);
            engine.range(source, expr, start_ms, end_ms, steps.step_ms, budget)
        };
        match known {
            None => parts.push(evaluate(first_ms, last_ms)?),
            Some(known) => {
                budget.charge(known.bytes)?;
                if first_ms < known.first_ms {
                    parts.push(evaluate(first_ms, known.first_ms - steps.step_ms)?);
                }
                let (from_ms, to_ms) = (known.last_ms + steps.step_ms, known.first_ms);
                let reused = (known.last_ms - to_ms) / steps.step_ms + 1;
                self.counters.steps_reused.fetch_add(reused as u64, Ordering::Relaxed);
                parts.push(QueryOutput { value: Value::Matrix(known.series), warnings: Vec::new(), infos: Vec::new() });
                if from_ms <= last_ms {
                    parts.push(evaluate(from_ms, last_ms)?);
                }
            }
        }
        let output = joined(parts);
        self.keep(key, &output, (first_ms, last_ms), version);
        Ok(output)
    }

    /// The answer without anything known.
    pub fn bypass(
        &self,
        engine: &Engine,
        source: &dyn MetricSource,
        expr: &Expr,
        steps: Steps,
        budget: &Budget,
    ) -> Result<QueryOutput> {
        self.counters.bypassed.fetch_add(1, Ordering::Relaxed);
        engine.range(source, expr, steps.start_ms, steps.end_ms, steps.step_ms, budget)
    }

    /// What is still right of an entry, within the steps that are asked for.
    fn known(
        &self,
        key: &Key,
        source: &dyn MetricSource,
        metrics: Option<&[String]>,
        (first_ms, last_ms): (i64, i64),
    ) -> Option<Entry> {
        let mut entries = self.entries.lock();
        let entry = entries.used(key)?;
        let changed_ms = source.changed_since(entry.version, metrics)?;
        let (from_ms, mut to_ms) = (entry.first_ms.max(first_ms), entry.last_ms.min(last_ms));
        if changed_ms <= to_ms {
            // Steps count from zero, as all here are multiples of their width.
            to_ms = changed_ms.checked_sub(1)?.div_euclid(key.step_ms) * key.step_ms;
        }
        if to_ms < from_ms {
            return None;
        }
        let series = entry.series.iter().filter_map(|series| {
            let from = series.points.partition_point(|(at_ms, _)| *at_ms < from_ms);
            let to = series.points.partition_point(|(at_ms, _)| *at_ms <= to_ms);
            (from < to).then(|| Series { labels: series.labels.clone(), points: series.points[from..to].to_vec() })
        });
        let series = series.collect();
        Some(Entry { first_ms: from_ms, last_ms: to_ms, series, ..*entry })
    }

    fn keep(&self, key: Key, output: &QueryOutput, (first_ms, last_ms): (i64, i64), version: u64) {
        let Value::Matrix(series) = &output.value else { return };
        // Notes are of the whole; and what is told of a histogram depends on the one before it.
        let is_plain = series.iter().all(|series| series.points.iter().all(|(_, point)| matches!(point, Point::Float(_))));
        let bytes = bytes_of(series) + key.query.len() as u64 + ENTRY_BYTES;
        if !output.warnings.is_empty() || !output.infos.is_empty() || !is_plain || bytes > self.tenant_bytes_max / 4 {
            return;
        }
        let mut entries = self.entries.lock();
        let tenant = key.tenant;
        entries.insert(key, Entry { first_ms, last_ms, series: series.clone(), version, bytes, used: 0 });
        while entries.tenant_bytes.get(&tenant).is_some_and(|bytes| *bytes > self.tenant_bytes_max) {
            let oldest = entries.by_tenant_use.range((tenant, 0)..=(tenant, u64::MAX)).next();
            let Some(oldest) = oldest.map(|(_, key)| key.clone()) else { break };
            entries.remove(&oldest);
        }
        while entries.bytes > self.bytes_max {
            let Some(oldest) = entries.by_use.values().next().cloned() else { break };
            entries.remove(&oldest);
        }
        self.counters.bytes.store(entries.bytes, Ordering::Relaxed);
    }
}

impl Entries {
    /// An entry, which is now the one that was used last.
    fn used(&mut self, key: &Key) -> Option<&Entry> {
        let entry = self.by_key.get_mut(key)?;
        self.clock += 1;
        let before = std::mem::replace(&mut entry.used, self.clock);
        let key = self.by_use.remove(&before)?;
        self.by_tenant_use.remove(&(key.tenant, before));
        self.by_tenant_use.insert((key.tenant, self.clock), key.clone());
        self.by_use.insert(self.clock, key);
        Some(entry)
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.remove(&key);
        self.clock += 1;
        let (key, used) = (Arc::new(key), self.clock);
        self.bytes += entry.bytes;
        *self.tenant_bytes.entry(key.tenant).or_default() += entry.bytes;
        self.by_use.insert(used, key.clone());
        self.by_tenant_use.insert((key.tenant, used), key.clone());
        self.by_key.insert(key, Entry { used, ..entry });
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.by_key.remove(key) else { return };
        self.by_use.remove(&entry.used);
        self.by_tenant_use.remove(&(key.tenant, entry.used));
        self.bytes -= entry.bytes;
        if let Some(bytes) = self.tenant_bytes.get_mut(&key.tenant) {
            *bytes -= entry.bytes;
            if *bytes == 0 {
                self.tenant_bytes.remove(&key.tenant);
            }
        }
    }
}

fn bytes_of(series: &[Series]) -> u64 {
    let one = |series: &Series| {
        let labels: usize = series.labels.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        series.points.len() * size_of::<(i64, Point)>() + labels + 128
    };
    series.iter().map(|series| one(series) as u64).sum()
}

/// Answers over spans that follow each other as one.
fn joined(mut parts: Vec<QueryOutput>) -> QueryOutput {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut by_labels: BTreeMap<Labels, Vec<(i64, Point)>> = BTreeMap::new();
    let (mut warnings, mut infos) = (Vec::new(), Vec::new());
    for part in parts {
        warnings.extend(part.warnings);
        infos.extend(part.infos);
        let Value::Matrix(series) = part.value else { continue };
        for one in series {
            by_labels.entry(one.labels).or_default().extend(one.points);
        }
    }
    for notes in [&mut warnings, &mut infos] {
        notes.sort();
        notes.dedup();
    }
    let series = by_labels.into_iter().map(|(labels, points)| Series { labels, points });
    QueryOutput { value: Value::Matrix(series.collect()), warnings, infos }
}

/// The metrics that an expression reads; `None` where a selector does not name its metric.
fn metrics_of(expr: &Expr) -> Option<Vec<String>> {
    if let ExprKind::Vector(selector) = &expr.kind {
        let mut names = selector.matchers.iter().filter(|matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal);
        return names.next().map(|matcher| vec![matcher.value.clone()]);
    }
    let mut all = Vec::new();
    for child in expr.children() {
        all.extend(metrics_of(child)?);
    }
    Some(all)
}

/// Whether each step depends only on samples up to its own time, and on nothing of the query around it.
fn is_kept(expr: &Expr) -> bool {
    let constant = |duration: &DurationExpr| matches!(duration, DurationExpr::Seconds { value, .. } if *value >= 0.0);
    let back = |offset: &Option<DurationExpr>| offset.as_ref().is_none_or(constant);
    let itself = match &expr.kind {
        ExprKind::Vector(selector) => selector.at.is_none() && selector.extension == Extension::None && back(&selector.offset),
        ExprKind::Matrix { range, .. } => constant(range),
        ExprKind::Subquery { range, step, offset, at, .. } => at.is_none() && constant(range) && back(step) && back(offset),
        ExprKind::Call { function, .. } => !matches!(function.name, "start" | "end" | "range" | "step" | "info"),
        ExprKind::Aggregate { op, .. } => !matches!(op, AggregateOp::Limitk | AggregateOp::LimitRatio),
        _ => true,
    };
    itself && expr.children().into_iter().all(is_kept)
}
