//! Scraping: which targets there are, what they answer, and what has gone.

mod client;
mod config;
mod discovery;
mod histograms;
mod http_config;
mod job;
mod known;
mod manager;
mod relabel;
mod room;
mod scraper;
mod targets;
mod tls;
mod unsupported;
mod values;

pub use config::{FileSdConfig, GlobalConfig, ScrapeConfig, StaticConfig};
pub use discovery::{DiscoveryStatus, expand_pattern};
pub use http_config::HttpConfig;
pub use job::{Job, Settings};
pub use manager::{DroppedTargets, RelabelStep, ScrapeManager, TargetStatus};
pub use relabel::{Relabel, RelabelConfig, relabel};
pub use scraper::{ReadLimits, TargetHealth};
pub use targets::{Target, TargetGroup};
pub use unsupported::Rest;
pub use values::{ByteSize, PromDuration, Secret};
