//! Answers as text, and as Arrow's stream.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use br_std::{Error, Result};
use std::io::Write;

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::corrupt(error.to_string()).with_source(error)
}

/// Rows as JSON objects, one a line; a null leaves its key out.
pub fn write_json_lines(out: &mut dyn Write, batch: &RecordBatch) -> Result<()> {
    let mut writer = arrow::json::LineDelimitedWriter::new(out);
    writer.write(batch).map_err(failed)?;
    writer.finish().map_err(failed)
}

/// Rows as CSV (RFC 4180), with the names of the columns first where `header` says so. Null is empty; nested values are text.
pub fn write_csv(out: &mut dyn Write, batch: &RecordBatch, header: bool) -> Result<()> {
    if header {
        let names: Vec<String> = batch.schema_ref().fields().iter().map(|field| quoted(field.name())).collect();
        write!(out, "{}\r\n", names.join(","))?;
    }
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|array| ArrayFormatter::try_new(array, &options));
    let columns: Vec<ArrayFormatter<'_>> = columns.collect::<Result<_, _>>().map_err(failed)?;
    for row in 0..batch.num_rows() {
        let cells: Vec<String> = columns.iter().map(|column| quoted(&column.value(row).to_string())).collect();
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}

/// Rows as Arrow writes them to a stream (IPC): the columns first, then batches.
pub struct ArrowStream(StreamWriter<Vec<u8>>);

impl ArrowStream {
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        StreamWriter::try_new(Vec::new(), schema).map(Self).map_err(failed)
    }

    pub fn write(&mut self, out: &mut Vec<u8>, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch).map_err(failed)?;
        out.append(self.0.get_mut());
        Ok(())
    }

    /// The columns, where there was no row, and the mark of the end.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.finish().map_err(failed)?;
        out.append(self.0.get_mut());
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
