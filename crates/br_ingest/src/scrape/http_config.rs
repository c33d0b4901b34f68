//! How to speak to an HTTP server: the keys that jobs and the discoveries share.
//!
//! Source: Prometheus' configuration documentation, `http_config` and `tls_config`.

use super::values::Secret;
use br_std::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Who we are to a server, how we reach it, and how we know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpConfig {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub oauth2: Option<OAuth2>,
    pub bearer_token: Option<Secret>,
    pub bearer_token_file: Option<String>,
    pub tls_config: TlsConfig,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: bool,
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    pub http_headers: BTreeMap<String, HeaderValues>,
    pub follow_redirects: bool,
    pub enable_http2: bool,
}

/// Writes the keys of [`HttpConfig`] into a struct, and `http()` which gathers them.
///
/// `#[serde(flatten)]` would read a scalar by its looks: a password of digits would be a number and refused.
macro_rules! with_http_keys {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            pub basic_auth: Option<$crate::scrape::http_config::BasicAuth>,
            pub authorization: Option<$crate::scrape::http_config::Authorization>,
            pub oauth2: Option<$crate::scrape::http_config::OAuth2>,
            pub bearer_token: Option<$crate::scrape::values::Secret>,
            pub bearer_token_file: Option<String>,
            #[serde(default)]
            pub tls_config: $crate::scrape::http_config::TlsConfig,
            pub proxy_url: Option<String>,
            pub no_proxy: Option<String>,
            #[serde(default)]
            pub proxy_from_environment: bool,
            #[serde(default)]
            pub proxy_connect_header: std::collections::BTreeMap<String, Vec<$crate::scrape::values::Secret>>,
            #[serde(default)]
            pub http_headers: std::collections::BTreeMap<String, $crate::scrape::http_config::HeaderValues>,
            #[serde(default = "crate::scrape::http_config::yes")]
            pub follow_redirects: bool,
            #[serde(default = "crate::scrape::http_config::yes")]
            pub enable_http2: bool,
        }

        impl $name {
            pub fn http(&self) -> $crate::scrape::http_config::HttpConfig {
                $crate::scrape::http_config::HttpConfig {
                    basic_auth: self.basic_auth.clone(),
                    authorization: self.authorization.clone(),
                    oauth2: self.oauth2.clone(),
                    bearer_token: self.bearer_token.clone(),
                    bearer_token_file: self.bearer_token_file.clone(),
                    tls_config: self.tls_config.clone(),
                    proxy_url: self.proxy_url.clone(),
                    no_proxy: self.no_proxy.clone(),
                    proxy_from_environment: self.proxy_from_environment,
                    proxy_connect_header: self.proxy_connect_header.clone(),
                    http_headers: self.http_headers.clone(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                }
            }

            /// Relative paths of secrets and certificates count from `folder`.
            pub(super) fn set_http_folder(&mut self, folder: &std::path::Path) {
                use $crate::scrape::http_config::set_folder;
                self.basic_auth.iter_mut().for_each(|part| part.set_folder(folder));
                self.authorization.iter_mut().for_each(|part| set_folder(&mut part.credentials_file, folder));
                self.oauth2.iter_mut().for_each(|part| part.set_folder(folder));
                set_folder(&mut self.bearer_token_file, folder);
                self.tls_config.set_folder(folder);
                self.http_headers.values_mut().for_each(|header| header.set_folder(folder));
            }
        }
    };
}
pub(super) use with_http_keys;

pub(super) fn yes() -> bool {
    true
}

