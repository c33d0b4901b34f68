//! A batch as Jaeger's older clients send it, from the JSON form of the fixtures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Struct by struct in Thrift's binary protocol; fields that are absent are left out.
pub(super) fn batch(value: &Value) -> Result<Vec<u8>, String> {
    let mut out = Struct::default();
    let process = &value["process"];
    out.inner(1, Struct::default().text(1, &process["serviceName"]).list(2, &process["tags"], tag)?);
    Ok(out.list(2, &value["spans"], span)?.end())
}

#[derive(Default)]
struct Struct(Vec<u8>);

impl Struct {
    fn field(&mut self, kind: u8, number: u8, value: &[u8]) {
        self.0.extend([kind, 0, number]);
        self.0.extend_from_slice(value);
    }

    fn bytes(&mut self, number: u8, bytes: &[u8]) {
        let length = (bytes.len() as u32).to_be_bytes();
        self.field(11, number, &[&length, bytes].concat());
    }

    fn text(mut self, number: u8, value: &Value) -> Self {
        if let Some(text) = value.as_str() {
            self.bytes(number, text.as_bytes());
        }
        self
    }

    fn long(mut self, number: u8, value: &Value) -> Self {
        if let Some(long) = value.as_i64() {
            self.field(10, number, &long.to_be_bytes());
        }
        self
    }

    /// The number of a word of an enum.
    fn word(mut self, number: u8, value: &Value, words: &[&str]) -> Result<Self, String> {
        let at = words.iter().position(|word| value == *word).ok_or_else(|| format!("{value} is none of {words:?}"))?;
        self.field(8, number, &(at as u32).to_be_bytes());
        Ok(self)
    }

    fn inner(&mut self, number: u8, inner: Self) {
        self.field(12, number, &inner.end());
    }

    fn list(mut self, number: u8, items: &Value, write: fn(&Value) -> Result<Self, String>) -> Result<Self, String> {
        let Some(items) = items.as_array() else { return Ok(self) };
        let mut list = vec![12];
        list.extend((items.len() as u32).to_be_bytes());
        for item in items {
            list.extend(write(item)?.end());
        }
        self.field(15, number, &list);
        Ok(self)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        self.0
    }
}

fn span(span: &Value) -> Result<Struct, String> {
    let ids = Struct::default().long(1, &span["traceIdLow"]).long(2, &span["traceIdHigh"]);
    let ids = ids.long(3, &span["spanId"]).long(4, &span["parentSpanId"]);
    let named = ids.text(5, &span["operationName"]).list(6, &span["references"], reference)?;
    let timed = named.long(8, &span["startTime"]).long(9, &span["duration"]);
    timed.list(10, &span["tags"], tag)?.list(11, &span["logs"], log)
}

fn reference(reference: &Value) -> Result<Struct, String> {
    let kind = Struct::default().word(1, &reference["refType"], &["CHILD_OF", "FOLLOWS_FROM"])?;
    Ok(kind.long(2, &reference["traceIdLow"]).long(3, &reference["traceIdHigh"]).long(4, &reference["spanId"]))
}

fn log(log: &Value) -> Result<Struct, String> {
    Struct::default().long(1, &log["timestamp"]).list(2, &log["fields"], tag)
}

fn tag(tag: &Value) -> Result<Struct, String> {
    const TYPES: [&str; 5] = ["STRING", "DOUBLE", "BOOL", "LONG", "BINARY"];
    let mut out = Struct::default().text(1, &tag["key"]).word(2, &tag["vType"], &TYPES)?.text(3, &tag["vStr"]);
    if let Some(double) = tag["vDouble"].as_f64() {
        out.field(4, 4, &double.to_be_bytes());
    }
    if let Some(value) = tag["vBool"].as_bool() {
        out.field(2, 5, &[u8::from(value)]);
    }
    let mut out = out.long(6, &tag["vLong"]);
    if let Some(text) = tag["vBinary"].as_str() {
        out.bytes(7, &STANDARD.decode(text).map_err(|error| error.to_string())?);
    }
    Ok(out)
}
