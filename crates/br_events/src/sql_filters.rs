//! What of a SQL filter the store can use to skip. What is not understood skips nothing.

use crate::attributes::INT;
use crate::conditions::Conditions;
use crate::numbers::{Name, NumberBetween};
use crate::schema::{ATTRIBUTES, BODY, DURATION, KIND, NAME, RESOURCE, SERVICE, SEVERITY, STATUS, TRACE_ID, TS};
use crate::sql_columns::{Origin, SqlColumns};
use crate::terms::{self, Terms};
use br_model::TraceId;
use br_model::names::label_name;
use br_std::Nanos;
use br_storage::Table;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Adds to `conditions` what follows from filters that must all hold.
pub(crate) fn conditions_of(filters: &[Expr], columns: &SqlColumns, conditions: &mut Conditions) {
    for filter in filters {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                conditions_of(&[(**left).clone(), (**right).clone()], columns, conditions);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (literal(right), literal(left)) {
                (Some(value), None) => compare(left, *op, value, columns, conditions),
                (None, Some(value)) => {
                    if let Some(op) = op.swap() {
                        compare(right, op, value, columns, conditions);
                    }
                }
                _ => {}
            },
            Expr::Between(between) if !between.negated => {
                if let (Some(low), Some(high)) = (literal(&between.low), literal(&between.high)) {
                    compare(&between.expr, Operator::GtEq, low, columns, conditions);
                    compare(&between.expr, Operator::LtEq, high, columns, conditions);
                }
            }
            Expr::InList(list) if !list.negated && name_of(&list.expr) == Some(SERVICE) => {
                let services: Option<Vec<String>> = list.list.iter().map(|item| text(literal(item)?)).collect();
                if let (Some(services), None) = (services, &conditions.services) {
                    conditions.services = Some(services);
                }
            }
            Expr::Like(like) if !like.negated && !like.case_insensitive && like.escape_char.is_none() => {
                if let (Some(BODY), Some(pattern)) = (name_of(&like.expr), literal(&like.pattern).and_then(text)) {
                    conditions.terms.add(&like_terms(&pattern));
                }
            }
            Expr::ScalarFunction(call) if call.func.name() == "match" => match call.args.as_slice() {
                [subject, words] if name_of(subject) == Some(BODY) => {
                    let words = literal(words).and_then(text).unwrap_or_default();
                    conditions.terms.add(&terms::match_terms(&words));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// What the fixed parts of a LIKE pattern need; a word next to a wildcard may go on.
fn like_terms(pattern: &str) -> Terms {
    let mut all = Terms::default();
    if !pattern.contains('\\') {
        pattern.split(['%', '_']).for_each(|part| all.add(&terms::substring_terms(part)));
    }
    all
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn name_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.clone(),
        _ => None,
    }
}

fn integer(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(number) => *number,
        ScalarValue::Int32(number) => number.map(i64::from),
        ScalarValue::UInt8(number) => number.map(i64::from),
        ScalarValue::UInt64(number) => number.and_then(|number| i64::try_from(number).ok()),
        _ => None,
    }
}

fn float(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(number) => number.filter(|number| !number.is_nan()),
        other => integer(other).map(|number| number as f64),
    }
}

pub(crate) fn nanos(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampNanosecond(time, _) => *time,
        ScalarValue::TimestampMicrosecond(time, _) => time.and_then(|time| time.checked_mul(1_000)),
        ScalarValue::TimestampMillisecond(time, _) => time.and_then(|time| time.checked_mul(1_000_000)),
        ScalarValue::TimestampSecond(time, _) => time.and_then(|time| time.checked_mul(1_000_000_000)),
        _ => None,
    }
}

