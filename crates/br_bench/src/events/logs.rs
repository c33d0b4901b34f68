//! Logs of a day: what taking them in costs, and how long questions about them take.

use super::log_records::LogRecords;
use super::{Period, Settings, ask, load, log_questions, peers};
use crate::load::now_ms;
use crate::row::Row;
use anyhow::{Result, bail};
use br_std::Nanos;
use br_storage::Table;

/// Of two cores, redaction off.
const UNIT: load::Unit = load::Unit {
    name: "records",
    per_second: "records/s",
    per_cpu_second: "records/CPU-s",
    cpu_second_min: None,
    mb_min: Some(80.0),
    bytes_max: None,
};

/// What was measured before an error is among the rows.
pub(crate) async fn run(settings: &Settings, rows: &mut Vec<Row>) -> Result<()> {
    let mut server = load::start().await?;
    let period = Period::until(Nanos::from_millis(now_ms()), settings.hours);
    let mut records = LogRecords::new(settings.gb * 1e9, period);
    let sent = load::send(&server, "/v1/logs", || records.request()).await?;
    let files = load::live_files(&server, Table::Logs).await?;
    rows.extend(load::rows(&sent, records.known.records as f64, period, &files, &UNIT));
    let questions = log_questions::questions(&records.known, period)?;
    let answers = peers::answers(settings, &server.data_folder(), &files, &questions, records.known.records)?;
    let mut wrong = answers.wrong;
    wrong.extend(ask::ask_all(&mut server, &questions, &answers.peers, rows).await?);
    if !wrong.is_empty() {
        bail!("{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(())
}
