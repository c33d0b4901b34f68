//! One job with what `global` says filled in and its rules compiled.

use super::client::{ClientOptions, HttpClient};
use super::config::{GlobalConfig, ScrapeConfig};
use super::discovery;
use super::relabel::Relabel;
use super::unsupported;
use br_std::{Error, Result};
use br_wire::exposition::{Format, Protocol};
use std::sync::Arc;
use std::time::Duration;

/// How one job is scraped.
#[derive(Clone)]
pub struct Job {
    pub config: ScrapeConfig,
    pub settings: Settings,
    pub relabel: Vec<Relabel>,
    pub metric_relabel: Vec<Relabel>,
    /// What of its configuration is not acted on, in words.
    pub unsupported: Vec<String>,
    pub(super) client: Arc<HttpClient>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({:?})", self.name())
    }
}

/// What a job has of its own or from `global`. A limit of 0 is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub interval: Duration,
    pub timeout: Duration,
    pub body_bytes_max: usize,
    pub sample_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub target_limit: u64,
    pub keep_dropped_targets: u64,
    /// The `Accept` header.
    pub accept: String,
    /// For answers whose content type says nothing.
    pub fallback: Option<Format>,
    /// Whether names must be those that Prometheus 2 knew.
    pub is_legacy_names: bool,
    pub native_histograms: bool,
    pub classic_histograms_too: bool,
    pub convert_classic_histograms: bool,
    pub bucket_limit: u64,
    pub bucket_factor_min: f64,
    pub extra_metrics: bool,
}

/// A scrape may bring at most this many bytes, in the clear, where the configuration sets no limit of its own.
const BODY_BYTES_MAX: usize = 64 << 20;

impl Job {
    pub fn new(config: ScrapeConfig, global: &GlobalConfig) -> Result<Self> {
        let job = config.job_name.clone();
        let wrong = |error: Error| error.context(format!("scrape_configs: job {job:?}"));
        if job.is_empty() {
            return Err(Error::fix_request("scrape_configs: a job without a name"));
        }
        let unsupported = unsupported::of_job(&config.rest).map_err(wrong)?;
        let settings = Settings::new(&config, global).map_err(wrong)?;
        if !matches!(config.scheme.as_str(), "http" | "https") {
            return Err(wrong(Error::fix_request(format!("scheme must be http or https, not {:?}", config.scheme))));
        }
        // What comes packed is unpacked where it is read, within the limits of that.
        let options = ClientOptions { gzip: false, unix_socket: None };
        let client = Arc::new(HttpClient::new(config.http(), options).map_err(wrong)?);
        discovery::check(&config).map_err(wrong)?;
        Ok(Self {
            settings,
            relabel: Relabel::compile_all(&config.relabel_configs).map_err(wrong)?,
            metric_relabel: Relabel::compile_all(&config.metric_relabel_configs).map_err(wrong)?,
            unsupported,
            client,
            config,
        })
    }

    pub fn name(&self) -> &str {
        &self.config.job_name
    }

    /// Whether both would do the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.config == other.config && self.settings == other.settings
    }
}

impl Settings {
    fn new(config: &ScrapeConfig, global: &GlobalConfig) -> Result<Self> {
        let (interval, timeout) = times(config, global)?;
        let is_legacy_names = is_legacy_names(config, global)?;
        let native_histograms = config.scrape_native_histograms.unwrap_or(global.scrape_native_histograms);
        let protocols = config.scrape_protocols.as_ref().or(global.scrape_protocols.as_ref());
        let protocols = protocols.map_or_else(|| Ok(Protocol::usual(native_histograms)), |names| protocols_of(names))?;
        let escaping = escaping(config, global, is_legacy_names)?;
        let fallback = config.fallback_scrape_protocol.as_deref().map(protocol).transpose()?;
        Ok(Self {
            interval,
            timeout,
            body_bytes_max: match config.body_size_limit.unwrap_or(global.body_size_limit).0 {
                0 => BODY_BYTES_MAX,
                bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
            },
            sample_limit: config.sample_limit.unwrap_or(global.sample_limit),
            label_limit: config.label_limit.unwrap_or(global.label_limit),
            label_name_length_limit: config.label_name_length_limit.unwrap_or(global.label_name_length_limit),
            label_value_length_limit: config.label_value_length_limit.unwrap_or(global.label_value_length_limit),
            target_limit: config.target_limit.unwrap_or(global.target_limit),
            keep_dropped_targets: config.keep_dropped_targets.unwrap_or(global.keep_dropped_targets),
            accept: Protocol::accept(&protocols, escaping),
            fallback: fallback.map(Protocol::format),
            is_legacy_names,
            native_histograms,
            classic_histograms_too: config.always_scrape_classic_histograms.unwrap_or(global.always_scrape_classic_histograms),
            convert_classic_histograms: config
                .convert_classic_histograms_to_nhcb
                .unwrap_or(global.convert_classic_histograms_to_nhcb),
            bucket_limit: config.native_histogram_bucket_limit.unwrap_or(global.native_histogram_bucket_limit),
            bucket_factor_min: config.native_histogram_min_bucket_factor.unwrap_or(global.native_histogram_min_bucket_factor),
            extra_metrics: config.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics),
        })
    }
}

