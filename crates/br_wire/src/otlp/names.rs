//! OpenTelemetry names as Prometheus names, with the unit and `_total` behind them.
//!
//! Source: OpenTelemetry "Prometheus and OpenMetrics Compatibility" and what Prometheus' own OTLP endpoint makes by default.

/// Units of UCUM and the words that stand for them in a metric's name.
const UNITS: [(&str, &str); 29] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("B", "bytes"),
    ("KB", "kilobytes"),
    ("MB", "megabytes"),
    ("GB", "gigabytes"),
    ("TB", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
];

const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// The Prometheus name of a metric: `http.server.duration` in `ms` is `http_server_duration_milliseconds`.
/// A counter ends in `_total`, a gauge without dimension (`1`) in `_ratio`.
pub fn metric_name(name: &str, unit: &str, is_counter: bool, is_gauge: bool) -> String {
    let is_separator = |character: char| !character.is_ascii_alphanumeric() && character != ':';
    let mut words: Vec<String> = name.split(is_separator).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let (main, per) = unit_words(unit);
    let has_word = |words: &[String], word: &str| words.iter().any(|other| other == word);
    for word in [main, per].into_iter().filter(|word| !word.is_empty()) {
        if !has_word(&words, &word) {
            words.extend(word.split('_').map(str::to_owned));
        }
    }
    if unit.trim() == "1" && is_gauge {
        words.retain(|word| word != "ratio");
        words.push("ratio".into());
    }
    if is_counter {
        words.retain(|word| word != "total");
        words.push("total".into());
    }
    let joined = words.join("_");
    if joined.as_bytes().first().is_some_and(u8::is_ascii_digit) { format!("_{joined}") } else { joined }
}

/// The words for a unit and for what it is per: `By/s` gives `bytes` and `per_second`. Annotations such as `{request}` have none.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = main.trim();
    let main = match main {
        "1" => String::new(),
        "%" => "percent".into(),
        _ if main.contains(['{', '}']) => String::new(),
        _ => word_of(main, &UNITS),
    };
    let per = per.trim();
    let per = if per.is_empty() || per.contains(['{', '}']) { String::new() } else { word_of(per, &PER_UNITS) };
    (main, if per.is_empty() { per } else { format!("per_{per}") })
}

fn word_of(unit: &str, known: &[(&str, &str)]) -> String {
    if let Some((_, word)) = known.iter().find(|(short, _)| *short == unit) {
        return (*word).to_owned();
    }
    let words = unit.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// The Prometheus label for an attribute: everything but letters, digits and `_` becomes `_`; a leading digit gets `key_` in front.
pub fn label_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    if key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        name.push_str("key_");
    }
    name.extend(key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }));
    if name.starts_with('_') && !name.starts_with("__") {
        name.insert_str(0, "key");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, unit, is_counter, is_gauge, expect) in [
            ("http.server.duration", "ms", false, false, "http_server_duration_milliseconds"),
            ("http.server.request.duration", "s", false, false, "http_server_request_duration_seconds"),
            ("system.io", "By", true, false, "system_io_bytes_total"),
            ("network.rate", "By/s", false, true, "network_rate_bytes_per_second"),
            ("cpu.utilization", "1", false, true, "cpu_utilization_ratio"),
            ("requests", "{request}", true, false, "requests_total"),
            ("requests_total", "1", true, false, "requests_total"),
            ("memory.bytes", "By", false, true, "memory_bytes"),
            ("disk.free", "%", false, true, "disk_free_percent"),
            ("1st.metric", "", false, true, "_1st_metric"),
            ("odd", "foo-bar", false, true, "odd_foo_bar"),
        ] {
            assert_eq!(metric_name(name, unit, is_counter, is_gauge), expect, "{name} {unit}");
        }
        assert_eq!(label_name("http.method"), "http_method");
        assert_eq!(label_name("2xx"), "key_2xx");
        assert_eq!(label_name("_private"), "key_private");
    }
}
