//! Alerting as it runs: rules evaluated on time, evidence frozen when an alert fires, incidents opened, messages delivered.
//!
//! All decisions are made by the pure crates (`br_rules`, `br_route`, `br_incident`); this shell gives them time and data and
//! commits what they decide. A change of state, its ledger entries and the messages that follow go into one transaction.

mod delivery;
mod engine;
mod evidence;
mod journal;
mod runtime;
mod views;

pub use delivery::{DeliveryWorker, deliver_due};
pub use engine::{AlertEngine, EngineOptions};
pub use evidence::{Evidence, EvidenceSources};
pub use views::{AlertView, GroupView, RuleHealth, RuleView};

use br_model::{MetricBatch, TenantId};
use br_rules::ResultSample;
use br_std::{Nanos, Result};

/// Evaluates expressions. Calls may read from disk: the engine makes them on the pool for blocking work.
pub trait Evaluator: Send + Sync {
    /// What is wrong with an expression, without evaluating it.
    fn check(&self, expression: &str) -> Result<(), String>;

    /// The instant vector at `at`; a scalar is one sample without labels.
    fn instant(&self, tenant: TenantId, expression: &str, at: Nanos) -> Result<Vec<ResultSample>>;
}

/// Takes in the samples that rules write.
#[async_trait::async_trait]
pub trait SampleWriter: Send + Sync {
    async fn write(&self, tenant: TenantId, batch: MetricBatch) -> Result<()>;
}
