//! An HTTP client made of an [`HttpConfig`]: for scrapes, for discoveries, for the server that gives OAuth 2 tokens.

use super::http_config::{HttpConfig, OAuth2};
use super::tls::{self, Pems};
use super::values::Secret;
use br_std::{Error, Result};
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// What the configuration does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientOptions {
    pub(super) gzip: bool,
    /// Speak over this socket, whatever the address says.
    pub(super) unix_socket: Option<PathBuf>,
}

/// Certificates, keys and secrets that lie in files are read again when they change.
pub(super) struct HttpClient {
    config: HttpConfig,
    options: ClientOptions,
    built: Mutex<Option<(Pems, reqwest::Client)>>,
    tokens: Option<Tokens>,
}

/// Redirects that are followed, as in Go's client.
const REDIRECTS_MAX: usize = 10;

impl HttpClient {
    /// Fails for what no change of a file can mend.
    pub(super) fn new(config: HttpConfig, options: ClientOptions) -> Result<Self> {
        config.check()?;
        let tokens = config.oauth2.clone().map(Tokens::new).transpose()?;
        let client = Self { config, options, built: Mutex::default(), tokens };
        let tls = &client.config.tls_config;
        if tls.ca_file.is_none() && tls.cert_file.is_none() && tls.key_file.is_none() {
            client.client()?;
        }
        client.check_headers()?;
        Ok(client)
    }

    /// A request with everything that the configuration puts on it.
    pub(super) async fn get(&self, url: &str) -> Result<reqwest::RequestBuilder> {
        let mut request = self.client()?.get(url);
        let config = &self.config;
        if let Some(basic) = &config.basic_auth {
            let name = secret("username_file", None, basic.username_file.as_deref())?.unwrap_or_else(|| basic.username.clone());
            let password = secret("password_file", basic.password.as_ref(), basic.password_file.as_deref())?;
            request = request.basic_auth(name, Some(password.unwrap_or_default()));
        }
        if let Some(given) = &config.authorization {
            let credentials = secret("credentials_file", given.credentials.as_ref(), given.credentials_file.as_deref())?;
            let value = format!("{} {}", given.kind.trim(), credentials.unwrap_or_default());
            request = request.header(AUTHORIZATION, value.trim_end());
        }
        if let Some(token) = secret("bearer_token_file", config.bearer_token.as_ref(), config.bearer_token_file.as_deref())? {
            request = request.bearer_auth(token);
        }
        if let Some(tokens) = &self.tokens {
            request = request.header(AUTHORIZATION, tokens.authorization().await?);
        }
        for (name, header) in &config.http_headers {
            let given = header.values.iter().cloned().chain(header.secrets.iter().map(|secret| secret.0.clone()));
            for value in given {
                request = request.header(name, value);
            }
            for file in &header.files {
                request = request.header(name, secret("http_headers", None, Some(file))?.unwrap_or_default());
            }
        }
        Ok(request)
    }

    /// Why a request to `url` failed. Where there was no connection, it says whereto: a proxy may be what does not answer.
    pub(super) fn reason(&self, error: &reqwest::Error, url: &str) -> String {
        let reason = reason(error);
        if !error.is_connect() {
            return reason;
        }
        let place = |url: &str| reqwest::Url::parse(url).map_or_else(|_| url.to_owned(), |url| host_and_port(&url));
        if let Some(socket) = &self.options.unix_socket {
            return format!("socket {}: {reason}", socket.display());
        }
        let target = place(url);
        match self.config.proxy_url.as_deref().filter(|proxy| !proxy.is_empty()) {
            // What is excepted from it is reached directly.
            Some(proxy) if self.config.no_proxy.is_some() => format!("{target}, or the proxy {}: {reason}", place(proxy)),
            Some(proxy) => format!("the proxy {}, for {target}: {reason}", place(proxy)),
            None if self.config.proxy_from_environment => format!("{target}, or a proxy that the environment names: {reason}"),
            None => format!("{target}: {reason}"),
        }
    }

    /// Forgets the token that a server has refused.
    pub(super) fn refused(&self) {
        if let Some(tokens) = &self.tokens {
            *tokens.current.lock() = None;
        }
    }

