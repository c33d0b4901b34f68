//! How large a statement may be in other ways than by its bytes.
//!
//! A parser's recursion limit stops nested parentheses, not `a OR b OR c …`: that is one level deeper for each operator, and
//! whatever walks the tree, down to its `drop`, takes stack for each level. A few kilobytes of common table expressions that name
//! each other twice become millions of plan nodes. Both are counted here without recursion, the depth before anything is parsed.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Query, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

/// Levels of a statement. [`super::STACK_BYTES`] is enough for these many.
const DEPTH_MAX: usize = 1000;
/// Tables that a statement reads, once its common table expressions are put where they are named.
const TABLES_MAX: usize = 100;
/// Operators and expressions of a plan.
const PLAN_NODES_MAX: usize = 50_000;

fn too_large(what: &str) -> DataFusionError {
    DataFusionError::Plan(what.to_owned())
}

/// Refuses a text whose tree would be too deep. What cannot be read as tokens is left to the parser, which says what is wrong.
pub(super) fn check_depth(sql: &str) -> SqlResult<()> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(()) };
    if depth(&tokens) <= DEPTH_MAX {
        return Ok(());
    }
    Err(too_large(&format!(
        "the statement is nested more than {DEPTH_MAX} levels deep, where each operator of a chain such as a OR b OR c is a level: use IN (…) or regexp_like instead"
    )))
}

/// One level of parentheses: how deep the tree of what stands in it is at the most. Operators that bind tighter stand below those
/// that bind less, and those of one rank below each other.
#[derive(Default)]
struct Level {
    /// Of the parts between commas that are finished.
    deepest: usize,
    /// Set operators and joins, then OR, AND, and all that bind tighter: how many in a row up to here, and the deepest operand.
    links: usize,
    ors: usize,
    ands: usize,
    others: usize,
    below_links: usize,
    below_ors: usize,
    below_ands: usize,
    below_others: usize,
}

impl Level {
    fn end_others(&mut self) {
        self.below_ands = self.below_ands.max(self.others + self.below_others);
        (self.others, self.below_others) = (0, 0);
    }

    fn end_ands(&mut self) {
        self.end_others();
        self.below_ors = self.below_ors.max(self.ands + self.below_ands);
        (self.ands, self.below_ands) = (0, 0);
    }

    fn end_ors(&mut self) {
        self.end_ands();
        self.below_links = self.below_links.max(self.ors + self.below_ors);
        (self.ors, self.below_ors) = (0, 0);
    }

    fn end_part(&mut self) {
        self.end_ors();
        self.deepest = self.deepest.max(self.links + self.below_links);
        (self.links, self.below_links) = (0, 0);
    }
}

/// At least the depth of the tree that a parser would make.
fn depth(tokens: &[Token]) -> usize {
    let mut levels = vec![Level::default()];
    for token in tokens {
        if *token == Token::LParen {
            levels.push(Level::default());
            continue;
        }
        if *token == Token::RParen
            && levels.len() > 1
            && let Some(mut inner) = levels.pop()
            && let Some(outer) = levels.last_mut()
        {
            inner.end_part();
            outer.below_others = outer.below_others.max(inner.deepest + 1);
            continue;
        }
        if let Some(level) = levels.last_mut() {
            count(level, token);
        }
    }
    let mut below = 0;
    while let Some(mut level) = levels.pop() {
        level.below_others = level.below_others.max(below);
        level.end_part();
        below = level.deepest + 1;
    }
    below
}

