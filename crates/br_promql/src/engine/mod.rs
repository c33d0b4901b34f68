//! The evaluator: an expression over a source of series, at one instant or over a range.
//!
//! A vector is evaluated for all steps of the query at once, one column per series. Selectors and the functions on them
//! hand their series on one by one, so that an aggregation never holds what it aggregates.

mod aggregate;
mod aggregate_histogram;
mod binary;
mod by_times;
mod chain;
mod context;
mod eval;
mod held;
mod label_keys;
mod matching;
mod output;
mod range_series;
mod rank;
mod rollups;
mod select;
mod series;
mod set;
mod shared;
mod signature;

pub(crate) use aggregate_histogram::HistogramFold;
pub(crate) use by_times::ByTimes;
pub(crate) use context::{Context, Reference};
pub(crate) use eval::{Scalars, scalar, vector, vector_each};
pub(crate) use held::Charge;
pub use output::points_bytes;
pub(crate) use range_series::{Parts, RangeSeries, ranges_each};
pub use rollups::SourceResolution;
pub(crate) use rollups::{Fit, gain};
pub(crate) use select::{Wanted, instants_each, known_start, mixed_note};
pub(crate) use series::{Column, Sample, StepSeries, labels_bytes};
pub use shared::{CommonParts, SharedValues};

use crate::annotations::Annotations;
use crate::output::QueryOutput;
use crate::syntax::ast::{Expr, ExprKind, Extension, Fill, Type};
use br_std::{Error, Result};
use br_storage::{Budget, MetricSource};
use context::{QueryRange, Timeline};
use shared::Sharing;

/// What the language may do, and what a query may cost.
#[derive(Clone, Debug)]
pub struct Options {
    /// How far back the last sample of a series may lie.
    pub lookback_ms: i64,
    /// The step of a subquery that names none.
    pub subquery_step_ms: i64,
    /// Steps of one query or subquery.
    pub steps_max: usize,
    pub experimental_functions: bool,
    /// `anchored` and `smoothed`.
    pub extended_selectors: bool,
    /// `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
    /// Names are removed at the end of the query, so that `label_replace` and `by (__name__)` still see them.
    pub delayed_name_removal: bool,
    /// How far rollups may stand in for raw samples.
    pub source_resolution: SourceResolution,
    /// `rate` and its like take resets and beginnings from start timestamps.
    pub start_timestamps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            steps_max: 1_000_000,
            experimental_functions: true,
            extended_selectors: true,
            fill_modifiers: true,
            delayed_name_removal: true,
            source_resolution: SourceResolution::Auto,
            start_timestamps: true,
        }
    }
}

/// What can be switched on one by one, by the names of Prometheus' `--enable-feature`.
pub const FEATURES: [&str; 6] = [
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
    "promql-delayed-name-removal",
    "promql-duration-expr",
    "st-storage",
];

impl Options {
    /// What is on in Prometheus without further words.
    pub fn stable() -> Self {
        Self {
            experimental_functions: false,
            extended_selectors: false,
            fill_modifiers: false,
            delayed_name_removal: false,
            start_timestamps: false,
            ..Self::default()
        }
    }

    /// Switches one of [`FEATURES`] on.
    pub fn enable(&mut self, feature: &str) -> Result<()> {
        match feature {
            "promql-experimental-functions" => self.experimental_functions = true,
            "promql-extended-range-selectors" => self.extended_selectors = true,
            "promql-binop-fill-modifiers" => self.fill_modifiers = true,
            "promql-delayed-name-removal" => self.delayed_name_removal = true,
            "st-storage" => self.start_timestamps = true,
            // Always on since Prometheus 3.14, whose word it stays.
            "promql-duration-expr" => {}
            _ => return Err(Error::fix_request(format!("unknown feature {feature:?}; there are {}", FEATURES.join(", ")))),
        }
        Ok(())
    }
}

/// Evaluates queries. Holds no state of theirs.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    options: Options,
}

impl Engine {
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The same language with another lookback.
    pub fn with_lookback(&self, lookback_ms: i64) -> Self {
        Self { options: Options { lookback_ms, ..self.options.clone() } }
    }

    /// The value at one time.
    pub fn instant(&self, source: &dyn MetricSource, expr: &Expr, time_ms: i64, budget: &Budget) -> Result<QueryOutput> {
        self.instant_of_many(source, expr, time_ms, budget, &CommonParts::of([expr], &[]), &SharedValues::default())
    }

