//! Instant vector selectors: for each step the last sample that is not too old.

use super::by_times::ByTimes;
use super::context::{Context, Reference};
use super::eval::Sink;
use super::rollups::{Fit, goes_on, rollup_use};
use super::series::{Column, Sample, StepSeries};
use crate::annotations::Annotation;
use crate::functions::extended;
use crate::histogram;
use crate::syntax::ast::{Extension, VectorSelector};
use crate::syntax::span::Span;
use br_model::{CounterResetHint, FloatHistogram, Value};
use br_std::{Error, Result};
use br_storage::{BATCHES_AT_ONCE, Points, RollupUse, SeriesCursor, SeriesData, SeriesQuery, Values};
use std::sync::{Arc, mpsc};

/// What is wanted of the sample that a step finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Value,
    /// Its time, in seconds.
    Time,
    /// When its counter began, in seconds; 0 where nobody said.
    Start,
}

/// How many samples are looked at between two looks at the budget.
const CHECK_EVERY: usize = 256;

pub(crate) fn instants_each(
    context: &Context,
    span: Span,
    selector: &VectorSelector,
    wanted: Wanted,
    sink: &mut Sink,
) -> Result<()> {
    let reference = context.reference(selector.offset.as_ref(), selector.at)?;
    let (first_ms, last_ms) = context.reference_bounds(reference);
    let lookback_ms = context.options.lookback_ms;
    let smoothed = selector.extension == Extension::Smoothed;
    let to_ms = if smoothed { last_ms.saturating_add(lookback_ms) } else { last_ms };
    let from_ms = first_ms.saturating_sub(lookback_ms).saturating_add(1);
    let mut positions = Positions::default();
    let fit = if smoothed { Fit::About } else { Fit::Exact };
    let rollups = rollup_use(context, reference, 0, fit);
    read_each(context, selector, from_ms, to_ms, rollups, &mut |data| {
        let mut column = Column::absent(context.steps());
        let found = positions.of(context, reference, &data.points.timestamps_ms);
        let plain = if smoothed || wanted != Wanted::Value { None } else { plain_floats(&data.points) };
        if let Some(values) = plain {
            for (step, position) in found.iter().enumerate() {
                let Some(at) = (*position as usize).checked_sub(1) else { continue };
                let is_fresh = data.points.timestamps_ms[at] > context.reference_ms(reference, step).saturating_sub(lookback_ms);
                if is_fresh && !br_model::is_stale(values[at]) {
                    column.set_float(step, values[at]);
                }
            }
            return if column.is_all_absent() { Ok(()) } else { sink(StepSeries::new(data.labels, column)) };
        }
        for (step, position) in found.iter().enumerate() {
            let at_ms = context.reference_ms(reference, step);
            let sample = if smoothed && wanted == Wanted::Value {
                extended::smoothed_instant(context, &data, *position as usize, at_ms, span)
            } else {
                last_sample(&data.points, *position as usize, at_ms.saturating_sub(lookback_ms), wanted)
            };
            if sample.is_some() {
                column.set(step, sample);
            }
        }
        if column.is_all_absent() {
            return Ok(());
        }
        sink(StepSeries::new(data.labels, column))
    })
}

/// Floats of which each stands for itself.
fn plain_floats(points: &Points) -> Option<&[f64]> {
    match &points.values {
        Values::Floats(values) if points.weights.is_none() => Some(values),
        _ => None,
    }
}

/// The sample before `position`, unless it is too old or says that the series ended.
fn last_sample(points: &Points, position: usize, after_ms: i64, wanted: Wanted) -> Option<Sample> {
    let at = position.checked_sub(1)?;
    let time_ms = points.timestamps_ms[at];
    if time_ms <= after_ms && !goes_on(points, at) {
        return None;
    }
    match &points.values {
        Values::Floats(values) if wanted == Wanted::Value => {
            return (!br_model::is_stale(values[at])).then(|| Sample::Float(values[at]));
        }
        _ => {}
    }
    let value = points.value(at);
    if value.is_stale() {
        return None;
    }
    match wanted {
        Wanted::Value => Some(value.into()),
        Wanted::Time => Some(Sample::Float(time_ms as f64 / 1000.0)),
        Wanted::Start => {
            let start_ms = points.starts_ms.as_ref().and_then(|starts| starts.get(at).copied()).and_then(known_start);
            Some(Sample::Float(start_ms.unwrap_or(0) as f64 / 1000.0))
        }
    }
}

