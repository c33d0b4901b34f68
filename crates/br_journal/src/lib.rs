//! The journal: the only thing between accepting and storing.
//!
//! A record is a request body as it was received. Its ticket completes when the record is on stable storage, and only then may
//! the sender hear a 2xx. Stores are derived state: after a crash they replay the journal from the position that they have in
//! files. Byte layout: `docs/format/journal.md`.
//!
//! ```text
//! append ──► Queue (bounded, gives positions) ──► Writer (one thread: write, fdatasync) ──► Ticket completes
//!                                                    └── segments ◄── Replay (the only reader)
//! ```

pub mod record;
pub mod ticket;

mod format;
mod journal;
mod options;
mod queue;
mod recovery;
mod replay;
mod segment;
mod shared;
mod space;
mod status;
mod writer;

pub use journal::Journal;
pub use options::Options;
pub use record::{Protocol, Record};
pub use recovery::Recovery;
pub use replay::Replay;
pub use status::{Quarantined, State, Status};
pub use ticket::Ticket;
pub use writer::{Step, Writer};
