//! Where the API of a cluster is and who we are to it: from the configuration, a kubeconfig, or the pod that we run in.

use crate::scrape::client::{ClientOptions, HttpClient};
use crate::scrape::config::KubernetesSdConfig;
use crate::scrape::http_config::{Authorization, BasicAuth, HttpConfig, TlsConfig};
use crate::scrape::values::Secret;
use base64::Engine as _;
use br_std::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// What Kubernetes mounts into each pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) struct Access {
    pub(super) client: HttpClient,
    /// Without a slash at its end.
    pub(super) base: String,
    /// Empty for all.
    pub(super) namespaces: Vec<String>,
}

pub(super) fn check(config: &KubernetesSdConfig) -> Result<()> {
    let http = config.http();
    http.check()?;
    if config.api_server.is_some() && config.kubeconfig_file.is_some() {
        return Err(Error::fix_request("at most one of api_server and kubeconfig_file may be set"));
    }
    if config.api_server.is_none() && http != HttpConfig::plain() {
        return Err(Error::fix_request("settings of HTTP clients need api_server: a kubeconfig or the pod brings its own"));
    }
    if let Some(server) = &config.api_server {
        let url = reqwest::Url::parse(server).map_err(|error| Error::fix_request(format!("api_server {server:?}: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::fix_request(format!("api_server {server:?} is no http or https address")));
        }
    }
    Ok(())
}

impl Access {
    pub(super) fn find(config: &KubernetesSdConfig) -> Result<Self> {
        let (base, http) = match (&config.api_server, &config.kubeconfig_file) {
            (Some(server), _) => (server.clone(), config.http()),
            (None, Some(file)) => {
                from_kubeconfig(Path::new(file)).map_err(|error| error.context(format!("kubeconfig {file}")))?
            }
            (None, None) => from_pod()?,
        };
        let mut namespaces = config.namespaces.names.clone();
        if config.namespaces.own_namespace {
            let own = read(&Path::new(SERVICE_ACCOUNT).join("namespace"))?.trim().to_owned();
            if !namespaces.contains(&own) {
                namespaces.push(own);
            }
        }
        let client = HttpClient::new(http, ClientOptions { gzip: true, unix_socket: None })?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), namespaces })
    }
}

#[allow(clippy::disallowed_methods, reason = "Kubernetes tells pods by the environment where its API is")]
fn from_pod() -> Result<(String, HttpConfig)> {
    let variable = |name: &str| {
        std::env::var(name).map_err(|_| Error::not_found(format!("{name} is not set: outside of a cluster api_server is needed")))
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let file = |name: &str| Some(Path::new(SERVICE_ACCOUNT).join(name).display().to_string());
    let http = HttpConfig {
        authorization: Some(Authorization { kind: "Bearer".into(), credentials: None, credentials_file: file("token") }),
        tls_config: TlsConfig { ca_file: file("ca.crt"), ..TlsConfig::default() },
        ..HttpConfig::plain()
    };
    Ok((format!("https://{}", super::super::host_port(&host, port)), http))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KubeConfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<ContextPart>>,
    #[serde(default)]
    clusters: Vec<Named<ClusterPart>>,
    #[serde(default)]
    users: Vec<Named<UserPart>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    part: T,
}

#[derive(Deserialize)]
struct ContextPart {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterPart {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct UserPart {
    token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

fn from_kubeconfig(path: &Path) -> Result<(String, HttpConfig)> {
    let text = read(path)?;
    let config: KubeConfig = serde_norway::from_str(&text).map_err(|error| Error::fix_request(error.to_string()))?;
    let context = named(config.contexts, "context", &config.current_context)?;
    let cluster = named(config.clusters, "cluster", &context.cluster)?;
    let user = if context.user.is_empty() { UserPart::default() } else { named(config.users, "user", &context.user)? };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(Error::fix_request("users that run a program to log in are not supported; use a token or a certificate"));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let absolute = |file: Option<String>| file.map(|file| folder.join(file).display().to_string());
    let data = |name: &str, data: Option<&str>| data.map(|data| decode(name, data)).transpose();
    let has_cert = user.client_certificate_data.is_some();
    let http = HttpConfig {
        basic_auth: user.username.map(|username| BasicAuth { username, password: user.password, ..BasicAuth::default() }),
        bearer_token_file: if user.token.is_some() { None } else { absolute(user.token_file) },
        bearer_token: user.token,
        tls_config: TlsConfig {
            ca_file: if cluster.certificate_authority_data.is_some() { None } else { absolute(cluster.certificate_authority) },
            ca: data("certificate-authority-data", cluster.certificate_authority_data.as_deref())?,
            cert_file: if has_cert { None } else { absolute(user.client_certificate) },
            cert: data("client-certificate-data", user.client_certificate_data.as_deref())?,
            key_file: if user.client_key_data.is_some() { None } else { absolute(user.client_key) },
            key: data("client-key-data", user.client_key_data.as_ref().map(|key| key.0.as_str()))?.map(Secret),
            server_name: cluster.tls_server_name,
            insecure_skip_verify: cluster.insecure_skip_tls_verify,
            ..TlsConfig::default()
        },
        proxy_url: cluster.proxy_url,
        ..HttpConfig::plain()
    };
    Ok((cluster.server, http))
}

fn named<T>(parts: Vec<Named<T>>, kind: &str, name: &str) -> Result<T> {
    let part = parts.into_iter().find(|part| part.name == name);
    part.map(|part| part.part).ok_or_else(|| Error::fix_request(format!("there is no {kind} {name:?}")))
}

fn decode(name: &str, data: &str) -> Result<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim());
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Error::fix_request(format!("{name} is no base64 of a PEM text")))
}

#[allow(clippy::disallowed_methods, reason = "what Kubernetes mounts lies outside the data directory")]
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::from(error).context(path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    fn reads_a_kubeconfig() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("config");
        let text = "
            apiVersion: v1
            kind: Config
            current-context: shop
            contexts: [{ name: shop, context: { cluster: c, user: u, namespace: n } }]
            clusters: [{ name: c, cluster: { server: 'https://k:6443', certificate-authority-data: Q0E=, tls-server-name: kube } }]
            users: [{ name: u, user: { tokenFile: token, client-certificate: c.pem, client-key: /k.pem } }]";
        std::fs::write(&path, text).expect("temporary file");
        let (base, http) = from_kubeconfig(&path).expect("valid");
        assert_eq!(base, "https://k:6443");
        let in_folder = |name: &str| Some(folder.path().join(name).display().to_string());
        assert_eq!(http.bearer_token_file, in_folder("token"));
        assert_eq!((http.tls_config.ca.as_deref(), http.tls_config.server_name.as_deref()), (Some("CA"), Some("kube")));
        assert_eq!((http.tls_config.cert_file, http.tls_config.key_file.as_deref()), (in_folder("c.pem"), Some("/k.pem")));
        std::fs::write(&path, text.replace("tokenFile: token", "exec: { command: aws }")).expect("temporary file");
        assert!(from_kubeconfig(&path).expect_err("a program").to_string().contains("not supported"));
    }
}
