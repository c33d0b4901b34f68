//! Answers queries from a [`br_storage::LogSource`].

mod aggregate;
mod binary;
mod log;
mod metric;
mod range;
mod window;

pub use log::{LogEntry, LogOptions, LogResult, LogStream, query_log};
pub use metric::{MetricValue, Series, query_instant, query_range};

/// What a query read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub lines_processed: u64,
    pub bytes_processed: u64,
    /// Lines that no filter dropped.
    pub lines_kept: u64,
}

impl Stats {
    fn seen(&mut self, rows: &[br_storage::LogRow]) {
        self.lines_processed += rows.len() as u64;
        self.bytes_processed += rows.iter().map(|row| row.line.len() as u64).sum::<u64>();
    }
}
