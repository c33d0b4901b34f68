//! `label_replace` and `label_join`.

use super::call::{Sink, argument, text};
use crate::engine::{Context, StepSeries, vector_each};
use crate::syntax::ast::Expr;
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_std::{Error, Result};
use regex::{Regex, RegexBuilder};
use std::collections::HashMap;

/// What a compiled expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

pub(super) fn replace(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let name = "label_replace";
    let target = label_name(text_or_invalid(arguments, 1)?, "destination", name)?;
    let replacement = text(arguments, 2, name)?;
    let source = text(arguments, 3, name)?;
    let pattern = text(arguments, 4, name)?;
    let regex = RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|_| Error::fix_request(format!("invalid regular expression in label_replace(): {pattern}")))?;
    let mut joined = Relabeled::default();
    vector_each(context, argument(arguments, 0, name)?, &mut |series| {
        let value = series.labels.get(source).unwrap_or("");
        let Some(captures) = regex.captures(value) else {
            return joined.take(series, None);
        };
        let value = expand(replacement, &regex, &captures);
        joined.take(series, Some((target, &value)))
    })?;
    joined.finish(sink)
}

/// Go's template: `$1`, `$name`, `${name}`, `$$`; a group that does not exist is empty.
fn expand(template: &str, regex: &Regex, captures: &regex::Captures) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(braced) => braced,
            None => rest.split_at(rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())),
        };
        if name.is_empty() {
            out.push('$');
            continue;
        }
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => regex.capture_names().flatten().any(|known| known == name).then(|| captures.name(name)).flatten(),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}

pub(super) fn join(context: &Context, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let name = "label_join";
    let target = label_name(text_or_invalid(arguments, 1)?, "destination", name)?;
    let separator = text(arguments, 2, name)?;
    let mut sources = Vec::new();
    for at in 3..arguments.len() {
        sources.push(label_name(text(arguments, at, name)?, "source", name)?);
    }
    let mut joined = Relabeled::default();
    vector_each(context, argument(arguments, 0, name)?, &mut |series| {
        let values: Vec<&str> = sources.iter().map(|source| series.labels.get(source).unwrap_or("")).collect();
        let value = values.join(separator);
        joined.take(series, Some((target, &value)))
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
#[derive(Default)]
struct Relabeled {
    all: Vec<StepSeries>,
    by_labels: HashMap<(Labels, bool), usize>,
}

impl Relabeled {
    fn take(&mut self, mut series: StepSeries, change: Option<(&str, &str)>) -> Result<()> {
        if let Some((name, value)) = change {
            let mut builder = series.labels.to_builder();
            builder.set(name, value);
            series.labels = builder.build();
            if name == METRIC_NAME {
                series.drop_name = false;
            }
        }
        let key = (series.labels.clone(), series.drop_name);
        let Some(known) = self.by_labels.get(&key) else {
            self.by_labels.insert(key, self.all.len());
            self.all.push(series);
            return Ok(());
        };
        let merged = &mut self.all[*known].points;
        for step in 0..merged.len() {
            let Some(sample) = series.points.get(step) else { continue };
            if merged.is_present(step) {
                return Err(Error::fix_request("vector cannot contain metrics with the same labelset"));
            }
            merged.set(step, Some(sample));
        }
        Ok(())
    }

    fn finish(self, sink: &mut Sink) -> Result<()> {
        self.all.into_iter().try_for_each(sink)
    }
}
