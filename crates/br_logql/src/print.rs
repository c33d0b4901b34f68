//! Queries as text again: on one line where they fit on it, else a stage, an operand or an operator on each.

use crate::ast::{
    Binary, BinaryOp, CompareOp, Conversion, Expr, Extraction, Group, Grouping, LabelChoice, LabelFilter, LabelFormat,
    LabelReplace, LineFilter, LineOp, LineOperand, LogExpr, Matching, MetricExpr, Quantity, RANGE_OPS, RangeAggregation,
    StageKind, VECTOR_OPS, VectorAggregation,
};
use br_storage::Matcher;
use std::fmt::Write as _;

/// What fits on a line, as in Loki.
const WIDTH_MAX: usize = 100;
const INDENT: &str = "  ";

/// The text of a query, which reads back as the same query.
pub fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Log(log) => log_lines(log, 0),
        Expr::Metric(metric) => metric_lines(metric, 0),
    }
}

fn log_lines(log: &LogExpr, depth: usize) -> String {
    let line = log_line(log);
    let indent = INDENT.repeat(depth);
    if fits(&line, depth) {
        return format!("{indent}{line}");
    }
    let mut out = format!("{indent}{}", selector(&log.matchers));
    for stage in &log.stages {
        let _ = write!(out, "\n{indent}{INDENT}{}", stage_text(&stage.kind));
    }
    out
}

fn metric_lines(metric: &MetricExpr, depth: usize) -> String {
    let line = metric_line(metric);
    let indent = INDENT.repeat(depth);
    if fits(&line, depth) {
        return format!("{indent}{line}");
    }
    match metric {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) => format!("{indent}{line}"),
        MetricExpr::Range(range) => {
            let (before, after) = around_range(range);
            let log = log_lines(&range.log, depth + 1);
            format!("{indent}{before}\n{log} {}\n{indent}){after}", window(range))
        }
        MetricExpr::Aggregate(aggregate) => {
            let (before, parameter) = before_operand(aggregate);
            let parameter = parameter.map_or_else(String::new, |parameter| format!("{indent}{INDENT}{parameter},\n"));
            format!("{indent}{before}(\n{parameter}{}\n{indent})", metric_lines(&aggregate.inner, depth + 1))
        }
        MetricExpr::Binary(binary) => {
            let side = |side: &MetricExpr| match side {
                MetricExpr::Binary(_) => format!("{indent}{INDENT}(\n{}\n{indent}{INDENT})", metric_lines(side, depth + 2)),
                _ => metric_lines(side, depth + 1),
            };
            format!("{}\n{indent}{}\n{}", side(&binary.left), operator(binary), side(&binary.right))
        }
        MetricExpr::LabelReplace(replace) => {
            let inner = metric_lines(&replace.inner, depth + 1);
            format!("{indent}label_replace(\n{inner},\n{indent}{INDENT}{}\n{indent})", replacement(replace))
        }
    }
}

fn fits(line: &str, depth: usize) -> bool {
    line.chars().count() + depth * INDENT.len() <= WIDTH_MAX
}

fn log_line(log: &LogExpr) -> String {
    let mut out = selector(&log.matchers);
    for stage in &log.stages {
        out.push(' ');
        out.push_str(&stage_text(&stage.kind));
    }
    out
}

fn metric_line(metric: &MetricExpr) -> String {
    match metric {
        MetricExpr::Literal(value) => number(*value),
        MetricExpr::Vector(value) => format!("vector({})", number(*value)),
        MetricExpr::Range(range) => {
            let (before, after) = around_range(range);
            format!("{before}{} {}){after}", log_line(&range.log), window(range))
        }
        MetricExpr::Aggregate(aggregate) => {
            let (before, parameter) = before_operand(aggregate);
            let parameter = parameter.map_or_else(String::new, |parameter| format!("{parameter}, "));
            format!("{before}({parameter}{})", metric_line(&aggregate.inner))
        }
        MetricExpr::Binary(binary) => {
            let side = |side: &MetricExpr| {
                let line = metric_line(side);
                if matches!(side, MetricExpr::Binary(_)) { format!("({line})") } else { line }
            };
            format!("{} {} {}", side(&binary.left), operator(binary), side(&binary.right))
        }
        MetricExpr::LabelReplace(replace) => {
            format!("label_replace({}, {})", metric_line(&replace.inner), replacement(replace))
        }
    }
}

