//! The catalog: which files make up the stores, how far the journal is in them, and all state that must survive: ledger, outbox,
//! error issues, leases, tokens.
//!
//! It is the truth where several parts could disagree. Each call is one transaction that is on stable storage when it returns;
//! calls that a crash can repeat say so and do nothing the second time. Only this crate speaks SQL to a database: SQLite here,
//! and in plain enough SQL that PostgreSQL can follow. Time is passed in.

mod catalog;
mod copy;
mod error;
mod raises;
mod schema;
mod scrub;

pub mod deploys;
pub mod files;
pub mod issues;
pub mod leases;
pub mod ledger;
pub mod outbox;
pub mod state;
pub mod tokens;

pub use catalog::Catalog;
pub use copy::{Rescue, open_or_restore};
pub use deploys::{Deploy, DeployFilter, DeployPlace};
pub use files::{Store, TableChanges};
pub use issues::{ErrorBatch, ErrorOccurrence, Issue, IssueFilter, IssueStatus, RecordedErrors};
pub use leases::Lease;
pub use ledger::{Change, Committed, LedgerEntry, LedgerFilter, NewLedgerEntry};
pub use outbox::{NewOutboxItem, OutboxCounts, OutboxItem, OutboxState};
pub use tokens::Token;
