//! From tree to text: on one line with [`std::fmt::Display`], over several lines with [`Pretty`].

use super::ast::{At, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, Extension, Link, VectorSelector};
use super::literal::Quoted;
use crate::number::format_short;
use br_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

/// A line longer than this is split by [`Pretty`].
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
            ExprKind::String { value, .. } => write!(f, "{}", Quoted(value)),
            ExprKind::Vector(selector) => write!(f, "{}{}", Selector(selector), Modifiers(selector)),
            ExprKind::Matrix { vector, range } => match &vector.kind {
                ExprKind::Vector(selector) => write!(f, "{}[{range}]{}", Selector(selector), Modifiers(selector)),
                _ => write!(f, "{vector}[{range}]"),
            },
            ExprKind::Subquery { expr, .. } => write!(f, "{expr}{}", SubquerySuffix(&self.kind)),
            ExprKind::Call { function, arguments } => {
                write!(f, "{}(", function.name)?;
                write_list(f, arguments)?;
                f.write_str(")")
            }
            ExprKind::Aggregate { op, parameter, expr, .. } => {
                let grouping = Grouping(&self.kind);
                write!(f, "{}{grouping}{}", op.as_str(), if grouping.is_none() { "(" } else { " (" })?;
                if let Some(parameter) = parameter {
                    write!(f, "{parameter}, ")?;
                }
                write!(f, "{expr})")
            }
            ExprKind::Binary { first, links } => {
                write!(f, "{first}")?;
                links.iter().try_for_each(|link| write!(f, " {} {}", Operator(link), link.rhs))
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

/// An expression over several lines where it is too long for one.
pub struct Pretty<'e>(pub &'e Expr);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lines { out: f, signs: String::new(), signs_depth: 0 }.expression(self.0, 0)
    }
}

/// What fits on a line. Writing ends where it does not: of a long expression no more is looked at than the beginning.
#[derive(Default)]
struct Line {
    text: String,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > LINE_CHARS_MAX {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

impl Line {
    fn of(expr: &Expr) -> Option<String> {
        let mut line = Self::default();
        write!(line, "{expr}").ok().map(|()| line.text)
    }
}

struct Lines<'o, 'f> {
    out: &'o mut fmt::Formatter<'f>,
    /// Of what comes next.
    signs: String,
    signs_depth: usize,
}

impl Lines<'_, '_> {
    fn indent(&mut self, depth: usize) -> fmt::Result {
        let before = if self.signs.is_empty() { 0 } else { self.signs_depth.min(depth) };
        self.spaces(0, before)?;
        self.out.write_str(&std::mem::take(&mut self.signs))?;
        self.spaces(before, depth)
    }

    fn spaces(&mut self, from: usize, to: usize) -> fmt::Result {
        (from.min(INDENTS_MAX)..to.min(INDENTS_MAX)).try_for_each(|_| self.out.write_str("  "))
    }

    fn expression(&mut self, expr: &Expr, depth: usize) -> fmt::Result {
        if let Some(line) = Line::of(expr) {
            self.indent(depth)?;
            return self.out.write_str(&line);
        }
        match &expr.kind {
            ExprKind::Binary { first, links } => self.chain(first, links, depth),
            ExprKind::Paren(inner) => self.block(&"(", &[inner.as_ref()], ")", depth),
            ExprKind::Call { function, arguments } if !arguments.is_empty() => {
                let arguments: Vec<&Expr> = arguments.iter().collect();
                self.block(&format_args!("{}(", function.name), &arguments, ")", depth)
            }
            ExprKind::Aggregate { op, .. } => {
                self.block(&format_args!("{}{} (", op.as_str(), Grouping(&expr.kind)), &expr.children(), ")", depth)
            }
            ExprKind::Subquery { expr: inner, .. } => {
                self.expression(inner, depth)?;
                write!(self.out, "{}", SubquerySuffix(&expr.kind))
            }
            ExprKind::Unary { negative, expr: inner } => {
                self.signs.push(if *negative { '-' } else { '+' });
                self.signs_depth = depth;
                self.expression(inner, depth)
            }
            _ => {
                self.indent(depth)?;
                write!(self.out, "{expr}")
            }
        }
    }

    /// Each operator stands on a line between its operands, of which the left is all that is before it: as much of that as fits is
    /// one line.
    fn chain(&mut self, first: &Expr, links: &[Link], depth: usize) -> fmt::Result {
        let (mut line, mut on_line) = (Line::default(), 0);
        if write!(line, "{first}").is_ok() {
            while on_line + 1 < links.len() {
                let link = &links[on_line];
                let bytes = line.text.len();
                if write!(line, " {} {}", Operator(link), link.rhs).is_err() {
                    line.text.truncate(bytes);
                    break;
                }
                on_line += 1;
            }
        }
        let is_staircase = links.len() <= STAIRS_MAX;
        let depth_at = |at: usize| if is_staircase { depth + links.len() - 1 - at } else { depth };
        if on_line == 0 {
            self.expression(first, depth_at(0) + 1)?;
        } else {
            self.indent(depth_at(on_line) + 1)?;
            self.out.write_str(&line.text)?;
        }
        for (at, link) in links.iter().enumerate().skip(on_line) {
            self.out.write_str("\n")?;
            self.indent(depth_at(at))?;
            writeln!(self.out, "{}", Operator(link))?;
            self.expression(&link.rhs, depth_at(at) + 1)?;
        }
        Ok(())
    }

    fn block(&mut self, open: &dyn fmt::Display, parts: &[&Expr], close: &str, depth: usize) -> fmt::Result {
        self.indent(depth)?;
        writeln!(self.out, "{open}")?;
        for (at, part) in parts.iter().enumerate() {
            self.expression(part, depth + 1)?;
            self.out.write_str(if at + 1 < parts.len() { ",\n" } else { "\n" })?;
        }
        self.indent(depth)?;
        self.out.write_str(close)
    }
}

struct LabelName<'t>(&'t str);

impl fmt::Display for LabelName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(self.0) { f.write_str(self.0) } else { write!(f, "{}", Quoted(self.0)) }
    }
}

