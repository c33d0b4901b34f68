//! What a query answers.

use br_model::{FloatHistogram, Labels};
use std::sync::Arc;

/// The answer of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryOutput {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// The name under which range queries return the same type.
pub type RangeOutput = QueryOutput;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar {
        timestamp_ms: i64,
        value: f64,
    },
    String {
        timestamp_ms: i64,
        value: String,
    },
    /// In the order of the query where it sorts, else in no particular order.
    Vector(Vec<VectorSample>),
    /// Sorted by labels.
    Matrix(Vec<Series>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub timestamp_ms: i64,
    pub point: Point,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    /// By time, each time once.
    pub points: Vec<(i64, Point)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl From<Point> for br_model::Value {
    fn from(point: Point) -> Self {
        match point {
            Point::Float(value) => Self::Float(value),
            Point::Histogram(histogram) => Self::Histogram(histogram),
        }
    }
}
