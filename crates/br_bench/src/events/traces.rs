//! Traces of a day: what taking them in costs, and how long questions about them take.

use super::span_records::SpanRecords;
use super::{Period, Settings, ask, load, peers, span_questions};
use crate::load::now_ms;
use crate::row::Row;
use anyhow::{Result, bail};
use br_std::Nanos;
use br_storage::Table;

/// 100,000 a second on two cores; a twelfth of the 599 bytes that Jaeger's take in ClickHouse before they are packed.
const UNIT: load::Unit = load::Unit {
    name: "spans",
    per_second: "spans/s",
    per_cpu_second: "spans/CPU-s",
    cpu_second_min: Some(50_000.0),
    mb_min: None,
    bytes_max: Some(50.0),
};

/// What was measured before an error is among the rows.
pub(crate) async fn run(settings: &Settings, rows: &mut Vec<Row>) -> Result<()> {
    let mut server = load::start().await?;
    let period = Period::until(Nanos::from_millis(now_ms()), settings.hours);
    let mut records = SpanRecords::new(settings.traces, period);
    let sent = load::send(&server, "/v1/traces", || records.request()).await?;
    let files = load::live_files(&server, Table::Spans).await?;
    rows.extend(load::rows(&sent, records.known.spans as f64, period, &files, &UNIT));
    let questions = span_questions::questions(&records, period)?;
    let answers = peers::answers(settings, &server.data_folder(), &files, &questions, records.known.spans)?;
    let mut wrong = answers.wrong;
    wrong.extend(ask::ask_all(&mut server, &questions, &answers.peers, rows).await?);
    if !wrong.is_empty() {
        bail!("{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(())
}
