//! A server that answers with target groups in JSON.

use super::{Found, Source, TargetGroup};
use crate::scrape::client::{ClientOptions, HttpClient, body};
use crate::scrape::config::{HttpSdConfig, StaticConfig};
use br_std::{Error, Result};
use std::time::Duration;

/// An answer may have so many bytes.
const BODY_BYTES_MAX: usize = 64 << 20;

pub(super) fn check(config: &HttpSdConfig) -> Result<()> {
    let url = reqwest::Url::parse(&config.url).map_err(|error| Error::fix_request(format!("url {:?}: {error}", config.url)))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(Error::fix_request(format!("url {:?} is no http or https address", config.url)));
    }
    Http::new(config).map(drop)
}

pub(super) struct Http {
    client: HttpClient,
    url: String,
    interval: Duration,
}

impl Http {
    pub(super) fn new(config: &HttpSdConfig) -> Result<Self> {
        let client = HttpClient::new(config.http(), ClientOptions { gzip: true, unix_socket: None })?;
        Ok(Self { client, url: config.url.clone(), interval: config.refresh_interval.0 })
    }

    async fn fetch(&self) -> Result<Vec<StaticConfig>> {
        let request = self.client.get(&self.url).await?.timeout(self.interval.max(Duration::from_secs(1)));
        let request = request
            .header("accept", "application/json")
            .header("x-prometheus-refresh-interval-seconds", self.interval.as_secs_f64().to_string());
        let response = request.send().await.map_err(|error| Error::retry(self.client.reason(&error, &self.url)))?;
        if response.status() != 200 {
            if response.status() == 401 {
                self.client.refused();
            }
            return Err(Error::retry(format!("server returned HTTP status {}", response.status())));
        }
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Error::retry(format!("unsupported content type {content_type:?}")));
        }
        let body = body(response, BODY_BYTES_MAX).await?;
        let body = body.ok_or_else(|| Error::over_limit(format!("the answer has more than {BODY_BYTES_MAX} bytes")))?;
        let groups: Option<Vec<StaticConfig>> =
            serde_json::from_slice(&body).map_err(|error| Error::retry(format!("no target groups: {error}")))?;
        Ok(groups.unwrap_or_default())
    }
}

impl Source for Http {
    async fn look(&mut self) -> Result<Found> {
        let groups = self.fetch().await?;
        let group = |group: StaticConfig| {
            let mut found = TargetGroup::of_addresses(&group.targets, &group.labels);
            found.labels.insert("__meta_url".into(), self.url.clone());
            found
        };
        Ok(groups.into_iter().map(group).collect::<Vec<_>>().into())
    }

    fn interval(&self) -> Duration {
        self.interval
    }
}
