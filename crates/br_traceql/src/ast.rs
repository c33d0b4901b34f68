//! What a query says.

use crate::value::Regexes;
use br_model::{SpanKind, SpanStatus};
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct Expr {
    pub root: Root,
    /// `with (name=value)`.
    pub hints: Vec<(String, Static)>,
    /// Compiled once, by pattern.
    pub(crate) regexes: Regexes,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Root {
    /// Answers with traces.
    Search(Pipeline),
    /// Answers with series.
    Metrics(Metrics),
}

/// Stages from left to right, each on the spansets that the one before left over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipeline {
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    Spanset(Spanset),
    /// Keeps the spansets for which `left op right` holds.
    Filter {
        op: Op,
        left: Scalar,
        right: Scalar,
    },
    By(Field),
    Coalesce,
    Select(Vec<Field>),
    /// Only at the end of a pipeline in parentheses.
    Value(Scalar),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Spanset {
    Filter(Field),
    Combine { op: SpansetOp, left: Box<Spanset>, right: Box<Spanset> },
    Pipeline(Pipeline),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpansetOp {
    And,
    Or,
    Structural { relation: Relation, negated: bool, union: bool },
}

/// What the right span is to the left one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Child,
    Parent,
    Descendant,
    Ancestor,
    Sibling,
}

/// A number for a spanset.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Static(Static),
    Aggregate { op: Aggregate, field: Option<Field>, span: Range<usize> },
    Binary { op: Op, left: Box<Scalar>, right: Box<Scalar> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Count,
    Avg,
    Min,
    Max,
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Regex,
    NotRegex,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

impl Op {
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo | Self::Power)
    }

    pub fn is_logic(self) -> bool {
        matches!(self, Self::And | Self::Or)
    }

    /// `=` and its kin, regular expressions left out.
    pub fn is_comparison(self) -> bool {
        !self.is_arithmetic() && !self.is_logic() && !matches!(self, Self::Regex | Self::NotRegex)
    }
}

/// A value for a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub kind: FieldKind,
    /// Byte range in the query.
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FieldKind {
    Static(Static),
    Attribute(Attribute),
    Not(Box<Field>),
    Negative(Box<Field>),
    Binary { op: Op, left: Box<Field>, right: Box<Field> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Static {
    Nil,
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    String(String),
    Bool(bool),
    Status(SpanStatus),
    Kind(SpanKind),
}

/// Where a value of a span is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Of the parent span instead.
    pub of_parent: bool,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// `.name`: of the span, else of the resource.
    Any(String),
    Span(String),
    Resource(String),
    Event(String),
    Link(String),
    Instrumentation(String),
    Intrinsic(Intrinsic),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intrinsic {
    Duration,
    Name,
    Status,
    StatusMessage,
    Kind,
    ChildCount,
    SpanId,
    ParentId,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    RootName,
    RootService,
    TraceDuration,
    TraceId,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Metrics {
    /// A pipeline whose spans are counted or measured.
    First {
        pipeline: Pipeline,
        function: MetricFunction,
        span: Range<usize>,
    },
    Top {
        inner: Box<Metrics>,
        count: usize,
        bottom: bool,
    },
    Compare {
        inner: Box<Metrics>,
        op: Op,
        value: f64,
    },
    Math {
        op: Op,
        left: Box<Metrics>,
        right: Box<Metrics>,
    },
    /// In [`Metrics::Math`] only.
    Number(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetricFunction {
    pub op: MetricOp,
    pub field: Option<Field>,
    pub quantiles: Vec<f64>,
    pub by: Vec<Field>,
    /// The selection of `compare`.
    pub selection: Option<Box<Spanset>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricOp {
    Rate,
    CountOverTime,
    MinOverTime,
    MaxOverTime,
    AvgOverTime,
    SumOverTime,
    QuantileOverTime,
    HistogramOverTime,
    Compare,
}

impl MetricOp {
    /// As a query names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::CountOverTime => "count_over_time",
            Self::MinOverTime => "min_over_time",
            Self::MaxOverTime => "max_over_time",
            Self::AvgOverTime => "avg_over_time",
            Self::SumOverTime => "sum_over_time",
            Self::QuantileOverTime => "quantile_over_time",
            Self::HistogramOverTime => "histogram_over_time",
            Self::Compare => "compare",
        }
    }
}
