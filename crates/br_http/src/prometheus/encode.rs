//! Query results as JSON, written straight into text: a range query has millions of points.

use br_model::{FloatHistogram, Labels};
use br_promql::{Point, QueryOutput, Value, format_float, write_float};
use std::fmt::Write as _;

/// The whole answer of a query.
pub(super) fn answer(output: &QueryOutput) -> String {
    let mut out = String::with_capacity(256);
    out.push_str(r#"{"status":"success","data":{"resultType":""#);
    match &output.value {
        Value::Scalar { timestamp_ms, value } => {
            out.push_str(r#"scalar","result":"#);
            pair(&mut out, *timestamp_ms, *value);
        }
        Value::String { timestamp_ms, value } => {
            out.push_str(r#"string","result":["#);
            time(&mut out, *timestamp_ms);
            out.push(',');
            string(&mut out, value);
            out.push(']');
        }
        Value::Vector(samples) => {
            out.push_str(r#"vector","result":["#);
            separated(&mut out, samples, |out, sample| {
                out.push_str(r#"{"metric":"#);
                labels(out, &sample.labels);
                match &sample.point {
                    Point::Float(value) => {
                        out.push_str(r#","value":"#);
                        pair(out, sample.timestamp_ms, *value);
                    }
                    Point::Histogram(value) => {
                        out.push_str(r#","histogram":"#);
                        histogram_pair(out, sample.timestamp_ms, value);
                    }
                }
                out.push('}');
            });
            out.push(']');
        }
        Value::Matrix(series) => {
            out.push_str(r#"matrix","result":["#);
            separated(&mut out, series, matrix_series);
            out.push(']');
        }
    }
    out.push('}');
    notes(&mut out, "warnings", &output.warnings);
    notes(&mut out, "infos", &output.infos);
    out.push('}');
    out
}

fn matrix_series(out: &mut String, series: &br_promql::Series) {
    out.push_str(r#"{"metric":"#);
    labels(out, &series.labels);
    let floats = series.points.iter().filter_map(|(at, point)| match point {
        Point::Float(value) => Some((*at, *value)),
        Point::Histogram(_) => None,
    });
    let histograms: Vec<_> = series.points.iter().filter(|(_, point)| matches!(point, Point::Histogram(_))).collect();
    if histograms.len() < series.points.len() {
        out.push_str(r#","values":["#);
        separated(out, floats, |out, (at, value)| pair(out, at, value));
        out.push(']');
    }
    if !histograms.is_empty() {
        out.push_str(r#","histograms":["#);
        separated(out, histograms, |out, (at, point)| {
            if let Point::Histogram(value) = point {
                histogram_pair(out, *at, value);
            }
        });
        out.push(']');
    }
    out.push('}');
}

fn separated<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

pub(super) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    separated(out, labels.iter(), |out, (name, value)| {
        string(out, name);
        out.push(':');
        string(out, value);
    });
    out.push('}');
}

fn notes(out: &mut String, name: &str, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    let _ = write!(out, r#","{name}":["#);
    separated(out, notes, |out, note| string(out, note));
    out.push(']');
}

fn pair(out: &mut String, timestamp_ms: i64, value: f64) {
    out.push('[');
    time(out, timestamp_ms);
    out.push_str(",\"");
    write_float(out, value);
    out.push_str("\"]");
}

/// Seconds with up to three fractional digits.
fn time(out: &mut String, timestamp_ms: i64) {
    let (seconds, millis) = (timestamp_ms / 1000, (timestamp_ms % 1000).unsigned_abs());
    if timestamp_ms < 0 && seconds == 0 {
        out.push('-');
    }
    let _ = write!(out, "{seconds}");
    if millis > 0 {
        let fraction = format!(".{millis:03}");
        out.push_str(fraction.trim_end_matches('0'));
    }
}

fn histogram_pair(out: &mut String, timestamp_ms: i64, histogram: &FloatHistogram) {
    out.push('[');
    time(out, timestamp_ms);
    let (count, sum) = (format_float(histogram.count), format_float(histogram.sum));
    let _ = write!(out, r#",{{"count":"{count}","sum":"{sum}""#);
    let buckets: Vec<_> = br_promql::histogram::buckets(histogram).into_iter().filter(|bucket| bucket.count != 0.0).collect();
    if !buckets.is_empty() {
        out.push_str(r#","buckets":["#);
        separated(out, buckets, |out, bucket| {
            // 0: open on the left, 1: open on the right, 2: open on both sides, 3: closed on both sides.
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let (lower, upper, count) = (format_float(bucket.lower), format_float(bucket.upper), format_float(bucket.count));
            let _ = write!(out, r#"[{rule},"{lower}","{upper}","{count}"]"#);
        });
        out.push(']');
    }
    out.push_str("}]");
}

pub(super) fn string(out: &mut String, text: &str) {
    // What JSON escapes: hardly any label has it.
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(_) => out.push_str("\"\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_promql::{Series, VectorSample};

    fn check(value: Value, expect: &str) {
        let output = QueryOutput { value, warnings: Vec::new(), infos: Vec::new() };
        let answer = answer(&output);
        assert_eq!(answer, format!(r#"{{"status":"success","data":{expect}}}"#));
        serde_json::from_str::<serde_json::Value>(&answer).expect("valid JSON");
    }

    #[test]
    fn shapes() {
        check(Value::Scalar { timestamp_ms: -500, value: f64::INFINITY }, r#"{"resultType":"scalar","result":[-0.5,"+Inf"]}"#);
        let labels = Labels::from_pairs([("__name__", "up"), ("q", "a\"b\n")]);
        let sample = VectorSample { labels: labels.clone(), timestamp_ms: 1500, point: Point::Float(0.1) };
        check(
            Value::Vector(vec![sample]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","q":"a\"b\n"},"value":[1.5,"0.1"]}]}"#,
        );
        let series = Series { labels: Labels::empty(), points: vec![(1000, Point::Float(f64::NAN)), (2000, Point::Float(1e21))] };
        check(
            Value::Matrix(vec![series]),
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"NaN"],[2,"1e+21"]]}]}"#,
        );
    }
}