fn compare(expr: &Expr, op: Operator, value: &ScalarValue, columns: &SqlColumns, conditions: &mut Conditions) {
    if let Expr::ScalarFunction(call) = expr {
        if op == Operator::Eq && ["get_field", "attr"].contains(&call.func.name()) {
            map_entry(&call.args, value, conditions);
        }
        return;
    }
    let Some(name) = name_of(expr) else { return };
    let number_column = if conditions.table == Table::Spans { DURATION } else { SEVERITY };
    if name == TS {
        return time(op, value, conditions);
    }
    if name == number_column {
        return number(op, value, conditions);
    }
    if let (Some(Origin::Attribute(keys, INT)), Some(number)) = (columns.origin(name), float(value)) {
        attribute_number(keys, op, number, conditions);
    }
    if op != Operator::Eq {
        return;
    }
    match (name, text(value)) {
        (SERVICE, Some(service)) => match &mut conditions.services {
            Some(services) => services.retain(|known| *known == service),
            None => conditions.services = Some(vec![service]),
        },
        (TRACE_ID, Some(hex)) if hex.len() == 32 => {
            if let Some(id) = TraceId::from_hex(&hex).filter(|id| !id.is_none()) {
                *conditions = conditions.clone().with_trace_id(id);
            }
        }
        (KIND, Some(kind)) if conditions.table == Table::Logs && conditions.kind.is_none() => {
            conditions.kind = crate::logs_codec::kind_from_text(&kind).ok();
        }
        (STATUS, Some(status)) if conditions.table == Table::Spans && status == "error" => conditions.errors_only = true,
        ("error_group", Some(group)) => conditions.terms.extend(terms::pair_term("error_group", &group)),
        (NAME, Some(span)) if conditions.table == Table::Spans => conditions.terms.extend(terms::pair_term(NAME, &span)),
        (name, Some(value)) => {
            // Keys of one label name are one term.
            let key = match columns.origin(name) {
                Some(Origin::Attribute(keys, _)) => keys.first(),
                Some(Origin::Resource(key)) => Some(key),
                _ => None,
            };
            conditions.terms.extend(key.and_then(|key| terms::pair_term(key, &value)));
        }
        (name, None) => {
            if let (Some(Origin::Attribute(keys, _)), Some(number)) = (columns.origin(name), integer(value)) {
                conditions.terms.extend(keys.first().and_then(|key| terms::pair_term(key, &number.to_string())));
            }
        }
    }
}

/// `attributes['key'] = 'value'`, and the same of the resource.
fn map_entry(args: &[Expr], value: &ScalarValue, conditions: &mut Conditions) {
    let [map, key] = args else { return };
    let is_map = matches!(name_of(map), Some(ATTRIBUTES | RESOURCE));
    if let (true, Some(key), Some(value)) = (is_map, literal(key).and_then(text), text(value)) {
        conditions.terms.extend(terms::pair_term(&key, &value));
    }
}

fn time(op: Operator, value: &ScalarValue, conditions: &mut Conditions) {
    let Some(time) = nanos(value) else { return };
    let range = &mut conditions.range;
    let after = Nanos(time.saturating_add(1));
    if matches!(op, Operator::GtEq | Operator::Eq) {
        range.from = range.from.max(Nanos(time));
    }
    if op == Operator::Gt {
        range.from = range.from.max(after);
    }
    if op == Operator::Lt {
        range.to = range.to.min(Nanos(time));
    }
    if matches!(op, Operator::LtEq | Operator::Eq) {
        range.to = range.to.min(after);
    }
}

/// Only for integers: in SQL a NaN is greater than all numbers.
fn attribute_number(keys: &[String], op: Operator, number: f64, conditions: &mut Conditions) {
    let (low, high) = match op {
        Operator::Eq => (number, number),
        Operator::Gt | Operator::GtEq => (number, f64::INFINITY),
        Operator::Lt | Operator::LtEq => (f64::NEG_INFINITY, number),
        _ => return,
    };
    if let Some(key) = keys.first() {
        conditions.numbers.push(NumberBetween { name: Name::Label(label_name(key)), low, high });
    }
}

fn number(op: Operator, value: &ScalarValue, conditions: &mut Conditions) {
    let Some(number) = integer(value) else { return };
    if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
        conditions.low = Some(conditions.low.map_or(number, |low| low.max(number)));
    }
    if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
        conditions.high = Some(conditions.high.map_or(number, |high| high.min(number)));
    }
}