/// Zero is what older senders write for "not known".
pub(crate) fn known_start(start_ms: i64) -> Option<i64> {
    (start_ms != i64::MIN && start_ms != 0).then_some(start_ms)
}

/// For each step, how many samples lie at or before its time.
#[derive(Default)]
struct Positions(ByTimes<u32>);

impl Positions {
    fn of(&mut self, context: &Context, reference: Reference, timestamps_ms: &Arc<[i64]>) -> &[u32] {
        self.0.get(timestamps_ms, || {
            let mut at = 0;
            let position = |step| {
                let time_ms = context.reference_ms(reference, step);
                while timestamps_ms.get(at).is_some_and(|sample_ms| *sample_ms <= time_ms) {
                    at += 1;
                }
                at as u32
            };
            (0..context.steps()).map(position).collect()
        })
    }
}

/// Reads the series of a selector one by one.
pub(crate) fn read_each(
    context: &Context,
    selector: &VectorSelector,
    from_ms: i64,
    to_ms: i64,
    rollups: RollupUse,
    each: &mut dyn FnMut(SeriesData) -> Result<()>,
) -> Result<()> {
    let query = SeriesQuery { matchers: selector.matchers.clone(), from_ms, to_ms };
    let cursor = context.source.select_with(&query, rollups, context.budget)?;
    each_batch(cursor, &mut |batch| {
        for (at, mut data) in batch.into_iter().enumerate() {
            if at % CHECK_EVERY == 0 {
                context.budget.check()?;
            }
            if context.histogram_stats {
                find_resets(&mut data.points.values);
            }
            each(data)?;
        }
        Ok(())
    })
}

/// So many batches are read before it is worth a thread to read on while a batch is looked at.
const BATCHES_ALONE: usize = 4;

/// To read and decode samples takes about as long as to evaluate them: a large selection uses two cores.
fn each_batch(mut cursor: Box<dyn SeriesCursor + '_>, each: &mut dyn FnMut(Vec<SeriesData>) -> Result<()>) -> Result<()> {
    for _ in 0..BATCHES_ALONE {
        let Some(batch) = cursor.next_batch()? else { return Ok(()) };
        each(batch)?;
    }
    std::thread::scope(|scope| {
        // One batch is looked at, one is in here, and one is being read.
        let (sender, batches) = mpsc::sync_channel(BATCHES_AT_ONCE - 2);
        let read = move || {
            while let Some(batch) = cursor.next_batch().transpose() {
                let is_last = batch.is_err();
                if sender.send(batch).is_err() || is_last {
                    break;
                }
            }
            // What its batches are charged for goes with it: not before they were looked at.
            cursor
        };
        let reader = std::thread::Builder::new().name("promql-read".to_owned());
        let reader =
            reader.spawn_scoped(scope, read).map_err(|error| Error::retry(format!("no thread to read with: {error}")))?;
        let outcome = batches.into_iter().try_for_each(|batch| each(batch?));
        match reader.join() {
            Ok(cursor) => drop(cursor),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        outcome
    })
}

/// Says of each histogram of unknown kind whether a reset lies before it.
fn find_resets(values: &mut Values) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    let mut look = |histogram: &mut Arc<FloatHistogram>| {
        if br_model::is_stale(histogram.sum) {
            return;
        }
        let previous = before.replace(histogram.clone());
        if histogram.counter_reset_hint != CounterResetHint::Unknown {
            return;
        }
        if let Some(previous) = previous {
            let is_reset = histogram::is_reset(histogram, &previous);
            let hint = if is_reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
            Arc::make_mut(histogram).counter_reset_hint = hint;
        }
    };
    match values {
        Values::Floats(_) => {}
        Values::Histograms(histograms) => histograms.iter_mut().for_each(look),
        Values::Mixed(values) => {
            for value in values {
                if let Value::Histogram(histogram) = value {
                    look(histogram);
                }
            }
        }
    }
}

pub(crate) fn mixed_note(context: &Context, labels: &br_model::Labels, span: Span) {
    let metric = labels.metric_name().to_owned();
    context.note(&Annotation::MixedFloatsHistograms { metric }, span);
}
