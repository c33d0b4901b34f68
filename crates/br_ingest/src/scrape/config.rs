//! `scrape_configs` of a Prometheus configuration file.

use super::relabel::{Relabel, RelabelConfig};
use super::unsupported::{self, Rest};
use br_std::{Error, Result, duration};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// A duration in Prometheus' notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromDuration(pub Duration);

impl<'de> Deserialize<'de> for PromDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration::parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A size such as `10MB` or `512KiB`, or a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => {
                parse_size(&text).map(Self).ok_or_else(|| serde::de::Error::custom(format!("not a size: {text:?}")))
            }
        }
    }
}

/// As in Prometheus, `KB`, `MB` and `GB` are powers of 1024 too.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "B" => 0,
        "KB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        _ => return None,
    };
    count.checked_mul(1 << shift)
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct GlobalConfig {
    pub scrape_interval: PromDuration,
    pub scrape_timeout: PromDuration,
    pub evaluation_interval: PromDuration,
    pub rule_query_offset: PromDuration,
    pub external_labels: BTreeMap<String, String>,
    pub body_size_limit: ByteSize,
    pub sample_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub target_limit: u64,
    pub query_log_file: Option<String>,
    pub scrape_protocols: Option<Vec<String>>,
    pub metric_name_validation_scheme: Option<String>,
    /// Keys that are not acted on.
    #[serde(flatten)]
    pub rest: Rest,
}

impl GlobalConfig {
    /// What is not acted on, in words.
    pub fn unsupported(&self) -> Result<Vec<String>> {
        unsupported::of_global(&self.rest).map_err(|error| error.context("global"))
    }
}

