//! Asking the server: what is known must come back, cold and warm.

use super::peers::{Peer, Took};
use crate::peer::Server;
use crate::row::{Row, median};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

/// How often each question is asked, cold and warm.
const ROUNDS: usize = 5;
/// Warm, a quick one is asked for so long instead: the kernel counts the time of processors in hundredths of a second.
const QUICK_MS: f64 = 500.0;
/// A question that has taken this long in all is not asked again.
const PATIENCE_MS: f64 = 30_000.0;

/// Says what is wrong with an answer.
pub(super) type Check = Box<dyn Fn(&Value) -> Result<(), String>>;

pub(super) struct Question {
    pub(super) name: &'static str,
    /// Path and query of the request.
    pub(super) path: String,
    pub(super) check: Check,
    /// Milliseconds, warm.
    pub(super) at_most: Option<f64>,
    /// The same question for the peers, in the words of `peers.py`, and how many rows they must answer with.
    pub(super) sql: String,
    pub(super) sql_rows: usize,
}

/// The rows, and what was answered wrong.
pub(super) async fn ask_all(
    server: &mut Server,
    questions: &[Question],
    peers: &[Peer],
    rows: &mut Vec<Row>,
) -> Result<Vec<String>> {
    let (mut wrong, mut cold) = (Vec::new(), Vec::new());
    for question in questions {
        let mut times = Vec::new();
        while is_to_be_asked(&times) {
            server.kill_and_start_after(forget_files)?;
            server.wait_ready_for_queries().await?;
            times.push(ask(server, question, &mut wrong).await?);
        }
        cold.push(median(times));
    }
    for (at, question) in questions.iter().enumerate() {
        ask(server, question, &mut wrong).await?;
        let (mut times, before) = (Vec::new(), server.cpu_seconds());
        while is_to_be_asked(&times) || times.iter().sum::<f64>() < QUICK_MS {
            times.push(ask(server, question, &mut wrong).await?);
        }
        let cpu = (server.cpu_seconds() - before) * 1000.0 / times.len() as f64;
        rows.push(Row::new(format!("{}, cold", question.name), "ms", cold[at]));
        let row = Row::new(format!("{}, warm", question.name), "ms", median(times));
        let row = if let Some(bound) = question.at_most { row.at_most(bound) } else { row };
        rows.extend(beside_peers(&row, at, peers, |took| took.wall));
        // What does not hang on what else the machine does.
        let row = Row::new(format!("{}, warm, CPU", question.name), "CPU-ms", cpu);
        rows.extend(beside_peers(&row, at, peers, |took| took.cpu));
    }
    rows.push(Row::new("RSS, peak while answering", "MB", server.rss_peak_bytes() / 1e6).at_most(1000.0));
    Ok(wrong)
}

fn is_to_be_asked(times: &[f64]) -> bool {
    times.len() < ROUNDS && times.iter().sum::<f64>() < PATIENCE_MS
}

/// The row for each peer that could answer, or alone.
fn beside_peers(row: &Row, at: usize, peers: &[Peer], figure: impl Fn(Took) -> f64) -> Vec<Row> {
    let answered = peers.iter().filter_map(|peer| Some((peer.name, peer.took.get(at).copied().flatten()?)));
    let rows: Vec<Row> = answered.map(|(name, took)| row.clone().against(name, figure(took))).collect();
    if rows.is_empty() { vec![row.clone()] } else { rows }
}

/// Milliseconds until the whole answer is there.
async fn ask(server: &Server, question: &Question, wrong: &mut Vec<String>) -> Result<f64> {
    let started = Instant::now();
    let answer = server.get(&question.path).await;
    let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
    let checked = match &answer {
        Ok(text) => serde_json::from_str(text).map_err(|error| error.to_string()).and_then(|json| (question.check)(&json)),
        Err(error) => Err(format!("{error:.300}")),
    };
    if let Err(complaint) = checked {
        let complaint = format!("{}: {complaint}", question.name);
        if !wrong.contains(&complaint) {
            println!("WRONG {complaint}");
            wrong.push(complaint);
        }
    }
    Ok(milliseconds)
}

/// Nothing of the files stays in the kernel's cache, as far as it does what it is asked for.
fn forget_files(data: &Path) -> Result<()> {
    let mut folders = vec![data.join("files")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let file = File::open(entry.path())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
