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
    let query = ("query", arguments.query.clone());
    // Lines are of a range, and a metric of a moment. A query that cannot be read is the server's to complain about.
    let is_metric = matches!(br_logql::parse(&arguments.query), Ok(br_logql::Expr::Metric(_)));
    if is_metric && arguments.step.is_none() {
        let answer = client.get("/loki/api/v1/query", &[query, ("time", end.to_string())]).await?;
        return Ok(result_rows(&answer["data"]));
    }
    let mut parameters =
        vec![query, ("start", start.to_string()), ("end", end.to_string()), ("limit", arguments.limit.to_string())];
    parameters.extend(arguments.step.map(|step| ("step", step.as_secs_f64().to_string())));
    let answer = client.get("/loki/api/v1/query_range", &parameters).await?;
    Ok(result_rows(&answer["data"]))
}

/// Rows of a Prometheus or Loki result: one for each point or line.
fn result_rows(data: &Value) -> Rows {
    let kind = data["resultType"].as_str().unwrap_or_default();
    if kind == "streams" {
        return log_rows(data);
    }
    let mut rows = Rows::new(&["time", "labels", "value"]);
    let mut add = |labels: &Value, point: &Value| {
        let value = if kind == "string" { point[1].clone() } else { number(&point[1]) };
        rows.rows.push(vec![time_of_seconds(&point[0]), labels.clone(), value]);
    };
    if matches!(kind, "scalar" | "string") {
        add(&json!({}), &data["result"]);
        return rows;
    }
    for series in data["result"].as_array().into_iter().flatten() {
        for many in ["values", "histograms"] {
            series[many].as_array().into_iter().flatten().for_each(|point| add(&series["metric"], point));
        }
        for one in ["value", "histogram"] {
            series.get(one).into_iter().for_each(|point| add(&series["metric"], point));
        }
    }
    rows
}

/// Oldest first, whatever stream they are of.
pub(super) fn log_rows(data: &Value) -> Rows {
    let mut lines: Vec<(i64, &Value, &Value)> = Vec::new();
    for stream in data["result"].as_array().into_iter().flatten() {
        for entry in stream["values"].as_array().into_iter().flatten() {
            let nanos = entry[0].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            lines.push((nanos, &stream["stream"], &entry[1]));
        }
    }
    lines.sort_by_key(|(nanos, ..)| *nanos);
    let mut rows = Rows::new(&["time", "labels", "line"]);
    rows.rows = lines.into_iter().map(|(nanos, labels, line)| vec![rfc3339(nanos), labels.clone(), line.clone()]).collect();
    rows
}

/// RFC 3339 in UTC, with as many digits of a second as it needs.
pub(super) fn rfc3339(nanos: i64) -> Value {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).map_or(Value::Null, |time| Value::String(time.to_string()))
}

/// Prometheus and Loki give seconds with at most millisecond digits that count.
fn time_of_seconds(value: &Value) -> Value {
    value.as_f64().map_or(Value::Null, |seconds| rfc3339((seconds * 1000.0).round() as i64 * 1_000_000))
}

/// A number as JSON has them; `NaN`, `+Inf` and `-Inf` stay words. A histogram is the object that Prometheus makes of it.
fn number(value: &Value) -> Value {
    let parsed = value.as_str().and_then(|text| text.parse::<f64>().ok()).and_then(serde_json::Number::from_f64);
    parsed.map_or_else(|| value.clone(), Value::Number)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_for_programs() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1_767_348_000.5, "1"]},
            {"metric": {}, "value": [1_767_348_000, "NaN"]},
        ]});
        assert_eq!(
            result_rows(&vector).rows,
            [
                vec![json!("2026-01-02T10:00:00.5Z"), json!({"__name__": "up", "job": "a"}), json!(1.0)],
                vec![json!("2026-01-02T10:00:00Z"), json!({}), json!("NaN")],
            ]
        );
        let scalar = json!({"resultType": "scalar", "result": [1_767_348_000, "2.5"]});
        assert_eq!(result_rows(&scalar).rows, [vec![json!("2026-01-02T10:00:00Z"), json!({}), json!(2.5)]]);
        let streams = json!({"resultType": "streams", "result": [
            {"stream": {"service_name": "b"}, "values": [["1767348000000000002", "later"]]},
            {"stream": {"service_name": "a"}, "values": [["1767348000000000001", "1"]]},
        ]});
        assert_eq!(
            result_rows(&streams).rows,
            [
                vec![json!("2026-01-02T10:00:00.000000001Z"), json!({"service_name": "a"}), json!("1")],
                vec![json!("2026-01-02T10:00:00.000000002Z"), json!({"service_name": "b"}), json!("later")],
            ]
        );
    }
}
