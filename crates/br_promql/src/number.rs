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
        _ if (PLAIN_MIN..PLAIN_END).contains(&value.abs()) => {
            let start = out.len();
            let written = write!(out, "{value}");
            let decimals = out[start..].find('.').map_or(0, |point| out.len() - start - point - 1);
            prefer_even(out, value, decimals as i32);
            written
        }
        _ => {
            let mut scientific = format!("{value:e}");
            if let Some((mantissa, exponent)) = scientific.split_once('e') {
                let (mut mantissa, exponent) = (mantissa.to_owned(), exponent.parse().unwrap_or(0));
                let decimals = mantissa.find('.').map_or(0, |point| mantissa.len() - point - 1);
                prefer_even(&mut mantissa, value, decimals as i32 - exponent);
                scientific = format!("{mantissa}e{exponent}");
            }
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            write!(out, "{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
    };
}

/// Where a number lies exactly between two texts of the shortest length, Go takes the one with the even digit and Rust the greater.
/// `digits` ends with the last digit, which stands at this place behind the point.
fn prefer_even(digits: &mut String, value: f64, decimals: i32) {
    let (exponent, mantissa) = ((value.to_bits() >> 52 & 0x7ff) as i32, value.to_bits() & ((1 << 52) - 1));
    let lowest_bit = match (exponent, mantissa) {
        (0, _) => return,
        (_, 0) => exponent - 1023,
        _ => exponent - 1075 + mantissa.trailing_zeros() as i32,
    };
    // Half a unit of the last place is this power of two times an odd number.
    if decimals < 1 || lowest_bit != -(decimals + 1) {
        return;
    }
    let lower = match digits.as_bytes().last() {
        Some(b'3') => '2',
        Some(b'5') => '4',
        Some(b'7') => '6',
        Some(b'9') => '8',
        _ => return,
    };
    digits.pop();
    digits.push(lower);
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
            (1_660_159.0 + 18_464.0 / 65_536.0, "1660159.2817382812"),
            (-1_660_159.0 - 18_464.0 / 65_536.0, "-1660159.2817382812"),
            (1_660_159.281_738_281_5, "1660159.2817382815"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_float(value), text);
        }
        // Sixteenths and the like of large numbers, where there are ties.
        for at in 0..200_000_u64 {
            let value = (at * 7919 + 1) as f64 / 65536.0 * (1_u64 << (at % 40)) as f64 / (1_u64 << (at % 23)) as f64;
            assert_eq!(format_float(value).parse(), Ok(value));
        }
    }
}
