//! The registry: one line for each function.

use crate::syntax::ast::Type;
use Arity::{Exact, Optional, Repeat, UpTo};
use Type::{Matrix, Scalar, String, Vector};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a function takes and gives.
#[derive(Debug, PartialEq)]
pub struct Signature {
    pub name: &'static str,
    pub arguments: &'static [Type],
    /// How many of the last arguments may be left out or, when [`Arity::Repeat`], come again.
    pub arity: Arity,
    pub returns: Type,
    pub is_experimental: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    Exact,
    /// The last so many arguments may be missing.
    Optional(usize),
    /// The last argument may come any number of times; the number says how many more may be missing.
    Repeat(usize),
    /// The last argument may come so many times more.
    UpTo(usize),
}

impl Signature {
    /// Least and greatest number of arguments; `None` when there is no greatest.
    pub fn argument_counts(&self) -> (usize, Option<usize>) {
        let count = self.arguments.len();
        match self.arity {
            Exact => (count, Some(count)),
            Optional(missing) => (count - missing, Some(count)),
            Repeat(missing) => (count - missing, None),
            UpTo(more) => (count, Some(count + more)),
        }
    }

    /// The type of the argument at a position.
    pub fn argument(&self, at: usize) -> Option<Type> {
        self.arguments.get(at).or(self.arguments.last()).copied()
    }
}

const fn function(name: &'static str, arguments: &'static [Type], returns: Type) -> Signature {
    Signature { name, arguments, arity: Exact, returns, is_experimental: false }
}

const fn flexible(name: &'static str, arguments: &'static [Type], arity: Arity, returns: Type) -> Signature {
    Signature { name, arguments, arity, returns, is_experimental: false }
}

const fn experimental(name: &'static str, arguments: &'static [Type], arity: Arity, returns: Type) -> Signature {
    Signature { name, arguments, arity, returns, is_experimental: true }
}

/// All functions, by name.
pub fn signatures() -> &'static [Signature] {
    &SIGNATURES
}

pub(crate) fn find(name: &str) -> Option<&'static Signature> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Signature>> =
        LazyLock::new(|| SIGNATURES.iter().map(|signature| (signature.name, signature)).collect());
    BY_NAME.get(name).copied()
}

static SIGNATURES: [Signature; 90] = [
    function("abs", &[Vector], Vector),
    function("absent", &[Vector], Vector),
    function("absent_over_time", &[Matrix], Vector),
    function("acos", &[Vector], Vector),
    function("acosh", &[Vector], Vector),
    function("asin", &[Vector], Vector),
    function("asinh", &[Vector], Vector),
    function("atan", &[Vector], Vector),
    function("atanh", &[Vector], Vector),
    function("avg_over_time", &[Matrix], Vector),
    function("ceil", &[Vector], Vector),
    function("changes", &[Matrix], Vector),
    function("clamp", &[Vector, Scalar, Scalar], Vector),
    function("clamp_max", &[Vector, Scalar], Vector),
    function("clamp_min", &[Vector, Scalar], Vector),
    function("cos", &[Vector], Vector),
    function("cosh", &[Vector], Vector),
    function("count_over_time", &[Matrix], Vector),
    flexible("day_of_month", &[Vector], Optional(1), Vector),
    flexible("day_of_week", &[Vector], Optional(1), Vector),
    flexible("day_of_year", &[Vector], Optional(1), Vector),
    flexible("days_in_month", &[Vector], Optional(1), Vector),
    function("deg", &[Vector], Vector),
    function("delta", &[Matrix], Vector),
    function("deriv", &[Matrix], Vector),
    experimental("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Exact, Vector),
    experimental("end", &[], Exact, Scalar),
    function("exp", &[Vector], Vector),
    function("first_over_time", &[Matrix], Vector),
    function("floor", &[Vector], Vector),
    function("histogram_avg", &[Vector], Vector),
    function("histogram_count", &[Vector], Vector),
    function("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    function("histogram_quantile", &[Scalar, Vector], Vector),
    experimental("histogram_quantiles", &[Vector, String, Scalar], UpTo(9), Vector),
    function("histogram_stddev", &[Vector], Vector),
    function("histogram_stdvar", &[Vector], Vector),
    function("histogram_sum", &[Vector], Vector),
    flexible("hour", &[Vector], Optional(1), Vector),
    function("idelta", &[Matrix], Vector),
    function("increase", &[Matrix], Vector),
    experimental("info", &[Vector, Vector], Optional(1), Vector),
    function("irate", &[Matrix], Vector),
    flexible("label_join", &[Vector, String, String, String], Repeat(1), Vector),
    function("label_replace", &[Vector, String, String, String, String], Vector),
    function("last_over_time", &[Matrix], Vector),
    function("ln", &[Vector], Vector),
    function("log10", &[Vector], Vector),
    function("log2", &[Vector], Vector),
    experimental("mad_over_time", &[Matrix], Exact, Vector),
    experimental("max_of", &[Scalar, Scalar], Exact, Scalar),
    function("max_over_time", &[Matrix], Vector),
    experimental("min_of", &[Scalar, Scalar], Exact, Scalar),
    function("min_over_time", &[Matrix], Vector),
    flexible("minute", &[Vector], Optional(1), Vector),
    flexible("month", &[Vector], Optional(1), Vector),
    function("pi", &[], Scalar),
    function("predict_linear", &[Matrix, Scalar], Vector),
    function("present_over_time", &[Matrix], Vector),
    function("quantile_over_time", &[Scalar, Matrix], Vector),
    function("rad", &[Vector], Vector),
    experimental("range", &[], Exact, Scalar),
    function("rate", &[Matrix], Vector),
    function("resets", &[Matrix], Vector),
    flexible("round", &[Vector, Scalar], Optional(1), Vector),
    function("scalar", &[Vector], Scalar),
    function("sgn", &[Vector], Vector),
    function("sin", &[Vector], Vector),
    function("sinh", &[Vector], Vector),
    function("sort", &[Vector], Vector),
    experimental("sort_by_label", &[Vector, String], Repeat(1), Vector),
    experimental("sort_by_label_desc", &[Vector, String], Repeat(1), Vector),
    function("sort_desc", &[Vector], Vector),
    function("sqrt", &[Vector], Vector),
    experimental("start", &[], Exact, Scalar),
    experimental("start_timestamp", &[Vector], Exact, Vector),
    function("stddev_over_time", &[Matrix], Vector),
    function("stdvar_over_time", &[Matrix], Vector),
    experimental("step", &[], Exact, Scalar),
    function("sum_over_time", &[Matrix], Vector),
    function("tan", &[Vector], Vector),
    function("tanh", &[Vector], Vector),
    function("time", &[], Scalar),
    function("timestamp", &[Vector], Vector),
    experimental("ts_of_first_over_time", &[Matrix], Exact, Vector),
    experimental("ts_of_last_over_time", &[Matrix], Exact, Vector),
    experimental("ts_of_max_over_time", &[Matrix], Exact, Vector),
    experimental("ts_of_min_over_time", &[Matrix], Exact, Vector),
    function("vector", &[Scalar], Vector),
    flexible("year", &[Vector], Optional(1), Vector),
];