fn count(level: &mut Level, token: &Token) {
    match token {
        Token::Comma | Token::SemiColon => level.end_part(),
        Token::Word(word) => match word.keyword {
            Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::MINUS
            | Keyword::JOIN
            | Keyword::PIVOT
            | Keyword::UNPIVOT
            | Keyword::EXPLAIN
            | Keyword::DESCRIBE => {
                level.end_ors();
                level.links += 1;
            }
            Keyword::OR | Keyword::XOR => {
                level.end_ands();
                level.ors += 1;
            }
            Keyword::AND => {
                level.end_others();
                level.ands += 1;
            }
            Keyword::IS
            | Keyword::NOT
            | Keyword::NOTNULL
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::BETWEEN
            | Keyword::OVERLAPS
            | Keyword::DIV
            | Keyword::OPERATOR
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::CASE
            | Keyword::INTERVAL => level.others += 1,
            _ => {}
        },
        Token::Whitespace(_)
        | Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::RBracket
        | Token::RBrace
        | Token::EOF => {}
        _ => level.others += 1,
    }
}

/// Refuses a statement that reads more tables than a plan should have.
pub(super) fn check_tables(statement: &Statement) -> SqlResult<()> {
    let mut tables = Tables::default();
    if statement.visit(&mut tables).is_continue() && tables.total <= TABLES_MAX {
        return Ok(());
    }
    Err(too_large(&format!(
        "the statement reads more than {TABLES_MAX} tables, where a common table expression counts as often as it is named"
    )))
}

/// Counts tables, with those behind the names of common table expressions.
#[derive(Default)]
struct Tables {
    queries: Vec<QueryTables>,
    total: usize,
}

#[derive(Default)]
struct QueryTables {
    tables: usize,
    /// Common table expressions whose queries come next, in this order: the visitor sees WITH before the rest.
    coming: VecDeque<String>,
    known: HashMap<String, usize>,
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let names = query.with.iter().flat_map(|with| &with.cte_tables).map(|table| table.alias.name.value.to_lowercase());
        self.queries.push(QueryTables { coming: names.collect(), ..QueryTables::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        let tables = self.queries.pop().map_or(0, |query| query.tables);
        match self.queries.last_mut() {
            None => self.total += tables,
            Some(outer) => match outer.coming.pop_front() {
                Some(name) => drop(outer.known.insert(name, tables)),
                None => outer.tables += tables,
            },
        }
        self.check()
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let behind = match table {
            TableFactor::Table { name, .. } => {
                let name = name.to_string().to_lowercase();
                self.queries.iter().rev().find_map(|query| query.known.get(name.trim_matches('"'))).copied().unwrap_or(0)
            }
            _ => 0,
        };
        if let Some(query) = self.queries.last_mut() {
            query.tables += 1 + behind;
        }
        self.check()
    }
}

impl Tables {
    fn check(&self) -> ControlFlow<()> {
        let is_too_many = self.queries.last().map_or(self.total, |query| query.tables) > TABLES_MAX;
        if is_too_many { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Refuses a plan of too many nodes before it is optimized.
pub(super) fn check_plan(plan: &LogicalPlan) -> SqlResult<()> {
    let mut nodes = 0;
    plan.apply_with_subqueries(|node| {
        nodes += 1;
        node.apply_expressions(|expression| {
            expression.apply(|_| {
                nodes += 1;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if nodes > PLAN_NODES_MAX {
            return Err(too_large(&format!("the statement becomes a plan of more than {PLAN_NODES_MAX} nodes: simplify it")));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth_of(sql: &str) -> usize {
        depth(&Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().expect("tokens"))
    }

    #[test]
    fn chains_count_and_lists_do_not() {
        let or = |terms: usize| (0..terms).map(|at| format!("body='{at}' and n=1")).collect::<Vec<_>>().join(" or ");
        assert!((500..520).contains(&depth_of(&format!("select 1 from logs where {}", or(500)))));
        assert!(depth_of(&format!("select 1 where ({}) and a", or(500))) >= 500);
        assert!(depth_of(&format!("select {} from logs", vec!["a+1"; 5000].join(","))) < 10);
        assert!(depth_of(&format!("select 1{}", "+1".repeat(5000))) >= 5000);
        assert!(depth_of(&format!("select 1{}", " union select 1 where a or b".repeat(5000))) >= 5000);
        assert!(depth_of(&format!("{}select 1", "explain ".repeat(5000))) >= 5000);
        assert!(depth_of(&"(".repeat(5000)) >= 5000);
    }
}
