//! Calendar functions (in UTC) and the times of samples.

use super::call::{Sink, argument};
use crate::engine::{Column, Context, Sample, StepSeries, Wanted, instants_each, vector_each};
use crate::syntax::ast::{Expr, ExprKind};
use br_model::Labels;
use br_std::Result;
use jiff::civil::DateTime;

/// `None` when the function is not one of these.
pub(super) fn evaluate(context: &Context, name: &str, arguments: &[Expr], sink: &mut Sink) -> Option<Result<()>> {
    let part: Part = match name {
        "minute" => |time, _| f64::from(time.minute()),
        "hour" => |time, _| f64::from(time.hour()),
        "day_of_month" => |time, _| f64::from(time.day()),
        "day_of_week" => |time, _| f64::from(time.weekday().to_sunday_zero_offset()),
        "day_of_year" => |time, _| f64::from(time.day_of_year()),
        "days_in_month" => |time, _| f64::from(time.days_in_month()),
        "month" => |time, _| f64::from(time.month()),
        "year" => |time, years| f64::from(time.year()) + years,
        _ => return None,
    };
    Some(calendar(context, arguments, part, sink))
}

/// A part of a date that was read in another era, with the years that are to be added.
type Part = fn(&DateTime, f64) -> f64;

/// After so many years dates and weekdays come again.
const ERA_YEARS: f64 = 400.0;
const ERA_SECS: i64 = 146_097 * 86_400;

/// A time in seconds to a part of its date; NaN where there is no such date.
fn read(secs: f64, part: Part) -> f64 {
    if !secs.is_finite() {
        return f64::NAN;
    }
    let secs = secs as i64;
    // Of years that the library does not know the date is that of the same time in another era.
    let eras = secs.div_euclid(ERA_SECS);
    jiff::Timestamp::from_second(secs.rem_euclid(ERA_SECS))
        .map_or(f64::NAN, |time| part(&jiff::tz::TimeZone::UTC.to_datetime(time), eras as f64 * ERA_YEARS))
}

fn calendar(context: &Context, arguments: &[Expr], part: Part, sink: &mut Sink) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_no_last_year() {
        let year: Part = |time, years| f64::from(time.year()) + years;
        let day: Part = |time, _| f64::from(time.day_of_year());
        let weekday: Part = |time, _| f64::from(time.weekday().to_sunday_zero_offset());
        let parts = |secs| (read(secs, year), read(secs, day), read(secs, weekday));
        assert_eq!(parts(0.0), (1970.0, 1.0, 4.0));
        assert_eq!(parts(-1.0), (1969.0, 365.0, 3.0));
        assert_eq!(parts(253_402_300_800.0), (10_000.0, 1.0, 6.0));
        assert_eq!(parts(-62_167_219_201.0), (-1.0, 365.0, 5.0));
        assert!(read(f64::INFINITY, year).is_nan());
    }
}
