//! A rule's expression and its value.

use br_model::Labels;
use br_promql::{QueryOutput, Value};
use br_rules::ResultSample;
use br_std::{Error, Result};

/// What is wrong with an expression, with its place in it.
pub fn check(expression: &str) -> std::result::Result<(), String> {
    br_promql::parse(expression).map(drop).map_err(|errors| errors.to_string())
}

/// What a rule steps on: the elements of a vector, or a scalar as one element without labels.
pub fn results(output: QueryOutput) -> Result<Vec<ResultSample>> {
    match output.value {
        Value::Vector(samples) => {
            Ok(samples.into_iter().map(|sample| ResultSample { labels: sample.labels, value: sample.point.into() }).collect())
        }
        Value::Scalar { value, .. } => Ok(vec![ResultSample::float(Labels::empty(), value)]),
        Value::String { .. } | Value::Matrix(_) => Err(Error::fix_request("rule result is not a vector or scalar")),
    }
}
