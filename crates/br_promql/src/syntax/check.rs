//! Types: what each function and operator takes.

use super::ast::{AggregateOp, Cardinality, Expr, ExprKind, Link, Type};
use super::span::{ParseError, Span};
use crate::functions::signature::Signature;
use br_model::labels::METRIC_NAME;

/// Adds what is wrong with `expr` and everything below it.
pub(crate) fn types(expr: &Expr, errors: &mut Vec<ParseError>) {
    if let ExprKind::Binary { first, links } = &expr.kind {
        return chain(first, links, errors);
    }
    for child in expr.children() {
        types(child, errors);
    }
    let span = expr.span;
    let mut complain = |span: Span, message: String| errors.push(ParseError { span, message });
    match &expr.kind {
        ExprKind::Call { function, arguments } => call(function, arguments, span, &mut complain),
        ExprKind::Aggregate { op, parameter, expr, .. } => {
            expect_type(expr, Type::Vector, "aggregation expression", &mut complain);
            if let Some(parameter) = parameter {
                let expected = if *op == AggregateOp::CountValues { Type::String } else { Type::Scalar };
                expect_type(parameter, expected, "aggregation parameter", &mut complain);
            }
        }
        ExprKind::Unary { expr, .. } => {
            let found = expr.value_type();
            if !matches!(found, Type::Scalar | Type::Vector) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    found.as_str()
                );
                complain(expr.span, message);
            }
        }
        ExprKind::Vector(selector) => {
            let names = selector.matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).count();
            if let (Some(name), true) = (&selector.name, names > 1) {
                let mut others = selector.matchers.iter().filter(|matcher| matcher.name == METRIC_NAME);
                let other = others.rfind(|matcher| matcher.value != *name).map_or(name, |matcher| &matcher.value);
                complain(span, format!("metric name must not be set twice: {name:?} or {other:?}"));
            }
        }
        _ => {}
    }
    require_matchers(expr, errors);
}

/// Each link with what stands before it.
fn chain(first: &Expr, links: &[Link], errors: &mut Vec<ParseError>) {
    types(first, errors);
    let mut lhs = Operand { value_type: first.value_type(), span: first.span };
    for (at, link) in links.iter().enumerate() {
        types(&link.rhs, errors);
        let rhs = Operand { value_type: link.rhs.value_type(), span: link.rhs.span };
        binary(link, lhs, rhs, &mut |span, message| errors.push(ParseError { span, message }));
        if at == 0 {
            require_matcher_here(first, errors);
        }
        require_matcher_here(&link.rhs, errors);
        let both_scalars = lhs.value_type == Type::Scalar && rhs.value_type == Type::Scalar;
        lhs = Operand { value_type: if both_scalars { Type::Scalar } else { Type::Vector }, span: lhs.span.to(rhs.span) };
    }
}

/// What an operator needs to know of one of its sides.
#[derive(Clone, Copy)]
struct Operand {
    value_type: Type,
    span: Span,
}

/// A selector that every series satisfies would read the whole store. Those in the second argument of `info` are an exception:
/// they only pick labels.
fn require_matchers(expr: &Expr, errors: &mut Vec<ParseError>) {
    let is_info = matches!(&expr.kind, ExprKind::Call { function, .. } if function.name == "info");
    for (at, child) in expr.children().into_iter().enumerate() {
        if !(is_info && at == 1) {
            require_matcher_here(child, errors);
        }
    }
}

fn require_matcher_here(expr: &Expr, errors: &mut Vec<ParseError>) {
    if let ExprKind::Vector(selector) = &expr.kind
        && selector.matchers.iter().all(br_storage::Matcher::matches_empty)
    {
        let message = "vector selector must contain at least one non-empty matcher".to_owned();
        errors.push(ParseError { span: expr.span, message });
    }
}

/// For an expression that has no parent.
pub(crate) fn root(expr: &Expr, errors: &mut Vec<ParseError>) {
    types(expr, errors);
    require_matcher_here(expr, errors);
}

fn expect_type(expr: &Expr, expected: Type, context: &str, complain: &mut impl FnMut(Span, String)) {
    let found = expr.value_type();
    if found != expected {
        complain(expr.span, format!("expected type {} in {context}, got {}", expected.as_str(), found.as_str()));
    }
}

fn call(function: &Signature, arguments: &[Expr], span: Span, complain: &mut impl FnMut(Span, String)) {
    let count = arguments.len();
    let (min, max) = function.argument_counts();
    if max == Some(min) && count != min {
        complain(span, format!("expected {min} argument(s) in call to {:?}, got {count}", function.name));
    } else if count < min {
        complain(span, format!("expected at least {min} argument(s) in call to {:?}, got {count}", function.name));
    } else if max.is_some_and(|max| count > max) {
        let max = max.unwrap_or(0);
        complain(span, format!("expected at most {max} argument(s) in call to {:?}, got {count}", function.name));
    }
    for (at, argument) in arguments.iter().enumerate() {
        if let Some(expected) = function.argument(at) {
            expect_type(argument, expected, &format!("call to function {:?}", function.name), complain);
        }
    }
    if function.name == "info"
        && let Some(labels) = arguments.get(1)
        && !matches!(&labels.kind, ExprKind::Vector(selector) if selector.name.is_none())
    {
        complain(labels.span, "expected label selectors only, got vector selector instead".to_owned());
    }
}

fn binary(link: &Link, lhs: Operand, rhs: Operand, complain: &mut impl FnMut(Span, String)) {
    let Link { op, return_bool, ref matching, .. } = *link;
    let (left, right, span) = (lhs.value_type, rhs.value_type, lhs.span.to(rhs.span));
    for side in [lhs, rhs] {
        if !matches!(side.value_type, Type::Scalar | Type::Vector) {
            complain(side.span, "binary expression must contain only scalar and instant vector types".to_owned());
        }
    }
    let both_scalars = left == Type::Scalar && right == Type::Scalar;
    if op.is_comparison() && !return_bool && both_scalars {
        complain(span, "comparisons between scalars must use BOOL modifier".to_owned());
    }
    if left == Type::Vector && right == Type::Vector {
        return;
    }
    let grouped = !matches!(matching.cardinality, Cardinality::OneToOne | Cardinality::ManyToMany);
    if matching.on || !matching.labels.is_empty() || grouped {
        complain(span, "vector matching only allowed between instant vectors".to_owned());
    }
    if matching.fill.left.is_some() || matching.fill.right.is_some() {
        complain(span, "filling in missing series only allowed between instant vectors".to_owned());
    }
    if op.is_set() && (left == Type::Scalar || right == Type::Scalar) {
        complain(span, format!("set operator {:?} not allowed in binary scalar expression", op.as_str()));
    }
    if op.is_trim() && left != Type::Vector {
        complain(lhs.span, format!("operator {op} needs an instant vector of histograms on its left"));
    }
}
