//! The values of parameters, as expressions of SQL.
//!
//! A value becomes a literal in the parsed statement, never a part of its text: nothing that stands in it can end a quote.
//! DataFusion can take values later too, but it needs types for them where a function or a LIMIT is planned.

use super::values::oid_of;
use br_std::{Error, Result};
use datafusion::common::Result as SqlResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr, TimezoneInfo, UnaryOperator, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A value that a client has bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// 0 where the client leaves the type open.
    pub oid: u32,
    pub is_binary: bool,
    /// Nothing is NULL.
    pub bytes: Option<Vec<u8>>,
}

/// Microseconds and days from 1970 to 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

impl Parameter {
    /// `number` is its place, from 1, for what is said when it is wrong.
    pub(super) fn expr(&self, number: usize) -> Result<Expr> {
        let Some(bytes) = &self.bytes else { return Ok(Expr::Value(Value::Null.into())) };
        let wrong = |what: &str| Error::fix_request(format!("parameter ${number}: {what}"));
        if !self.is_binary {
            let text = std::str::from_utf8(bytes).map_err(|_| wrong("its text is not UTF-8"))?;
            return self.text_expr(text).map_err(|what| wrong(&what));
        }
        self.binary_expr(bytes).map_err(|what| wrong(&what))
    }

    fn text_expr(&self, text: &str) -> Result<Expr, String> {
        match self.oid {
            16 => match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "1" | "on" | "yes" | "y" => Ok(boolean(true)),
                "f" | "false" | "0" | "off" | "no" | "n" => Ok(boolean(false)),
                _ => Err(format!("{text:?} is no boolean")),
            },
            20 | 21 | 23 | 26 => text.trim().parse().map(integer).map_err(|_| format!("{text:?} is no integer")),
            700 | 701 => text.trim().parse().map(float).map_err(|_| format!("{text:?} is no number")),
            1700 => text.trim().parse().map(float).map_err(|_| format!("{text:?} is no number")),
            17 => match text.strip_prefix("\\x") {
                Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    Ok(Expr::Value(Value::HexStringLiteral(digits.to_owned()).into()))
                }
                _ => Err("bytes are written as \\x and hexadecimal digits".to_owned()),
            },
            1082 => Ok(cast(text.to_owned(), DataType::Date)),
            1114 | 1184 => Ok(timestamp(text.to_owned(), self.oid == 1184)),
            1005 | 1007 | 1016 => list(text, 20),
            1021 | 1022 => list(text, 701),
            1009 | 1015 => list(text, 25),
            _ => Ok(string(text.to_owned())),
        }
    }

    fn binary_expr(&self, bytes: &[u8]) -> Result<Expr, String> {
        let length = || format!("{} bytes are no binary value of its type", bytes.len());
        let i64_of = || -> Result<i64, String> {
            match *bytes {
                [a, b] => Ok(i64::from(i16::from_be_bytes([a, b]))),
                [a, b, c, d] => Ok(i64::from(i32::from_be_bytes([a, b, c, d]))),
                _ => Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| length())?)),
            }
        };
        match self.oid {
            16 => Ok(boolean(bytes.first().ok_or_else(length)? != &0)),
            20 | 21 | 23 | 26 => i64_of().map(integer),
            700 => Ok(float(f64::from(f32::from_be_bytes(bytes.try_into().map_err(|_| length())?)))),
            701 => Ok(float(f64::from_be_bytes(bytes.try_into().map_err(|_| length())?))),
            1700 => numeric(bytes).ok_or_else(length),
            17 => {
                let mut digits = String::with_capacity(bytes.len() * 2);
                for byte in bytes {
                    let _ = write!(digits, "{byte:02x}");
                }
                Ok(Expr::Value(Value::HexStringLiteral(digits).into()))
            }
            1082 => {
                let days = i32::from_be_bytes(bytes.try_into().map_err(|_| length())?);
                Ok(cast(super::values::date_text(days.saturating_add(EPOCH_DAYS)), DataType::Date))
            }
            1114 | 1184 => {
                let micros = i64_of()?.saturating_add(EPOCH_MICROS);
                let has_zone = self.oid == 1184;
                Ok(timestamp(super::values::timestamp_text(micros, has_zone), has_zone))
            }
            2950 => {
                let number = u128::from_be_bytes(bytes.try_into().map_err(|_| length())?);
                let digits = format!("{number:032x}");
                let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
                Ok(string(parts.join("-")))
            }
            0 | 18 | 19 | 25 | 705 | 1042 | 1043 | 114 => {
                let text = std::str::from_utf8(bytes).map_err(|_| "its text is not UTF-8".to_owned())?;
                Ok(string(text.to_owned()))
            }
            oid => Err(format!("binary values of type {oid} are not known here: send it as text")),
        }
    }
}

