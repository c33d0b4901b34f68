//! `bellrock logs`: lines as they were written, oldest first; `-f` goes on.

use super::client::{Client, ServerArguments, WrongUsage};
use super::query::log_rows;
use super::table::{Format, Rows};
use anyhow::{Result, bail};
use br_env::Clock;
use br_env::real::SystemClock;
use serde_json::Value;
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

/// How often new lines are asked for.
const BEAT: Duration = Duration::from_millis(300);
/// Lines that arrive later than this after newer ones are not seen by `-f`.
const OVERLAP: Duration = Duration::from_secs(5);

pub(crate) async fn logs(arguments: LogsArguments) -> Result<()> {
    let client = Client::new(&arguments.server)?;
    if arguments.follow && arguments.output == Format::Json {
        return Err(WrongUsage::new("-f has no end, and a JSON array needs one: use -o jsonl".into()).into());
    }
    let query = arguments.service.as_ref().map_or(arguments.query.clone(), |service| format!("{{service_name={service:?}}}"));
    let clock = SystemClock::new();
    let now = clock.now();
    let first = fetch(&client, &query, (now - arguments.since).0, now.0 + 1, arguments.lines).await?;
    match arguments.output {
        Format::Table => print_lines(&first)?,
        format => first.print(format)?,
    }
    if !arguments.follow {
        return Ok(());
    }
    let mut seen: BTreeSet<(String, String)> = first.rows.iter().map(|row| identity(row)).collect();
    loop {
        tokio::time::sleep(BEAT).await;
        let now = clock.now();
        let from = (now - OVERLAP).0;
        let mut fresh = fetch(&client, &query, from, now.0 + 1, 5000).await?;
        let known: BTreeSet<(String, String)> = fresh.rows.iter().map(|row| identity(row)).collect();
        fresh.rows.retain(|row| !seen.contains(&identity(row)));
        // What was seen before and is not of the range any more is not asked for again.
        seen = known;
        match arguments.output {
            Format::Table => print_lines(&fresh)?,
            Format::Csv => ended_by_reader(fresh.write_csv_rows(&mut std::io::stdout().lock()))?,
            Format::Json | Format::Jsonl => ended_by_reader(fresh.write_json_lines(&mut std::io::stdout().lock()))?,
        }
    }
}

fn identity(row: &[Value]) -> (String, String) {
    (row[0].as_str().unwrap_or_default().to_owned(), row[2].as_str().unwrap_or_default().to_owned())
}

async fn fetch(client: &Client, query: &str, start: i64, end: i64, limit: usize) -> Result<Rows> {
    let parameters =
        [("query", query.to_owned()), ("start", start.to_string()), ("end", end.to_string()), ("limit", limit.to_string())];
    let answer = client.get("/loki/api/v1/query_range", &parameters).await?;
    if answer["data"]["resultType"] != "streams" {
        bail!("this is a metric query: use `bellrock query logql`");
    }
    Ok(log_rows(&answer["data"]))
}

/// As a person reads them: time of day, service, line.
fn print_lines(lines: &Rows) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal();
    for row in &lines.rows {
        let time = clock_time(row[0].as_str().unwrap_or_default());
        let service = row[1]["service_name"].as_str().unwrap_or("-");
        let is_shown = |character: &char| !character.is_control() || *character == '\n' || *character == '\t';
        let text: String = row[2].as_str().unwrap_or_default().chars().filter(is_shown).collect();
        let written = if colour {
            writeln!(out, "\x1b[2m{time}\x1b[0m \x1b[36m{service}\x1b[0m {text}")
        } else {
            writeln!(out, "{time} {service} {text}")
        };
        ended_by_reader(written)?;
    }
    ended_by_reader(out.flush())
}

/// A reader that has gone (`| head`) is no error, and nobody else wants the rest.
fn ended_by_reader(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => Ok(outcome?),
    }
}

/// UTC time of day to the millisecond, of a time as RFC 3339 has it.
fn clock_time(time: &str) -> String {
    let of_day = time.split_once('T').map_or(time, |(_, of_day)| of_day).trim_end_matches('Z');
    let (seconds, fraction) = of_day.split_once('.').unwrap_or((of_day, ""));
    format!("{seconds}.{fraction:0<3.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        assert_eq!(clock_time("2026-01-02T10:00:00Z"), "10:00:00.000");
        assert_eq!(clock_time("2026-01-02T10:00:00.5Z"), "10:00:00.500");
        assert_eq!(clock_time("2026-01-02T10:00:00.123456789Z"), "10:00:00.123");
    }
}