/// Makes a path that a configuration names absolute, or relative to where the server runs.
pub(super) fn set_folder(path: &mut Option<String>, folder: &Path) {
    if let Some(path) = path {
        *path = folder.join(&*path).display().to_string();
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    pub username: String,
    pub username_file: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<String>,
}

impl BasicAuth {
    pub(super) fn set_folder(&mut self, folder: &Path) {
        set_folder(&mut self.username_file, folder);
        set_folder(&mut self.password_file, folder);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    #[serde(rename = "type", default = "bearer")]
    pub kind: String,
    pub credentials: Option<Secret>,
    pub credentials_file: Option<String>,
}

fn bearer() -> String {
    "Bearer".into()
}

/// Client credentials: a token is fetched from `token_url` and used until it ends.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub client_secret_file: Option<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    pub token_url: String,
    #[serde(default)]
    pub endpoint_params: BTreeMap<String, String>,
    #[serde(default)]
    pub tls_config: TlsConfig,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    #[serde(default)]
    pub proxy_from_environment: bool,
    #[serde(default)]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

impl OAuth2 {
    pub(super) fn set_folder(&mut self, folder: &Path) {
        set_folder(&mut self.client_secret_file, folder);
        self.tls_config.set_folder(folder);
    }

    /// How to speak to the server that gives the tokens.
    pub(super) fn http(&self) -> HttpConfig {
        HttpConfig {
            tls_config: self.tls_config.clone(),
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: self.proxy_connect_header.clone(),
            follow_redirects: true,
            enable_http2: true,
            ..HttpConfig::default()
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    pub ca: Option<String>,
    pub ca_file: Option<String>,
    pub cert: Option<String>,
    pub cert_file: Option<String>,
    pub key: Option<Secret>,
    pub key_file: Option<String>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
    pub min_version: Option<String>,
    pub max_version: Option<String>,
}

impl TlsConfig {
    pub(super) fn set_folder(&mut self, folder: &Path) {
        for file in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file] {
            set_folder(file, folder);
        }
    }

    fn check(&self) -> Result<()> {
        one_of("ca and ca_file", [self.ca.is_some(), self.ca_file.is_some()])?;
        one_of("cert and cert_file", [self.cert.is_some(), self.cert_file.is_some()])?;
        one_of("key and key_file", [self.key.is_some(), self.key_file.is_some()])?;
        if (self.cert.is_some() || self.cert_file.is_some()) != (self.key.is_some() || self.key_file.is_some()) {
            return Err(Error::fix_request("a certificate needs a key and a key needs a certificate"));
        }
        Ok(())
    }
}

/// Values of one header. All are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderValues {
    pub values: Vec<String>,
    pub secrets: Vec<Secret>,
    pub files: Vec<String>,
}

impl HeaderValues {
    pub(super) fn set_folder(&mut self, folder: &Path) {
        self.files.iter_mut().for_each(|file| *file = folder.join(&*file).display().to_string());
    }
}

/// Headers that other keys or the protocol set.
const RESERVED_HEADERS: [&str; 18] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

impl HttpConfig {
    /// What a stranger's server is asked with.
    pub fn plain() -> Self {
        Self { follow_redirects: true, enable_http2: true, ..Self::default() }
    }

    /// Whether the keys fit each other.
    pub fn check(&self) -> Result<()> {
        let token = self.bearer_token.is_some() || self.bearer_token_file.is_some();
        let ways = [self.basic_auth.is_some(), self.authorization.is_some(), self.oauth2.is_some(), token];
        one_of("basic_auth, authorization, oauth2 and bearer_token", ways)?;
        one_of("bearer_token and bearer_token_file", [self.bearer_token.is_some(), self.bearer_token_file.is_some()])?;
        if let Some(basic) = &self.basic_auth {
            one_of("basic_auth: username and username_file", [!basic.username.is_empty(), basic.username_file.is_some()])?;
            one_of("basic_auth: password and password_file", [basic.password.is_some(), basic.password_file.is_some()])?;
        }
        if let Some(authorization) = &self.authorization {
            let given = [authorization.credentials.is_some(), authorization.credentials_file.is_some()];
            one_of("authorization: credentials and credentials_file", given)?;
            if authorization.kind.trim().eq_ignore_ascii_case("basic") {
                return Err(Error::fix_request("authorization: for the type Basic use basic_auth"));
            }
        }
        if let Some(oauth2) = &self.oauth2 {
            oauth2.http().check().map_err(|error| error.context("oauth2"))?;
            let given = [oauth2.client_secret.is_some(), oauth2.client_secret_file.is_some()];
            one_of("oauth2: client_secret and client_secret_file", given)?;
        }
        for name in self.http_headers.keys() {
            if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(Error::fix_request(format!("http_headers: {name} is set by other keys or by the protocol")));
            }
        }
        self.tls_config.check().map_err(|error| error.context("tls_config"))?;
        self.check_proxy()
    }

    fn check_proxy(&self) -> Result<()> {
        let has_url = self.proxy_url.is_some();
        one_of("proxy_url and proxy_from_environment", [has_url, self.proxy_from_environment])?;
        one_of("no_proxy and proxy_from_environment", [self.no_proxy.is_some(), self.proxy_from_environment])?;
        if self.no_proxy.is_some() && !has_url {
            return Err(Error::fix_request("no_proxy needs proxy_url"));
        }
        if !self.proxy_connect_header.is_empty() && !has_url && !self.proxy_from_environment {
            return Err(Error::fix_request("proxy_connect_header needs proxy_url or proxy_from_environment"));
        }
        Ok(())
    }
}

fn one_of<const N: usize>(names: &str, given: [bool; N]) -> Result<()> {
    if given.into_iter().filter(|is_given| *is_given).count() > 1 {
        return Err(Error::fix_request(format!("at most one of {names} may be set")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::ScrapeConfig;

    #[test]
    fn keys_that_do_not_fit_each_other() {
        for (yaml, expect) in [
            ("{basic_auth: {username: a}, bearer_token: b}", "at most one of basic_auth, authorization, oauth2"),
            ("{basic_auth: {username: a, password: b, password_file: c}}", "password and password_file"),
            ("{authorization: {type: basic, credentials: b}}", "use basic_auth"),
            ("{no_proxy: x}", "no_proxy needs proxy_url"),
            ("{proxy_url: 'http://p', proxy_from_environment: true}", "proxy_url and proxy_from_environment"),
            ("{tls_config: {cert_file: a}}", "needs a key"),
            ("{http_headers: {Host: {values: [a]}}}", "http_headers: Host"),
            (
                "{oauth2: {client_id: a, token_url: 'http://t', tls_config: {ca: a, ca_file: b}}}",
                "oauth2: tls_config: at most one",
            ),
        ] {
            let text = yaml.replacen('{', "{job_name: a, ", 1);
            let config: ScrapeConfig = serde_norway::from_str(&text).expect(yaml);
            let error = config.http().check().expect_err(yaml).to_string();
            assert!(error.contains(expect), "{yaml}: {error}");
        }
        let config: ScrapeConfig =
            serde_norway::from_str("{job_name: a, basic_auth: {username: 1, password: 0123}}").expect("digits are text here");
        assert!(config.http().check().is_ok());
        assert!(!format!("{config:?}").contains("0123"), "a secret is not printed");
    }
}
