//! DuckDB and chDB over the same files, asked the same in SQL.

use super::Settings;
use super::ask::Question;
use anyhow::{Context, Result, bail};
use br_storage::FileEntry;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const SCRIPT: &str = include_str!("peers.py");
const PEERS: [&str; 2] = ["duckdb", "chdb"];

/// What one engine took for each question; none where it could not answer.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) took: Vec<Option<Took>>,
}

/// Milliseconds that passed, and of processors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

pub(super) struct Answers {
    pub(super) peers: Vec<Peer>,
    /// Where the files hold something else than was sent.
    pub(super) wrong: Vec<String>,
}

/// Of those engines that are installed. `data` is the folder that the files are in, however deep.
pub(super) fn answers(
    settings: &Settings,
    data: &Path,
    files: &[(FileEntry, PathBuf)],
    questions: &[Question],
    records: u64,
) -> Result<Answers> {
    let mut answers = Answers { peers: Vec::new(), wrong: Vec::new() };
    if settings.no_peers || files.is_empty() {
        return Ok(answers);
    }
    let folder = TempDir::new_in(data)?;
    for (at, (_, path)) in files.iter().enumerate() {
        std::fs::hard_link(path, folder.path().join(format!("{at:06}.parquet")))?;
    }
    let script = folder.path().join("peers.py");
    std::fs::write(&script, SCRIPT)?;
    let mut asked: Vec<Value> = questions.iter().map(|question| json!({ "sql": question.sql })).collect();
    asked.push(json!({ "sql": "select count(*) from @table" }));
    let file = folder.path().join("questions.json");
    std::fs::write(&file, json!({ "files": folder.path(), "questions": asked }).to_string())?;
    for name in PEERS {
        if !is_installed(&settings.python, name) {
            println!("{name} is not installed for {}: measured without it", settings.python.display());
            continue;
        }
        match run(&settings.python, &script, name, &file) {
            Ok(told) => answers.take(name, &told, questions, records),
            Err(error) => println!("{name} failed: measured without it: {error:#}"),
        }
    }
    Ok(answers)
}

fn is_installed(python: &Path, name: &str) -> bool {
    let mut command = Command::new(python);
    let status = command.args(["-c", &format!("import {name}")]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn run(python: &Path, script: &Path, name: &str, questions: &Path) -> Result<Vec<Value>> {
    let output = Command::new(python).arg(script).arg(name).arg(questions).output()?;
    if !output.status.success() {
        bail!("{}: {:.2000}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("{text:.300}"))
}

impl Answers {
    fn take(&mut self, name: &'static str, told: &[Value], questions: &[Question], records: u64) {
        for (question, answer) in questions.iter().zip(told) {
            if let Some(error) = answer["error"].as_str() {
                println!("{name} cannot answer {}: {error:.300}", question.name);
            } else if answer["rows"].as_u64() != Some(question.sql_rows as u64) {
                let rows = &answer["rows"];
                self.wrong.push(format!("{}: {name} finds {rows} rows instead of {}", question.name, question.sql_rows));
            }
        }
        let counted = told.last().map(|answer| answer["first"].to_string());
        if counted.as_ref() != Some(&records.to_string()) {
            self.wrong.push(format!("{name} counts {} records instead of {records}", counted.unwrap_or_default()));
        }
        let took = |answer: &Value| Some(Took { wall: answer["ms"].as_f64()?, cpu: answer["cpu_ms"].as_f64()? });
        self.peers.push(Peer { name, took: told.iter().take(questions.len()).map(took).collect() });
    }
}
