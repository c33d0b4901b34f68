//! `bellrock query`, `traces`, `issues`.

use super::client::{Client, ServerArguments};
use super::table::{Format, Rows};
use anyhow::Result;
use br_env::Clock;
use br_env::real::SystemClock;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(crate) struct QueryArguments {
    #[command(flatten)]
    server: ServerArguments,
    language: Language,
    /// The query.
    query: String,
    /// How far back to look, for range queries and logs.
    #[arg(long, default_value = "1h", value_parser = br_std::duration::parse)]
    since: Duration,
    /// Evaluate PromQL or metric LogQL at this beat over the range, instead of now.
    #[arg(long, value_parser = br_std::duration::parse)]
    step: Option<Duration>,
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Language {
    Promql,
    Logql,
    Traceql,
    Sql,
}

pub(crate) async fn query(arguments: QueryArguments) -> Result<()> {
    let client = Client::new(&arguments.server)?;
    let rows = match arguments.language {
        Language::Promql => promql(&client, &arguments).await?,
        Language::Logql => logql(&client, &arguments).await?,
        Language::Traceql => {
            let (from, _) = range(arguments.since);
            let parameters = [("q", arguments.query.clone()), ("from", seconds(from)), ("limit", arguments.limit.to_string())];
            trace_rows(&client.get("/bellrock/v1/traces", &parameters).await?)
        }
        Language::Sql => sql_rows(&client.post("/bellrock/v1/sql", &json!({ "query": arguments.query })).await?),
    };
    rows.print(arguments.output)
}

/// Start and end in nanoseconds.
fn range(since: Duration) -> (i64, i64) {
    let now = SystemClock::new().now();
    ((now - since).0, now.0)
}

fn seconds(nanos: i64) -> String {
    format!("{:.3}", nanos as f64 / 1e9)
}

async fn promql(client: &Client, arguments: &QueryArguments) -> Result<Rows> {
    let query = ("query", arguments.query.clone());
    let (start, end) = range(arguments.since);
    let answer = match arguments.step {
        None => client.get("/api/v1/query", &[query]).await?,
        Some(step) => {
            let range = [query, ("start", seconds(start)), ("end", seconds(end)), ("step", step.as_secs_f64().to_string())];
            client.get("/api/v1/query_range", &range).await?
        }
    };
    Ok(result_rows(&answer["data"]))
}

async fn logql(client: &Client, arguments: &QueryArguments) -> Result<Rows> {
    let (start, end) = range(arguments.since);
    let mut parameters = vec![
        ("query", arguments.query.clone()),
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("limit", arguments.limit.to_string()),
    ];
    parameters.extend(arguments.step.map(|step| ("step", step.as_secs_f64().to_string())));
    let answer = client.get("/loki/api/v1/query_range", &parameters).await?;
    Ok(result_rows(&answer["data"]))
}

/// Rows of a Prometheus or Loki result: one for each point or line.
fn result_rows(data: &Value) -> Rows {
    let kind = data["resultType"].as_str().unwrap_or_default();
    let name = if kind == "streams" { "line" } else { "value" };
    let mut rows = Rows::new(&["time", "labels", name]);
    if matches!(kind, "scalar" | "string") {
        rows.rows.push(vec![data["result"][0].clone(), Value::Null, data["result"][1].clone()]);
        return rows;
    }
    for series in data["result"].as_array().into_iter().flatten() {
        let labels = if kind == "streams" { &series["stream"] } else { &series["metric"] };
        let labels = Value::String(show_labels(labels));
        let points = series["values"].as_array().cloned().or_else(|| Some(vec![series["value"].clone()])).unwrap_or_default();
        let histograms =
            series["histograms"].as_array().cloned().or_else(|| series.get("histogram").map(|point| vec![point.clone()]));
        for point in points.iter().chain(histograms.iter().flatten()).filter(|point| point.is_array()) {
            rows.rows.push(vec![point[0].clone(), labels.clone(), point[1].clone()]);
        }
    }
    rows
}

fn show_labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let name = labels["__name__"].as_str().unwrap_or_default();
    let shown: Vec<String> = pairs.filter(|(key, _)| *key != "__name__").map(|(key, value)| format!("{key}={value}")).collect();
    format!("{name}{{{}}}", shown.join(", "))
}

fn sql_rows(answer: &Value) -> Rows {
    let columns = answer["columns"].as_array().into_iter().flatten();
    let columns = columns.map(|column| column["name"].as_str().unwrap_or_default().to_owned()).collect();
    let rows = answer["rows"].as_array().into_iter().flatten();
    Rows { columns, rows: rows.map(|row| row.as_array().cloned().unwrap_or_default()).collect() }
}

#[derive(clap::Args, Debug)]
pub(crate) struct TracesArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Show this trace.
    trace_id: Option<String>,
    #[arg(long)]
    service: Option<String>,
    #[arg(long)]
    name: Option<String>,
    /// `key=value` of a span or resource attribute.
    #[arg(long)]
    attribute: Vec<String>,
    /// Only traces with a failed span.
    #[arg(long)]
    errors: bool,
    #[arg(long, value_parser = br_std::duration::parse)]
    min_duration: Option<Duration>,
    #[arg(long, default_value = "1h", value_parser = br_std::duration::parse)]
    since: Duration,
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn traces(arguments: TracesArguments) -> Result<()> {
    let client = Client::new(&arguments.server)?;
    if let Some(id) = &arguments.trace_id {
        let trace = client.get(&format!("/bellrock/v1/traces/{}", super::client::encode(id)), &[]).await?;
        let columns = ["offset_ms", "duration_ms", "service", "name", "kind", "status", "span_id", "parent_span_id"];
        return Rows::of_objects(&columns, &trace["spans"]).print(arguments.output);
    }
    let (from, _) = range(arguments.since);
    let mut parameters = vec![("from", seconds(from)), ("limit", arguments.limit.to_string())];
    parameters.extend(arguments.service.map(|service| ("service", service)));
    parameters.extend(arguments.name.map(|name| ("name", name)));
    parameters.extend(arguments.attribute.into_iter().map(|attribute| ("attribute", attribute)));
    parameters.extend(arguments.errors.then(|| ("status", "error".to_owned())));
    parameters.extend(arguments.min_duration.map(|duration| ("min_duration_ms", duration.as_millis().to_string())));
    trace_rows(&client.get("/bellrock/v1/traces", &parameters).await?).print(arguments.output)
}

fn trace_rows(answer: &Value) -> Rows {
    Rows::of_objects(
        &["started_at", "trace_id", "root_service", "root_name", "duration_ms", "spans", "errors"],
        &answer["traces"],
    )
}

#[derive(clap::Args, Debug)]
pub(crate) struct IssuesArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[arg(long)]
    service: Option<String>,
    /// `open`, `resolved` or `ignored`.
    #[arg(long)]
    status: Option<String>,
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn issues(arguments: IssuesArguments) -> Result<()> {
    let mut parameters = vec![("limit", arguments.limit.to_string())];
    parameters.extend(arguments.service.map(|service| ("service", service)));
    parameters.extend(arguments.status.map(|status| ("status", status)));
    let answer = Client::new(&arguments.server)?.get("/bellrock/v1/issues", &parameters).await?;
    let columns = ["last_seen", "count", "service", "title", "culprit", "status", "id"];
    Rows::of_objects(&columns, &answer["issues"]).print(arguments.output)
}
