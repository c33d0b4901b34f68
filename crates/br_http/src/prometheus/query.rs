//! Queries: instant, range, exemplars.

use super::{Answer, encode, json_text};
use crate::app::App;
use crate::error::PrometheusError;
use crate::params::Params;
use crate::written::{self, Each, Shown};
use axum::Extension;
use axum::extract::State;
use br_env::Clock;
use br_model::{Exemplar, Labels, Principal};
use br_promql::{Engine, Expr, ExprKind, Pretty, QueryOutput, SourceResolution, Value as OutputValue};
use br_query::door::Language;
use br_query::range_cache::Steps;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, Matcher, SeriesQuery};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

fn parse(text: &str) -> Result<Expr> {
    super::selector::parse(text).map_err(|errors| invalid_query(&errors))
}

fn invalid_query(what: &impl std::fmt::Display) -> Error {
    Error::fix_request(format!("invalid parameter \"query\": {what}"))
}

/// Reads a query with the parts of the language that are switched on.
fn parse_for(engine: &Engine, text: &str) -> Result<Expr> {
    let expr = parse(text)?;
    engine.check(&expr).map_err(|error| invalid_query(&error))?;
    Ok(expr)
}

/// Reads a query that will run, and refuses what no data could make right: the rest is a failure of its execution.
fn parse_to_run(app: &App, text: &str, is_range: bool) -> Result<Expr> {
    let expr = parse_for(&app.promql, text)?;
    if is_range {
        Engine::check_type_for_range(&expr).map_err(|error| invalid_query(&error))?;
    }
    Ok(expr)
}

/// The engine as the request wants it: `lookback_delta`, and `max_source_resolution`, which says how coarse rollups may be, as in
/// Thanos: `auto`, or a duration, of which 0 means raw samples only.
fn engine(app: &App, params: &Params) -> Result<Engine> {
    const NAME: &str = "max_source_resolution";
    let mut engine = app.promql.clone();
    if let Some(lookback) = params.duration("lookback_delta")? {
        engine = engine.with_lookback(lookback.as_millis() as i64);
    }
    if params.get(NAME).is_some_and(|text| text != "auto") {
        let resolution = match params.duration(NAME)? {
            Some(longest) if !longest.is_zero() => {
                SourceResolution::UpTo { interval_ms: i64::try_from(longest.as_millis()).unwrap_or(i64::MAX) }
            }
            _ => SourceResolution::Raw,
        };
        engine = engine.with_source_resolution(resolution);
    }
    Ok(engine)
}

/// What of an answer a request has a say in.
struct Wishes {
    /// Series at the most.
    limit: usize,
    /// When the request came, where it wants to know how long all took.
    asked: Option<(Arc<dyn Clock>, Duration)>,
    partial: Option<String>,
}

impl Wishes {
    fn new(app: &App, params: &Params) -> Result<Self> {
        let wants_stats = params.get("stats").is_some_and(|stats| !stats.is_empty());
        let asked = wants_stats.then(|| (app.clock.clone(), app.clock.monotonic()));
        Ok(Self { limit: super::limit(params)?, asked, partial: app.partial_answers() })
    }

    /// Evaluates a query and writes out what came of it.
    fn answer(&self, budget: &Budget, evaluate: impl FnOnce() -> Result<QueryOutput>) -> Result<String> {
        let now = |asked: &(Arc<dyn Clock>, Duration)| asked.0.monotonic().saturating_sub(asked.1);
        let queued = self.asked.as_ref().map(now);
        let mut output = evaluate()?;
        let stats = self.asked.as_ref().zip(queued).map(|(asked, queued)| stats(queued, now(asked), budget));
        let count = match &mut output.value {
            OutputValue::Vector(samples) => {
                let count = samples.len();
                samples.truncate(self.limit);
                count
            }
            OutputValue::Matrix(series) => {
                let count = series.len();
                series.truncate(self.limit);
                count
            }
            OutputValue::Scalar { .. } | OutputValue::String { .. } => 0,
        };
        if count > self.limit {
            output.warnings.push(super::TRUNCATED.to_owned());
        }
        output.warnings.extend(self.partial.clone());
        encode::answer(output, stats.as_ref(), budget)
    }
}

/// What a sample takes while a query runs, about.
const SAMPLE_BYTES: u64 = 16;

/// As Prometheus has it. The parts of an evaluation are not timed apart; the peak is what the query is charged for at its end.
fn stats(queued: Duration, total: Duration, budget: &Budget) -> Value {
    let evaluated = total.saturating_sub(queued).as_secs_f64();
    json!({
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": evaluated,
            "execQueueTime": queued.as_secs_f64(),
            "execTotalTime": total.as_secs_f64(),
        },
        "samples": {
            "totalQueryableSamples": budget.rows_scanned(),
            "peakSamples": budget.bytes_used() / SAMPLE_BYTES,
        },
    })
}

pub(super) async fn instant(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let expr = parse_to_run(&app, &text, false)?;
    let at_ms = params.time("time")?.unwrap_or_else(|| app.clock.now()).as_millis();
    let (engine, timeout, wishes) = (engine(&app, &params)?, params.duration("timeout")?, Wishes::new(&app, &params)?);
    let text = app
        .query_quick(principal.tenant, Language::PromQl, &text, timeout, move |sources, budget| {
            let source = sources.metrics(principal.tenant);
            wishes.answer(budget, || engine.instant(&*source, &expr, at_ms, budget))
        })
        .await
        .map_err(PrometheusError::of_execution)?;
    Ok(json_text(text))
}

