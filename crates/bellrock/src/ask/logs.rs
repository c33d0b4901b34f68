//! `bellrock logs`: lines as they were written, oldest first; `-f` goes on.

use super::client::{Client, ServerArguments};
use super::table::Format;
use anyhow::{Result, bail};
use br_env::Clock;
use br_env::real::SystemClock;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(crate) struct LogsArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// A LogQL selector with its pipeline; by default everything.
    #[arg(default_value = r#"{service_name=~".+"}"#)]
    query: String,
    /// Only this service.
    #[arg(long, conflicts_with = "query")]
    service: Option<String>,
    /// Go on with lines as they come.
    #[arg(short, long)]
    follow: bool,
    #[arg(long, default_value = "1h", value_parser = br_std::duration::parse)]
    since: Duration,
    /// The newest so many lines.
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: usize,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

struct Line {
    nanos: i64,
    labels: Value,
    text: String,
}

/// How often new lines are asked for.
const BEAT: Duration = Duration::from_millis(300);
/// Lines that arrive later than this after newer ones are not seen by `-f`.
const OVERLAP: Duration = Duration::from_secs(5);

pub(crate) async fn logs(arguments: LogsArguments) -> Result<()> {
    let client = Client::new(&arguments.server)?;
    let query = arguments.service.as_ref().map_or(arguments.query.clone(), |service| format!("{{service_name={service:?}}}"));
    let clock = SystemClock::new();
    let now = clock.now();
    let first = fetch(&client, &query, (now - arguments.since).0, now.0 + 1, arguments.lines).await?;
    let mut seen: BTreeSet<(i64, String)> = first.iter().map(|line| (line.nanos, line.text.clone())).collect();
    print(&first, arguments.output)?;
    if !arguments.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(BEAT).await;
        let now = clock.now();
        let from = (now - OVERLAP).0;
        let fresh = fetch(&client, &query, from, now.0 + 1, 5000).await?;
        let fresh: Vec<Line> = fresh.into_iter().filter(|line| seen.insert((line.nanos, line.text.clone()))).collect();
        seen.retain(|(nanos, _)| *nanos >= from);
        print(&fresh, arguments.output)?;
    }
}

async fn fetch(client: &Client, query: &str, start: i64, end: i64, limit: usize) -> Result<Vec<Line>> {
    let parameters =
        [("query", query.to_owned()), ("start", start.to_string()), ("end", end.to_string()), ("limit", limit.to_string())];
    let answer = client.get("/loki/api/v1/query_range", &parameters).await?;
    if answer["data"]["resultType"] != "streams" {
        bail!("this is a metric query: use `bellrock query logql`");
    }
    let mut lines = Vec::new();
    for stream in answer["data"]["result"].as_array().into_iter().flatten() {
        for entry in stream["values"].as_array().into_iter().flatten() {
            let nanos = entry[0].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            lines.push(Line { nanos, labels: stream["stream"].clone(), text: entry[1].as_str().unwrap_or_default().to_owned() });
        }
    }
    lines.sort_by_key(|line| line.nanos);
    Ok(lines)
}

fn print(lines: &[Line], format: Format) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal();
    for line in lines {
        let written = match format {
            Format::Table => {
                let service = line.labels["service_name"].as_str().unwrap_or("-");
                let time = clock_time(line.nanos);
                let text: String = line
                    .text
                    .chars()
                    .filter(|character| !character.is_control() || *character == '\n' || *character == '\t')
                    .collect();
                if colour {
                    writeln!(out, "\x1b[2m{time}\x1b[0m \x1b[36m{service}\x1b[0m {text}")
                } else {
                    writeln!(out, "{time} {service} {text}")
                }
            }
            Format::Csv => bail!("lines have different fields: use -o json, -o jsonl, or `bellrock query sql -o csv`"),
            Format::Json | Format::Jsonl => {
                writeln!(out, "{}", json!({ "time": line.nanos.to_string(), "labels": line.labels, "line": line.text }))
            }
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            outcome => outcome?,
        }
    }
    Ok(out.flush()?)
}

/// UTC time of day to the millisecond.
fn clock_time(nanos: i64) -> String {
    let millis = nanos.div_euclid(1_000_000).rem_euclid(86_400_000);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
