//! What is changed in a parsed statement before it is planned: values for parameters, and PostgreSQL's words for what
//! DataFusion knows under others.

use super::parameters::{PARAMETERS_MAX, Parameter};
use super::values::sql_type_of;
use br_std::{Error, Result};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, ObjectName, ObjectNamePart, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::ControlFlow;

pub(super) struct Rewrite {
    /// None leaves them open.
    parameters: Option<Vec<Expr>>,
}

impl Rewrite {
    pub(super) fn with_values(parameters: &[Parameter]) -> Result<Self> {
        let exprs = parameters.iter().enumerate().map(|(at, parameter)| parameter.expr(at + 1));
        Ok(Self { parameters: Some(exprs.collect::<Result<_, Error>>()?) })
    }

    pub(super) fn with_open_parameters() -> Self {
        Self { parameters: None }
    }

    /// Each a NULL of its type.
    pub(super) fn with_nulls(types: &[u32]) -> Self {
        let null = |at: usize| {
            let data_type = match sql_type_of(types.get(at).copied().unwrap_or(0)) {
                "BOOLEAN" => DataType::Boolean,
                "BIGINT" => DataType::BigInt(None),
                "DOUBLE" => DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
                "DATE" => DataType::Date,
                "TIMESTAMP" => DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::None),
                "BYTEA" => DataType::Bytea,
                _ => DataType::Varchar(None),
            };
            cast(Expr::Value(Value::Null.into()), data_type)
        };
        Self { parameters: Some((0..NULLS.max(types.len())).map(null).collect()) }
    }

    pub(super) fn apply(&self, statement: &mut Statement) -> SqlResult<()> {
        let inner = match statement {
            Statement::Statement(inner) => inner,
            Statement::Explain(explain) => return self.apply(&mut explain.statement),
            _ => return Ok(()),
        };
        let mut changes = Changes { parameters: self.parameters.as_deref() };
        match inner.visit(&mut changes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(message) => Err(DataFusionError::Plan(message)),
        }
    }
}

/// So many parameters without a type are tried as NULL.
const NULLS: usize = 256;

/// The highest `$n` of a text.
pub(super) fn parameters_of(sql: &str) -> usize {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return 0 };
    let number = |token: &Token| match token {
        Token::Placeholder(name) => place(name).map(|at| at + 1),
        _ => None,
    };
    tokens.iter().filter_map(number).max().unwrap_or(0)
}

fn place(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < PARAMETERS_MAX)
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

struct Changes<'a> {
    parameters: Option<&'a [Expr]>,
}

impl VisitorMut for Changes<'_> {
    type Break = String;

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<String> {
        // What PostgreSQL finds without its schema.
        if let [ObjectNamePart::Identifier(name)] = relation.0.as_slice()
            && super::catalog::is_table(&name.value.to_ascii_lowercase())
        {
            relation.0.insert(0, ObjectNamePart::Identifier("pg_catalog".into()));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match expr {
            Expr::Value(value) => {
                if let (Value::Placeholder(name), Some(parameters)) = (&value.value, self.parameters) {
                    let found = place(name).and_then(|at| parameters.get(at));
                    match found {
                        Some(found) => *expr = found.clone(),
                        None => return ControlFlow::Break(format!("there is no parameter {name}")),
                    }
                }
            }
            Expr::Function(function) => drop_schema(&mut function.name),
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(parts) = op
                    && let Some(known) = parts.last().and_then(|sign| operator(sign))
                {
                    *op = known;
                }
            }
            Expr::Collate { expr: inner, .. } => {
                let inner = std::mem::replace(&mut **inner, Expr::Value(Value::Null.into()));
                *expr = inner;
            }
            Expr::Cast { expr: inner, data_type, .. } => {
                if let Some(changed) = cast_of(inner, data_type) {
                    *expr = changed;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn drop_schema(name: &mut ObjectName) {
    let is_catalog = |part: &ObjectNamePart| part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case("pg_catalog"));
    if name.0.len() == 2 && is_catalog(&name.0[0]) {
        name.0.remove(0);
    }
}

fn operator(sign: &str) -> Option<BinaryOperator> {
    Some(match sign {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        ">" => BinaryOperator::Gt,
        "~" => BinaryOperator::PGRegexMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        _ => return None,
    })
}

/// Types that only PostgreSQL's catalog has: object identifiers are numbers, names are texts.
fn cast_of(inner: &mut Expr, data_type: &mut DataType) -> Option<Expr> {
    let name = match data_type {
        DataType::Regclass => "regclass".to_owned(),
        DataType::Custom(name, _) => name.0.last()?.as_ident()?.value.to_ascii_lowercase(),
        _ => return None,
    };
    *data_type = match name.as_str() {
        "oid" | "xid" | "int2" | "int4" | "int8" => DataType::BigInt(None),
        "text" | "varchar" | "name" | "char" | "bpchar" | "regtype" | "regproc" | "regnamespace" | "json" | "jsonb"
        | "citext" => DataType::Varchar(None),
        "regclass" => {
            if let Expr::Value(value) = inner
                && let Value::SingleQuotedString(table) = &value.value
            {
                let oid = super::catalog::oid_of(table);
                return Some(Expr::Value(Value::Number(oid.to_string(), false).into()));
            }
            DataType::Varchar(None)
        }
        _ => return None,
    };
    None
}
