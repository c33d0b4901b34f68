//! Times in answers: RFC 3339 in UTC.

use br_std::Nanos;
use serde_json::Value;

/// With as many fractional digits as it needs, nine at the most.
pub(crate) fn rfc3339(time: Nanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0)).map_or_else(|_| time.to_string(), |timestamp| timestamp.to_string())
}

pub(crate) fn rfc3339_or_null(time: Option<Nanos>) -> Value {
    time.map_or(Value::Null, |time| Value::String(rfc3339(time)))
}

/// Nanoseconds as milliseconds with a fraction.
pub(crate) fn millis(nanos: i64) -> f64 {
    nanos as f64 / 1e6
}
