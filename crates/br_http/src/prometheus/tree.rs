//! A query as a tree in JSON. Source: Prometheus' `web/api/v1/translate_ast.go`.

use br_model::labels::METRIC_NAME;
use br_promql::{At, DurationExpr, Expr, ExprKind, Link, Matching, Signature, Type, VectorSelector};
use serde_json::{Value, json};
use std::io::{Result, Write};

/// A row of operators is as deep in the JSON as it is long: it is written, not built.
pub(super) fn write(out: &mut dyn Write, expr: &Expr) -> Result<()> {
    match &expr.kind {
        ExprKind::Number { value, .. } => {
            write!(out, "{}", json!({ "type": "numberLiteral", "val": br_promql::format_float(*value) }))
        }
        ExprKind::String { value, .. } => write!(out, "{}", json!({ "type": "stringLiteral", "val": value })),
        ExprKind::Paren(inner) => write_around(out, &json!({ "type": "parenExpr" }), &[("expr", Some(inner))]),
        ExprKind::Unary { negative, expr } => {
            let fields = json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" } });
            write_around(out, &fields, &[("expr", Some(expr))])
        }
        ExprKind::Vector(vector) => write!(out, "{}", selector(vector, "vectorSelector")),
        ExprKind::Matrix { vector, range } => match &vector.kind {
            ExprKind::Vector(vector) => {
                let mut shown = selector(vector, "matrixSelector");
                shown["range"] = millis(Some(range));
                write!(out, "{shown}")
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
            write_around(out, &fields, &[("expr", Some(expr))])
        }
        ExprKind::Call { function, arguments } => write_call(out, function, arguments),
        ExprKind::Aggregate { op, parameter, expr, grouping, without } => {
            let fields = json!({ "type": "aggregation", "op": op.as_str(), "grouping": grouping, "without": without });
            write_around(out, &fields, &[("expr", Some(expr)), ("param", parameter.as_deref())])
        }
        ExprKind::Binary { first, links } => write_chain(out, first, links),
    }
}

/// An object of these fields and of sub-expressions.
fn write_around(out: &mut dyn Write, fields: &Value, expressions: &[(&str, Option<&Expr>)]) -> Result<()> {
    let fields = fields.to_string();
    out.write_all(fields.strip_suffix('}').unwrap_or(&fields).as_bytes())?;
    for (name, expr) in expressions {
        write!(out, ",\"{name}\":")?;
        match expr {
            Some(expr) => write(out, expr)?,
            None => out.write_all(b"null")?,
        }
    }
    out.write_all(b"}")
}

fn write_call(out: &mut dyn Write, function: &Signature, arguments: &[Expr]) -> Result<()> {
    let (least, most) = function.argument_counts();
    let signature = json!({
        "name": function.name,
        "argTypes": function.arguments.iter().map(|of| type_name(*of)).collect::<Vec<_>>(),
        "variadic": most.map_or(-1, |most| most as i64 - least as i64),
        "returnType": type_name(function.returns),
    });
    write!(out, "{{\"type\":\"call\",\"func\":{signature},\"args\":[")?;
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        write(out, argument)?;
    }
    out.write_all(b"]}")
}

/// Each operator is around what stands before it.
fn write_chain(out: &mut dyn Write, first: &Expr, links: &[Link]) -> Result<()> {
    links.iter().try_for_each(|_| out.write_all(b"{\"type\":\"binaryExpr\",\"lhs\":"))?;
    write(out, first)?;
    let mut left = first.value_type();
    for link in links {
        let right = link.rhs.value_type();
        let joins = left == Type::Vector && right == Type::Vector;
        let matching = if joins { matching(&link.matching) } else { Value::Null };
        let (op, is_bool) = (link.op.as_str(), link.return_bool);
        write!(out, ",\"op\":\"{op}\",\"matching\":{matching},\"bool\":{is_bool},\"rhs\":")?;
        write(out, &link.rhs)?;
        out.write_all(b"}")?;
        left = if left == Type::Scalar && right == Type::Scalar { Type::Scalar } else { Type::Vector };
    }
    Ok(())
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
        let tree = |text: &str| -> Value {
            let mut out = Vec::new();
            write(&mut out, &br_promql::parse(text).expect("valid")).expect("in memory");
            serde_json::from_slice(&out).expect("JSON")
        };
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