    /// The value at one time of one of several expressions. What they have in common is evaluated once for all that are given the
    /// same `values`, which must be new when the data or what is written has changed.
    pub fn instant_of_many(
        &self,
        source: &dyn MetricSource,
        expr: &Expr,
        time_ms: i64,
        budget: &Budget,
        common: &CommonParts,
        values: &SharedValues,
    ) -> Result<QueryOutput> {
        let timeline = Timeline { start_ms: time_ms, step_ms: 0, steps: 1 };
        let query = QueryRange { start_ms: time_ms, end_ms: time_ms, step_ms: 0 };
        self.run(source, expr, timeline, query, budget, &Sharing::new(expr, common, values))
    }

    /// The values at `start_ms`, `start_ms + step_ms` and so on up to `end_ms`, included: always a matrix.
    pub fn range(
        &self,
        source: &dyn MetricSource,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        budget: &Budget,
    ) -> Result<QueryOutput> {
        if step_ms <= 0 {
            return Err(Error::fix_request("zero or negative query resolution step widths are not accepted"));
        }
        if end_ms < start_ms {
            return Err(Error::fix_request("end timestamp must not be before start time"));
        }
        Self::check_type_for_range(expr)?;
        let timeline = Timeline::between(start_ms, end_ms, step_ms, self.options.steps_max)?;
        let query = QueryRange { start_ms, end_ms, step_ms };
        let (common, values) = (CommonParts::of([expr], &[]), SharedValues::default());
        self.run(source, expr, timeline, query, budget, &Sharing::new(expr, &common, &values))
    }

    fn run(
        &self,
        source: &dyn MetricSource,
        expr: &Expr,
        timeline: Timeline,
        query: QueryRange,
        budget: &Budget,
        sharing: &Sharing,
    ) -> Result<QueryOutput> {
        self.check(expr)?;
        let notes = Annotations::default();
        let context = Context {
            options: &self.options,
            source,
            budget,
            notes: &notes,
            sharing: Some(sharing),
            timeline,
            query,
            histogram_stats: false,
        };
        let is_range = query.step_ms > 0;
        let value = output::value(&context, expr, is_range)?;
        let (mut warnings, mut infos) = notes.into_texts();
        warnings.extend(budget.damage().warnings());
        infos.extend(rollup_info(budget));
        Ok(QueryOutput { value, warnings, infos })
    }

    /// The same with another choice between raw samples and rollups.
    #[must_use]
    pub fn with_source_resolution(&self, source_resolution: SourceResolution) -> Self {
        let options = Options { source_resolution, ..self.options.clone() };
        Self { options }
    }

    /// What a range query cannot answer, whatever the data: a caller that tells wrong text from a failed query asks before.
    pub fn check_type_for_range(expr: &Expr) -> Result<()> {
        if matches!(expr.value_type(), Type::Scalar | Type::Vector) {
            return Ok(());
        }
        Err(Error::fix_request(format!(
            "invalid expression type {:?} for range query, must be Scalar or instant Vector",
            expr.value_type().as_str()
        )))
    }

    /// An error where the query uses what the options switch off; evaluating it gives the same.
    pub fn check(&self, expr: &Expr) -> Result<()> {
        let options = &self.options;
        let refuse = |what: &str| Err(Error::fix_request(format!("{}: parse error: {what}", expr.span)));
        match &expr.kind {
            ExprKind::Call { function, .. } if function.is_experimental && !options.experimental_functions => {
                return refuse(&format!("function {:?} is not enabled", function.name));
            }
            ExprKind::Aggregate { op, .. } if op.is_experimental() && !options.experimental_functions => {
                let switch = "--enable-feature=promql-experimental-functions";
                return refuse(&format!("{}() is experimental and must be enabled with {switch}", op.as_str()));
            }
            ExprKind::Vector(selector) if selector.extension == Extension::Anchored && !options.extended_selectors => {
                return refuse("anchored modifier is experimental and not enabled");
            }
            ExprKind::Vector(selector) if selector.extension == Extension::Smoothed && !options.extended_selectors => {
                return refuse("smoothed modifier is experimental and not enabled");
            }
            ExprKind::Binary { links, .. }
                if !options.fill_modifiers && links.iter().any(|link| link.matching.fill != Fill::default()) =>
            {
                return refuse("binop fill modifiers are experimental and not enabled");
            }
            _ => {}
        }
        expr.children().into_iter().try_for_each(|child| self.check(child))
    }
}

/// Says that not all of the answer comes from raw samples.
fn rollup_info(budget: &Budget) -> Option<String> {
    let interval_ms = budget.rollup_ms();
    let interval = br_std::duration::format(std::time::Duration::from_millis(interval_ms.unsigned_abs()));
    (interval_ms > 0).then(|| {
        format!("PromQL info: rollups of up to {interval} stand in for raw samples; max_source_resolution=0s leaves them out")
    })
}
