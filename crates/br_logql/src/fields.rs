//! What the parser stages find in a line, for who lists fields.

use crate::{stages, units};

/// The pairs of a line of logfmt, those that are malformed left out.
pub fn logfmt_pairs(line: &str) -> impl Iterator<Item = (String, String)> {
    stages::logfmt_pairs(line).filter_map(|pair| pair.ok().map(|(key, value)| (key.to_owned(), value.into_owned())))
}

/// Whether `unwrap duration(…)` takes it.
pub fn is_duration(text: &str) -> bool {
    units::go_duration_nanos(text).is_some()
}

/// Whether `unwrap bytes(…)` takes it.
pub fn is_bytes(text: &str) -> bool {
    units::bytes(text).is_some()
}
