//! A query as a tree in JSON. Source: Prometheus' `web/api/v1/translate_ast.go`.

use br_model::labels::METRIC_NAME;
use br_promql::{At, DurationExpr, Expr, ExprKind, Matching, Type, VectorSelector};
use serde_json::{Value, json};

pub(super) fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({ "type": "numberLiteral", "val": br_promql::format_float(*value) }),
        ExprKind::String { value, .. } => json!({ "type": "stringLiteral", "val": value }),
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
        ExprKind::Unary { negative, expr } => {
            json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(expr) })
        }
        ExprKind::Vector(vector) => selector(vector, "vectorSelector"),
        ExprKind::Matrix { vector, range } => match &vector.kind {
            ExprKind::Vector(vector) => {
                let mut shown = selector(vector, "matrixSelector");
                shown["range"] = millis(Some(range));
                shown
            }
            _ => tree(vector),
        },
        ExprKind::Subquery { expr, range, step, offset, at } => json!({
            "type": "subquery",
            "expr": tree(expr),
            "range": millis(Some(range)),
            "offset": millis(offset.as_ref()),
            "step": millis(step.as_ref()),
            "timestamp": timestamp(*at),
            "startOrEnd": start_or_end(*at),
        }),
        ExprKind::Call { function, arguments } => {
            let least = function.argument_counts().0;
            let variadic = match function.argument_counts().1 {
                Some(most) => most as i64 - least as i64,
                None => -1,
            };
            json!({
                "type": "call",
                "func": {
                    "name": function.name,
                    "argTypes": function.arguments.iter().map(|of| type_name(*of)).collect::<Vec<_>>(),
                    "variadic": variadic,
                    "returnType": type_name(function.returns),
                },
                "args": arguments.iter().map(tree).collect::<Vec<_>>(),
            })
        }
        ExprKind::Aggregate { op, parameter, expr, grouping, without } => json!({
            "type": "aggregation",
            "op": op.as_str(),
            "expr": tree(expr),
            "param": parameter.as_deref().map(tree),
            "grouping": grouping,
            "without": without,
        }),
        ExprKind::Binary { op, lhs, rhs, return_bool, matching } => {
            let joins = lhs.value_type() == Type::Vector && rhs.value_type() == Type::Vector;
            json!({
                "type": "binaryExpr",
                "op": op.as_str(),
                "lhs": tree(lhs),
                "rhs": tree(rhs),
                "matching": joins.then(|| self::matching(matching)),
                "bool": return_bool,
            })
        }
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
        let tree = |text: &str| tree(&br_promql::parse(text).expect("valid"));
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
    }
}
