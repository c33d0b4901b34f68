//! Floats as texts.

use std::fmt::Write as _;

/// Writes a float as Prometheus' API does: `1`, `0.1`, `1e+21`, `+Inf`, `-Inf`, `NaN`. The shortest text that reads back the same.
pub fn format_float(value: f64) -> String {
    let mut text = String::new();
    write_float(&mut text, value);
    text
}

/// Appends what [`format_float`] gives.
pub fn write_float(out: &mut String, value: f64) {
    // Writing to a string does not fail.
    let _ = match value {
        _ if value.is_nan() => out.write_str("NaN"),
        f64::INFINITY => out.write_str("+Inf"),
        f64::NEG_INFINITY => out.write_str("-Inf"),
        _ if value == 0.0 => out.write_str(if value.is_sign_negative() { "-0" } else { "0" }),
        _ if value.abs() < WHOLE_MAX && value.trunc() == value => write!(out, "{}", value as i64),
        _ if (PLAIN_MIN..PLAIN_END).contains(&value.abs()) => write!(out, "{value}"),
        _ => {
            let scientific = format!("{value:e}");
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            write!(out, "{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
    };
}

/// Whole numbers below this are exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Where texts without an exponent begin and end.
const PLAIN_MIN: f64 = 1e-4;
const PLAIN_END: f64 = 1e21;

/// The same as Go's `%g` writes it, where large exponents start at 21 and small ones below 1e-4.
pub(crate) fn format_short(value: f64) -> String {
    format_float(value).trim_start_matches('+').to_owned().replace("Inf", "+Inf").replace("-+Inf", "-Inf")
}

/// The same with a `.0` behind whole numbers, as OpenMetrics wants it in label values.
pub(crate) fn format_label_float(value: f64) -> String {
    let text = format_float(value);
    let is_whole = value.is_finite() && !text.contains(['.', 'e']);
    if is_whole { format!("{text}.0") } else { text }
}

#[cfg(test)]
mod tests {
    use super::format_float;

    #[test]
    fn as_prometheus_writes_them() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e21, "1e+21"),
            (123456789012345680000.0, "123456789012345680000"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (0.000_099_999, "9.9999e-05"),
            (-0.0, "-0"),
            (-3.0, "-3"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_float(value), text);
        }
    }
}
