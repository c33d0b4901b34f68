//! Conditions of rules in PromQL, over this server's metrics.

use crate::sources::StoreSources;
use br_jobs::alerts::{Curve, CurveQuery, Evaluator, GroupEvaluator};
use br_model::{Labels, TenantId};
use br_promql::{BinaryOp, CommonParts, Engine, Expr, ExprKind, Link, Point, Series, SharedValues, Value};
use br_query::door::Sources;
use br_rules::{ResultSample, Rule, RuleKind};
use br_std::{Error, Nanos, Result};
use br_storage::Budget;
use parking_lot::RwLock;
use std::sync::Arc;

pub(crate) struct PromqlEvaluator {
    pub(crate) engine: Engine,
    pub(crate) sources: Arc<StoreSources>,
}

impl Evaluator for PromqlEvaluator {
    fn check(&self, expression: &str) -> Result<(), String> {
        let expr = br_promql::parse(expression).map_err(|errors| errors.to_string())?;
        self.engine.check(&expr).map_err(|error| error.to_string())
    }

    fn instant(&self, tenant: TenantId, expression: &str, at: Nanos, budget: &Budget) -> Result<Vec<ResultSample>> {
        let expr = parse(expression)?;
        let output = self.engine.instant(&*self.sources.metrics(tenant), &expr, at.as_millis(), budget)?;
        br_promrules::results(output)
    }

    fn group(self: Arc<Self>, tenant: TenantId, rules: &[&Rule]) -> Arc<dyn GroupEvaluator> {
        let expressions: Vec<Result<Expr>> = rules.iter().map(|rule| parse(&rule.expression)).collect();
        let written: Vec<&str> = rules.iter().flat_map(|rule| written(rule)).collect();
        let common = CommonParts::of(expressions.iter().flatten(), &written);
        let (engine, sources) = (self.engine.clone(), self.sources.clone());
        Arc::new(PromqlGroup { engine, sources, tenant, expressions, common, values: RwLock::default() })
    }

    fn curve(&self, wanted: &CurveQuery<'_>, budget: &Budget) -> Result<Curve> {
        let expr = parse(wanted.expression)?;
        let (compared, threshold) = compared(&expr);
        let text = wanted.expression.get(compared.span.start as usize..compared.span.end as usize);
        let query = text.unwrap_or(wanted.expression).trim().to_owned();
        let (from, to, step) = (wanted.from.as_millis(), wanted.to.as_millis(), wanted.step.as_millis() as i64);
        let output = self.engine.range(&*self.sources.metrics(wanted.tenant), &compared, from, to, step, budget)?;
        let Value::Matrix(series) = output.value else {
            return Err(Error::fix_request("the rule's expression has no curve"));
        };
        let points = series_of(series, wanted.labels).map_or_else(Vec::new, floats);
        Ok(Curve { query, threshold, points })
    }
}

/// The expressions of one group's rules.
struct PromqlGroup {
    engine: Engine,
    sources: Arc<StoreSources>,
    tenant: TenantId,
    expressions: Vec<Result<Expr>>,
    common: CommonParts,
    values: RwLock<Arc<SharedValues>>,
}

impl GroupEvaluator for PromqlGroup {
    fn begin(&self) {
        *self.values.write() = Arc::default();
    }

    fn instant(&self, rule: usize, at: Nanos, budget: &Budget) -> Result<Vec<ResultSample>> {
        let expr = match self.expressions.get(rule) {
            Some(Ok(expr)) => expr,
            Some(Err(error)) => return Err(Error::new(error.kind(), error.message())),
            None => return Err(Error::not_found(format!("the group has no rule {rule}"))),
        };
        let (source, values) = (self.sources.metrics(self.tenant), self.values.read().clone());
        let output = self.engine.instant_of_many(&*source, expr, at.as_millis(), budget, &self.common, &values)?;
        br_promrules::results(output)
    }
}

/// The metrics that a rule writes, in its own group and between its neighbours.
fn written(rule: &Rule) -> Vec<&str> {
    match &rule.kind {
        RuleKind::Recording { record } => vec![record],
        RuleKind::Alerting { .. } => vec!["ALERTS", "ALERTS_FOR_STATE"],
    }
}

