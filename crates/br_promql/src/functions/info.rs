//! `info`: adds the labels of info metrics, such as `target_info`, to series of the same job and instance.

use super::call::{Sink, argument};
use crate::engine::{Column, Context, Reference, StepSeries, Wanted, instants_each, labels_bytes, vector};
use crate::syntax::ast::{At, DurationExpr, Expr, ExprKind, Extension, VectorSelector};
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_std::{Error, Result};
use br_storage::{MatchOp, Matcher};
use std::collections::{BTreeMap, HashMap};

/// By these an info series belongs to another.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const DEFAULT_NAME: &str = "target_info";
/// What an info metric is called, where only names that it has not are given.
const ANY_INFO_NAME: &str = ".+_info";

pub(super) fn evaluate(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let expr = argument(arguments, 0, "info")?;
    let wanted = wanted(arguments.get(1))?;
    let base = vector(context, expr)?;
    if base.is_empty() {
        return Ok(());
    }
    let infos = read(context, expr, &wanted)?;
    let mut results: HashMap<(Labels, bool), usize> = HashMap::new();
    let mut all: Vec<StepSeries> = Vec::new();
    for series in base {
        if wanted.is_info(&series.labels) {
            sink(series)?;
            continue;
        }
        let partners = infos.get(&identity(&series.labels)).map_or(&[][..], Vec::as_slice);
        for step in 0..context.steps() {
            context.budget.check()?;
            let Some(sample) = series.points.get(step) else { continue };
            let Some(labels) = enriched(&series.labels, partners, step, &wanted)? else { continue };
            let key = (labels, series.drop_name);
            let at = if let Some(known) = results.get(&key) {
                *known
            } else {
                context.budget.charge(Column::absent_bytes(context.steps()) + labels_bytes(&key.0))?;
                let points = Column::absent(context.steps());
                all.push(StepSeries { labels: key.0.clone(), drop_name: series.drop_name, points });
                results.insert(key, all.len() - 1);
                all.len() - 1
            };
            all[at].points.set(step, Some(sample));
        }
    }
    all.into_iter().try_for_each(sink)
}

/// Which info series, and which of their labels.
struct WantedInfo {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

fn wanted(labels: Option<&Expr>) -> Result<WantedInfo> {
    let matchers = match labels.map(|expr| &expr.without_parens().kind) {
        Some(ExprKind::Vector(selector)) => selector.matchers.clone(),
        Some(_) => return Err(Error::fix_request("info takes a label selector as its second argument")),
        None => Vec::new(),
    };
    let (mut names, data): (Vec<Matcher>, Vec<Matcher>) = matchers.into_iter().partition(|matcher| matcher.name == METRIC_NAME);
    let is_positive = |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, DEFAULT_NAME));
    } else if !names.iter().any(is_positive) {
        names.push(Matcher::new(MatchOp::Regex, METRIC_NAME, ANY_INFO_NAME)?);
    }
    Ok(WantedInfo { names, data })
}

impl WantedInfo {
    fn is_info(&self, labels: &Labels) -> bool {
        self.names.iter().all(|matcher| matcher.matches(labels.metric_name()))
    }

    fn takes(&self, name: &str) -> bool {
        let is_identity = IDENTIFYING.contains(&name) || name == METRIC_NAME;
        if self.data.is_empty() { !is_identity } else { self.data.iter().any(|matcher| matcher.name == name) }
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.only(|name| IDENTIFYING.contains(&name))
}

/// An info series with the times of the samples that each step sees.
struct InfoSeries {
    labels: Labels,
    times: Column,
}

fn read(context: &Context, base: &Expr, wanted: &WantedInfo) -> Result<HashMap<Labels, Vec<InfoSeries>>> {
    let reference = reference(context, base)?.unwrap_or(Reference { at_ms: None, offset_ms: 0 });
    let offset = DurationExpr::Seconds { value: reference.offset_ms as f64 / 1000.0, is_duration: true };
    let selector = VectorSelector {
        name: None,
        matchers: wanted.names.iter().chain(&wanted.data).cloned().collect(),
        offset: Some(offset),
        at: reference.at_ms.map(At::Millis),
        extension: Extension::None,
    };
    instants_each(context, base.span, &selector, Wanted::Value, &mut |series| {
        if series.points.has_histograms() {
            let message = format!("info() should be used only with float info metrics, got a histogram: {}", series.labels);
            return Err(Error::fix_request(message));
        }
        Ok(())
    })?;
    let mut infos: HashMap<Labels, Vec<InfoSeries>> = HashMap::new();
    instants_each(context, base.span, &selector, Wanted::Time, &mut |series| {
        let identity = identity(&series.labels);
        if !identity.is_empty() {
            context.budget.charge(series.points.bytes() + labels_bytes(&identity))?;
            infos.entry(identity).or_default().push(InfoSeries { labels: series.labels, times: series.points });
        }
        Ok(())
    })?;
    Ok(infos)
}

/// The time that the first selector below an expression looks at.
fn reference(context: &Context, expr: &Expr) -> Result<Option<Reference>> {
    match &expr.kind {
        ExprKind::Vector(selector) => context.reference(selector.offset.as_ref(), selector.at).map(Some),
        ExprKind::Subquery { expr, offset, at, .. } => {
            let Some(inner) = reference(context, expr)? else { return Ok(None) };
            if inner.at_ms.is_some() {
                return Ok(Some(inner));
            }
            let outer = context.reference(offset.as_ref(), *at)?;
            let offset_ms = outer.offset_ms.saturating_add(inner.offset_ms);
            Ok(Some(Reference { at_ms: outer.at_ms, offset_ms }))
        }
        _ => {
            for child in expr.children() {
                if let Some(found) = reference(context, child)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}

/// The labels with those of the info series at a step; `None` where the selector asks for a label that none has.
fn enriched(base: &Labels, partners: &[InfoSeries], step: usize, wanted: &WantedInfo) -> Result<Option<Labels>> {
    let mut latest: BTreeMap<&str, (f64, &Labels)> = BTreeMap::new();
    for partner in partners {
        let Some(time) = partner.times.float(step) else { continue };
        let entry = latest.entry(partner.labels.metric_name()).or_insert((time, &partner.labels));
        if time > entry.0 {
            *entry = (time, &partner.labels);
        }
    }
    if latest.is_empty() {
        let any = wanted.data.iter().all(Matcher::matches_empty);
        return Ok(any.then(|| base.clone()));
    }
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, labels) in latest.values() {
        for (name, value) in labels.iter().filter(|(name, _)| wanted.takes(name) && base.get(name).is_none()) {
            let before = added.insert(name, value);
            if before.is_some_and(|before| before != value) {
                return Err(Error::fix_request(format!("conflicting label: {name}")));
            }
        }
    }
    let mut builder = base.to_builder();
    for (name, value) in added {
        builder.set(name, value);
    }
    Ok(Some(builder.build()))
}
