//! Durations and sizes as people write them.

use std::time::Duration;

/// Nanoseconds per unit. `d`, `w` and `y` are Prometheus', the rest is Go's.
const DURATION_UNITS: [(&str, f64); 10] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86400e9),
    ("w", 604_800e9),
    ("y", 31_536_000e9),
];

/// How many of [`DURATION_UNITS`] Go's `time.ParseDuration` knows.
const GO_UNITS: usize = 7;

/// A duration in a query: `5m`, `1h30m`, `1.5h`, `1d`. Without a sign.
pub(crate) fn query_duration(text: &str) -> Option<Duration> {
    nanos(text, &DURATION_UNITS).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

/// A duration in a log line, as Go's `time.ParseDuration` reads it, in nanoseconds: `-1.5h`, `300ms`, `0`. Days are unknown to it.
pub(crate) fn go_duration_nanos(text: &str) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let nanos = nanos(rest, &DURATION_UNITS[..GO_UNITS])?;
    Some(if negative { -nanos } else { nanos })
}

fn nanos(text: &str, units: &[(&str, f64)]) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|character: char| character.is_ascii_digit() || character == '.').unwrap_or(rest.len());
        let (_, unit) = units.iter().find(|(name, _)| *name == &rest[..letters])?;
        total += number * unit;
        rest = &rest[letters..];
    }
    (total < i64::MAX as f64).then_some(total.round() as i64)
}

/// Bytes per unit, by lower-case name.
const BYTE_UNITS: [(&str, f64); 22] = [
    ("", 1.0),
    ("b", 1.0),
    ("kb", 1e3),
    ("k", 1e3),
    ("mb", 1e6),
    ("m", 1e6),
    ("gb", 1e9),
    ("g", 1e9),
    ("tb", 1e12),
    ("t", 1e12),
    ("pb", 1e15),
    ("p", 1e15),
    ("eb", 1e18),
    ("e", 1e18),
    ("kib", 1024.0),
    ("ki", 1024.0),
    ("mib", 1_048_576.0),
    ("mi", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("gi", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
    ("pib", 1_125_899_906_842_624.0),
];

/// A size such as `10KiB`, `1.5 MB` or `2,048`, in whole bytes. Units are read in any case, fractions are cut off.
pub(crate) fn bytes(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',')).count();
    let number: f64 = text[..digits].replace(',', "").parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
    Some((number * factor).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(query_duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(query_duration("1d"), Some(Duration::from_hours(24)));
        assert_eq!(go_duration_nanos("-1.5h"), Some(-5_400_000_000_000));
        assert_eq!(go_duration_nanos("1µs"), Some(1000));
        for wrong in ["", "1", "s", "1d", "1.2.3s", "-", "1x", "99999999999h"] {
            assert_eq!(go_duration_nanos(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expect) in [("1.5B", 1.0), ("2Kb", 2000.0), ("2,048", 2048.0), ("1KiB", 1024.0), ("3 MB", 3e6)] {
            assert_eq!(bytes(text), Some(expect), "{text}");
        }
        for wrong in ["", "1XB", "KB", "."] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
