//! Alerting as it runs: rules evaluated on time, evidence frozen when an alert fires, incidents opened, messages delivered.
//!
//! All decisions are made by the pure crates (`br_rules`, `br_route`, `br_incident`); this shell gives them time and data and
//! commits what they decide. A change of state, its ledger entries and the messages that follow go into one transaction.

mod cause;
mod delivery;
mod engine;
mod evaluation;
mod evidence;
mod gather;
mod journal;
mod runtime;
mod views;

pub use delivery::{DeliveryWorker, deliver_due};
pub use engine::{AlertEngine, EngineOptions};
pub use evidence::{Evidence, EvidenceSources};
pub use views::{AlertView, GroupView, RuleHealth, RuleView};

use br_model::{Labels, MetricBatch, TenantId};
use br_rules::{ResultSample, Rule};
use br_std::{Nanos, Result};
use br_storage::Budget;
use std::sync::Arc;
use std::time::Duration;

/// Evaluates expressions. Calls may read from disk: the engine makes them on the pool for blocking work.
pub trait Evaluator: Send + Sync {
    /// What is wrong with an expression, without evaluating it.
    fn check(&self, expression: &str) -> Result<(), String>;

    /// The instant vector at `at`; a scalar is one sample without labels.
    fn instant(&self, tenant: TenantId, expression: &str, at: Nanos, budget: &Budget) -> Result<Vec<ResultSample>>;

    /// The expressions of a group's rules, read together.
    fn group(self: Arc<Self>, tenant: TenantId, rules: &[&Rule]) -> Arc<dyn GroupEvaluator>;

    /// The values around the time when an alert fired, also those that the rule's comparison leaves out.
    fn curve(&self, wanted: &CurveQuery<'_>, budget: &Budget) -> Result<Curve>;
}

/// Evaluates the rules of one group, which may have parts in common.
pub trait GroupEvaluator: Send + Sync {
    /// Evaluates all rules anew from now on.
    fn begin(&self);

    /// What [`Evaluator::instant`] gives for the rule at this place.
    fn instant(&self, rule: usize, at: Nanos, budget: &Budget) -> Result<Vec<ResultSample>>;
}

/// The curve of one alert: `from` and `to` are included.
#[derive(Clone, Copy, Debug)]
pub struct CurveQuery<'a> {
    pub tenant: TenantId,
    pub expression: &'a str,
    /// The alert's: they tell its series from the others of the rule.
    pub labels: &'a Labels,
    pub from: Nanos,
    pub to: Nanos,
    pub step: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// The expression without the comparison with `threshold`.
    pub query: String,
    pub threshold: Option<f64>,
    /// By time; empty where no series is certainly the alert's.
    pub points: Vec<(Nanos, f64)>,
}

/// Takes in the samples that rules write.
#[async_trait::async_trait]
pub trait SampleWriter: Send + Sync {
    async fn write(&self, tenant: TenantId, batch: MetricBatch) -> Result<()>;
}
