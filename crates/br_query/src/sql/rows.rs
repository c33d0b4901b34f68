//! Answers as JSON rows: arrays in the order of the columns, so that two columns of one name stay two.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::json::writer::{EncoderOptions, make_encoder};
use br_std::{Error, Result};
use serde_json::json;

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::corrupt(error.to_string()).with_source(error)
}

/// `[{"name": …, "type": …}, …]`
pub fn write_columns(out: &mut Vec<u8>, schema: &Schema) -> Result<()> {
    let columns: Vec<_> =
        schema.fields().iter().map(|field| json!({ "name": field.name(), "type": field.data_type().to_string() })).collect();
    serde_json::to_writer(out, &columns).map_err(failed)
}

/// Rows as JSON arrays with commas between them; `is_first` tells whether one is needed in front.
pub fn write_json_rows(out: &mut Vec<u8>, batch: &RecordBatch, is_first: &mut bool) -> Result<()> {
    let options = EncoderOptions::default();
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let encoders = columns.map(|(field, array)| make_encoder(field, array.as_ref(), &options));
    let mut encoders = encoders.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    for row in 0..batch.num_rows() {
        if !std::mem::take(is_first) {
            out.push(b',');
        }
        out.push(b'[');
        for (at, encoder) in encoders.iter_mut().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if encoder.is_null(row) {
                out.extend_from_slice(b"null");
            } else {
                encoder.encode(row, out);
            }
        }
        out.push(b']');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn rows_are_arrays() {
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("text", Arc::new(StringArray::from(vec!["a\"b", "c"]))),
            ("value", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let (mut out, mut is_first) = (Vec::new(), true);
        write_json_rows(&mut out, &batch, &mut is_first).expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), r#"[1,"a\"b",0.5],[null,"c",null]"#);
    }
}