struct LabelNames<'t>(&'t [String]);

impl fmt::Display for LabelNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, label) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { ", " } else { "" }, LabelName(label))?;
        }
        Ok(())
    }
}

/// The name and the braces.
struct Selector<'e>(&'e VectorSelector);

impl fmt::Display for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(selector) = self;
        let bare_name = selector.name.as_deref().filter(|name| is_legacy_metric_name(name)).unwrap_or("");
        let mut separator = "{";
        f.write_str(bare_name)?;
        if let Some(name) = selector.name.as_deref().filter(|name| !is_legacy_metric_name(name)) {
            write!(f, "{separator}{}", Quoted(name))?;
            separator = ",";
        }
        let mut name_left = selector.name.as_deref();
        for matcher in &selector.matchers {
            let is_name = matcher.name == METRIC_NAME && name_left == Some(matcher.value.as_str());
            if is_name && matcher.op == br_storage::MatchOp::Equal {
                name_left = None;
                continue;
            }
            write!(f, "{separator}{}{}{}", LabelName(&matcher.name), matcher.op.as_str(), Quoted(&matcher.value))?;
            separator = ",";
        }
        match separator {
            "{" if bare_name.is_empty() => f.write_str("{}"),
            "{" => Ok(()),
            _ => f.write_str("}"),
        }
    }
}

struct Modifiers<'e>(&'e VectorSelector);

impl fmt::Display for Modifiers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.extension {
            Extension::None => "",
            Extension::Anchored => " anchored",
            Extension::Smoothed => " smoothed",
        })?;
        write_time_modifiers(f, self.0.offset.as_ref(), self.0.at)
    }
}

fn write_time_modifiers(f: &mut fmt::Formatter<'_>, offset: Option<&DurationExpr>, at: Option<At>) -> fmt::Result {
    match at {
        None => {}
        Some(At::Millis(millis)) => write!(f, " @ {}.{:03}", millis / 1000, (millis % 1000).abs())?,
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
    }
    offset.map_or(Ok(()), |offset| write!(f, " offset {offset}"))
}

struct SubquerySuffix<'e>(&'e ExprKind);

impl fmt::Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExprKind::Subquery { range, step, offset, at, .. } = self.0 else { return Ok(()) };
        write!(f, "[{range}:")?;
        step.as_ref().map_or(Ok(()), |step| write!(f, "{step}"))?;
        f.write_str("]")?;
        write_time_modifiers(f, offset.as_ref(), *at)
    }
}

/// Of an aggregation, with a space in front.
struct Grouping<'e>(&'e ExprKind);

impl Grouping<'_> {
    fn is_none(&self) -> bool {
        matches!(self.0, ExprKind::Aggregate { grouping, without: false, .. } if grouping.is_empty())
    }
}

impl fmt::Display for Grouping<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ExprKind::Aggregate { grouping, without, .. } if !self.is_none() => {
                write!(f, " {} ({})", if *without { "without" } else { "by" }, LabelNames(grouping))
            }
            _ => Ok(()),
        }
    }
}

/// An operator and its modifiers.
struct Operator<'e>(&'e Link);

impl fmt::Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, matching) = (&self.0.op, &self.0.matching);
        write!(f, "{op}{}", if self.0.return_bool { " bool" } else { "" })?;
        let grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
        if matching.on || !matching.labels.is_empty() || grouped {
            let word = if matching.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", LabelNames(&matching.labels))?;
        }
        if grouped {
            let word = if matching.cardinality == Cardinality::ManyToOne { "group_left" } else { "group_right" };
            write!(f, " {word} ({})", LabelNames(&matching.include))?;
        }
        match (matching.fill.left, matching.fill.right) {
            (None, None) => Ok(()),
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_short(left)),
            (left, right) => {
                for (word, value) in [("fill_left", left), ("fill_right", right)] {
                    if let Some(value) = value {
                        write!(f, " {word} ({})", format_short(value))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Go's durations are 64-bit nanoseconds.
const DURATION_SECS_MAX: f64 = 9_223_372_036.0;

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
            // Beyond this a duration could not be read again; a number can.
            Self::Seconds { value, .. } if (value * 1000.0).fract() == 0.0 && value.abs() <= DURATION_SECS_MAX => {
                f.write_str(&duration_text(*value))
            }
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
