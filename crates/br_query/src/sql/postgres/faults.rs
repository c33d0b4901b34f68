//! Errors as PostgreSQL classes them.

use super::super::query_error;
use br_std::{Error, Kind};
use br_storage::CancelReason;
use datafusion::common::{DataFusionError, SchemaError};

/// An error of a query with its SQLSTATE.
#[derive(Debug)]
pub struct SqlFault {
    pub state: &'static str,
    pub error: Error,
    /// In characters of the statement, from 1.
    pub position: Option<usize>,
}

impl SqlFault {
    pub(super) fn of(error: &DataFusionError, sql: &str) -> Self {
        let own = query_error(error);
        let state = match error.find_root() {
            DataFusionError::SQL(..) => "42601",
            DataFusionError::SchemaError(error, _) => match **error {
                SchemaError::AmbiguousReference { .. } => "42702",
                _ => "42703",
            },
            DataFusionError::NotImplemented(_) => "0A000",
            DataFusionError::Plan(message) => state_of_plan(message),
            _ => state_of(&own),
        };
        let position = position(own.message(), sql);
        Self { state, error: own, position }
    }
}

/// DataFusion has one kind for all that is wrong with a plan: the beginnings of its sentences tell more.
fn state_of_plan(message: &str) -> &'static str {
    if message.starts_with("only SELECT") {
        "25006"
    } else if message.starts_with("table '") && message.ends_with("not found") {
        "42P01"
    } else if message.starts_with("Invalid function") {
        "42883"
    } else if message.contains("levels deep") || message.contains("reads more than") {
        "54000"
    } else {
        "42000"
    }
}

/// The SQLSTATE of an error that has its kind alone.
pub fn state_of(error: &Error) -> &'static str {
    match (CancelReason::of(error), error.kind()) {
        (Some(CancelReason::Shutdown), _) | (None, Kind::Closed) => "57P01",
        (Some(_), _) => "57014",
        (None, Kind::Retry) => "53300",
        (None, Kind::FixRequest) => "22000",
        (None, Kind::NotFound) => "42704",
        (None, Kind::OverLimit) if error.message().contains("memory") => "53200",
        (None, Kind::OverLimit) => "54000",
        (None, Kind::Unauthorized) => "42501",
        (None, Kind::Corrupt) => "XX001",
    }
}

/// From `Line: 1, Column: 8` of the parser, or `(line 1, column 8)` of the planner.
fn position(message: &str, sql: &str) -> Option<usize> {
    let lower = message.to_ascii_lowercase();
    let place = &lower[lower.rfind("line")?..];
    let mut numbers = place.split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty());
    let (line, column): (usize, usize) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    if !place.contains("column") || line == 0 || column == 0 {
        return None;
    }
    let before: usize = sql.split('\n').take(line - 1).map(|text| text.chars().count() + 1).sum();
    (line <= sql.split('\n').count()).then_some(before + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_positions() {
        assert_eq!(position("Expected: x at Line: 2, Column: 3", "ab\ncdef"), Some(6));
        assert_eq!(position("no field (line 1, column 8)", "SELECT x"), Some(8));
        assert_eq!(position("a line of text", "SELECT x"), None);
        assert_eq!(position("Line: 9, Column: 1", "SELECT x"), None);
    }
}
