//! Incidents as a fold over the ledger.
//!
//! A fact says what happened; an incident is what the facts about it add up to. The fold may see facts twice and in any order.
//! Nothing ends by itself: when all alerts have resolved the incident is stable, and a person closes it.

pub mod fact;
pub mod incident;

pub use fact::{Fact, FactKind, correlation_key};
pub use incident::{Incident, IncidentState, LinkedAlert, TimelineEntry};
