//! Durations as Prometheus writes them: `1h30m`, `15s`, `100ms`, `1d`, `1w`, `1y`.
//!
//! Source: the Prometheus documentation, "Time durations". Units must stand in order, each at most once.

use crate::{Error, Result};
use std::fmt::Write as _;
use std::time::Duration;

/// Unit names with their length in milliseconds, longest first: the order in which they may appear.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration such as `1h30m`. A bare `0` is allowed, a bare other number is not.
pub fn parse(text: &str) -> Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(Error::fix_request("empty duration"));
    }
    let invalid = || Error::fix_request(format!("not a valid duration string: {text:?}"));
    let mut rest = text;
    let mut units_left = &UNITS[..];
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[..letters];
        let at = units_left.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let part = count.checked_mul(units_left[at].1);
        total_ms = part.and_then(|part| total_ms.checked_add(part)).ok_or_else(invalid)?;
        units_left = &units_left[at + 1..];
        rest = &rest[letters..];
    }
    if total_ms > i64::MAX as u64 / 1_000_000 {
        return Err(Error::fix_request(format!("duration out of range: {text:?}")));
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration the way [`parse`] reads it, to the millisecond: `90s` becomes `1m30s`.
/// Years, weeks and days are used only where nothing smaller would remain, as Prometheus does.
pub fn format(duration: Duration) -> String {
    let mut left_ms = duration.as_millis() as u64;
    if left_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length_ms) in UNITS {
        let only_if_exact = matches!(unit, "y" | "w" | "d");
        if only_if_exact && !left_ms.is_multiple_of(length_ms) {
            continue;
        }
        let count = left_ms / length_ms;
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
            left_ms -= count * length_ms;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, ms, canonical) in [
            ("0", 0, "0s"),
            ("5m", 300_000, "5m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d", 86_400_000, "1d"),
            ("36h", 129_600_000, "36h"),
            ("1w2d", 777_600_000, "9d"),
            ("1m500ms", 60_500, "1m500ms"),
        ] {
            let duration = parse(text).expect("valid");
            assert_eq!(duration.as_millis(), ms, "{text}");
            assert_eq!(format(duration), canonical, "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in ["", "1", "m", "1m1h", "1m1m", "-1m", "1.5h", "1x", "99999999999999999999y", "999999y"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
