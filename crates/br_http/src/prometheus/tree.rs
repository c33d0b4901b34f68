//! A query as a tree in JSON. Source: Prometheus' `web/api/v1/translate_ast.go`.

use br_model::labels::METRIC_NAME;
use br_promql::{At, DurationExpr, Expr, ExprKind, Link, Matching, Signature, Type, VectorSelector};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A row of operators is as deep in the JSON as it is long: it is written, not built.
pub(super) fn tree(expr: &Expr) -> String {
    let mut out = String::new();
    write(&mut out, expr);
    out
}

fn write(out: &mut String, expr: &Expr) {
    match &expr.kind {
        ExprKind::Number { value, .. } => {
            *out += &json!({ "type": "numberLiteral", "val": br_promql::format_float(*value) }).to_string();
        }
        ExprKind::String { value, .. } => *out += &json!({ "type": "stringLiteral", "val": value }).to_string(),
        ExprKind::Paren(inner) => write_around(out, &json!({ "type": "parenExpr" }), &[("expr", Some(inner))]),
        ExprKind::Unary { negative, expr } => {
            let fields = json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" } });
            write_around(out, &fields, &[("expr", Some(expr))]);
        }
        ExprKind::Vector(vector) => *out += &selector(vector, "vectorSelector").to_string(),
        ExprKind::Matrix { vector, range } => match &vector.kind {
            ExprKind::Vector(vector) => {
                let mut shown = selector(vector, "matrixSelector");
                shown["range"] = millis(Some(range));
                *out += &shown.to_string();
            }
            _ => write(out, vector),
        },
        ExprKind::Subquery { expr, range, step, offset, at } => {
            let fields = json!({
                "type": "subquery",
                "range": millis(Some(range)),
                "offset": millis(offset.as_ref()),
                "step": millis(step.as_ref()),
                "timestamp": timestamp(*at),
                "startOrEnd": start_or_end(*at),
            });
            write_around(out, &fields, &[("expr", Some(expr))]);
        }
        ExprKind::Call { function, arguments } => write_call(out, function, arguments),
        ExprKind::Aggregate { op, parameter, expr, grouping, without } => {
            let fields = json!({ "type": "aggregation", "op": op.as_str(), "grouping": grouping, "without": without });
            write_around(out, &fields, &[("expr", Some(expr)), ("param", parameter.as_deref())]);
        }
        ExprKind::Binary { first, links } => write_chain(out, first, links),
    }
}

/// An object of these fields and of sub-expressions.
fn write_around(out: &mut String, fields: &Value, expressions: &[(&str, Option<&Expr>)]) {
    *out += &fields.to_string();
    out.pop();
    for (name, expr) in expressions {
        let _ = write!(out, ",\"{name}\":");
        match expr {
            Some(expr) => write(out, expr),
            None => *out += "null",
        }
    }
    out.push('}');
}

fn write_call(out: &mut String, function: &Signature, arguments: &[Expr]) {
    let (least, most) = function.argument_counts();
    let signature = json!({
        "name": function.name,
        "argTypes": function.arguments.iter().map(|of| type_name(*of)).collect::<Vec<_>>(),
        "variadic": most.map_or(-1, |most| most as i64 - least as i64),
        "returnType": type_name(function.returns),
    });
    let _ = write!(out, "{{\"type\":\"call\",\"func\":{signature},\"args\":[");
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, argument);
    }
    *out += "]}";
}

/// Each operator is around what stands before it.
fn write_chain(out: &mut String, first: &Expr, links: &[Link]) {
    *out += &"{\"type\":\"binaryExpr\",\"lhs\":".repeat(links.len());
    write(out, first);
    let mut left = first.value_type();
    for link in links {
        let right = link.rhs.value_type();
        let joins = left == Type::Vector && right == Type::Vector;
        let matching = if joins { matching(&link.matching) } else { Value::Null };
        let (op, is_bool) = (link.op.as_str(), link.return_bool);
        let _ = write!(out, ",\"op\":\"{op}\",\"matching\":{matching},\"bool\":{is_bool},\"rhs\":");
        write(out, &link.rhs);
        out.push('}');
        left = if left == Type::Scalar && right == Type::Scalar { Type::Scalar } else { Type::Vector };
    }
}

