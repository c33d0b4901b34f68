//! Numbers as Go's `fmt` prints them, and Prometheus' humanizers.

/// From this power of ten on, Go's `%v` writes an exponent: `fmt.Print(1000000.0)` gives `1e+06`.
const SHORTEST_EXPONENT: i32 = 6;

/// `%g` and `%v` without a precision: the fewest digits that read back as the same number.
pub(super) fn shortest(value: f64) -> String {
    not_finite(value).unwrap_or_else(|| {
        let text = format!("{value:e}");
        let (sign, digits, exponent) = digits(&text);
        arrange(sign, digits, exponent, SHORTEST_EXPONENT)
    })
}

/// `%.<precision>g`
pub(super) fn general(value: f64, precision: usize) -> String {
    not_finite(value).unwrap_or_else(|| {
        let precision = precision.max(1);
        let text = format!("{value:.*e}", precision - 1);
        let (sign, digits, exponent) = digits(&text);
        arrange(sign, digits.trim_end_matches('0').to_owned(), exponent, precision as i32)
    })
}

/// `%.<precision>f`
pub(super) fn fixed(value: f64, precision: usize) -> String {
    not_finite(value).unwrap_or_else(|| format!("{value:.precision$}"))
}

/// `%.<precision>e`
pub(super) fn scientific(value: f64, precision: usize) -> String {
    not_finite(value).unwrap_or_else(|| {
        let text = format!("{value:.precision$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{mantissa}{}", exponent_text(exponent.parse().unwrap_or(0)))
    })
}

fn not_finite(value: f64) -> Option<String> {
    if value.is_nan() {
        return Some("NaN".to_owned());
    }
    value.is_infinite().then(|| if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() })
}

/// Takes `-1.25e-7` apart: sign, digits without the point, exponent of the first digit.
fn digits(text: &str) -> (&str, String, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    (sign, mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

/// Writes digits with or without an exponent: with one below 10^-4 and from 10^`precision` on.
fn arrange(sign: &str, digits: String, exponent: i32, precision: i32) -> String {
    let digits = if digits.is_empty() { "0".to_owned() } else { digits };
    if exponent < -4 || exponent >= precision {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}{}", exponent_text(exponent));
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits:0<whole$}");
    }
    let (integer, fraction) = digits.split_at(whole);
    format!("{sign}{integer}.{fraction}")
}

/// At least two digits, always with a sign.
fn exponent_text(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("e{sign}{:02}", exponent.unsigned_abs())
}

/// `1234567` → `1.235M`, `0.0012` → `1.2m`
pub(super) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, 4);
    }
    if value.abs() >= 1.0 {
        return scaled(value, 1000.0, ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]);
    }
    let (value, prefix) = small(value);
    format!("{}{prefix}", general(value, 4))
}

/// `1536` → `1.5ki`
pub(super) fn humanize1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return general(value, 4);
    }
    scaled(value, 1024.0, ["", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"])
}

fn scaled(mut value: f64, step: f64, prefixes: [&'static str; 9]) -> String {
    let mut at = 0;
    while value.abs() >= step && at + 1 < prefixes.len() {
        value /= step;
        at += 1;
    }
    format!("{}{}", general(value, 4), prefixes[at])
}

/// A number below one with its prefix: milli, micro and so on.
fn small(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

/// Seconds for people: `1d 2h 3m 4s`, `250ms`.
pub(super) fn humanize_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return general(seconds, 4);
    }
    if seconds == 0.0 {
        return format!("{}s", general(seconds, 4));
    }
    if seconds.abs() < 1.0 {
        let (value, prefix) = small(seconds);
        return format!("{}{prefix}s", general(value, 4));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let seconds = seconds.abs();
    let whole = seconds as i64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    if days != 0 {
        return format!("{sign}{days}d {hours}h {minutes}m {rest}s");
    }
    if hours != 0 {
        return format!("{sign}{hours}h {minutes}m {rest}s");
    }
    if minutes != 0 {
        return format!("{sign}{minutes}m {rest}s");
    }
    format!("{sign}{}s", general(seconds, 4))
}