/// What stands before the log query of a range aggregation, and behind its closing parenthesis.
fn around_range(range: &RangeAggregation) -> (String, String) {
    let name = RANGE_OPS.iter().find(|(_, op)| *op == range.op).map_or("", |(name, _)| name);
    let parameter = range.parameter.map_or_else(String::new, |parameter| format!("{}, ", number(parameter)));
    let after = range.grouping.as_ref().map_or_else(String::new, |grouping| format!(" {}", grouping_text(grouping)));
    (format!("{name}({parameter}"), after)
}

fn window(range: &RangeAggregation) -> String {
    let offset = match range.offset_nanos {
        0 => String::new(),
        nanos if nanos < 0 => format!(" offset -{}", duration(nanos.unsigned_abs())),
        nanos => format!(" offset {}", duration(nanos.unsigned_abs())),
    };
    format!("[{}]{offset}", duration(u64::try_from(range.range.as_nanos()).unwrap_or(u64::MAX)))
}

fn before_operand(aggregate: &VectorAggregation) -> (String, Option<usize>) {
    let name = VECTOR_OPS.iter().find(|(_, op)| *op == aggregate.op).map_or("", |(name, _)| name);
    let grouping = aggregate.grouping.as_ref().map_or_else(String::new, |grouping| format!(" {} ", grouping_text(grouping)));
    (format!("{name}{grouping}"), aggregate.parameter)
}

fn grouping_text(grouping: &Grouping) -> String {
    format!("{} ({})", if grouping.without { "without" } else { "by" }, grouping.labels.join(", "))
}

fn operator(binary: &Binary) -> String {
    let op = match binary.op {
        BinaryOp::Add => "+",
        BinaryOp::Subtract => "-",
        BinaryOp::Multiply => "*",
        BinaryOp::Divide => "/",
        BinaryOp::Modulo => "%",
        BinaryOp::Power => "^",
        BinaryOp::Compare(op) => compare_op(op),
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Unless => "unless",
    };
    let returns_bool = if binary.returns_bool { " bool" } else { "" };
    let Matching { on, labels, group, include } = &binary.matching;
    let mut out = format!("{op}{returns_bool}");
    if *on || !labels.is_empty() || *group != Group::OneToOne {
        let _ = write!(out, " {} ({})", if *on { "on" } else { "ignoring" }, labels.join(", "));
    }
    match group {
        Group::OneToOne => {}
        Group::Left => _ = write!(out, " group_left ({})", include.join(", ")),
        Group::Right => _ = write!(out, " group_right ({})", include.join(", ")),
    }
    out
}

fn replacement(replace: &LabelReplace) -> String {
    [replace.destination.as_str(), &replace.replacement, &replace.source, replace.regex.as_str()].map(quoted).join(", ")
}

fn selector(matchers: &[Matcher]) -> String {
    let all: Vec<String> = matchers.iter().map(matcher).collect();
    format!("{{{}}}", all.join(", "))
}

fn matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", matcher.name, matcher.op.as_str(), quoted(&matcher.value))
}

