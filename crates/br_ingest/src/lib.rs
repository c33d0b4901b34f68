//! Receivers: OTLP, remote write, Loki, Sentry and scraping, through the journal into the stores.
//!
//! [`intake::Intake`] is the one way in. A request is decoded, journaled and synced, and only then acknowledged; the stores' lanes
//! apply it in the order of the journal.

pub mod appliers;
pub mod decode;
pub mod decoded;
mod delta;
mod deploys;
pub mod erasure;
pub mod files;
pub mod grpc;
pub mod intake;
pub mod lane;
pub mod redaction;
mod room;
pub mod scrape;
pub mod sink;
mod span_metrics;
pub mod syslog;
pub mod tail;
pub mod times;
mod tracebacks;

pub use br_tsdb::{Deletion, Foreseen};
pub use intake::{Incoming, Intake, Receipt};
