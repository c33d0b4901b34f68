//! What is changed in a parsed statement before it is planned: values for parameters, and PostgreSQL's words for what
//! DataFusion knows under others.

use super::parameters::{self, PARAMETERS_MAX, Parameter};
use super::values::sql_type_of;
use br_std::{Error, Result};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Value,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::BTreeSet;
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
            let oid = types.get(at).copied().unwrap_or(0);
            let data_type = match sql_type_of(oid) {
                "BOOLEAN" => DataType::Boolean,
                "BIGINT" => DataType::BigInt(None),
                "DOUBLE" => DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
                "DATE" => DataType::Date,
                "TIMESTAMP" => DataType::Timestamp(None, datafusion::sql::sqlparser::ast::TimezoneInfo::None),
                "BYTEA" => DataType::Bytea,
                "BIGINT[]" => list_of(DataType::BigInt(None)),
                "DOUBLE[]" => list_of(DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None)),
                "VARCHAR[]" => list_of(DataType::Varchar(None)),
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

fn list_of(element: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(element), None))
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

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        tell_apart(&mut query.body);
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
            Expr::Function(function) => {
                drop_schema(&mut function.name);
                unnest_keys(function);
                if is_list_of_nothing(function) {
                    *expr = cast(Expr::Value(Value::Null.into()), list_of(DataType::Varchar(None)));
                }
            }
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                if let Err(message) = as_list(right) {
                    return ControlFlow::Break(message);
                }
            }
            Expr::Subquery(query) => {
                if finds_nothing(query) {
                    *expr = cast(Expr::Value(Value::Null.into()), DataType::Varchar(None));
                } else {
                    aggregate_one(query);
                }
            }
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

/// PostgreSQL lets columns have the same name, as two that are NULL have; DataFusion does not.
fn tell_apart(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            let mut seen = BTreeSet::new();
            for (at, item) in select.projection.iter_mut().enumerate() {
                if let SelectItem::UnnamedExpr(expr) = item
                    && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                    && !seen.insert(expr.to_string())
                {
                    let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                    let alias = Ident::with_quote('"', format!("?column?{}", at + 1));
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            tell_apart(left);
            tell_apart(right);
        }
        _ => {}
    }
}

/// Whether a query for one value asks a table of the catalog that has no rows here. PostgreSQL takes such ones about each row of another
/// table, which DataFusion plans only where they are aggregates.
fn finds_nothing(query: &Query) -> bool {
    let SetExpr::Select(select) = &*query.body else { return false };
    let is_empty = |from: &TableWithJoins| table_of(from).is_some_and(|name| super::catalog::is_empty(&name));
    !has_aggregate(select) && select.from.iter().any(is_empty)
}

/// The same of a table that has rows: of the one that it finds the greatest is that one.
fn aggregate_one(query: &mut Query) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    let is_of_catalog = select.from.iter().all(|from| table_of(from).is_some_and(|name| super::catalog::is_table(&name)));
    if !is_of_catalog
        || select.from.is_empty()
        || has_aggregate(select)
        || select.projection.len() != 1
        || query.limit_clause.is_some()
    {
        return;
    }
    if let Some(SelectItem::UnnamedExpr(found) | SelectItem::ExprWithAlias { expr: found, .. }) = select.projection.first_mut() {
        let inner = std::mem::replace(found, Expr::Value(Value::Null.into()));
        let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))];
        *found = Expr::Function(Function {
            name: ObjectName(vec![ObjectNamePart::Identifier("max".into())]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        });
        query.order_by = None;
    }
}

/// The name of the first table that is read.
fn table_of(from: &TableWithJoins) -> Option<String> {
    match &from.relation {
        TableFactor::Table { name, args: None, .. } => Some(name.0.last()?.as_ident()?.value.to_ascii_lowercase()),
        _ => None,
    }
}

fn has_aggregate(select: &Select) -> bool {
    const AGGREGATES: [&str; 8] = ["count(", "min(", "max(", "sum(", "agg(", "bool_and(", "bool_or(", "every("];
    select.projection.iter().any(|item| {
        let text = item.to_string().to_ascii_lowercase();
        AGGREGATES.iter().any(|name| text.contains(name))
    })
}

/// The right side of `= ANY (…)`: drivers send a list of texts as one text, `{a,b}`, and leave its type to the server.
fn as_list(right: &mut Expr) -> Result<(), String> {
    match right {
        Expr::Value(value) => {
            if let Value::SingleQuotedString(text) = &value.value {
                *right = parameters::list(text, TEXT)?;
            }
        }
        Expr::Nested(inner) => return as_list(inner),
        Expr::Cast { expr, data_type: data_type @ DataType::Varchar(_), .. } if is_null(expr) => {
            *data_type = list_of(DataType::Varchar(None));
        }
        _ => {}
    }
    Ok(())
}

/// The object identifier of texts.
const TEXT: u32 = 25;

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

/// `ARRAY(SELECT …)` of the catalog: what clients gather so, options, members and privileges, does not exist here.
fn is_list_of_nothing(function: &Function) -> bool {
    let is_array =
        function.name.0.last().and_then(ObjectNamePart::as_ident).is_some_and(|name| name.value.eq_ignore_ascii_case("array"));
    let FunctionArguments::Subquery(query) = &function.args else { return false };
    is_array && query.to_string().contains("pg_catalog.")
}

/// `generate_subscripts` of the keys of an index or a constraint, of which there are none here: as many rows as the keys have.
fn unnest_keys(function: &mut Function) {
    let is_named = function.name.0.last().and_then(ObjectNamePart::as_ident);
    if !is_named.is_some_and(|name| name.value.eq_ignore_ascii_case("generate_subscripts")) {
        return;
    }
    let FunctionArguments::List(list) = &mut function.args else { return };
    let is_keys = list.args.first().is_some_and(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(keys)) => {
            let text = keys.to_string().to_ascii_lowercase();
            text.ends_with("indkey") || text.ends_with("conkey") || text.ends_with("confkey")
        }
        _ => false,
    });
    if is_keys {
        list.args.truncate(1);
        function.name = ObjectName(vec![ObjectNamePart::Identifier("unnest".into())]);
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
