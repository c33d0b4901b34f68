//! `global` and `scrape_configs` of a Prometheus configuration file, as they are written.

use super::http_config::with_http_keys;
use super::relabel::RelabelConfig;
use super::unsupported::{self, Rest};
use super::values::{ByteSize, PromDuration};
use br_std::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    pub keep_dropped_targets: u64,
    pub query_log_file: Option<String>,
    pub scrape_protocols: Option<Vec<String>>,
    pub metric_name_validation_scheme: Option<String>,
    pub metric_name_escaping_scheme: Option<String>,
    pub scrape_native_histograms: bool,
    pub always_scrape_classic_histograms: bool,
    pub convert_classic_histograms_to_nhcb: bool,
    pub native_histogram_bucket_limit: u64,
    pub native_histogram_min_bucket_factor: f64,
    pub extra_scrape_metrics: bool,
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
            keep_dropped_targets: 0,
            query_log_file: None,
            scrape_protocols: None,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            extra_scrape_metrics: false,
            rest: Rest::new(),
        }
    }
}

with_http_keys! {
    /// One job. Where a key is absent the value of `global` counts.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
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
        #[serde(default = "super::http_config::yes")]
        pub honor_timestamps: bool,
        #[serde(default)]
        pub track_timestamps_staleness: bool,
        #[serde(default = "super::http_config::yes")]
        pub enable_compression: bool,
        #[serde(default)]
        pub static_configs: Vec<StaticConfig>,
        #[serde(default)]
        pub file_sd_configs: Vec<FileSdConfig>,
        #[serde(default)]
        pub http_sd_configs: Vec<HttpSdConfig>,
        #[serde(default)]
        pub dns_sd_configs: Vec<DnsSdConfig>,
        #[serde(default)]
        pub docker_sd_configs: Vec<DockerSdConfig>,
        #[serde(default)]
        pub kubernetes_sd_configs: Vec<KubernetesSdConfig>,
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
        pub keep_dropped_targets: Option<u64>,
        pub scrape_protocols: Option<Vec<String>>,
        pub fallback_scrape_protocol: Option<String>,
        pub metric_name_validation_scheme: Option<String>,
        pub metric_name_escaping_scheme: Option<String>,
        pub scrape_native_histograms: Option<bool>,
        #[serde(alias = "scrape_classic_histograms")]
        pub always_scrape_classic_histograms: Option<bool>,
        pub convert_classic_histograms_to_nhcb: Option<bool>,
        pub native_histogram_bucket_limit: Option<u64>,
        pub native_histogram_min_bucket_factor: Option<f64>,
        pub extra_scrape_metrics: Option<bool>,
        /// Keys that are not acted on.
        #[serde(flatten)]
        pub rest: Rest,
    }
}

fn metrics_path() -> String {
    "/metrics".into()
}

fn scheme() -> String {
    "http".into()
}

impl ScrapeConfig {
    /// Relative paths count from the folder of the file that names them.
    pub fn set_folder(&mut self, folder: &Path) {
        self.set_http_folder(folder);
        let files = self.file_sd_configs.iter_mut().flat_map(|discovery| &mut discovery.files);
        files.for_each(|file| *file = folder.join(&*file).display().to_string());
        self.http_sd_configs.iter_mut().for_each(|discovery| discovery.set_http_folder(folder));
        self.docker_sd_configs.iter_mut().for_each(|discovery| discovery.set_http_folder(folder));
        for discovery in &mut self.kubernetes_sd_configs {
            discovery.set_http_folder(folder);
            super::http_config::set_folder(&mut discovery.kubeconfig_file, folder);
        }
    }
}

/// Targets that share labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticConfig {
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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

fn one_minute() -> PromDuration {
    PromDuration(Duration::from_mins(1))
}

fn half_a_minute() -> PromDuration {
    PromDuration(Duration::from_secs(30))
}

with_http_keys! {
    /// A server that answers with target groups in JSON.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct HttpSdConfig {
        pub url: String,
        #[serde(default = "one_minute")]
        pub refresh_interval: PromDuration,
    }
}

/// Names whose records are targets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSdConfig {
    pub names: Vec<String>,
    /// `SRV`, `A`, `AAAA`, `MX` or `NS`.
    #[serde(rename = "type", default = "srv")]
    pub kind: String,
    /// For records that carry none.
    pub port: Option<u16>,
    #[serde(default = "half_a_minute")]
    pub refresh_interval: PromDuration,
}

fn srv() -> String {
    "SRV".into()
}

with_http_keys! {
    /// Containers of a Docker Engine.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DockerSdConfig {
        /// `unix:///var/run/docker.sock`, `tcp://…`, `http://…` or `https://…`.
        pub host: String,
        /// For containers that expose none.
        #[serde(default = "port_80")]
        pub port: u16,
        /// The address of containers in the network of the host.
        #[serde(default = "localhost")]
        pub host_networking_host: String,
        #[serde(default = "super::http_config::yes")]
        pub match_first_network: bool,
        #[serde(default)]
        pub filters: Vec<DockerFilter>,
        #[serde(default = "one_minute")]
        pub refresh_interval: PromDuration,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerFilter {
    pub name: String,
    pub values: Vec<String>,
}

fn port_80() -> u16 {
    80
}

fn localhost() -> String {
    "localhost".into()
}

with_http_keys! {
    /// Objects of a Kubernetes cluster.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct KubernetesSdConfig {
        /// Absent inside a cluster, whose API is found by its environment.
        pub api_server: Option<String>,
        /// `node`, `pod`, `service`, `endpoints`, `endpointslice` or `ingress`.
        pub role: String,
        pub kubeconfig_file: Option<String>,
        #[serde(default)]
        pub namespaces: Namespaces,
        #[serde(default)]
        pub selectors: Vec<Selector>,
        #[serde(default)]
        pub attach_metadata: AttachMetadata,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Namespaces {
    pub own_namespace: bool,
    pub names: Vec<String>,
}

/// What the API server filters objects of a kind by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    pub role: String,
    pub label: String,
    pub field: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttachMetadata {
    /// Labels of a pod's node.
    pub node: bool,
    /// Labels of an object's namespace.
    pub namespace: bool,
}
