//! Scraping: which targets there are, what they answer, and what has gone.

mod config;
mod discovery;
mod manager;
mod relabel;
mod target;
mod unsupported;

pub use config::{ByteSize, FileSdConfig, GlobalConfig, Job, PromDuration, ScrapeConfig, TargetGroup};
pub use discovery::{Target, expand_pattern};
pub use manager::{ScrapeManager, TargetStatus};
pub use relabel::{Relabel, RelabelConfig, relabel};
pub use target::TargetHealth;
pub use unsupported::Rest;
