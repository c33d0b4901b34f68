//! Containers of a Docker Engine, by its API.
//!
//! Sources: Docker Engine API (`/containers/json`, `/networks`), Prometheus' documentation of `docker_sd_config`.

use super::{Found, Source, TargetGroup, host_port, label_name};
use crate::scrape::client::{ClientOptions, HttpClient, body};
use crate::scrape::config::DockerSdConfig;
use br_std::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// An answer may have so many bytes.
const BODY_BYTES_MAX: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Containers that borrow the network of one that borrows it from another, and so on.
const BORROWS_MAX: usize = 16;

pub(super) fn check(config: &DockerSdConfig) -> Result<()> {
    Docker::new(config).map(drop)
}

/// Where the engine listens: the address that requests are made to, and a socket.
fn place(config: &DockerSdConfig) -> Result<(String, Option<PathBuf>)> {
    let host = &config.host;
    let has_tls = config.tls_config != crate::scrape::http_config::TlsConfig::default();
    match host.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(("http://docker".into(), Some(PathBuf::from(path)))),
        Some(("tcp", rest)) if !rest.is_empty() && has_tls => Ok((format!("https://{rest}"), None)),
        Some(("tcp", rest)) if !rest.is_empty() => Ok((format!("http://{rest}"), None)),
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok((host.clone(), None)),
        _ => Err(Error::fix_request(format!("host {host:?} must be unix:///PATH, tcp://HOST:PORT, http://… or https://…"))),
    }
}

pub(super) struct Docker {
    client: HttpClient,
    base: String,
    config: DockerSdConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(rename = "IPAddress")]
    address: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    #[serde(rename = "IP")]
    public_address: String,
    #[serde(rename = "PrivatePort")]
    private: u16,
    #[serde(rename = "PublicPort")]
    public: u16,
    #[serde(rename = "Type")]
    protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    ingress: bool,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

type Target = BTreeMap<String, String>;

impl Docker {
    pub(super) fn new(config: &DockerSdConfig) -> Result<Self> {
        let (base, unix_socket) = place(config)?;
        let client = HttpClient::new(config.http(), ClientOptions { gzip: true, unix_socket })?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), config: config.clone() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.client.get(&format!("{}{path}", self.base)).await?.timeout(TIMEOUT);
        let response = request.send().await.map_err(|error| Error::retry(self.client.reason(&error, &self.base)))?;
        let status = response.status();
        let body = body(response, BODY_BYTES_MAX).await?;
        let body = body.ok_or_else(|| Error::over_limit(format!("{path}: the answer has more than {BODY_BYTES_MAX} bytes")))?;
        if !status.is_success() {
            return Err(Error::retry(format!("{path}: {status}: {:.200}", String::from_utf8_lossy(&body).trim())));
        }
        serde_json::from_slice(&body).map_err(|error| Error::retry(format!("{path}: {error}")))
    }

    fn containers_path(&self) -> String {
        if self.config.filters.is_empty() {
            return "/containers/json".into();
        }
        let mut filters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for filter in &self.config.filters {
            filters.entry(&filter.name).or_default().extend(filter.values.iter().map(String::as_str));
        }
        let filters = serde_json::json!(filters).to_string();
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("filters", &filters).finish();
        format!("/containers/json?{query}")
    }
}

impl Source for Docker {
    async fn look(&mut self) -> Result<Found> {
        let containers: Vec<Container> = self.get(&self.containers_path()).await?;
        let networks: Vec<Network> = self.get("/networks").await?;
        let targets = targets(&self.config, &containers, &networks);
        Ok(vec![TargetGroup { targets, labels: BTreeMap::new() }].into())
    }

    fn interval(&self) -> Duration {
        self.config.refresh_interval.0
    }
}

/// One target for each TCP port that a container exposes in each of its networks, or one with the configured port.
fn targets(config: &DockerSdConfig, containers: &[Container], networks: &[Network]) -> Vec<Target> {
    let networks: BTreeMap<&str, Target> =
        networks.iter().map(|network| (network.id.as_str(), network_labels(network))).collect();
    let mut targets = Vec::new();
    for container in containers {
        let Some(common) = container_labels(container) else { continue };
        let Some(joined) = networks_of(container, containers) else { continue };
        let count = if config.match_first_network { 1 } else { joined.len() };
        for endpoint in joined.values().take(count) {
            let mut shared = common.clone();
            shared.extend(networks.get(endpoint.network.as_str()).cloned().unwrap_or_default());
            shared.insert("__meta_docker_network_ip".into(), endpoint.address.clone());
            let ports = container.ports.iter().flatten().filter(|port| port.protocol == "tcp");
            let before = targets.len();
            targets.extend(ports.map(|port| exposed(&shared, endpoint, port)));
            if targets.len() == before {
                let is_on_host = container.host_config.network_mode == "host";
                let of_host = || config.host_networking_host.clone();
                let address = if is_on_host { of_host() } else { host_port(&endpoint.address, config.port) };
                shared.insert("__address__".into(), address);
                targets.push(shared);
            }
        }
    }
    targets
}

