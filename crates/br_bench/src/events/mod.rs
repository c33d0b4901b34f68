//! The event engine: logs and spans as OTLP, what they cost, and how long questions about them take.

mod ask;
mod known;
mod load;
mod log_questions;
mod log_records;
mod logs;
mod peers;
mod soak;
mod socket;
mod span_questions;
mod span_records;
mod tail;
mod traces;

pub(crate) use logs::run as logs;
pub(crate) use soak::run as soak;
pub(crate) use tail::run as tail;
pub(crate) use traces::run as traces;

use br_std::Nanos;
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Of `logs`: how much OTLP is sent, in GB; 10 is what the targets are about.
    #[arg(long, default_value_t = 0.5)]
    gb: f64,
    /// Of `traces`: how many, of ten spans each; a million is what the targets are about.
    #[arg(long, default_value_t = 100_000)]
    traces: u64,
    /// Of `logs` and `traces`: over how many hours the data is spread.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=240))]
    hours: u32,
    /// Of `logs` and `traces`: the Python in which to look for DuckDB and chDB.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Of `logs` and `traces`: without the peers.
    #[arg(long)]
    no_peers: bool,
}

const HOUR: Duration = Duration::from_hours(1);

/// The span of time that the data lies in: whole hours, the last of which is over.
#[derive(Clone, Copy, Debug)]
struct Period {
    start: Nanos,
    hours: u32,
}

impl Period {
    fn until(now: Nanos, hours: u32) -> Self {
        Self { start: now.window(HOUR) - HOUR * hours, hours }
    }

    fn end(self) -> Nanos {
        self.start + HOUR * self.hours
    }

    fn nanos(self) -> u64 {
        (HOUR * self.hours).as_nanos() as u64
    }

    /// Where the `number`th of so many lies when they are spread evenly.
    fn place(self, number: u64, of: u64) -> Nanos {
        Nanos(self.start.0 + (u128::from(self.nanos()) * u128::from(number) / u128::from(of.max(1))) as i64)
    }
}