fn stage_text(stage: &StageKind) -> String {
    match stage {
        StageKind::LineFilter(filter) => line_filter(filter),
        StageKind::Json(extractions) => format!("| json{}", extractions_text(extractions)),
        StageKind::Logfmt { strict, keep_empty, extractions } => {
            let strict = if *strict { " --strict" } else { "" };
            let keep_empty = if *keep_empty { " --keep-empty" } else { "" };
            format!("| logfmt{strict}{keep_empty}{}", extractions_text(extractions))
        }
        StageKind::Regexp(pattern) => format!("| regexp {}", quoted(pattern)),
        StageKind::Pattern(pattern) => format!("| pattern {}", quoted(pattern)),
        StageKind::Unpack => "| unpack".to_owned(),
        StageKind::LabelFilter(filter) => format!("| {}", label_filter(filter)),
        StageKind::LineFormat(template) => format!("| line_format {}", quoted(template)),
        StageKind::LabelFormat(formats) => {
            let one = |format: &LabelFormat| match format {
                LabelFormat::Rename { to, from } => format!("{to}={from}"),
                LabelFormat::Template { to, template } => format!("{to}={}", quoted(template)),
            };
            format!("| label_format {}", formats.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        StageKind::Decolorize => "| decolorize".to_owned(),
        StageKind::Drop(choices) => format!("| drop {}", choices_text(choices)),
        StageKind::Keep(choices) => format!("| keep {}", choices_text(choices)),
        StageKind::Unwrap(unwrap) => match unwrap.conversion {
            Conversion::Number => format!("| unwrap {}", unwrap.label),
            Conversion::Duration => format!("| unwrap duration({})", unwrap.label),
            Conversion::Bytes => format!("| unwrap bytes({})", unwrap.label),
        },
    }
}

fn line_filter(filter: &LineFilter) -> String {
    let op = match filter.op {
        LineOp::Contains => "|=",
        LineOp::NotContains => "!=",
        LineOp::Regex => "|~",
        LineOp::NotRegex => "!~",
        LineOp::Pattern => "|>",
        LineOp::NotPattern => "!>",
    };
    let one = |operand: &LineOperand| match operand {
        LineOperand::Text(text) => quoted(text),
        LineOperand::Ip(pattern) => format!("ip({})", quoted(pattern)),
    };
    format!("{op} {}", filter.operands.iter().map(one).collect::<Vec<_>>().join(" or "))
}

fn extractions_text(extractions: &[Extraction]) -> String {
    let all: Vec<String> = extractions.iter().map(|one| format!("{}={}", one.name, quoted(&one.source))).collect();
    if all.is_empty() { String::new() } else { format!(" {}", all.join(", ")) }
}

fn choices_text(choices: &[LabelChoice]) -> String {
    let one = |choice: &LabelChoice| match choice {
        LabelChoice::Name(name) => name.clone(),
        LabelChoice::Matching(matching) => matcher(matching),
    };
    choices.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn label_filter(filter: &LabelFilter) -> String {
    let within = |filter: &LabelFilter, is_wrapped: bool| {
        let text = label_filter(filter);
        if is_wrapped { format!("({text})") } else { text }
    };
    let (is_and, is_or) = (
        |filter: &LabelFilter| matches!(filter, LabelFilter::And(..)),
        |filter: &LabelFilter| matches!(filter, LabelFilter::Or(..)),
    );
    match filter {
        LabelFilter::And(left, right) => {
            format!("{} and {}", within(left, is_or(left)), within(right, is_or(right) || is_and(right)))
        }
        LabelFilter::Or(left, right) => format!("{} or {}", within(left, false), within(right, is_or(right))),
        LabelFilter::Text(matching) => matcher(matching),
        LabelFilter::Compare { name, op, value } => format!("{name} {} {}", compare_op(*op), quantity(*value)),
        LabelFilter::Ip { name, negated, pattern } => {
            format!("{name} {} ip({})", if *negated { "!=" } else { "=" }, quoted(pattern))
        }
    }
}

fn compare_op(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "==",
        CompareOp::NotEqual => "!=",
        CompareOp::Greater => ">",
        CompareOp::GreaterEqual => ">=",
        CompareOp::Less => "<",
        CompareOp::LessEqual => "<=",
    }
}

fn quantity(value: Quantity) -> String {
    let signed = |value: f64, text: &dyn Fn(f64) -> String| {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        format!("{sign}{}", text(value.abs()))
    };
    match value {
        Quantity::Number(value) => number(value),
        Quantity::Duration(nanos) => signed(nanos, &|nanos| duration(nanos as u64)),
        Quantity::Bytes(bytes) => signed(bytes, &|bytes| format!("{bytes}B")),
    }
}

fn number(value: f64) -> String {
    value.to_string()
}

/// As Go writes one, without the units that are nothing: `1h30m`.
fn duration(mut nanos: u64) -> String {
    const UNITS: [(&str, u64); 6] =
        [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000), ("ns", 1)];
    let mut out = String::new();
    for (name, unit) in UNITS {
        if nanos >= unit {
            let _ = write!(out, "{}{name}", nanos / unit);
            nanos %= unit;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Between backticks where that spares escapes and can be.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains(['`', '\r']) {
        return format!("`{text}`");
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => _ = write!(out, "\\u{:04x}", u32::from(other)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    /// Without the places in the text, which are others.
    fn shape(expr: &Expr) -> String {
        let debug = format!("{expr:?}");
        let mut out = String::new();
        let mut rest = debug.as_str();
        while let Some((before, after)) = rest.split_once("span: ") {
            out.push_str(before);
            rest = after.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
        }
        out + rest
    }

    #[test]
    fn a_query_reads_back_as_itself() {
        for query in [
            r#"{app="a", b!="", c=~"x.+",d!~"y"} |= "one" or "two" != "three" |~ `\d+"` !~ "b" |> "<_> x" !> "y""#,
            r#"{app="a"} |= ip("10.0.0.0/8") | json a="b.c", d | logfmt --strict --keep-empty x="y" | unpack | decolorize"#,
            r#"{app="a"} | a="1" and b>=5 or (c<1.5h or d!=10KiB) and (e=~"x" or f=ip("::1"),g!=ip("1.2.3.4")) | x<-5"#,
            r#"{app="a"} | regexp `(?P<x>\w+)` | pattern "<a> <b>" | line_format "{{.a}}\n`" | label_format x=y,z="{{.q}}""#,
            r#"{app="a"} | drop a, b="c" | keep d, e=~"f.*" # and no more"#,
            r#"sum by (a, b) (rate({app="a"} |= "x" | json | unwrap duration(took) [5m] offset -1h30m)) / on(a) group_left(c) 2"#,
            r#"topk(3, quantile_over_time(0.99, {app="a"} | unwrap bytes(size) [1d1ms]) by (q)) without (z) > bool vector(1.5)"#,
            r#"label_replace(count_over_time({app="a"}[1m]), "dst", "$1", "src", "(.*)\\d") unless ignoring(x) absent_over_time({b="c"}[1w])"#,
            "-1 + 2 * 3 ^ 2 ^ 2 - (4 - 5) % 6 == 7",
        ] {
            let expr = parse(query).expect(query);
            let text = pretty(&expr);
            let again = parse(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(shape(&again), shape(&expr), "{text}");
            assert_eq!(pretty(&again), text);
        }
    }

    #[test]
    fn what_is_long_is_broken() {
        let query = r#"sum by (route) (rate({service_name="checkout", env="production"} |= "timeout" | json | status >= 500 | line_format "{{.message}}" [5m])) / ignoring(level) group_left() sum(rate({service_name="checkout"}[5m]))"#;
        let expected = r#"  sum by (route) (
    rate(
      {service_name="checkout", env="production"}
        |= "timeout"
        | json
        | status >= 500
        | line_format "{{.message}}" [5m]
    )
  )
/ ignoring (level) group_left ()
  sum(rate({service_name="checkout"} [5m]))"#;
        assert_eq!(pretty(&parse(query).expect("valid")), expected);
    }
}
