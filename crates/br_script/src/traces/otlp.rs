//! Fixtures of OTLP/JSON.

use super::Checks;
use super::stand::{check, compare, given, taken, trace_ids, views};
use br_model::SpanBatch;
use br_std::Nanos;
use br_wire::Limits;
use br_wire::otlp::{Encoding, decode_traces, encode_traces};
use serde_json::Value;

/// Reads a body of which nothing may be refused.
pub(super) fn decode(bytes: &[u8], encoding: Encoding) -> Result<SpanBatch, String> {
    let decoded = decode_traces(bytes, encoding, Nanos(0), &Limits::default()).map_err(|error| error.to_string())?;
    if decoded.rejected_count > 0 {
        return Err(format!("{} refused: {}", decoded.rejected_count, decoded.message()));
    }
    Ok(decoded.value)
}

/// The body means the same with the other names of its fields and as protobuf. Each of its traces comes out as it went in.
pub(super) fn run(bytes: &[u8], checks: &mut Checks) -> Result<(), String> {
    let batch = decode(bytes, Encoding::Json)?;
    let mut renamed = super::json(bytes)?;
    rename(&mut renamed);
    let renamed = decode(renamed.to_string().as_bytes(), Encoding::Json)?;
    checks.add("by the names of the .proto files", (renamed != batch).then(|| "another batch".to_owned()));
    let again = decode(&encode_traces(&batch), Encoding::Protobuf)?;
    checks.add("as protobuf", (again != batch).then(|| "another batch".to_owned()));
    let batches = [batch];
    check(&batches, checks, |place, checks| {
        for id in trace_ids(&batches) {
            let (expect, spans) = (given(&batches, id), place.trace(id)?);
            checks.add(&format!("{} {id} in {}", "trace", place.name), compare(&taken(&spans), &expect));
            let mut out = br#"{"resourceSpans":["#.to_vec();
            br_wire::jaeger::write_resource_spans(&mut out, &views(&spans)).map_err(|error| error.to_string())?;
            out.extend_from_slice(b"]}");
            let read = [decode(&out, Encoding::Json)?];
            checks.add(&format!("trace {id} as version 3 in {}", place.name), compare(&given(&read, id), &expect));
        }
        Ok(())
    })
}

/// Gives fields the names of the `.proto` files.
fn rename(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(rename),
        Value::Object(map) => {
            let fields = std::mem::take(map);
            for (name, mut inner) in fields {
                rename(&mut inner);
                let mut snake = String::new();
                for character in name.chars() {
                    if character.is_ascii_uppercase() {
                        snake.push('_');
                    }
                    snake.push(character.to_ascii_lowercase());
                }
                map.insert(snake, inner);
            }
        }
        _ => {}
    }
}
