//! Routing and the outbox: who hears of an alert, and when to try again, as pure steps.
//!
//! Time and jitter are passed in. What this crate decides is committed together with the change of state that caused it, so a
//! crash loses no message; a dedup key keeps one from going out twice.

pub mod channel;
pub mod delivery;
pub mod group;
pub mod webhook;

pub use channel::{Channel, ChannelKind, Webhook};
pub use delivery::{Attempt, Decision, RetryPolicy, decide, retry_after};
pub use group::{AlertRecord, Flush, GroupKey, GroupTimes, Groups};
pub use webhook::{Message, MessageAlert, payload};