fn exposed(shared: &Target, endpoint: &Endpoint, port: &Port) -> Target {
    let mut labels = shared.clone();
    labels.insert("__meta_docker_port_private".into(), port.private.to_string());
    if port.public > 0 {
        labels.insert("__meta_docker_port_public".into(), port.public.to_string());
        labels.insert("__meta_docker_port_public_ip".into(), port.public_address.clone());
    }
    labels.insert("__address__".into(), host_port(&endpoint.address, port.private));
    labels
}

/// `None` for a container that has no name yet.
fn container_labels(container: &Container) -> Option<Target> {
    let name = container.names.iter().flatten().next()?;
    let mut labels = BTreeMap::from([
        ("__meta_docker_container_id".to_owned(), container.id.clone()),
        ("__meta_docker_container_name".to_owned(), name.clone()),
        ("__meta_docker_container_network_mode".to_owned(), container.host_config.network_mode.clone()),
    ]);
    for (name, value) in container.labels.iter().flatten() {
        labels.insert(label_name("__meta_docker_container_label_", name), value.clone());
    }
    Some(labels)
}

fn network_labels(network: &Network) -> Target {
    let mut labels = BTreeMap::from([
        ("__meta_docker_network_id".to_owned(), network.id.clone()),
        ("__meta_docker_network_name".to_owned(), network.name.clone()),
        ("__meta_docker_network_scope".to_owned(), network.scope.clone()),
        ("__meta_docker_network_internal".to_owned(), network.internal.to_string()),
        ("__meta_docker_network_ingress".to_owned(), network.ingress.to_string()),
    ]);
    for (name, value) in network.labels.iter().flatten() {
        labels.insert(label_name("__meta_docker_network_label_", name), value.clone());
    }
    labels
}

/// The networks of a container, or those of the container whose network it shares.
fn networks_of<'a>(container: &'a Container, all: &'a [Container]) -> Option<&'a BTreeMap<String, Endpoint>> {
    let mut at = container;
    for _ in 0..BORROWS_MAX {
        if let Some(networks) = at.network_settings.networks.as_ref().filter(|networks| !networks.is_empty()) {
            return Some(networks);
        }
        let lender = at.host_config.network_mode.strip_prefix("container:")?;
        at = all.iter().find(|other| other.id == lender)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> DockerSdConfig {
        serde_norway::from_str(yaml).expect(yaml)
    }

    #[test]
    fn networks_ports_and_borrowed_networks() {
        let containers: Vec<Container> = serde_json::from_str(
            r#"[
              {"Id": "a", "Names": ["/web"], "Labels": {"com.shop/tier": "front"}, "HostConfig": {"NetworkMode": "shop"},
               "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
               "NetworkSettings": {"Networks": {"a": {"NetworkID": "n1", "IPAddress": "10.0.0.2"},
                                                "b": {"NetworkID": "n2", "IPAddress": "fd00::2"}}}},
              {"Id": "b", "Names": ["/sidecar"], "Labels": null, "HostConfig": {"NetworkMode": "container:a"},
               "NetworkSettings": {"Networks": {}}},
              {"Id": "c", "Names": ["/node"], "HostConfig": {"NetworkMode": "host"},
               "NetworkSettings": {"Networks": {"host": {"NetworkID": "h", "IPAddress": ""}}}},
              {"Id": "d", "Names": ["/loop"], "HostConfig": {"NetworkMode": "container:d"}},
              {"Id": "e", "Names": []}
            ]"#,
        )
        .expect("as the engine answers");
        let networks: Vec<Network> =
            serde_json::from_str(r#"[{"Id": "n1", "Name": "shop", "Scope": "local", "Labels": {"x-y": "z"}}]"#)
                .expect("networks");
        let all = targets(&config("{host: 'unix:///s', match_first_network: false}"), &containers, &networks);
        let addresses: Vec<&str> = all.iter().map(|target| target["__address__"].as_str()).collect();
        assert_eq!(addresses, ["10.0.0.2:80", "[fd00::2]:80", "10.0.0.2:80", "[fd00::2]:80", "localhost"]);
        let first = targets(&config("{host: 'unix:///s', port: 9100, host_networking_host: h}"), &containers, &networks);
        let addresses: Vec<&str> = first.iter().map(|target| target["__address__"].as_str()).collect();
        assert_eq!(addresses, ["10.0.0.2:80", "10.0.0.2:9100", "h"]);
        let web = &first[0];
        for (name, value) in [
            ("container_name", "/web"),
            ("container_label_com_shop_tier", "front"),
            ("network_name", "shop"),
            ("network_internal", "false"),
            ("network_label_x_y", "z"),
            ("port_private", "80"),
            ("port_public", "8080"),
            ("port_public_ip", "0.0.0.0"),
        ] {
            assert_eq!(web[&format!("__meta_docker_{name}")], value);
        }
    }

    #[test]
    fn hosts() {
        for (yaml, expect) in [
            ("{host: 'unix:///var/run/docker.sock'}", Some("http://docker")),
            ("{host: 'tcp://h:2375'}", Some("http://h:2375")),
            ("{host: 'tcp://h:2376', tls_config: {insecure_skip_verify: true}}", Some("https://h:2376")),
            ("{host: 'https://h'}", Some("https://h")),
            ("{host: 'h:2375'}", None),
            ("{host: 'unix://docker.sock'}", None),
        ] {
            assert_eq!(place(&config(yaml)).ok().map(|(base, _)| base).as_deref(), expect, "{yaml}");
        }
    }
}
