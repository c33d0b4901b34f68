//! Floats as texts.

/// Writes a float as Prometheus' API does: `1`, `0.1`, `1e+21`, `+Inf`, `-Inf`, `NaN`. The shortest text that reads back the same.
pub fn format_float(value: f64) -> String {
    format_with(value, 21)
}

/// The same as Go's `%g` writes it, where large exponents start at 21 and small ones below 1e-4.
pub(crate) fn format_short(value: f64) -> String {
    format_with(value, 21).trim_start_matches('+').to_owned().replace("Inf", "+Inf").replace("-+Inf", "-Inf")
}

/// The same with a `.0` behind whole numbers, as OpenMetrics wants it in label values.
pub(crate) fn format_label_float(value: f64) -> String {
    let text = format_float(value);
    let is_whole = value.is_finite() && !text.contains(['.', 'e']);
    if is_whole { format!("{text}.0") } else { text }
}

fn format_with(value: f64, exponent_from: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..exponent_from).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
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
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_float(value), text);
        }
    }
}