    /// The client itself, without what a request carries.
    fn client(&self) -> Result<reqwest::Client> {
        let pems = Pems::read(&self.config.tls_config)?;
        let mut built = self.built.lock();
        if let Some((of, client)) = &*built
            && *of == pems
        {
            return Ok(client.clone());
        }
        let client = self.build(&pems)?;
        *built = Some((pems, client.clone()));
        Ok(client)
    }

    fn build(&self, pems: &Pems) -> Result<reqwest::Client> {
        let config = &self.config;
        let redirects = if config.follow_redirects {
            reqwest::redirect::Policy::limited(REDIRECTS_MAX)
        } else {
            reqwest::redirect::Policy::none()
        };
        let mut builder = reqwest::Client::builder()
            .redirect(redirects)
            .user_agent(concat!("Bellrock/", env!("CARGO_PKG_VERSION")))
            .gzip(self.options.gzip)
            .no_proxy()
            .tls_backend_preconfigured(tls::client_config(&config.tls_config, pems, config.enable_http2)?);
        if !config.enable_http2 {
            builder = builder.http1_only();
        }
        for proxy in proxies(config)? {
            builder = builder.proxy(proxy);
        }
        if let Some(socket) = &self.options.unix_socket {
            builder = builder.unix_socket(socket.as_path());
        }
        builder.build().map_err(|error| Error::fix_request(reason(&error)))
    }

    fn check_headers(&self) -> Result<()> {
        for (name, header) in &self.config.http_headers {
            let wrong =
                || Error::fix_request(format!("http_headers: {name:?} is no header, or one of its values cannot be sent"));
            HeaderName::try_from(name).map_err(|_| wrong())?;
            for value in header.values.iter().chain(header.secrets.iter().map(|secret| &secret.0)) {
                HeaderValue::try_from(value).map_err(|_| wrong())?;
            }
        }
        Ok(())
    }
}

/// Addresses that are never reached over a proxy that the environment names, as in Go.
const NEVER_BY_PROXY: &str = "localhost,127.0.0.0/8,::1";

#[allow(clippy::disallowed_methods, reason = "this is the key that asks for the environment")]
fn proxies(config: &HttpConfig) -> Result<Vec<reqwest::Proxy>> {
    let mut headers = HeaderMap::new();
    for (name, values) in &config.proxy_connect_header {
        let wrong =
            || Error::fix_request(format!("proxy_connect_header: {name:?} is no header, or one of its values cannot be sent"));
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        for value in values {
            headers.append(name.clone(), HeaderValue::try_from(&value.0).map_err(|_| wrong())?);
        }
    }
    let wrong = |url: &str, error: &reqwest::Error| Error::fix_request(format!("proxy {url:?}: {}", reason(error)));
    if let Some(url) = config.proxy_url.as_deref().filter(|url| !url.is_empty()) {
        let proxy = reqwest::Proxy::all(url).map_err(|error| wrong(url, &error))?;
        let except = config.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
        return Ok(vec![proxy.headers(headers).no_proxy(except)]);
    }
    if !config.proxy_from_environment {
        return Ok(Vec::new());
    }
    let variable = |name: &str| {
        let value = std::env::var(name.to_ascii_uppercase()).or_else(|_| std::env::var(name)).unwrap_or_default();
        (!value.is_empty()).then_some(value)
    };
    let except = format!("{},{NEVER_BY_PROXY}", variable("no_proxy").unwrap_or_default());
    let except = reqwest::NoProxy::from_string(&except);
    let mut proxies = Vec::new();
    if let Some(url) = variable("http_proxy") {
        proxies.push(reqwest::Proxy::http(&url).map_err(|error| wrong(&url, &error))?);
    }
    if let Some(url) = variable("https_proxy") {
        proxies.push(reqwest::Proxy::https(&url).map_err(|error| wrong(&url, &error))?);
    }
    Ok(proxies.into_iter().map(|proxy| proxy.headers(headers.clone()).no_proxy(except.clone())).collect())
}

