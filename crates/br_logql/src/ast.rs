//! What a query says.

use br_storage::Matcher;
use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Answers with lines.
    Log(LogExpr),
    /// Answers with numbers.
    Metric(MetricExpr),
}

/// `{selector} | stages`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    pub matchers: Vec<Matcher>,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub kind: StageKind,
    /// Byte range in the query.
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StageKind {
    LineFilter(LineFilter),
    /// `| json`, with `name="path"` pairs or without.
    Json(Vec<Extraction>),
    Logfmt {
        strict: bool,
        keep_empty: bool,
        extractions: Vec<Extraction>,
    },
    Regexp(String),
    Pattern(String),
    Unpack,
    LabelFilter(LabelFilter),
    LineFormat(String),
    LabelFormat(Vec<LabelFormat>),
    Decolorize,
    Drop(Vec<LabelChoice>),
    Keep(Vec<LabelChoice>),
    Unwrap(Unwrap),
}

/// A condition on the line. `or` chains have several operands: one that holds is enough; negated, none may hold.
#[derive(Clone, Debug, PartialEq)]
pub struct LineFilter {
    pub op: LineOp,
    pub operands: Vec<LineOperand>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOp {
    Contains,
    NotContains,
    Regex,
    NotRegex,
    Pattern,
    NotPattern,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LineOperand {
    Text(String),
    Ip(String),
}

/// `name="where"`: take the value at `source` into the label `name`.
#[derive(Clone, Debug, PartialEq)]
pub struct Extraction {
    pub name: String,
    pub source: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LabelFilter {
    And(Box<LabelFilter>, Box<LabelFilter>),
    Or(Box<LabelFilter>, Box<LabelFilter>),
    Text(Matcher),
    Compare { name: String, op: CompareOp, value: Quantity },
    Ip { name: String, negated: bool, pattern: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl CompareOp {
    /// Whether `left op right` holds.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
            Self::Less => left < right,
            Self::LessEqual => left <= right,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    Number(f64),
    /// Nanoseconds.
    Duration(f64),
    Bytes(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum LabelFormat {
    Rename { to: String, from: String },
    Template { to: String, template: String },
}

/// A label named by `drop` or `keep`, perhaps only with certain values.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelChoice {
    Name(String),
    Matching(Matcher),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    pub label: String,
    pub conversion: Conversion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    Number,
    /// To seconds.
    Duration,
    Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricExpr {
    Literal(f64),
    /// `vector(1)`.
    Vector(f64),
    Range(RangeAggregation),
    Aggregate(Box<VectorAggregation>),
    Binary(Box<Binary>),
    LabelReplace(Box<LabelReplace>),
}

/// `rate({…} | … [5m] offset 1m)`.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAggregation {
    pub op: RangeOp,
    /// The quantile.
    pub parameter: Option<f64>,
    pub log: LogExpr,
    pub range: Duration,
    /// Nanoseconds; positive looks further back.
    pub offset_nanos: i64,
    pub grouping: Option<Grouping>,
    pub span: Range<usize>,
}

impl RangeAggregation {
    pub fn is_unwrapped(&self) -> bool {
        self.log.stages.iter().any(|stage| matches!(stage.kind, StageKind::Unwrap(_)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOp {
    Rate,
    RateCounter,
    CountOverTime,
    BytesRate,
    BytesOverTime,
    AbsentOverTime,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    FirstOverTime,
    LastOverTime,
    StdvarOverTime,
    StddevOverTime,
    QuantileOverTime,
}

/// By name, one line each.
pub const RANGE_OPS: [(&str, RangeOp); 15] = [
    ("rate", RangeOp::Rate),
    ("rate_counter", RangeOp::RateCounter),
    ("count_over_time", RangeOp::CountOverTime),
    ("bytes_rate", RangeOp::BytesRate),
    ("bytes_over_time", RangeOp::BytesOverTime),
    ("absent_over_time", RangeOp::AbsentOverTime),
    ("sum_over_time", RangeOp::SumOverTime),
    ("avg_over_time", RangeOp::AvgOverTime),
    ("min_over_time", RangeOp::MinOverTime),
    ("max_over_time", RangeOp::MaxOverTime),
    ("first_over_time", RangeOp::FirstOverTime),
    ("last_over_time", RangeOp::LastOverTime),
    ("stdvar_over_time", RangeOp::StdvarOverTime),
    ("stddev_over_time", RangeOp::StddevOverTime),
    ("quantile_over_time", RangeOp::QuantileOverTime),
];

#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// False: `by`.
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorAggregation {
    pub op: VectorOp,
    /// The k of topk and its kin.
    pub parameter: Option<usize>,
    pub inner: MetricExpr,
    pub grouping: Option<Grouping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    ApproxTopk,
    Sort,
    SortDesc,
}

/// By name, one line each.
pub const VECTOR_OPS: [(&str, VectorOp); 12] = [
    ("sum", VectorOp::Sum),
    ("avg", VectorOp::Avg),
    ("min", VectorOp::Min),
    ("max", VectorOp::Max),
    ("count", VectorOp::Count),
    ("stddev", VectorOp::Stddev),
    ("stdvar", VectorOp::Stdvar),
    ("topk", VectorOp::Topk),
    ("bottomk", VectorOp::Bottomk),
    ("approx_topk", VectorOp::ApproxTopk),
    ("sort", VectorOp::Sort),
    ("sort_desc", VectorOp::SortDesc),
];

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub left: MetricExpr,
    pub right: MetricExpr,
    /// Comparisons answer 0 or 1 instead of filtering.
    pub returns_bool: bool,
    pub matching: Matching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Compare(CompareOp),
    And,
    Or,
    Unless,
}

/// Which series of two vectors belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// `on(…)`; otherwise `ignoring(…)`.
    pub on: bool,
    pub labels: Vec<String>,
    pub group: Group,
    /// Labels taken over from the side of "one".
    pub include: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    #[default]
    OneToOne,
    /// `group_left`: many on the left.
    Left,
    /// `group_right`: many on the right.
    Right,
}

#[derive(Clone, Debug)]
pub struct LabelReplace {
    pub inner: MetricExpr,
    pub destination: String,
    pub replacement: String,
    pub source: String,
    /// Anchored at both ends.
    pub regex: br_std::re2::Regex,
}

impl PartialEq for LabelReplace {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
            && self.destination == other.destination
            && self.replacement == other.replacement
            && self.source == other.source
            && self.regex.as_str() == other.regex.as_str()
    }
}
