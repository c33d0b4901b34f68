//! PromQL: what is read is printed so that it reads back, and evaluates to an answer or an error within its budget.
#![no_main]

use br_model::Labels;
use br_promql::{Engine, Options, Pretty, parse};
use br_std::Result;
use br_storage::testing::{AtOnce, SelectOnly};
use br_storage::{Budget, Points, SeriesCursor, SeriesData, SeriesQuery, Values};
use libfuzzer_sys::fuzz_target;

/// A handful of series, whatever the matchers say: the fewer match, the less is run.
struct Tiny;

impl SelectOnly for Tiny {
    fn select_only<'a>(&'a self, query: &SeriesQuery, _: &'a Budget) -> Result<Box<dyn SeriesCursor + 'a>> {
        let values = [1.0, 5.0, f64::NAN, 2.0, f64::INFINITY, f64::from_bits(0x7ff0_0000_0000_0002), -3.0, 0.0, 7.5, 7.5];
        let series =
            [("a", "1"), ("a", "+Inf"), ("b", "0.5"), ("", "x")].into_iter().enumerate().filter_map(|(at, (job, le))| {
                let labels = Labels::from_pairs([("__name__", "m"), ("job", job), ("le", le)]);
                let kept = (0..40).map(|sample| (sample as i64 * 15_000, values[(sample * (at + 1)) % values.len()]));
                let kept: Vec<_> = kept.filter(|(at_ms, _)| (query.from_ms..=query.to_ms).contains(at_ms)).collect();
                let (times, values): (Vec<i64>, Vec<f64>) = kept.into_iter().unzip();
                let points =
                    Points { timestamps_ms: times.into(), values: Values::Floats(values), starts_ms: None, weights: None };
                (!points.is_empty()).then_some(SeriesData { labels, points })
            });
        Ok(AtOnce::new(series))
    }
}

/// Infinity is written with its sign, as Prometheus does: before an operator that binds closer the sign comes back as one of its own,
/// which changes nothing.
fn told(expr: &impl ToString) -> String {
    let mut text = expr.to_string();
    while text.contains("++Inf") {
        text = text.replace("++Inf", "+Inf");
    }
    text
}

fuzz_target!(|text: &str| {
    let Ok(expr) = parse(text) else { return };
    let printed = expr.to_string();
    let again = parse(&printed).unwrap_or_else(|errors| panic!("{text:?} is printed as {printed:?}: {errors}"));
    assert_eq!(told(&again), told(&printed), "{text:?}");
    let lines = Pretty(&expr).to_string();
    let again = parse(&lines).unwrap_or_else(|errors| panic!("{text:?} is printed as {lines:?}: {errors}"));
    assert_eq!(told(&again), told(&printed), "{text:?} as {lines:?}");
    // Few steps: what is looked for is a panic or memory beyond the budget, not how long a year takes.
    let engine = Engine::new(Options { steps_max: 500, ..Options::default() });
    let _ = engine.instant(&Tiny, &expr, 450_500, &Budget::new(16 << 20));
    let _ = engine.range(&Tiny, &expr, 300_000, 600_000, 60_000, &Budget::new(16 << 20));
});