/// `HOST:PORT`: without a name and a password that may stand in front.
fn host_and_port(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The innermost cause says what a person can act on: "connection refused", "certificate has expired".
pub(super) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A secret from where the configuration has it; files are read at each use, so that they can be renewed.
#[allow(clippy::disallowed_methods, reason = "secrets lie outside the data directory")]
fn secret(key: &str, inline: Option<&Secret>, file: Option<&str>) -> Result<Option<String>> {
    match (inline, file) {
        (Some(text), _) => Ok(Some(text.0.clone())),
        (None, Some(path)) => {
            let bytes = std::fs::read(path).map_err(|error| Error::from(error).context(format!("{key} {path}")))?;
            Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// Reads the body of an answer, as long as it has at most `bytes_max` bytes.
pub(super) async fn body(response: reqwest::Response, bytes_max: usize) -> Result<Option<Vec<u8>>> {
    body_noting(response, bytes_max, |_| Ok(())).await
}

/// The same; each part that comes is first told of, and an error of that ends it.
pub(super) async fn body_noting(
    mut response: reqwest::Response,
    bytes_max: usize,
    mut note: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::retry(reason(&error)))? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        note(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Tokens of OAuth 2 client credentials (RFC 6749, 4.4).
struct Tokens {
    config: OAuth2,
    client: Box<HttpClient>,
    current: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    authorization: String,
    /// `None` for one that does not end.
    ends: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    expires_in: Option<f64>,
}

const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A token is renewed so long before it ends.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
const TOKEN_BYTES_MAX: usize = 1 << 20;

impl Tokens {
    fn new(config: OAuth2) -> Result<Self> {
        let client = HttpClient::new(config.http(), ClientOptions::default()).map_err(|error| error.context("oauth2"))?;
        Ok(Self { client: Box::new(client), config, current: Mutex::default() })
    }

    async fn authorization(&self) -> Result<String> {
        let now = Instant::now();
        let known = self.current.lock().clone();
        if let Some(token) = known.filter(|token| token.ends.is_none_or(|ends| ends > now)) {
            return Ok(token.authorization);
        }
        let fetched = self.fetch().await.map_err(|error| error.context("oauth2"))?;
        let kind = if fetched.token_type.is_empty() || fetched.token_type.eq_ignore_ascii_case("bearer") {
            "Bearer"
        } else {
            &fetched.token_type
        };
        let authorization = format!("{kind} {}", fetched.access_token);
        let lives = fetched.expires_in.filter(|seconds| *seconds > 0.0);
        let lives = lives.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_hours(24)));
        let ends = lives.and_then(|lives| now.checked_add(lives.saturating_sub(TOKEN_MARGIN)));
        *self.current.lock() = Some(Token { authorization: authorization.clone(), ends });
        Ok(authorization)
    }

    /// With the client's name and secret in the header and, for servers that know only this, in the form.
    async fn fetch(&self) -> Result<TokenAnswer> {
        match self.ask(false).await {
            Err(error) if error.kind() == br_std::error::Kind::Unauthorized => self.ask(true).await,
            other => other,
        }
    }

    async fn ask(&self, in_form: bool) -> Result<TokenAnswer> {
        let config = &self.config;
        let secret = secret("client_secret_file", config.client_secret.as_ref(), config.client_secret_file.as_deref())?;
        let secret = secret.unwrap_or_default();
        let scopes = config.scopes.join(" ");
        let mut form = BTreeMap::from([("grant_type", "client_credentials")]);
        if !scopes.is_empty() {
            form.insert("scope", &scopes);
        }
        form.extend(config.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut request = self.client.client()?.post(&config.token_url).timeout(TOKEN_TIMEOUT);
        if in_form {
            form.extend([("client_id", config.client_id.as_str()), ("client_secret", secret.as_str())]);
        } else {
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(&config.client_id), Some(encoded(&secret)));
        }
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(text);
        let response = request.send().await.map_err(|error| Error::retry(format!("{}: {}", config.token_url, reason(&error))))?;
        let status = response.status();
        let body = body(response, TOKEN_BYTES_MAX).await?.unwrap_or_default();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let message = format!("{} answers {status}: {:.200}", config.token_url, text.trim());
            return Err(if status.is_client_error() { Error::unauthorized(message) } else { Error::retry(message) });
        }
        serde_json::from_slice(&body).map_err(|error| Error::retry(format!("{} gives no token: {error}", config.token_url)))
    }
}
