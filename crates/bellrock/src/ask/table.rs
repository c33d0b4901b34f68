//! Rows on stdout: as a table for a person, as JSON, JSON lines or CSV for programs.

use anyhow::Result;
use serde_json::{Map, Value};
use std::io::{BufWriter, Write};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Jsonl,
    Csv,
}

/// Rows under named columns.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Rows {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Takes the named fields of each object.
    pub(crate) fn of_objects(columns: &[&str], objects: &Value) -> Self {
        let mut rows = Self::new(columns);
        for object in objects.as_array().into_iter().flatten() {
            rows.rows.push(columns.iter().map(|name| object[*name].clone()).collect());
        }
        rows
    }

    /// Writes to stdout. A reader that has gone (`| head`) is no error.
    pub(crate) fn print(&self, format: Format) -> Result<()> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = match format {
            Format::Table => self.write_table(&mut out),
            Format::Json => self.write_json(&mut out),
            Format::Jsonl => self.write_json_lines(&mut out),
            Format::Csv => self.write_csv(&mut out),
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    pub(super) fn write_json_lines(&self, out: &mut impl Write) -> std::io::Result<()> {
        self.rows.iter().try_for_each(|row| writeln!(out, "{}", Value::Object(self.object(row))))
    }

    fn object(&self, row: &[Value]) -> Map<String, Value> {
        self.columns.iter().cloned().zip(row.iter().cloned()).collect()
    }

    fn write_json(&self, out: &mut impl Write) -> std::io::Result<()> {
        let objects: Vec<Value> = self.rows.iter().map(|row| Value::Object(self.object(row))).collect();
        writeln!(out, "{:#}", Value::Array(objects))
    }

    fn write_csv(&self, out: &mut impl Write) -> std::io::Result<()> {
        let header: Vec<String> = self.columns.iter().map(|name| csv_cell(name)).collect();
        writeln!(out, "{}", header.join(","))?;
        self.write_csv_rows(out)
    }

    pub(super) fn write_csv_rows(&self, out: &mut impl Write) -> std::io::Result<()> {
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|value| csv_cell(&text(value))).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
        Ok(())
    }

    fn write_table(&self, out: &mut impl Write) -> std::io::Result<()> {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|value| one_line(&shown(value))).collect()).collect();
        let width_of = |at: usize| {
            cells.iter().map(|row| row[at].chars().count()).chain([self.columns[at].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width_of).collect();
        let line = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        writeln!(out, "{}", line(&self.columns))?;
        cells.iter().try_for_each(|row| writeln!(out, "{}", line(row)))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// For a person: an object of labels as PromQL writes a series.
fn shown(value: &Value) -> String {
    let Value::Object(labels) = value else { return text(value) };
    if !labels.values().all(Value::is_string) {
        return text(value);
    }
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or_default();
    let pairs = labels.iter().filter(|(key, _)| *key != "__name__");
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", text(value))).collect();
    format!("{name}{{{}}}", pairs.join(", "))
}

/// Control characters of telemetry must not steer the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// Quoted where needed; a cell that a spreadsheet would run as a formula gets an apostrophe in front.
fn csv_cell(text: &str) -> String {
    let is_number = text.parse::<f64>().is_ok();
    let text = if !is_number && text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats() {
        let mut rows = Rows::new(&["name", "n"]);
        rows.rows.push(vec![json!("a,\"b\"\n"), json!(-2)]);
        rows.rows.push(vec![json!("=cmd()"), Value::Null]);
        let print = |write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
            let mut out = Vec::new();
            write(&mut out).expect("memory");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(print(&|out| rows.write_csv(out)), "name,n\n\"a,\"\"b\"\"\n\",-2\n'=cmd(),\n");
        assert_eq!(print(&|out| rows.write_table(out)), "name    n\na,\"b\"   -2\n=cmd()\n");
        let mut rows = Rows::new(&["labels"]);
        rows.rows.push(vec![json!({"__name__": "up", "job": "a"})]);
        assert_eq!(print(&|out| rows.write_csv(out)), "labels\n\"{\"\"__name__\"\":\"\"up\"\",\"\"job\"\":\"\"a\"\"}\"\n");
        assert_eq!(print(&|out| rows.write_table(out)), "labels\nup{job=a}\n");
        assert_eq!(print(&|out| rows.write_json_lines(out)), "{\"labels\":{\"__name__\":\"up\",\"job\":\"a\"}}\n");
    }
}
