//! The paths of Prometheus' Pushgateway: `/metrics/job/JOB{/LABEL/VALUE}`.
//!
//! Source: the Pushgateway's README, "API". A name that ends in `@base64` has a value in URL-safe base64, for slashes and for
//! nothing at all.

use crate::app::App;
use crate::error::TextError;
use crate::routes::Routes;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use br_ingest::intake::AcceptError;
use br_jobs::push::PushMode;
use br_model::{Labels, MetricBatch, Principal, Right};
use br_std::{Error, Result};
use br_wire::decompress::{Encoding, decompress};
use br_wire::exposition;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(crate) fn routes(mut routes: Routes) -> Routes {
    for path in ["/metrics/job/{*group}", "/metrics/job@base64/{*group}"] {
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            routes = routes.add(&method, path, Right::Send, change);
        }
    }
    routes
}

/// Bodies are unpacked and read one at a time, on the pool for blocking work: a large one must not hold up other requests.
static DECODING: Semaphore = Semaphore::const_new(1);

async fn change(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<StatusCode, TextError> {
    let grouping = grouping(request.uri().path())?;
    let mode = match *request.method() {
        Method::DELETE => {
            app.pushes.delete(principal.tenant, &grouping).await?;
            return Ok(StatusCode::ACCEPTED);
        }
        Method::PUT => PushMode::Group,
        _ => PushMode::Families,
    };
    let (parts, body) = request.into_parts();
    let body = app.bodies.receive(body, app.limits.body_bytes_max).await.map_err(|error| match error {
        AcceptError::Wire(error) => Error::from(error),
        AcceptError::Other(error) => error,
    })?;
    let (headers, limits) = (parts.headers, app.limits);
    let _turn = DECODING.acquire().await.map_err(|error| Error::retry(error.to_string()))?;
    let parsed = tokio::task::spawn_blocking(move || parse(&body.bytes, &headers, &limits)).await;
    let batch = parsed.map_err(|error| Error::corrupt(format!("the body's decoder ended: {error}")))?;
    app.pushes.push(principal.tenant, &grouping, mode, batch).await?;
    Ok(StatusCode::OK)
}

fn parse(body: &[u8], headers: &HeaderMap, limits: &br_wire::Limits) -> Result<MetricBatch> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let encoding = Encoding::from_header(text(header::CONTENT_ENCODING)).map_err(Error::from)?;
    let body = decompress(body, encoding, limits).map_err(Error::from)?;
    exposition::parse(&body, text(header::CONTENT_TYPE), true, limits).map_err(Error::from)
}

/// The labels that a path names.
fn grouping(path: &str) -> Result<Labels> {
    let wrong = |what: String| Error::fix_request(format!("{path}: {what}"));
    let rest = path.strip_prefix("/metrics/").unwrap_or(path);
    let parts: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    if parts.len() % 2 == 1 {
        return Err(wrong("a label without a value; an empty value is LABEL@base64/=".to_owned()));
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in parts.chunks_exact(2) {
        let name = decoded(pair[0]).ok_or_else(|| wrong(format!("{:?} is not UTF-8", pair[0])))?;
        let (name, value) = match name.strip_suffix("@base64") {
            Some(name) => (name.to_owned(), from_base64(pair[1])),
            None => (name, decoded(pair[1])),
        };
        let value = value.ok_or_else(|| wrong(format!("the value {:?} of {name} cannot be read", pair[1])))?;
        if name.is_empty() || name.starts_with("__") || pairs.iter().any(|(other, _)| *other == name) {
            return Err(wrong(format!("the label {name:?} is reserved or comes twice")));
        }
        pairs.push((name, value));
    }
    if pairs.first().is_none_or(|(name, value)| name != "job" || value.is_empty()) {
        return Err(wrong("a job name is required".to_owned()));
    }
    Ok(Labels::from_pairs(pairs.iter().map(|(name, value)| (name, value))))
}

fn from_base64(text: &str) -> Option<String> {
    let text = decoded(text)?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?).ok()
}

/// Percent-decodes; a plus is a plus, as it is for the Pushgateway.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.split_at_checked(2).filter(|_| *first == b'%');
        let Some((digits, behind_digits)) = digits else {
            bytes.push(*first);
            rest = behind;
            continue;
        };
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind_digits;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_groups() {
        let check = |path: &str, expect: &[(&str, &str)]| {
            assert_eq!(grouping(path).expect(path), Labels::from_pairs(expect.iter().copied()), "{path}");
        };
        check("/metrics/job/a", &[("job", "a")]);
        check("/metrics/job/a/", &[("job", "a")]);
        check("/metrics/job/a%20b+c/instance/h%3A1", &[("job", "a b+c"), ("instance", "h:1")]);
        check("/metrics/job@base64/L3Zhci90bXA/path@base64/L2E_", &[("job", "/var/tmp"), ("path", "/a?")]);
        check("/metrics/job/a/empty@base64/=", &[("job", "a")]);
        for wrong in
            ["/metrics/job/", "/metrics/job/a/b", "/metrics/job@base64/=", "/metrics/job/a/__x/1", "/metrics/job/a/job/b"]
        {
            assert!(grouping(wrong).is_err(), "{wrong}");
        }
        assert!(grouping("/metrics/job@base64/!!!").is_err() && grouping("/metrics/job/%ff").is_err());
    }
}
