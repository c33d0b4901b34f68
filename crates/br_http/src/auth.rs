//! Who asks: a principal, decided by the credential alone.
//!
//! Tokens come as `Authorization: Bearer …`, as the password of `Authorization: Basic …`, or as the public key of a Sentry DSN.
//! Only their SHA-256 is held. Without any token configured, and only on a loopback address, the caller is an anonymous admin.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use base64::Engine;
use br_model::{Principal, Role, TenantId};
use br_std::{Error, Result};
use sha2::{Digest, Sha256};

/// A token as the configuration has it.
#[derive(Clone)]
pub struct Token {
    pub principal: Principal,
    sha256: [u8; 32],
}

impl Token {
    pub fn new(principal: Principal, secret: &str) -> Result<Self> {
        if secret.len() < TOKEN_BYTES_MIN {
            return Err(Error::fix_request(format!(
                "the token of {:?} is shorter than {TOKEN_BYTES_MIN} characters: make one with `openssl rand -hex 32`",
                principal.name
            )));
        }
        Ok(Self { principal, sha256: Sha256::digest(secret.as_bytes()).into() })
    }
}

const TOKEN_BYTES_MIN: usize = 16;

/// The tokens that are known, and whether a caller without one may come in.
#[derive(Clone, Default)]
pub struct Auth {
    tokens: Vec<Token>,
}

impl Auth {
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    /// True when everybody who can reach the address may do everything: only ever served on loopback.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Says who makes a request. `sentry_key` is the key of a DSN where the path takes one.
    pub fn principal(&self, uri: &Uri, headers: &HeaderMap, sentry_key: Option<&str>) -> Result<Principal> {
        if self.is_open() {
            refuse_foreign_host(uri, headers)?;
            return Ok(anonymous());
        }
        let secret = bearer_or_basic(headers).or_else(|| sentry_key.map(str::to_owned));
        let secret = secret.ok_or_else(|| Error::unauthorized("no credential: send Authorization: Bearer TOKEN"))?;
        self.principal_of(&secret)
    }

    /// Who a secret belongs to, for protocols that have a password and nothing that a browser could send.
    pub fn principal_of(&self, secret: &str) -> Result<Principal> {
        if self.is_open() {
            return Ok(anonymous());
        }
        let sha256: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        // Hashes of secrets are compared: what the timing of the comparison tells is not the secret.
        let token = self.tokens.iter().find(|token| token.sha256 == sha256);
        let token = token.ok_or_else(|| Error::unauthorized("unknown token"))?;
        Ok(token.principal.clone())
    }
}

/// The caller on a loopback address where no users exist.
fn anonymous() -> Principal {
    Principal { tenant: TenantId(1), role: Role::Admin, name: "anonymous".into() }
}

/// A page in the developer's browser must not reach the open server under a name of its own (DNS rebinding).
///
/// HTTP/2 names the host in `:authority`, which comes as part of the URI; a `Host` beside it may say something else.
fn refuse_foreign_host(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let authority = uri.authority().map(Authority::as_str);
    let hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or("?"));
    let Some(host) = authority.into_iter().chain(hosts).find(|host| !is_loopback_host(host)) else { return Ok(()) };
    Err(Error::unauthorized(format!(
        "Host {host:?} is not a loopback name, and no users are configured: set bellrock.auth.tokens"
    )))
}

fn is_loopback_host(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A page of another site must not call anything here, whatever credentials the browser sends along: not even a query, whose
/// answer it may not read but whose work is done. Browsers say where a request comes from; what is no browser, such as a proxy
/// that asks for somebody, says nothing. The web pages themselves are no calls: links to them work from anywhere.
pub fn refuse_cross_site(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(Authority::as_str).or_else(|| text("host"));
    let cross_site = match (text("sec-fetch-site"), text("origin"), host) {
        (Some("same-origin" | "none"), _, _) => false,
        (_, Some(origin), Some(host)) => origin.split_once("://").is_none_or(|(_, origin_host)| origin_host != host),
        (Some(_), _, _) => true,
        _ => false,
    };
    if cross_site {
        return Err(Error::unauthorized("requests from pages of other sites are refused"));
    }
    Ok(())
}

fn bearer_or_basic(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().expect("name"), HeaderValue::from_str(value).expect("value"))).collect()
    }

    #[test]
    fn the_credential_alone_decides() {
        let principal = Principal { tenant: TenantId(7), role: Role::Ingest, name: "ci".into() };
        let auth = Auth::new(vec![Token::new(principal.clone(), "0123456789abcdef").expect("long enough")]);
        let basic = base64::engine::general_purpose::STANDARD.encode("any:0123456789abcdef");
        for value in ["Bearer 0123456789abcdef".to_owned(), format!("Basic {basic}")] {
            let headers = headers(&[("authorization", &value), ("x-scope-orgid", "1")]);
            assert_eq!(auth.principal(&Uri::from_static("/"), &headers, None).expect("known"), principal);
        }
        assert_eq!(auth.principal(&Uri::from_static("/"), &headers(&[]), Some("0123456789abcdef")).expect("dsn"), principal);
        for value in ["Bearer 0123456789abcdeg", "Bearer ", "Basic !!", "nonsense"] {
            assert!(auth.principal(&Uri::from_static("/"), &headers(&[("authorization", value)]), None).is_err(), "{value}");
        }
        assert!(Token::new(principal, "short").is_err());
    }

    #[test]
    fn the_open_server_answers_to_loopback_names_only() {
        let auth = Auth::default();
        for (host, expect) in [
            ("localhost:1811", true),
            ("127.0.0.1", true),
            ("[::1]:1811", true),
            ("evil.example:1811", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(auth.principal(&Uri::from_static("/"), &headers(&[("host", host)]), None).is_ok(), expect, "{host}");
            let uri: Uri = format!("http://{host}/api/v1/query").parse().expect("a URI");
            assert_eq!(auth.principal(&uri, &headers(&[]), None).is_ok(), expect, "{host} as :authority");
            let mixed = auth.principal(&uri, &headers(&[("host", "localhost")]), None);
            assert_eq!(mixed.is_ok(), expect, "{host} as :authority beside a Host");
        }
    }

    #[test]
    fn pages_of_other_sites_call_nothing() {
        let local = Uri::from_static("/api/v1/query");
        let allowed = |pairs: &[(&'static str, &str)]| refuse_cross_site(&local, &headers(pairs)).is_ok();
        assert!(allowed(&[("host", "localhost:1811")]), "curl, SDKs and proxies send no Origin");
        assert!(allowed(&[("host", "localhost:1811"), ("origin", "http://localhost:1811")]));
        assert!(allowed(&[("host", "localhost:1811"), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")]));
        assert!(allowed(&[("host", "localhost:1811"), ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]), "typed in");
        assert!(!allowed(&[("host", "localhost:1811"), ("origin", "http://evil.example")]));
        assert!(!allowed(&[("host", "localhost:1811"), ("origin", "null")]));
        for site in ["cross-site", "same-site"] {
            assert!(!allowed(&[("host", "localhost:1811"), ("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")]), "an image");
        }
        let uri = Uri::from_static("http://localhost:1811/api/v1/query");
        assert!(refuse_cross_site(&uri, &headers(&[("origin", "http://localhost:1811")])).is_ok());
        assert!(refuse_cross_site(&uri, &headers(&[("origin", "http://evil.example")])).is_err(), "HTTP/2 has no Host");
    }
}
