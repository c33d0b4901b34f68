//! From tree to text: on one line with [`std::fmt::Display`], over several lines with [`pretty`].

use super::ast::{At, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, Extension, Link, VectorSelector};
use super::literal::quote;
use crate::number::format_short;
use br_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

/// A line longer than this is split by [`pretty`].
const LINE_CHARS_MAX: usize = 100;
/// Nothing is indented further than this.
const INDENTS_MAX: usize = 100;
/// A longer row of operators is no staircase: each of its lines begins where the row does.
const STAIRS_MAX: usize = 100;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, is_duration: true } => f.write_str(&duration_text(*value)),
            ExprKind::Number { value, .. } => f.write_str(&format_short(*value)),
            ExprKind::String { raw: Some(raw), .. } => f.write_str(raw),
            ExprKind::String { value, .. } => f.write_str(&quote(value)),
            ExprKind::Vector(selector) => {
                f.write_str(&selector_text(selector))?;
                f.write_str(&selector_modifiers(selector))
            }
            ExprKind::Matrix { vector, range } => match &vector.kind {
                ExprKind::Vector(selector) => {
                    write!(f, "{}[{range}]{}", selector_text(selector), selector_modifiers(selector))
                }
                _ => write!(f, "{vector}[{range}]"),
            },
            ExprKind::Subquery { expr, .. } => write!(f, "{expr}{}", subquery_suffix(&self.kind)),
            ExprKind::Call { function, arguments } => {
                write!(f, "{}(", function.name)?;
                write_list(f, arguments)?;
                f.write_str(")")
            }
            ExprKind::Aggregate { parameter, expr, .. } => {
                f.write_str(&aggregate_prefix(&self.kind))?;
                f.write_str("(")?;
                if let Some(parameter) = parameter {
                    write!(f, "{parameter}, ")?;
                }
                write!(f, "{expr})")
            }
            ExprKind::Binary { first, links } => {
                write!(f, "{first}")?;
                links.iter().try_for_each(|link| write!(f, " {} {}", operator_text(link), link.rhs))
            }
            ExprKind::Unary { negative, expr } => write!(f, "{}{expr}", if *negative { "-" } else { "+" }),
            ExprKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, arguments: &[Expr]) -> fmt::Result {
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{argument}")?;
    }
    Ok(())
}

/// Writes an expression over several lines where it is too long for one.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write_pretty(&mut out, expr, 0);
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth.min(INDENTS_MAX)));
}

fn write_pretty(out: &mut String, expr: &Expr, depth: usize) {
    let line = expr.to_string();
    if line.len() <= LINE_CHARS_MAX || expr.children().is_empty() {
        indent(out, depth);
        out.push_str(&line);
        return;
    }
    match &expr.kind {
        ExprKind::Binary { first, links } => write_chain(out, first, links, depth),
        ExprKind::Paren(inner) => write_block(out, "(", &[inner.as_ref()], ")", depth),
        ExprKind::Call { function, arguments } => {
            let arguments: Vec<&Expr> = arguments.iter().collect();
            write_block(out, &format!("{}(", function.name), &arguments, ")", depth);
        }
        ExprKind::Aggregate { .. } => {
            write_block(out, &format!("{} (", aggregate_prefix(&expr.kind).trim_end()), &expr.children(), ")", depth);
        }
        ExprKind::Subquery { expr: inner, .. } => {
            write_pretty(out, inner, depth);
            out.push_str(&subquery_suffix(&expr.kind));
        }
        ExprKind::Unary { negative, expr: inner } => {
            let start = out.len();
            write_pretty(out, inner, depth);
            out.insert(start + 2 * depth.min(INDENTS_MAX), if *negative { '-' } else { '+' });
        }
        _ => {
            indent(out, depth);
            out.push_str(&line);
        }
    }
}

/// Each operator stands on a line between its operands, of which the left is all that is before it: as much of that as fits is
/// one line.
fn write_chain(out: &mut String, first: &Expr, links: &[Link], depth: usize) {
    let (mut line, mut on_line) = (first.to_string(), 0);
    while line.len() <= LINE_CHARS_MAX && on_line + 1 < links.len() {
        let longer = format!("{line} {} {}", operator_text(&links[on_line]), links[on_line].rhs);
        if longer.len() > LINE_CHARS_MAX {
            break;
        }
        (line, on_line) = (longer, on_line + 1);
    }
    let is_staircase = links.len() <= STAIRS_MAX;
    let depth_at = |at: usize| if is_staircase { depth + links.len() - 1 - at } else { depth };
    if on_line == 0 {
        write_pretty(out, first, depth_at(0) + 1);
    } else {
        indent(out, depth_at(on_line) + 1);
        out.push_str(&line);
    }
    for (at, link) in links.iter().enumerate().skip(on_line) {
        out.push('\n');
        indent(out, depth_at(at));
        let _ = writeln!(out, "{}", operator_text(link));
        write_pretty(out, &link.rhs, depth_at(at) + 1);
    }
}

