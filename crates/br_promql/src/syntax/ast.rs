//! The tree that a query is.

use super::span::Span;
use crate::functions::signature::Signature;
use br_storage::Matcher;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number {
        value: f64,
        /// Written as a duration, such as `5m`.
        is_duration: bool,
    },
    String {
        value: String,
        /// The literal as written, where its bytes are no UTF-8.
        raw: Option<String>,
    },
    Vector(VectorSelector),
    Matrix {
        /// Always a [`ExprKind::Vector`].
        vector: Box<Expr>,
        range: DurationExpr,
    },
    Subquery {
        expr: Box<Expr>,
        range: DurationExpr,
        step: Option<DurationExpr>,
        offset: Option<DurationExpr>,
        at: Option<At>,
    },
    Call {
        function: &'static Signature,
        arguments: Vec<Expr>,
    },
    Aggregate {
        op: AggregateOp,
        parameter: Option<Box<Expr>>,
        expr: Box<Expr>,
        grouping: Vec<String>,
        /// `grouping` names the labels to drop, not those to keep.
        without: bool,
    },
    /// Operators in a row, which lean to the left: each takes what those before it give. However long the row is, it is one level
    /// of the tree.
    Binary {
        first: Box<Expr>,
        /// At least one.
        links: Vec<Link>,
    },
    Unary {
        negative: bool,
        expr: Box<Expr>,
    },
    Paren(Box<Expr>),
}

/// One operator of a row, with the operand on its right.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub op: BinaryOp,
    pub return_bool: bool,
    pub matching: Matching,
    pub rhs: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name in front of the braces; also among `matchers`.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
    pub extension: Extension,
}

/// How a selector treats the ends of its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extension {
    #[default]
    None,
    Anchored,
    Smoothed,
}

/// The time of an `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Millis(i64),
    Start,
    End,
}

/// A duration that may depend on the query's step and range. The values are seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    Seconds { value: f64, is_duration: bool },
    Step,
    Range,
    Negative(Box<DurationExpr>),
    Positive(Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    Binary { op: DurationOp, lhs: Box<DurationExpr>, rhs: Box<DurationExpr> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Min,
    Max,
}

/// What an expression yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Scalar,
    String,
    Vector,
    Matrix,
}

impl Type {
    /// The word in error texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::CountValues,
        Self::Quantile,
        Self::Limitk,
        Self::LimitRatio,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Case does not matter.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(word))
    }

    pub fn takes_parameter(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::CountValues | Self::Quantile | Self::Limitk | Self::LimitRatio)
    }

    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    pub const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Pow,
        Self::Atan2,
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::Greater,
        Self::LessEqual,
        Self::GreaterEqual,
        Self::TrimUpper,
        Self::TrimLower,
        Self::And,
        Self::Or,
        Self::Unless,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::LessEqual => "<=",
            Self::GreaterEqual => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Case does not matter.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(text))
    }

    /// Binds tighter when higher.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::Greater
            | Self::LessEqual
            | Self::GreaterEqual
            | Self::TrimUpper
            | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Less | Self::Greater | Self::LessEqual | Self::GreaterEqual)
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    pub fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    #[default]
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

impl Cardinality {
    /// The word that the Prometheus API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// Which series of the two sides of a binary operator belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    pub cardinality: Cardinality,
    /// `labels` are those to match on, not those to ignore.
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels of the one side that go into the result.
    pub include: Vec<String>,
    pub fill: Fill,
}

/// What stands in for a series that has no partner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fill {
    pub left: Option<f64>,
    pub right: Option<f64>,
}

impl Expr {
    pub fn value_type(&self) -> Type {
        match &self.kind {
            ExprKind::Number { .. } => Type::Scalar,
            ExprKind::String { .. } => Type::String,
            ExprKind::Vector(_) | ExprKind::Aggregate { .. } => Type::Vector,
            ExprKind::Matrix { .. } | ExprKind::Subquery { .. } => Type::Matrix,
            ExprKind::Call { function, .. } => function.returns,
            ExprKind::Binary { first, links } => {
                let mut operands = std::iter::once(&**first).chain(links.iter().map(|link| &link.rhs));
                if operands.all(|operand| operand.value_type() == Type::Scalar) { Type::Scalar } else { Type::Vector }
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => expr.value_type(),
        }
    }

    /// A row of operators up to its first `links`, as an expression of its own. Of anything else, itself.
    #[must_use]
    pub fn up_to(&self, links: usize) -> Self {
        let ExprKind::Binary { first, links: all } = &self.kind else { return self.clone() };
        let Some(last) = links.checked_sub(1).and_then(|last| all.get(last)) else { return (**first).clone() };
        let span = first.span.to(last.rhs.span);
        Self { kind: ExprKind::Binary { first: first.clone(), links: all[..links].to_vec() }, span }
    }

    /// The expression without the parentheses around it.
    pub fn without_parens(&self) -> &Self {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    /// Direct sub-expressions, in the order in which they stand.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number { .. } | ExprKind::String { .. } | ExprKind::Vector(_) => Vec::new(),
            ExprKind::Matrix { vector: expr, .. }
            | ExprKind::Subquery { expr, .. }
            | ExprKind::Unary { expr, .. }
            | ExprKind::Paren(expr) => vec![expr],
            ExprKind::Call { arguments, .. } => arguments.iter().collect(),
            ExprKind::Aggregate { parameter, expr, .. } => parameter.iter().chain([expr]).map(AsRef::as_ref).collect(),
            ExprKind::Binary { first, links } => std::iter::once(&**first).chain(links.iter().map(|link| &link.rhs)).collect(),
        }
    }
}
