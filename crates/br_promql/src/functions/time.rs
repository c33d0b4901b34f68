//! Calendar functions (in UTC) and the times of samples.

use super::call::{Sink, argument};
use crate::engine::{Column, Context, Sample, StepSeries, Wanted, instants_each, vector_each};
use crate::syntax::ast::{Expr, ExprKind};
use br_model::Labels;
use br_std::Result;
use jiff::civil::DateTime;

/// `None` when the function is not one of these.
pub(super) fn evaluate(context: &Context, name: &str, arguments: &[Expr], sink: &mut Sink) -> Option<Result<()>> {
    let part: fn(&DateTime) -> f64 = match name {
        "minute" => |time| f64::from(time.minute()),
        "hour" => |time| f64::from(time.hour()),
        "day_of_month" => |time| f64::from(time.day()),
        "day_of_week" => |time| f64::from(time.weekday().to_sunday_zero_offset()),
        "day_of_year" => |time| f64::from(time.day_of_year()),
        "days_in_month" => |time| f64::from(time.days_in_month()),
        "month" => |time| f64::from(time.month()),
        "year" => |time| f64::from(time.year()),
        _ => return None,
    };
    Some(calendar(context, arguments, part, sink))
}

/// A time in seconds to a part of its date; NaN where there is no such date.
fn read(secs: f64, part: fn(&DateTime) -> f64) -> f64 {
    if !secs.is_finite() {
        return f64::NAN;
    }
    jiff::Timestamp::from_second(secs as i64).map_or(f64::NAN, |time| part(&jiff::tz::TimeZone::UTC.to_datetime(time)))
}

fn calendar(context: &Context, arguments: &[Expr], part: fn(&DateTime) -> f64, sink: &mut Sink) -> Result<()> {
    let Some(expr) = arguments.first() else {
        let times = (0..context.steps()).map(|step| context.timeline.time_ms(step) as f64 / 1000.0);
        let values = times.map(|secs| read(secs, part)).collect();
        return sink(StepSeries::new(Labels::empty(), Column::floats(values)));
    };
    let delayed = context.options.delayed_name_removal;
    vector_each(context, expr, &mut |mut series| {
        series.points.drop_histograms();
        series.points.map_floats(|_, secs| read(secs, part));
        series.mark_name_dropped(delayed);
        if series.points.is_all_absent() { Ok(()) } else { sink(series) }
    })
}

/// `timestamp` and `start_timestamp`: of a selector the sample's own, of anything else the step's time or nothing.
pub(super) fn of_samples(context: &Context, name: &str, arguments: &[Expr], sink: &mut Sink) -> Result<()> {
    let expr = argument(arguments, 0, name)?;
    let delayed = context.options.delayed_name_removal;
    let wanted = if name == "timestamp" { Wanted::Time } else { Wanted::Start };
    if let ExprKind::Vector(selector) = &expr.without_parens().kind {
        return instants_each(context, expr.span, selector, wanted, &mut |mut series| {
            series.mark_name_dropped(delayed);
            sink(series)
        });
    }
    if wanted == Wanted::Start {
        return vector_each(context, expr, &mut |_| Ok(()));
    }
    vector_each(context, expr, &mut |mut series| {
        for step in 0..series.points.len() {
            if series.points.is_present(step) {
                let secs = context.timeline.time_ms(step) as f64 / 1000.0;
                series.points.set(step, Some(Sample::Float(secs)));
            }
        }
        series.mark_name_dropped(delayed);
        sink(series)
    })
}
