//! A search as Jaeger's clients ask for it, as TraceQL.

use br_std::re2::{Mode, Regex};
use std::fmt::Write as _;

/// Tags of one search.
pub const TAGS_MAX: usize = 16;

/// What one span must have for its trace to be found; what is empty or `None` does not count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceFilter {
    pub service: String,
    pub operation: String,
    /// Compared as text with what the span, its resource, scope, events and links have. A value that is a pattern, such as
    /// `timeout.*`, also matches whole texts as one, as in Jaeger over Elasticsearch.
    pub tags: Vec<(String, String)>,
    /// Both are included.
    pub duration_min_nanos: Option<i64>,
    pub duration_max_nanos: Option<i64>,
}

impl TraceFilter {
    pub fn to_traceql(&self) -> String {
        let mut conditions = Vec::new();
        if !self.service.is_empty() {
            conditions.push(service_condition(&self.service));
        }
        if !self.operation.is_empty() {
            conditions.push(format!("name = {}", quoted(&self.operation)));
        }
        for (operator, bound) in [(">=", self.duration_min_nanos), ("<=", self.duration_max_nanos)] {
            if let Some(nanos) = bound {
                conditions.push(format!("duration {operator} {nanos}ns"));
            }
        }
        conditions.extend(self.tags.iter().map(|(key, value)| tag_condition(key, value)));
        format!("{{ {} }}", conditions.join(" && "))
    }
}

/// Senders that do not say who they are have this name in lists, and no attribute.
pub fn service_condition(service: &str) -> String {
    let condition = format!("resource.service.name = {}", quoted(service));
    // TraceQL has no word for what is never there in Tempo; a pattern that holds for every text does not hold for none.
    if service == "unknown_service" { format!("({condition} || !(resource.service.name =~ \".*\"))") } else { condition }
}

/// Where a span may have a tag.
const PLACES: [&str; 5] = ["span", "resource", "event", "link", "instrumentation"];

fn tag_condition(key: &str, value: &str) -> String {
    let mut any = Vec::new();
    match (key, value) {
        ("error", "true") => any.push("status = error".to_owned()),
        ("error", "false") => any.push("status != error".to_owned()),
        ("span.kind", "internal" | "server" | "client" | "producer" | "consumer") => any.push(format!("kind = {value}")),
        ("otel.status_code", "ERROR" | "OK") => any.push(format!("status = {}", value.to_lowercase())),
        ("otel.status_description", _) => any.extend(value_conditions("statusMessage", value)),
        ("otel.scope.name" | "otel.library.name", _) => any.extend(value_conditions("instrumentation:name", value)),
        ("otel.scope.version" | "otel.library.version", _) => any.extend(value_conditions("instrumentation:version", value)),
        ("event", _) => any.extend(value_conditions("event:name", value)),
        _ => {}
    }
    for place in PLACES {
        any.extend(value_conditions(&format!("{place}.{}", quoted(key)), value));
    }
    format!("({})", any.join(" || "))
}

/// What it takes for `field` to have a value that reads as this text; one of them is enough.
pub fn value_conditions(field: &str, value: &str) -> Vec<String> {
    let mut any = vec![format!("{field} = {}", quoted(value))];
    let is_number = value.parse::<f64>().is_ok_and(f64::is_finite)
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-')
        && value.ends_with(|last: char| last.is_ascii_digit())
        && !value.starts_with('.')
        && (value.contains('.') || value.parse::<i64>().is_ok());
    if is_number || matches!(value, "true" | "false") {
        any.push(format!("{field} = {value}"));
    } else if is_pattern(value) {
        any.push(format!("{field} =~ {}", quoted(value)));
    }
    any
}

/// Whether the text means more as a regular expression than itself, and is one.
fn is_pattern(value: &str) -> bool {
    const PATTERN_BYTES_MAX: usize = 64 << 10;
    value.contains(['*', '+', '?', '[', '(', '|', '\\']) && Regex::with_size(value, Mode::WholeLine, PATTERN_BYTES_MAX).is_ok()
}

/// A text as TraceQL writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => _ = write!(out, "\\{character}"),
            '\n' => out.push_str("\\n"),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}
