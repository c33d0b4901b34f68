//! `label_replace` and `label_join`.

use super::call::{Sink, argument, text};
use crate::engine::{Context, StepSeries, labels_bytes, vector_each};
use crate::syntax::ast::Expr;
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_std::re2::{Mode, Regex};
use br_std::text::{BoundedText, TooLong};
use br_std::{Error, Result};
use std::collections::HashMap;

/// Names and values of one series' labels together. A value that is made of itself ten times over and over grows to any size.
const LABEL_BYTES_MAX: usize = 64 << 10;

pub(super) fn replace(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let name = "label_replace";
    let target = label_name(text_or_invalid(arguments, 1)?, "destination", name)?;
    let replacement = text(arguments, 2, name)?;
    let source = text(arguments, 3, name)?;
    let pattern = text(arguments, 4, name)?;
    let regex = Regex::new(pattern, Mode::Whole)
        .map_err(|_| Error::fix_request(format!("invalid regular expression in label_replace(): {pattern}")))?;
    context.budget.charge(regex.heap_bytes() as u64)?;
    let mut joined = Relabeled::new(context);
    vector_each(context, argument(arguments, 0, name)?, &mut |series| {
        let value = series.labels.get(source).unwrap_or("");
        let Some(captures) = regex.captures(value) else {
            return joined.take(series, None);
        };
        let mut value = BoundedText::new(LABEL_BYTES_MAX);
        value.push_expanded(replacement, &|name| captures.group(name)).map_err(too_long)?;
        joined.take(series, Some((target, value.as_str())))
    })?;
    context.budget.release(regex.heap_bytes() as u64);
    joined.finish(sink)
}

fn too_long(error: TooLong) -> Error {
    Error::over_limit(format!("the labels of one series may have {} bytes: a label made here would have more", error.bytes_max))
}

pub(super) fn join(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let name = "label_join";
    let target = label_name(text_or_invalid(arguments, 1)?, "destination", name)?;
    let separator = text(arguments, 2, name)?;
    let mut sources = Vec::new();
    for at in 3..arguments.len() {
        sources.push(label_name(text(arguments, at, name)?, "source", name)?);
    }
    let mut joined = Relabeled::new(context);
    vector_each(context, argument(arguments, 0, name)?, &mut |series| {
        let mut value = BoundedText::new(LABEL_BYTES_MAX);
        for (at, source) in sources.iter().enumerate() {
            let separator = if at > 0 { separator } else { "" };
            value.push_str(separator).map_err(too_long)?;
            value.push_str(series.labels.get(source).unwrap_or("")).map_err(too_long)?;
        }
        joined.take(series, Some((target, value.as_str())))
    })?;
    joined.finish(sink)
}

fn text_or_invalid(arguments: &[Expr], at: usize) -> Result<&str> {
    text(arguments, at, "label_replace").map_err(|error| error.context("invalid destination label name"))
}

fn label_name<'n>(name: &'n str, what: &str, function: &str) -> Result<&'n str> {
    if name.is_empty() {
        return Err(Error::fix_request(format!("invalid {what} label name in {function}(): {name}")));
    }
    Ok(name)
}

/// Collects results: two series that become the same may not both have a value at a step.
struct Relabeled<'c> {
    context: &'c Context<'c>,
    all: Vec<StepSeries>,
    by_labels: HashMap<(Labels, bool), usize>,
    /// Charged for what is held here.
    bytes: u64,
}

impl<'c> Relabeled<'c> {
    fn new(context: &'c Context<'c>) -> Self {
        Self { context, all: Vec::new(), by_labels: HashMap::new(), bytes: 0 }
    }

    fn charge(&mut self, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        self.context.budget.charge(bytes)
    }

    fn take(&mut self, mut series: StepSeries, change: Option<(&str, &str)>) -> Result<()> {
        if let Some((name, value)) = change {
            let mut builder = series.labels.to_builder();
            builder.set(name, value);
            series.labels = builder.build();
            let bytes: usize = series.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
            if bytes > LABEL_BYTES_MAX {
                return Err(too_long(TooLong { bytes_max: LABEL_BYTES_MAX }));
            }
            // All texts: those that other calls within this one have made are held by nothing else.
            self.charge(labels_bytes(&series.labels) + bytes as u64)?;
            if name == METRIC_NAME {
                series.drop_name = false;
            }
        }
        let key = (series.labels.clone(), series.drop_name);
        let Some(known) = self.by_labels.get(&key) else {
            self.charge(series.points.bytes())?;
            self.by_labels.insert(key, self.all.len());
            self.all.push(series);
            return Ok(());
        };
        let (merged, mut bytes) = (&mut self.all[*known].points, 0);
        for step in 0..merged.len() {
            let Some(sample) = series.points.get(step) else { continue };
            if merged.is_present(step) {
                return Err(Error::fix_request("vector cannot contain metrics with the same labelset"));
            }
            bytes += merged.bytes_added(step, &sample);
            merged.set(step, Some(sample));
        }
        self.charge(bytes)
    }

    /// What is passed on is charged by whoever keeps it, and stays charged here until it is.
    fn finish(self, sink: &mut Sink) -> Result<()> {
        let Self { context, all, by_labels, mut bytes } = self;
        drop(by_labels);
        let mut left = all.len() as u64;
        for series in all {
            sink(series)?;
            let share = bytes / left;
            context.budget.release(share);
            (bytes, left) = (bytes - share, left - 1);
        }
        Ok(())
    }
}