fn write_block(out: &mut String, open: &str, parts: &[&Expr], close: &str, depth: usize) {
    indent(out, depth);
    out.push_str(open);
    out.push('\n');
    for (at, part) in parts.iter().enumerate() {
        write_pretty(out, part, depth + 1);
        out.push_str(if at + 1 < parts.len() { ",\n" } else { "\n" });
    }
    indent(out, depth);
    out.push_str(close);
}

fn label_text(label: &str) -> String {
    if is_legacy_label_name(label) { label.to_owned() } else { quote(label) }
}

fn labels_text(labels: &[String]) -> String {
    labels.iter().map(|label| label_text(label)).collect::<Vec<_>>().join(", ")
}

/// The name and the braces.
fn selector_text(selector: &VectorSelector) -> String {
    let bare_name = selector.name.as_deref().filter(|name| is_legacy_metric_name(name));
    let quoted_name = selector.name.as_deref().filter(|_| bare_name.is_none());
    let mut parts: Vec<String> = quoted_name.into_iter().map(quote).collect();
    let mut name_left = selector.name.as_deref();
    for matcher in &selector.matchers {
        let is_name = matcher.name == METRIC_NAME && name_left == Some(matcher.value.as_str());
        if is_name && matcher.op == br_storage::MatchOp::Equal {
            name_left = None;
            continue;
        }
        parts.push(format!("{}{}{}", label_text(&matcher.name), matcher.op.as_str(), quote(&matcher.value)));
    }
    let name = bare_name.unwrap_or("");
    if parts.is_empty() && !name.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", parts.join(",")) }
}

fn selector_modifiers(selector: &VectorSelector) -> String {
    let extension = match selector.extension {
        Extension::None => "",
        Extension::Anchored => " anchored",
        Extension::Smoothed => " smoothed",
    };
    format!("{extension}{}", time_modifiers(selector.offset.as_ref(), selector.at))
}

fn time_modifiers(offset: Option<&DurationExpr>, at: Option<At>) -> String {
    let mut text = match at {
        None => String::new(),
        Some(At::Millis(millis)) => format!(" @ {}.{:03}", millis / 1000, (millis % 1000).abs()),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
    };
    if let Some(offset) = offset {
        let _ = write!(text, " offset {offset}");
    }
    text
}

fn subquery_suffix(kind: &ExprKind) -> String {
    let ExprKind::Subquery { range, step, offset, at, .. } = kind else { return String::new() };
    let step = step.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("[{range}:{step}]{}", time_modifiers(offset.as_ref(), *at))
}

fn aggregate_prefix(kind: &ExprKind) -> String {
    let ExprKind::Aggregate { op, grouping, without, .. } = kind else { return String::new() };
    match (*without, grouping.is_empty()) {
        (true, _) => format!("{} without ({}) ", op.as_str(), labels_text(grouping)),
        (false, false) => format!("{} by ({}) ", op.as_str(), labels_text(grouping)),
        (false, true) => op.as_str().to_owned(),
    }
}

/// An operator and its modifiers.
fn operator_text(link: &Link) -> String {
    let mut text = link.op.to_string();
    let matching = &link.matching;
    if link.return_bool {
        text.push_str(" bool");
    }
    let grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
    if matching.on || !matching.labels.is_empty() || grouped {
        let word = if matching.on { "on" } else { "ignoring" };
        let _ = write!(text, " {word} ({})", labels_text(&matching.labels));
    }
    if grouped {
        let word = if matching.cardinality == Cardinality::ManyToOne { "group_left" } else { "group_right" };
        let _ = write!(text, " {word} ({})", labels_text(&matching.include));
    }
    match (matching.fill.left, matching.fill.right) {
        (None, None) => {}
        (Some(left), Some(right)) if left == right => {
            let _ = write!(text, " fill ({})", format_short(left));
        }
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    let _ = write!(text, " {word} ({})", format_short(value));
                }
            }
        }
    }
    text
}

/// A duration in Prometheus' units, with a sign in front where it is negative.
fn duration_text(secs: f64) -> String {
    let millis = (secs.abs() * 1000.0).round();
    let sign = if secs < 0.0 { "-" } else { "" };
    format!("{sign}{}", br_std::duration::format(Duration::from_millis(millis as u64)))
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds { value, is_duration: true } => f.write_str(&duration_text(*value)),
            Self::Seconds { value, .. } if (value * 1000.0).fract() == 0.0 => f.write_str(&duration_text(*value)),
            Self::Seconds { value, .. } => f.write_str(&format_short(*value)),
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Negative(inner) => write!(f, "-{inner}"),
            Self::Positive(inner) => write!(f, "+{inner}"),
            Self::Paren(inner) => write!(f, "({inner})"),
            Self::Binary { op, lhs, rhs } => {
                let symbol = match op {
                    DurationOp::Add => "+",
                    DurationOp::Sub => "-",
                    DurationOp::Mul => "*",
                    DurationOp::Div => "/",
                    DurationOp::Mod => "%",
                    DurationOp::Pow => "^",
                    DurationOp::Min => return write!(f, "min_of({lhs}, {rhs})"),
                    DurationOp::Max => return write!(f, "max_of({lhs}, {rhs})"),
                };
                write!(f, "{lhs} {symbol} {rhs}")
            }
        }
    }
}