fn matching(matching: &Matching) -> Value {
    json!({
        "card": matching.cardinality.as_str(),
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": { "lhs": matching.fill.left, "rhs": matching.fill.right },
    })
}

fn selector(vector: &VectorSelector, kind: &str) -> Value {
    // As in Prometheus the name in front of the braces comes last.
    let (named, others): (Vec<_>, Vec<_>) =
        vector.matchers.iter().partition(|matcher| vector.name.is_some() && matcher.name == METRIC_NAME);
    let matchers: Vec<Value> = others
        .into_iter()
        .chain(named)
        .map(|matcher| json!({ "name": matcher.name, "value": matcher.value, "type": matcher.op.as_str() }))
        .collect();
    json!({
        "type": kind,
        "name": vector.name.as_deref().unwrap_or(""),
        "offset": millis(vector.offset.as_ref()),
        "matchers": matchers,
        "timestamp": timestamp(vector.at),
        "startOrEnd": start_or_end(vector.at),
    })
}

fn timestamp(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Millis(millis)) => Some(millis),
        _ => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    }
}

/// Zero for none, as Prometheus has it; null for what depends on the range and step of the question.
fn millis(duration: Option<&DurationExpr>) -> Value {
    duration
        .map_or(json!(0), |duration| seconds(duration).map_or(Value::Null, |seconds| json!((seconds * 1000.0).round() as i64)))
}

fn seconds(duration: &DurationExpr) -> Option<f64> {
    match duration {
        DurationExpr::Seconds { value, .. } => Some(*value),
        DurationExpr::Negative(inner) => Some(-seconds(inner)?),
        DurationExpr::Positive(inner) | DurationExpr::Paren(inner) => seconds(inner),
        DurationExpr::Step | DurationExpr::Range | DurationExpr::Binary { .. } => None,
    }
}

fn type_name(of: Type) -> &'static str {
    match of {
        Type::Scalar => "scalar",
        Type::String => "string",
        Type::Vector => "vector",
        Type::Matrix => "matrix",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        let tree = |text: &str| -> Value { serde_json::from_str(&tree(&br_promql::parse(text).expect("valid"))).expect("JSON") };
        let whole = tree("sum by (job) (rate(up{job=~\"a.*\"}[5m] offset 1m))");
        assert_eq!((&whole["type"], &whole["grouping"]), (&json!("aggregation"), &json!(["job"])));
        assert_eq!(
            whole["expr"]["func"],
            json!({ "name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector" })
        );
        let selector = &whole["expr"]["args"][0];
        assert_eq!((&selector["range"], &selector["offset"]), (&json!(300_000), &json!(60_000)));
        assert_eq!(selector["matchers"][0], json!({ "name": "job", "value": "a.*", "type": "=~" }));
        assert_eq!(tree("a / on(x) group_left(y) b")["matching"]["card"], "many-to-one");
        assert_eq!(tree("a > bool 2")["matching"], Value::Null);
        assert_eq!(tree("a @ end()")["startOrEnd"], "end");
        let row = tree("1 + 2 > bool 0 * a");
        assert_eq!((&row["op"], &row["bool"], &row["matching"]), (&json!(">"), &json!(true), &Value::Null));
        assert_eq!((&row["lhs"]["op"], &row["lhs"]["rhs"]["val"]), (&json!("+"), &json!("2")));
        assert_eq!((&row["rhs"]["op"], &row["rhs"]["rhs"]["name"]), (&json!("*"), &json!("a")));
        let other = tree("(a or b and c)[5m:]")["expr"]["expr"].clone();
        assert_eq!(
            (&other["op"], &other["rhs"]["op"], &other["matching"]["card"]),
            (&json!("or"), &json!("and"), &json!("many-to-many"))
        );
    }
}