impl Default for GlobalConfig {
    fn default() -> Self {
        Self {
            scrape_interval: PromDuration(Duration::from_mins(1)),
            scrape_timeout: PromDuration(Duration::from_secs(10)),
            evaluation_interval: PromDuration(Duration::from_mins(1)),
            rule_query_offset: PromDuration(Duration::ZERO),
            external_labels: BTreeMap::new(),
            body_size_limit: ByteSize(0),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            query_log_file: None,
            scrape_protocols: None,
            metric_name_validation_scheme: None,
            rest: Rest::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub scrape_interval: Option<PromDuration>,
    pub scrape_timeout: Option<PromDuration>,
    #[serde(default = "metrics_path")]
    pub metrics_path: String,
    #[serde(default = "scheme")]
    pub scheme: String,
    #[serde(default)]
    pub params: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub honor_labels: bool,
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    #[serde(default)]
    pub track_timestamps_staleness: bool,
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub bearer_token: Option<String>,
    #[serde(default)]
    pub tls_config: TlsConfig,
    #[serde(default = "yes")]
    pub follow_redirects: bool,
    #[serde(default = "yes")]
    pub enable_http2: bool,
    pub proxy_url: Option<String>,
    #[serde(default)]
    pub static_configs: Vec<TargetGroup>,
    #[serde(default)]
    pub file_sd_configs: Vec<FileSdConfig>,
    #[serde(default)]
    pub relabel_configs: Vec<RelabelConfig>,
    #[serde(default)]
    pub metric_relabel_configs: Vec<RelabelConfig>,
    pub body_size_limit: Option<ByteSize>,
    pub sample_limit: Option<u64>,
    pub label_limit: Option<u64>,
    pub label_name_length_limit: Option<u64>,
    pub label_value_length_limit: Option<u64>,
    pub target_limit: Option<u64>,
    pub scrape_protocols: Option<Vec<String>>,
    pub fallback_scrape_protocol: Option<String>,
    /// Keys that are not acted on.
    #[serde(flatten)]
    pub rest: Rest,
}

fn metrics_path() -> String {
    "/metrics".into()
}

fn scheme() -> String {
    "http".into()
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    pub password: Option<String>,
    pub password_file: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    #[serde(rename = "type", default = "bearer")]
    pub kind: String,
    pub credentials: Option<String>,
    pub credentials_file: Option<String>,
}

fn bearer() -> String {
    "Bearer".into()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    pub ca_file: Option<String>,
    pub insecure_skip_verify: bool,
    pub server_name: Option<String>,
}

/// Targets that share labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetGroup {
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Where the group was read from; not part of the file.
    #[serde(skip)]
    pub source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Paths that end in `.json`, `.yml` or `.yaml`; the last part may hold one `*`.
    pub files: Vec<String>,
    #[serde(default = "five_minutes")]
    pub refresh_interval: PromDuration,
}

fn five_minutes() -> PromDuration {
    PromDuration(Duration::from_mins(5))
}

/// How one job is scraped: the configuration with its defaults filled in and its rules compiled.
#[derive(Clone, Debug)]
pub struct Job {
    pub config: ScrapeConfig,
    pub interval: Duration,
    pub timeout: Duration,
    pub body_bytes_max: usize,
    /// 0 for no limit.
    pub sample_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub target_limit: u64,
    pub relabel: Vec<Relabel>,
    pub metric_relabel: Vec<Relabel>,
    /// What of its configuration is not acted on, in words.
    pub unsupported: Vec<String>,
}

/// A scrape may bring at most this many bytes where the configuration sets no limit of its own.
const BODY_BYTES_MAX: usize = 256 << 20;

impl Job {
    pub fn new(config: ScrapeConfig, global: &GlobalConfig) -> Result<Self> {
        let job = config.job_name.clone();
        let wrong = |what: String| Error::fix_request(format!("scrape_configs: job {job:?}: {what}"));
        let interval = config.scrape_interval.unwrap_or(global.scrape_interval).0;
        let timeout = match config.scrape_timeout {
            Some(timeout) if timeout.0 > interval => return Err(wrong("scrape_timeout is longer than scrape_interval".into())),
            Some(timeout) => timeout.0,
            None => global.scrape_timeout.0.min(interval),
        };
        if interval.is_zero() || timeout.is_zero() {
            return Err(wrong("scrape_interval and scrape_timeout must be above zero".into()));
        }
        if !matches!(config.scheme.as_str(), "http" | "https") {
            return Err(wrong(format!("scheme must be http or https, not {:?}", config.scheme)));
        }
        let body_bytes_max = match config.body_size_limit.unwrap_or(global.body_size_limit).0 {
            0 => BODY_BYTES_MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        Ok(Self {
            interval,
            timeout,
            body_bytes_max,
            sample_limit: config.sample_limit.unwrap_or(global.sample_limit),
            label_limit: config.label_limit.unwrap_or(global.label_limit),
            label_name_length_limit: config.label_name_length_limit.unwrap_or(global.label_name_length_limit),
            label_value_length_limit: config.label_value_length_limit.unwrap_or(global.label_value_length_limit),
            target_limit: config.target_limit.unwrap_or(global.target_limit),
            relabel: Relabel::compile_all(&config.relabel_configs).map_err(|error| wrong(error.to_string()))?,
            metric_relabel: Relabel::compile_all(&config.metric_relabel_configs).map_err(|error| wrong(error.to_string()))?,
            unsupported: unsupported::of_job(&config.rest).map_err(|error| wrong(error.to_string()))?,
            config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_defaults_and_checks() {
        let config = |yaml: &str| serde_norway::from_str::<ScrapeConfig>(yaml).expect("yaml");
        let global = GlobalConfig { scrape_interval: PromDuration(Duration::from_secs(5)), ..GlobalConfig::default() };
        let job = Job::new(config("{job_name: a, body_size_limit: 2MB}"), &global).expect("valid");
        assert_eq!((job.interval.as_secs(), job.timeout.as_secs(), job.body_bytes_max), (5, 5, 2 << 20));
        assert!(Job::new(config("{job_name: a, scrape_timeout: 10s}"), &global).is_err(), "timeout over interval");
        assert!(Job::new(config("{job_name: a, scheme: ftp}"), &global).is_err());
        let unknown = Job::new(config("{job_name: a, no_such_field: 1}"), &global).expect_err("no key of Prometheus either");
        assert_eq!(unknown.to_string(), "scrape_configs: job \"a\": unknown field `no_such_field`");
        let job = Job::new(config("{job_name: a, dns_sd_configs: [{names: [x]}], enable_compression: true}"), &global);
        assert_eq!(job.expect("valid").unsupported.len(), 2, "known to Prometheus: told, not refused");
    }
}
