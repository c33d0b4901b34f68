//! Shorter ways to say something, written out before a statement is planned.

use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Value, visit_expressions_mut,
};
use std::ops::ControlFlow;

/// The column that `attr('key')` reads from.
const ATTRIBUTES: &str = "attributes";

/// `attr('key')` becomes `attr(attributes, 'key')`.
pub(super) fn expand(statement: &mut ParsedStatement) {
    match statement {
        ParsedStatement::Statement(statement) => {
            let _ = visit_expressions_mut(&mut **statement, |expr| {
                if let Expr::Function(function) = expr {
                    name_the_map(function);
                }
                ControlFlow::<()>::Continue(())
            });
        }
        ParsedStatement::Explain(explain) => expand(&mut explain.statement),
        _ => {}
    }
}

fn name_the_map(function: &mut Function) {
    if !function.name.to_string().eq_ignore_ascii_case("attr") {
        return;
    }
    let FunctionArguments::List(arguments) = &mut function.args else { return };
    let is_key = match arguments.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => matches!(value.value, Value::SingleQuotedString(_)),
        _ => false,
    };
    if is_key {
        let map = FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(Ident::new(ATTRIBUTES))));
        arguments.args.insert(0, map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn check(sql: &str, expect: &str) {
        let mut statements = DFParser::parse_sql(sql).expect("valid");
        let mut statement = statements.pop_front().expect("one");
        expand(&mut statement);
        assert_eq!(statement.to_string(), expect);
    }

    #[test]
    fn a_key_alone_is_looked_up_among_the_attributes() {
        check(
            "SELECT count(*) FROM logs WHERE attr('a.b') = '1' GROUP BY attr('c')",
            "SELECT count(*) FROM logs WHERE attr(attributes, 'a.b') = '1' GROUP BY attr(attributes, 'c')",
        );
        check(
            "SELECT * FROM (SELECT lower(ATTR('a')) FROM logs)",
            "SELECT * FROM (SELECT lower(ATTR(attributes, 'a')) FROM logs)",
        );
        check("SELECT attr(resource, 'a'), attr(x), other('a')", "SELECT attr(resource, 'a'), attr(x), other('a')");
    }
}