fn parse(expression: &str) -> Result<Expr> {
    br_promql::parse(expression).map_err(|errors| Error::fix_request(errors.to_string()))
}

/// What a condition compares with a number, and the number; the condition itself where it has another form.
/// Of `a > 1 and b` it is `a`, whose values the alert has.
fn compared(expr: &Expr) -> (Expr, Option<f64>) {
    let (links, end) = match &expr.kind {
        ExprKind::Paren(inner) => return compared(inner),
        ExprKind::Binary { links, .. } => {
            let restricts = |link: &Link| matches!(link.op, BinaryOp::And | BinaryOp::Unless);
            (links, links.iter().rposition(|link| !restricts(link)).map_or(0, |last| last + 1))
        }
        _ => return (expr.clone(), None),
    };
    let Some(last) = end.checked_sub(1) else { return compared(&expr.up_to(0)) };
    let Link { op, return_bool, rhs, .. } = &links[last];
    let lhs = expr.up_to(last);
    match (number(&lhs), number(rhs)) {
        (None, Some(value)) if op.is_comparison() && !return_bool => (lhs, Some(value)),
        (Some(value), None) if op.is_comparison() && !return_bool => (rhs.clone(), Some(value)),
        _ => (expr.up_to(end), None),
    }
}

fn number(expr: &Expr) -> Option<f64> {
    match &expr.kind {
        ExprKind::Number { value, .. } => Some(*value),
        ExprKind::Paren(inner) => number(inner),
        ExprKind::Unary { negative, expr } => number(expr).map(|value| if *negative { -value } else { value }),
        _ => None,
    }
}

/// The series that the alert came from. A rule's own labels may have covered some of the series': the one that differs least,
/// when it is the only one of its kind.
fn series_of(series: Vec<Series>, alert: &Labels) -> Option<Series> {
    let differences = |series: &Series| {
        let labels = series.labels.without_metric_name();
        labels.iter().filter(|(name, value)| alert.get(name) != Some(value)).count()
    };
    let least = series.iter().map(differences).min()?;
    let mut nearest = series.into_iter().filter(|series| differences(series) == least);
    nearest.next().filter(|_| nearest.next().is_none())
}

fn floats(series: Series) -> Vec<(Nanos, f64)> {
    let points = series.points.into_iter().filter_map(|(at_ms, point)| match point {
        Point::Float(value) => Some((Nanos::from_millis(at_ms), value)),
        Point::Histogram(_) => None,
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_split_at_its_number() {
        let check = |text: &str, query: &str, threshold: Option<f64>| {
            let expr = parse(text).expect("good PromQL");
            let (side, number) = compared(&expr);
            assert_eq!((&text[side.span.start as usize..side.span.end as usize], number), (query, threshold), "{text}");
        };
        check("a / b > 0.2", "a / b", Some(0.2));
        check("-5 >= (a)", "(a)", Some(-5.0));
        check("((up == 0))", "up", Some(0.0));
        check("a > 1 and on () b > 2", "a", Some(1.0));
        check("a > b", "a > b", None);
        check("a > bool 1", "a > bool 1", None);
        check("absent(up)", "absent(up)", None);
    }

    #[test]
    fn a_curve_is_of_the_alert_s_own_series() {
        let series = |path: &str, job: &str| Series {
            labels: Labels::from_pairs([("__name__", "m"), ("job", job), ("path", path)]),
            points: vec![(1, Point::Float(2.0))],
        };
        let check = |all: Vec<Series>, expect: Option<&str>| {
            let alert = Labels::from_pairs([("alertname", "A"), ("path", "/x"), ("job", "covered")]);
            let found = series_of(all, &alert);
            assert_eq!(found.as_ref().and_then(|series| series.labels.get("path")), expect);
        };
        check(vec![series("/x", "j"), series("/y", "j")], Some("/x"));
        check(vec![series("/x", "j"), series("/x", "k")], None);
        check(vec![], None);
    }
}
