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
    /// Of the lines that had to be read: to count lines, none is.
    pub bytes_processed: u64,
    /// Lines that no filter dropped.
    pub lines_kept: u64,
}

impl Stats {
    fn add(&mut self, seen: br_storage::LinesSeen) {
        self.lines_processed += seen.lines;
        self.bytes_processed += seen.bytes;
    }
}