/// `{a,"b c",NULL}`, whose elements are of this type.
pub(super) fn list(text: &str, oid: u32) -> Result<Expr, String> {
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.ok_or_else(|| format!("{text:?} is no list such as {{a,b}}"))?;
    let (mut items, mut item, mut is_quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => item.extend(letters.next()),
            '"' => (is_quoted, was_quoted) = (!is_quoted, true),
            ',' if !is_quoted => items.push((std::mem::take(&mut item), std::mem::take(&mut was_quoted))),
            '{' | '}' if !is_quoted => return Err("lists in lists are not known here".to_owned()),
            _ => item.push(letter),
        }
    }
    if !inner.is_empty() {
        items.push((item, was_quoted));
    }
    let exprs = items.into_iter().map(|(item, was_quoted)| {
        if !was_quoted && item.eq_ignore_ascii_case("null") {
            return Ok(Expr::Value(Value::Null.into()));
        }
        Parameter { oid, is_binary: false, bytes: None }.text_expr(&item)
    });
    let elem = exprs.collect::<Result<_, _>>()?;
    Ok(Expr::Array(datafusion::sql::sqlparser::ast::Array { elem, named: true }))
}

/// The types that the planner has found for `$1`, `$2`, ….
pub(super) fn inferred(plan: &LogicalPlan) -> SqlResult<Vec<Option<u32>>> {
    let mut types = Vec::new();
    let found: BTreeMap<_, _> = plan.get_parameter_types()?.into_iter().collect();
    for (name, data_type) in found {
        let Some(at) = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()?.checked_sub(1)) else { continue };
        if at >= PARAMETERS_MAX {
            continue;
        }
        if types.len() <= at {
            types.resize(at + 1, None);
        }
        types[at] = data_type.as_ref().map(oid_of);
    }
    Ok(types)
}

/// As many as the protocol can count.
pub(super) const PARAMETERS_MAX: usize = u16::MAX as usize;

fn string(text: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(text).into())
}

fn boolean(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

fn number(text: String, is_negative: bool) -> Expr {
    let digits = Expr::Value(Value::Number(text, false).into());
    if !is_negative {
        return digits;
    }
    Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(digits) }))
}

fn integer(value: i64) -> Expr {
    if value == i64::MIN {
        return cast(value.to_string(), DataType::BigInt(None));
    }
    number(value.unsigned_abs().to_string(), value < 0)
}

fn float(value: f64) -> Expr {
    if !value.is_finite() {
        return cast(value.to_string(), DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None));
    }
    number(format!("{:e}", value.abs()), value.is_sign_negative())
}

fn cast(text: String, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(string(text)), data_type, array: false, format: None }
}

/// Times of stores have a zone, which is UTC: a time with a zone becomes one of these, whatever zone it was written in.
fn timestamp(text: String, has_zone: bool) -> Expr {
    let zone = if has_zone { TimezoneInfo::WithTimeZone } else { TimezoneInfo::None };
    cast(text, DataType::Timestamp(None, zone))
}

/// PostgreSQL's groups of four digits.
fn numeric(bytes: &[u8]) -> Option<Expr> {
    let mut words = bytes.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (count, weight, sign, _scale) = (words.next()?, words.next()?.cast_signed(), words.next()?, words.next()?);
    if sign & 0xc000 == 0xc000 {
        return Some(float(f64::NAN));
    }
    let mut value = 0.0;
    for at in 0..count {
        value += f64::from(words.next()?) * 10_000_f64.powi(i32::from(weight) - i32::from(at));
    }
    Some(float(if sign == 0x4000 { -value } else { value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(oid: u32, is_binary: bool, bytes: &[u8], expect: &str) {
        let parameter = Parameter { oid, is_binary, bytes: Some(bytes.to_vec()) };
        let got = parameter.expr(1).map_or_else(|error| format!("! {error}"), |expr| expr.to_string());
        assert_eq!(got, expect, "{oid} {bytes:?}");
    }

    #[test]
    fn values_become_literals() {
        check(0, false, b"it's; DROP", "'it''s; DROP'");
        check(20, false, b"-5", "(-5)");
        check(20, true, &i64::MIN.to_be_bytes(), "CAST('-9223372036854775808' AS BIGINT)");
        check(21, true, &[1, 2], "258");
        check(701, true, &0.5_f64.to_be_bytes(), "5e-1");
        check(1700, false, b"1.25", "1.25e0");
        check(1700, true, &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 1, 9, 0xc4], "(-1.25e0)");
        check(16, false, b"t", "true");
        check(16, true, &[0], "false");
        check(1114, true, &1_000_000_i64.to_be_bytes(), "CAST('2000-01-01 00:00:01' AS TIMESTAMP)");
        check(1184, true, &0_i64.to_be_bytes(), "CAST('2000-01-01 00:00:00+00' AS TIMESTAMP WITH TIME ZONE)");
        check(1082, true, &1_i32.to_be_bytes(), "CAST('2000-01-02' AS DATE)");
        check(1009, false, br#"{a,"b,\"c",NULL,"NULL"}"#, r#"ARRAY['a', 'b,"c', NULL, 'NULL']"#);
        check(1016, false, b"{1,-2}", "ARRAY[1, (-2)]");
        check(20, false, b"1; x", "! parameter $1: \"1; x\" is no integer");
        check(20, true, &[1], "! parameter $1: 1 bytes are no binary value of its type");
        check(25, true, &[0xff], "! parameter $1: its text is not UTF-8");
    }
}
