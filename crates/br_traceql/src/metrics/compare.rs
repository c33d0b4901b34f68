//! `compare({selection}, topN, start, end)`: how often each value of each attribute occurs in the selection and in the rest.

use super::spans::function_parts;
use super::{Evaluator, Key, Line, SeriesMap};
use crate::ast::{MetricFunction, Pipeline, Spanset};
use crate::attribute::{View, holds};
use br_model::AttributeValue;
use br_std::{Nanos, Result};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

/// Values of each attribute that are shown when the query does not say.
const TOP_DEFAULT: usize = 10;
/// An attribute with more values than these says nothing: which ones are the commonest is not found out.
const VALUES_MAX: usize = 1000;
/// Attributes beyond these are left out.
const NAMES_MAX: usize = 1000;
const VALUE_BYTES: u64 = 128;

/// Of one attribute: spans by step that have it, and that have each value.
#[derive(Default)]
struct Counts {
    total: Vec<u32>,
    /// By the text of the value with its type.
    values: HashMap<String, (AttributeValue, Vec<u32>)>,
    has_too_many: bool,
}

/// Spans that are selected, or that are not.
#[derive(Default)]
struct Side {
    /// By scope and name.
    attributes: BTreeMap<&'static str, BTreeMap<String, Counts>>,
    names: usize,
    /// For the text of a value.
    text: String,
}

pub(super) fn compare(evaluator: &Evaluator<'_>, pipeline: &Pipeline, function: &MetricFunction) -> Result<SeriesMap> {
    let Some(Spanset::Filter(selection)) = function.selection.as_deref() else { return Ok(SeriesMap::new()) };
    let number = |at: usize| function.quantiles.get(at).copied();
    let top = number(0).map_or(TOP_DEFAULT, |count| count.max(1.0) as usize);
    let is_selected_time = |time: Nanos| {
        let nanos = time.0 as f64;
        number(1).is_none_or(|from| nanos >= from) && number(2).is_none_or(|to| to <= 0.0 || nanos < to)
    };
    let mut parts = function_parts(pipeline, function);
    (parts.keys, parts.texts) = (None, true);
    let (mut baseline, mut selected) = (Side::default(), Side::default());
    evaluator.spans().each(pipeline, function, &parts, &mut |view| {
        let is_selected = holds(view, selection) && is_selected_time(view.stored.span.start);
        let side = if is_selected { &mut selected } else { &mut baseline };
        evaluator.count_span(side, view)
    })?;
    let mut series = SeriesMap::new();
    for (side, word) in [(baseline, "baseline"), (selected, "selection")] {
        shown(side, word, top, &mut series);
    }
    Ok(series)
}

/// A value that a span has.
#[derive(Clone, Copy)]
enum Seen<'a> {
    Text(&'a str),
    Value(&'a AttributeValue),
}

impl Seen<'_> {
    fn owned(self) -> AttributeValue {
        match self {
            Self::Text(text) => AttributeValue::String(text.to_owned()),
            Self::Value(value) => value.clone(),
        }
    }

    /// Writes it so that values of different types differ.
    fn write(self, out: &mut String) {
        out.clear();
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Value(AttributeValue::String(text)) => out.push_str(text),
            // Text in memory takes it; no text of a span begins like this.
            Self::Value(value) => _ = write!(out, "\0{value:?}"),
        }
    }
}

impl Evaluator<'_> {
    /// Counts everything about a span that another may have in common with it, each name once.
    fn count_span(&self, side: &mut Side, view: View<'_>) -> Result<()> {
        let stored = view.stored;
        let span = &stored.span;
        let step = self.step_of(span.start);
        let mut count = |scope, name: &str, value| self.count(side, step, (scope, name), value);
        count("", "name", Seen::Text(&span.name))?;
        count("", "kind", Seen::Text(span.kind.as_str()))?;
        count("", "status", Seen::Text(span.status.as_str()))?;
        if !span.status_message.is_empty() {
            count("", "statusMessage", Seen::Text(&span.status_message))?;
        }
        if let Some(root) = view.trace.and_then(|(trace, _)| trace.root()) {
            count("", "rootName", Seen::Text(&root.span.name))?;
            count("", "rootServiceName", Seen::Text(root.resource.service_name()))?;
        }
        for (scope, attributes) in [("span.", &span.attributes), ("resource.", &stored.resource.attributes)] {
            let mut seen = BTreeSet::new();
            for (key, value) in attributes.iter().filter(|(_, value)| *value != AttributeValue::Empty) {
                if seen.insert(key.as_str()) {
                    count(scope, key, Seen::Value(value))?;
                }
            }
        }
        Ok(())
    }

    fn count(&self, side: &mut Side, step: usize, (scope, name): (&'static str, &str), value: Seen<'_>) -> Result<()> {
        let row_bytes = 4 * self.steps as u64 + VALUE_BYTES;
        let names = side.attributes.entry(scope).or_default();
        if !names.contains_key(name) {
            if side.names >= NAMES_MAX {
                return Ok(());
            }
            side.names += 1;
            self.budget.charge(row_bytes + name.len() as u64)?;
            names.insert(name.to_owned(), Counts { total: vec![0; self.steps], ..Counts::default() });
        }
        let Some(counts) = names.get_mut(name) else { return Ok(()) };
        counts.total[step] += 1;
        if counts.has_too_many {
            return Ok(());
        }
        value.write(&mut side.text);
        if let Some((_, steps)) = counts.values.get_mut(&side.text) {
            steps[step] += 1;
            return Ok(());
        }
        if counts.values.len() >= VALUES_MAX {
            counts.has_too_many = true;
            counts.values = HashMap::new();
            return Ok(());
        }
        self.budget.charge(row_bytes + 2 * side.text.len() as u64)?;
        let mut steps = vec![0; self.steps];
        steps[step] = 1;
        counts.values.insert(side.text.clone(), (value.owned(), steps));
        Ok(())
    }
}

const META: &str = "__meta_type";

fn shown(side: Side, word: &str, top: usize, series: &mut SeriesMap) {
    let line = |steps: Vec<u32>| Line::of(steps.into_iter().map(|count| Some(f64::from(count))).collect());
    let label = |name: &str, value: &str| (name.to_owned(), AttributeValue::String(value.to_owned()));
    for (scope, names) in side.attributes {
        for (name, counts) in names {
            let name = format!("{scope}{name}");
            if counts.has_too_many {
                let nil = (name.clone(), AttributeValue::Empty);
                let labels = vec![label(META, word), label("__meta_error", "__too_many_values__"), nil];
                series.insert(Key::new(labels), line(vec![0; counts.total.len()]));
            }
            // The commonest first, of equally common ones the first by text.
            let mut unsorted: Vec<(String, (AttributeValue, Vec<u32>))> = counts.values.into_iter().collect();
            let total = |steps: &[u32]| Reverse(steps.iter().map(|count| u64::from(*count)).sum::<u64>());
            unsorted.sort_by(|one, other| (total(&one.1.1), &one.0).cmp(&(total(&other.1.1), &other.0)));
            for (_, (value, steps)) in unsorted.into_iter().take(top) {
                series.insert(Key::new(vec![label(META, word), (name.clone(), value)]), line(steps));
            }
            let labels = vec![label(META, &format!("{word}_total")), (name, AttributeValue::Empty)];
            series.insert(Key::new(labels), line(counts.total));
        }
    }
}