fn times(config: &ScrapeConfig, global: &GlobalConfig) -> Result<(Duration, Duration)> {
    let interval = config.scrape_interval.unwrap_or(global.scrape_interval).0;
    let timeout = match config.scrape_timeout {
        Some(timeout) if timeout.0 > interval => return Err(Error::fix_request("scrape_timeout is longer than scrape_interval")),
        Some(timeout) => timeout.0,
        None => global.scrape_timeout.0.min(interval),
    };
    if interval.is_zero() || timeout.is_zero() {
        return Err(Error::fix_request("scrape_interval and scrape_timeout must be above zero"));
    }
    Ok((interval, timeout))
}

fn is_legacy_names(config: &ScrapeConfig, global: &GlobalConfig) -> Result<bool> {
    let scheme = config.metric_name_validation_scheme.as_ref().or(global.metric_name_validation_scheme.as_ref());
    match scheme.map_or("", String::as_str) {
        "" | "utf8" => Ok(false),
        "legacy" => Ok(true),
        other => Err(Error::fix_request(format!("metric_name_validation_scheme must be utf8 or legacy, not {other:?}"))),
    }
}

fn escaping(config: &ScrapeConfig, global: &GlobalConfig, is_legacy_names: bool) -> Result<&'static str> {
    let scheme = config.metric_name_escaping_scheme.as_ref().or(global.metric_name_escaping_scheme.as_ref());
    match scheme.map_or("", String::as_str) {
        "" if is_legacy_names => Ok("underscores"),
        "allow-utf-8" if is_legacy_names => {
            Err(Error::fix_request("metric_name_escaping_scheme allow-utf-8 needs metric_name_validation_scheme utf8"))
        }
        "" | "allow-utf-8" => Ok("allow-utf-8"),
        "underscores" => Ok("underscores"),
        "dots" => Ok("dots"),
        "values" => Ok("values"),
        other => Err(Error::fix_request(format!(
            "metric_name_escaping_scheme must be one of allow-utf-8, underscores, dots, values, not {other:?}"
        ))),
    }
}

fn protocols_of(names: &[String]) -> Result<Vec<Protocol>> {
    let mut protocols = Vec::new();
    for name in names {
        let one = protocol(name)?;
        if protocols.contains(&one) {
            return Err(Error::fix_request(format!("scrape_protocols: {name} stands there twice")));
        }
        protocols.push(one);
    }
    if protocols.is_empty() {
        return Err(Error::fix_request("scrape_protocols must not be empty"));
    }
    Ok(protocols)
}

fn protocol(name: &str) -> Result<Protocol> {
    let known = Protocol::ALL.map(Protocol::name).join(", ");
    Protocol::from_name(name).ok_or_else(|| Error::fix_request(format!("unknown scrape protocol {name:?}; there are {known}")))
}

#[cfg(test)]
mod tests {
    use super::super::values::PromDuration;
    use super::*;

    #[test]
    fn fills_in_defaults_and_checks() {
        let config = |yaml: &str| serde_norway::from_str::<ScrapeConfig>(yaml).expect("yaml");
        let global = GlobalConfig { scrape_interval: PromDuration(Duration::from_secs(5)), ..GlobalConfig::default() };
        let settings = Job::new(config("{job_name: a, body_size_limit: 2MB}"), &global).expect("valid").settings;
        assert_eq!((settings.interval.as_secs(), settings.timeout.as_secs(), settings.body_bytes_max), (5, 5, 2 << 20));
        assert!(settings.accept.starts_with("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"));
        for (yaml, expect) in [
            ("scrape_timeout: 10s", "scrape_timeout is longer than scrape_interval"),
            ("scheme: ftp", "scheme must be http or https, not \"ftp\""),
            ("no_such_field: 1", "unknown field `no_such_field`"),
            ("scrape_protocols: [Telnet]", "unknown scrape protocol \"Telnet\""),
            ("metric_name_validation_scheme: latin", "must be utf8 or legacy"),
            ("metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8", "needs metric_name_validation"),
            ("dns_sd_configs: [{names: [x], type: A}]", "dns_sd_configs: a port is needed"),
            ("kubernetes_sd_configs: [{role: pods}]", "kubernetes_sd_configs: role"),
        ] {
            let yaml = format!("{{job_name: a, {yaml}}}");
            let error = Job::new(config(&yaml), &global).expect_err(&yaml).to_string();
            assert!(error.starts_with("scrape_configs: job \"a\": ") && error.contains(expect), "{yaml}: {error}");
        }
        let job = Job::new(config("{job_name: a, consul_sd_configs: [{}], sample_age_limit: 1m}"), &global);
        assert_eq!(job.expect("valid").unsupported.len(), 2, "known to Prometheus: told, not refused");
    }
}
