//! A client of the HTTP API.

use crate::run::send::{Upstream, innermost};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// Which server, and as whom.
#[derive(clap::Args, Debug)]
pub(crate) struct ServerArguments {
    #[arg(long, env = "BELLROCK_SERVER", default_value = "http://127.0.0.1:1811", value_name = "URL")]
    pub(super) server: String,
    #[arg(long, env = "BELLROCK_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

/// The server could not be reached.
#[derive(Debug)]
pub(crate) struct NoAnswer(String);

impl NoAnswer {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }
}

/// What was asked for makes no sense, in a way that the parser of arguments does not see.
#[derive(Debug)]
pub(crate) struct WrongUsage(String);

impl WrongUsage {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }
}

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// A server's URL without a slash at the end.
pub(crate) fn server_url(text: &str) -> Result<String, WrongUsage> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(WrongUsage(format!("{text:?} is no URL of a server: it looks like http://127.0.0.1:1811"))),
    }
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

pub(crate) struct Client {
    upstream: Upstream,
}

const TIMEOUT: Duration = Duration::from_mins(2);

impl Client {
    pub(crate) fn new(arguments: &ServerArguments) -> Result<Self> {
        let url = server_url(&arguments.server)?;
        Ok(Self { upstream: Upstream { client: reqwest::Client::new(), url, token: arguments.token.clone() } })
    }

    pub(crate) async fn get(&self, path: &str, parameters: &[(&str, String)]) -> Result<Value> {
        let request = self.upstream.request(reqwest::Method::GET, path);
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = if query.is_empty() {
            request
        } else {
            self.upstream.request(reqwest::Method::GET, &format!("{path}?{}", query.join("&")))
        };
        self.answer(request).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.answer(self.upstream.request(reqwest::Method::POST, path).json(body)).await
    }

    pub(crate) async fn post_bytes(&self, path: &str, body: bytes::Bytes) -> Result<Value> {
        self.answer(self.upstream.request(reqwest::Method::POST, path).body(body)).await
    }

    /// The answer as it comes, whatever its status.
    pub(crate) async fn send_bytes(&self, path: &str, body: bytes::Bytes) -> Result<reqwest::Response> {
        let sent = self.upstream.request(reqwest::Method::POST, path).body(body).timeout(TIMEOUT).send().await;
        Ok(sent.map_err(|error| NoAnswer(format!("no answer from {}: {}", self.upstream.url, innermost(&error))))?)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let sent = request.timeout(TIMEOUT).send().await;
        let answer = sent.map_err(|error| NoAnswer(format!("no answer from {}: {}", self.upstream.url, innermost(&error))))?;
        let status = answer.status();
        let text = answer.text().await.context("the answer broke off")?;
        let body: Option<Value> = serde_json::from_str(&text).ok();
        if status.is_success() {
            return body
                .with_context(|| format!("what answers at {} does not speak as a Bellrock server does", self.upstream.url));
        }
        let body = body.unwrap_or_default();
        let message = body["error"]["message"].as_str().or_else(|| body["error"].as_str()).unwrap_or(text.trim());
        bail!("{message} (HTTP {})", status.as_u16());
    }
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers() {
        assert_eq!(server_url("http://h:1/").ok().as_deref(), Some("http://h:1"));
        for wrong in ["notaurl", "localhost:1811", "ftp://h", "http://", ""] {
            assert!(server_url(wrong).is_err_and(|error| error.to_string().contains("http://127.0.0.1:1811")), "{wrong}");
        }
    }
}
