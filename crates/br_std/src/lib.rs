//! Words below all words: errors, time, durations, hashes, varints, bounded texts, Go's
//! regular expressions.
//!
//! Everything here is pure and knows nothing of telemetry.

pub mod crc32c;
pub mod duration;
pub mod error;
pub mod hash;
pub mod re2;
pub mod ring;
pub mod text;
pub mod time;
pub mod varint;

pub use error::{Error, Kind, Result};
pub use time::Nanos;
