//! `bellrock export metrics`: samples as rows of a Parquet file, for DuckDB, Polars, Spark.
//!
//! The server sends packed chunks slice by slice of the time range, so that neither side holds more than a slice.

mod rows;

use crate::ask::{Client, ServerArguments, WrongUsage};
use anyhow::{Context, Result, bail};
use br_env::Clock;
use br_env::real::SystemClock;
use br_promql::ExprKind;
use br_std::Nanos;
use br_storage::{MatchOp, Matcher};
use br_wire::prometheus_tsdb::chunk;
use br_wire::remote_read::{self, Frames, LabelMatcher, MatchType, Query};
use rows::RowWriter;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(crate) struct ExportArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Samples, one a row: metric, labels, timestamp, value, histogram.
    Metrics(MetricsArguments),
}

#[derive(clap::Args, Debug)]
struct MetricsArguments {
    /// Which series, as PromQL selects them: `up{job="api"}`. All without it.
    matcher: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
    /// RFC 3339, Unix seconds, or how long ago: `6h`.
    #[arg(long, default_value = "1h")]
    from: String,
    /// The same; this moment without it.
    #[arg(long)]
    to: Option<String>,
    /// Where to write. It appears when it is whole.
    #[arg(short, long, value_name = "FILE.parquet")]
    output: PathBuf,
}

/// What is asked for at once; half as much again and again where that is more than the server may hold.
const SLICE_MS: i64 = 2 * 3600 * 1000;
const SLICE_MS_MIN: i64 = 1000;

pub(crate) async fn export(arguments: ExportArguments) -> Result<()> {
    let What::Metrics(arguments) = arguments.what;
    let now = SystemClock::new().now();
    let from_ms = time(&arguments.from, now)?;
    let to_ms = arguments.to.as_deref().map_or(Ok(now.as_millis()), |text| time(text, now))?;
    if from_ms > to_ms {
        return Err(WrongUsage::new("--from is after --to".to_owned()).into());
    }
    let matchers = matchers(arguments.matcher.as_deref())?;
    let client = Client::new(&arguments.server)?;
    let mut writer = RowWriter::create(&arguments.output)?;
    let outcome = slices(&client, &matchers, (from_ms, to_ms), &mut writer).await;
    match outcome {
        Ok(()) => {
            let (rows, path) = writer.finish()?;
            eprintln!("bellrock: {rows} samples in {}", path.display());
            Ok(())
        }
        Err(error) => {
            writer.abort();
            Err(error)
        }
    }
}

async fn slices(client: &Client, matchers: &[LabelMatcher], (from_ms, to_ms): (i64, i64), writer: &mut RowWriter) -> Result<()> {
    let (mut start_ms, mut width_ms) = (from_ms, SLICE_MS);
    let mut warnings = BTreeSet::new();
    while start_ms <= to_ms {
        let end_ms = to_ms.min(start_ms.saturating_add(width_ms - 1));
        let query = Query { start_ms, end_ms, matchers: matchers.to_vec() };
        if slice(client, &query, writer, &mut warnings).await? {
            start_ms = end_ms.saturating_add(1);
        } else if width_ms / 2 >= SLICE_MS_MIN {
            width_ms /= 2;
        } else {
            bail!(
                "one second of these series is more than the server may hold for a query: name fewer, or raise limits.query_memory"
            );
        }
    }
    Ok(())
}

/// False when the server refuses so much at once. Each warning is told once.
async fn slice(client: &Client, query: &Query, writer: &mut RowWriter, warnings: &mut BTreeSet<String>) -> Result<bool> {
    let body = remote_read::encode_request(std::slice::from_ref(query))?;
    let mut answer = client.send_bytes("/api/v1/read", body.into()).await?;
    if answer.status().as_u16() == 422 {
        return Ok(false);
    }
    if !answer.status().is_success() {
        let status = answer.status().as_u16();
        bail!("{} (HTTP {status})", answer.text().await.unwrap_or_default().trim());
    }
    for warning in answer.headers().get_all("x-bellrock-warning").iter().filter_map(|warning| warning.to_str().ok()) {
        if warnings.insert(warning.to_owned()) {
            eprintln!("bellrock: warning: {warning}");
        }
    }
    let mut frames = Frames::default();
    while let Some(bytes) = answer.chunk().await.context("the answer broke off")? {
        frames.push(&bytes);
        while let Some(series) = frames.next_series()? {
            for packed in series.chunks {
                let samples = chunk::decode(packed.encoding, &packed.data)?;
                writer.write(&series.labels, &samples, (query.start_ms, query.end_ms))?;
            }
        }
    }
    anyhow::ensure!(frames.is_at_end(), "the answer ends inside a message");
    Ok(true)
}

fn time(text: &str, now: Nanos) -> Result<i64, WrongUsage> {
    let ago = br_std::duration::parse(text).ok().map(|ago: Duration| (now - ago).as_millis());
    let seconds = || text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()).map(|seconds| (seconds * 1000.0) as i64);
    let stamp = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    let found = seconds().or_else(stamp).or(ago);
    found.ok_or_else(|| WrongUsage::new(format!("{text:?} is no time: 2026-01-31T12:00:00Z, 1769860800 and 6h (ago) are")))
}

fn matchers(selector: Option<&str>) -> Result<Vec<LabelMatcher>> {
    let Some(selector) = selector else { return Ok(Vec::new()) };
    let wrong = |what: String| WrongUsage::new(format!("{selector:?} selects no series: {what}"));
    let expr = br_promql::parse(selector).map_err(|errors| wrong(errors.to_string()))?;
    let ExprKind::Vector(selector) = expr.kind else { return Err(wrong("it is another kind of expression".into()).into()) };
    Ok(selector.matchers.into_iter().map(matcher).collect())
}

fn matcher(matcher: Matcher) -> LabelMatcher {
    let op = match matcher.op {
        MatchOp::Equal => MatchType::Equal,
        MatchOp::NotEqual => MatchType::NotEqual,
        MatchOp::Regex => MatchType::Regex,
        MatchOp::NotRegex => MatchType::NotRegex,
    };
    LabelMatcher { op, name: matcher.name, value: matcher.value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_selectors() {
        let now = Nanos::from_millis(10_000_000);
        assert_eq!(time("1970-01-01T00:00:05Z", now).ok(), Some(5000));
        assert_eq!(time("5.5", now).ok(), Some(5500));
        assert_eq!(time("1m", now).ok(), Some(9_940_000));
        assert!(time("soon", now).is_err());
        assert_eq!(matchers(Some("up{job!~\"a.*\"}")).expect("valid").len(), 2);
        assert!(matchers(Some("sum(up)")).is_err() && matchers(Some("up{")).is_err());
    }
}