pub(super) async fn range(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let expr = parse_to_run(&app, &text, true)?;
    params.required("start")?;
    params.required("end")?;
    params.required("step")?;
    let start_ms = params.time("start")?.map_or(0, Nanos::as_millis);
    let end_ms = params.time("end")?.map_or(0, Nanos::as_millis);
    let step_ms = params.duration("step")?.map_or(0, |step| step.as_millis() as i64);
    if end_ms < start_ms {
        return Err(Error::fix_request("invalid parameter \"end\": end timestamp must not be before start time").into());
    }
    if step_ms <= 0 {
        return Err(Error::fix_request(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        )
        .into());
    }
    if (end_ms - start_ms) as u64 / step_ms as u64 > app.door.limits().points_max {
        return Err(Error::fix_request(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        )
        .into());
    }
    let (engine, timeout, wishes) = (engine(&app, &params)?, params.duration("timeout")?, Wishes::new(&app, &params)?);
    let (cache, steps) = (app.range_cache.clone(), Steps { start_ms, end_ms, step_ms });
    let is_cached = !matches!(params.get("nocache"), Some("1" | "true"));
    let text = app
        .query_quick(principal.tenant, Language::PromQl, &text, timeout, move |sources, budget| {
            let (tenant, source) = (principal.tenant, sources.metrics(principal.tenant));
            wishes.answer(budget, || {
                if is_cached {
                    cache.range(&engine, tenant, &*source, &expr, steps, budget)
                } else {
                    cache.bypass(&engine, &*source, &expr, steps, budget)
                }
            })
        })
        .await
        .map_err(PrometheusError::of_execution)?;
    Ok(json_text(text))
}

/// The tree of a query, as Prometheus' own pages show it.
pub(super) async fn parse_query(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let text = params.required("query")?.to_owned();
    written_of(app, principal, text, |expr, out| {
        out.write_all(b"{\"status\":\"success\",\"data\":")?;
        super::tree::write(out, expr)?;
        out.write_all(b"}")
    })
    .await
}

pub(super) async fn format(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    written_of(app, principal, text, |expr, out| {
        let answer = FormatAnswer { status: "success", data: Pretty(expr) };
        serde_json::to_writer(out, &answer).map_err(io::Error::from)
    })
    .await
}

#[derive(Serialize)]
struct FormatAnswer<'e> {
    status: &'static str,
    #[serde(serialize_with = "as_text")]
    data: Pretty<'e>,
}

fn as_text<S: Serializer>(text: &Pretty<'_>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

/// What a query is written as. It may be long: this has a place and a budget as any question does, and holds up nobody's sockets.
async fn written_of(
    app: Arc<App>,
    principal: Principal,
    text: String,
    write: impl FnOnce(&Expr, &mut written::Text<'_>) -> io::Result<()> + Send + 'static,
) -> Answer {
    let (engine, listed) = (app.promql.clone(), text.clone());
    let answer = app.query(principal.tenant, Language::Lookup, &listed, None, move |_, budget| {
        let expr = parse_for(&engine, &text)?;
        written::text(budget, |out| write(&expr, out))
    });
    Ok(json_text(answer.await?))
}

/// The selectors inside an expression.
fn selectors(expr: &Expr, out: &mut Vec<Vec<Matcher>>) {
    if let ExprKind::Vector(selector) = &expr.kind {
        out.push(selector.matchers.clone());
    }
    for child in expr.children() {
        selectors(child, out);
    }
}

pub(super) async fn exemplars(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    let text = params.required("query")?.to_owned();
    let mut found = Vec::new();
    selectors(&parse(&text)?, &mut found);
    let from_ms = params.time("start")?.map_or(i64::MIN, Nanos::as_millis);
    let to_ms = params.time("end")?.map_or(i64::MAX, Nanos::as_millis);
    if from_ms > to_ms {
        return Err(Error::fix_request("invalid parameter \"end\": end timestamp must not be before start time").into());
    }
    let text = app
        .query(principal.tenant, Language::Lookup, &text, None, move |sources, budget| {
            let source = sources.metrics(principal.tenant);
            let mut all = Vec::new();
            for matchers in found {
                all.extend(source.exemplars(&SeriesQuery { matchers, from_ms, to_ms }, budget)?);
            }
            let answer = ExemplarAnswer {
                status: "success",
                data: Each(|| all.iter().map(|(labels, exemplars)| SeriesExemplars { labels, exemplars })),
                warnings: budget.damage().warnings(),
            };
            written::json(&answer, budget)
        })
        .await?;
    Ok(written::response(text))
}

#[derive(Serialize)]
struct ExemplarAnswer<D> {
    status: &'static str,
    data: D,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

struct SeriesExemplars<'e> {
    labels: &'e Labels,
    exemplars: &'e [Exemplar],
}

impl Serialize for SeriesExemplars<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'e, E> {
            series_labels: Shown<'e>,
            exemplars: E,
        }
        let exemplar = |exemplar: &Exemplar| {
            let value = br_promql::format_float(exemplar.value);
            json!({ "labels": Shown(&exemplar.labels), "value": value, "timestamp": exemplar.timestamp_ms as f64 / 1000.0 })
        };
        let exemplars = Each(|| self.exemplars.iter().map(exemplar));
        Written { series_labels: Shown(self.labels), exemplars }.serialize(serializer)
    }
}
