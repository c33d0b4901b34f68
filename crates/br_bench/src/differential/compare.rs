//! Whether two answers of the HTTP API say the same, series by series.

use serde_json::Value;
use std::collections::BTreeMap;

/// As in Prometheus' own test scripts.
const RELATIVE_DIFFERENCE: f64 = 1e-6;

/// A query's outcome.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Error(String),
    /// The type, and by labels the values by time.
    Found(String, BTreeMap<String, Vec<(f64, f64)>>),
}

impl Answer {
    pub(super) fn read(text: &str) -> Self {
        let Ok(json) = serde_json::from_str::<Value>(text) else {
            return Self::Error(format!("no JSON: {text}"));
        };
        if json["status"] != "success" {
            return Self::Error(json["error"].as_str().unwrap_or(text).to_owned());
        }
        let (kind, result) = (json["data"]["resultType"].as_str().unwrap_or_default(), &json["data"]["result"]);
        let mut series = BTreeMap::new();
        match kind {
            "scalar" => drop(series.insert(String::new(), vec![point(result)])),
            _ => {
                for one in result.as_array().into_iter().flatten() {
                    let points = match (&one["value"], &one["values"]) {
                        (Value::Null, values) => values.as_array().into_iter().flatten().map(point).collect(),
                        (value, _) => vec![point(value)],
                    };
                    // serde_json keeps the names in order.
                    if series.insert(one["metric"].to_string(), points).is_some() {
                        return Self::Error(format!("two series with the labels {}", one["metric"]));
                    }
                }
            }
        }
        Self::Found(kind.to_owned(), series)
    }

    /// The first difference, if any. Two errors are equal whatever they say: the texts have changed between the versions.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let ((kind, series), (other_kind, others)) = match (self, other) {
            (Self::Error(_), Self::Error(_)) => return None,
            (Self::Error(error), Self::Found(..)) => return Some(format!("only Prometheus fails: {error}")),
            (Self::Found(..), Self::Error(error)) => return Some(format!("only Bellrock fails: {error}")),
            (Self::Found(kind, series), Self::Found(other_kind, others)) => ((kind, series), (other_kind, others)),
        };
        if kind != other_kind {
            return Some(format!("{kind} and {other_kind}"));
        }
        for (labels, points) in series {
            let Some(found) = others.get(labels) else { return Some(format!("only Prometheus has {labels} {points:?}")) };
            if let Some(difference) = points_difference(points, found) {
                return Some(format!("{labels}: {difference}"));
            }
        }
        let extra = others.iter().find(|(labels, _)| !series.contains_key(*labels));
        extra.map(|(labels, points)| format!("only Bellrock has {labels} {points:?}"))
    }
}

fn point(pair: &Value) -> (f64, f64) {
    (pair[0].as_f64().unwrap_or(f64::NAN), pair[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN))
}

fn points_difference(points: &[(f64, f64)], others: &[(f64, f64)]) -> Option<String> {
    for (point, other) in points.iter().zip(others) {
        if point.0 != other.0 || !is_near(point.1, other.1) {
            return Some(format!("Prometheus {point:?}, Bellrock {other:?}"));
        }
    }
    (points.len() != others.len()).then(|| format!("{} and {} points", points.len(), others.len()))
}

fn is_near(expected: f64, actual: f64) -> bool {
    if (expected.is_nan() && actual.is_nan()) || expected == actual {
        return true;
    }
    let (difference, sum) = ((expected - actual).abs(), expected.abs() + actual.abs());
    if expected == 0.0 || actual == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < RELATIVE_DIFFERENCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < RELATIVE_DIFFERENCE
}
