//! Times and durations as Go prints them.

use br_std::Nanos;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2015-03-01 12:00:00.5 +0000 UTC`
pub(super) fn show(at: Nanos) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(i128::from(at.0)) else { return at.to_string() };
    let zoned = timestamp.to_zoned(TimeZone::UTC);
    let fraction = fraction(at.0.rem_euclid(1_000_000_000));
    format!("{}{fraction} +0000 UTC", zoned.strftime("%Y-%m-%d %H:%M:%S"))
}

/// `.5` for half a second, nothing for a whole one.
fn fraction(nanos: i64) -> String {
    if nanos == 0 {
        return String::new();
    }
    let digits = format!("{nanos:09}");
    format!(".{}", digits.trim_end_matches('0'))
}

/// A layout in Go's way, spelled with the reference time `Mon Jan 2 15:04:05 MST 2006`; always in UTC.
pub(super) fn layout(at: Nanos, layout: &str) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(i128::from(at.0)) else { return at.to_string() };
    let zoned = timestamp.to_zoned(TimeZone::UTC);
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((word, directive)) = LAYOUT_WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            out.push_str(&zoned.strftime(directive).to_string());
            rest = &rest[word.len()..];
        } else if let Some(zeros) = rest.strip_prefix('.').map(|tail| tail.bytes().take_while(|byte| *byte == b'0').count())
            && zeros > 0
        {
            let digits = format!("{:09}", at.0.rem_euclid(1_000_000_000));
            out.push('.');
            out.push_str(&digits[..zeros.min(9)]);
            rest = &rest[1 + zeros..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Longer words first where one starts with another.
const LAYOUT_WORDS: [(&str, &str); 22] = [
    ("2006", "%Y"),
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("Z07:00", "Z"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("PM", "%p"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

/// `1h2m3.5s`, `250ms`, `0s`
pub(super) fn show_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let below_second = |unit: u64, name: &str| {
        let digits = unit.to_string().len() - 1;
        let part = format!("{:0digits$}", total % unit);
        let part = part.trim_end_matches('0');
        let point = if part.is_empty() { "" } else { "." };
        format!("{sign}{}{point}{part}{name}", total / unit)
    };
    match total {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{sign}{total}ns"),
        1_000..1_000_000 => return below_second(1_000, "µs"),
        1_000_000..1_000_000_000 => return below_second(1_000_000, "ms"),
        _ => {}
    }
    let whole = total / 1_000_000_000;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    let seconds = format!("{seconds}{}s", fraction((total % 1_000_000_000) as i64));
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}
