//! Where targets come from. A discovery is one file here, one line in [`check`] and one in [`start`].

mod board;
mod dns;
mod docker;
mod file;
mod http;
mod kubernetes;

pub(super) use board::Board;
pub use board::DiscoveryStatus;
pub use file::expand_pattern;

use super::config::ScrapeConfig;
use super::targets::TargetGroup;
use board::Report;
use br_std::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a look finds. Groups whose part of the look failed are those of before, and the complaints say what failed.
struct Found {
    groups: Vec<TargetGroup>,
    complaints: Vec<Error>,
}

impl From<Vec<TargetGroup>> for Found {
    fn from(groups: Vec<TargetGroup>) -> Self {
        Self { groups, complaints: Vec::new() }
    }
}

/// A discovery that looks again and again.
trait Source: Send + 'static {
    /// On an error the targets stay as they are.
    fn look(&mut self) -> impl Future<Output = Result<Found>> + Send;

    fn interval(&self) -> Duration;
}

/// Shorter intervals would be a loop without rest.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

async fn poll(mut source: impl Source, report: Report) {
    loop {
        match source.look().await {
            Ok(found) => report.found(found.groups, found.complaints),
            Err(error) => report.failed(&error),
        }
        tokio::time::sleep(source.interval().max(INTERVAL_MIN)).await;
    }
}

/// Whether the discoveries of a job are configured as they must be.
pub(super) fn check(config: &ScrapeConfig) -> Result<()> {
    let in_part = |part: &'static str| move |error: Error| error.context(part);
    for group in &config.static_configs {
        for address in &group.targets {
            if address.is_empty() {
                return Err(Error::fix_request("static_configs: a target without address"));
            }
        }
    }
    config.file_sd_configs.iter().try_for_each(file::check).map_err(in_part("file_sd_configs"))?;
    config.http_sd_configs.iter().try_for_each(http::check).map_err(in_part("http_sd_configs"))?;
    config.dns_sd_configs.iter().try_for_each(dns::check).map_err(in_part("dns_sd_configs"))?;
    config.docker_sd_configs.iter().try_for_each(docker::check).map_err(in_part("docker_sd_configs"))?;
    config.kubernetes_sd_configs.iter().try_for_each(kubernetes::check).map_err(in_part("kubernetes_sd_configs"))
}

/// Starts the discoveries of a job; they end when the set is dropped.
pub(super) fn start(config: &ScrapeConfig, board: &Arc<Board>) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for one in &config.file_sd_configs {
        tasks.spawn(poll(file::Files::new(one.clone()), board.report("file", one.files.join(","))));
    }
    for one in &config.http_sd_configs {
        tasks.spawn(poll(http::Http::new(one)?, board.report("http", without_secrets(&one.url))));
    }
    for one in &config.dns_sd_configs {
        tasks.spawn(poll(dns::Dns::new(one.clone()), board.report("dns", one.names.join(","))));
    }
    for one in &config.docker_sd_configs {
        tasks.spawn(poll(docker::Docker::new(one)?, board.report("docker", one.host.clone())));
    }
    for one in &config.kubernetes_sd_configs {
        tasks.spawn(kubernetes::run(one.clone(), board.report("kubernetes", one.role.clone())));
    }
    Ok(tasks)
}

/// A label name made of foreign text: what is no letter, digit or underscore becomes an underscore.
fn label_name(prefix: &str, text: &str) -> String {
    let safe = text.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' });
    prefix.chars().chain(safe).collect()
}

/// `HOST:PORT`, with brackets around an IPv6 address.
fn host_port(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An address as anybody may see it: without a user and a password, and without the values of its parameters.
fn without_secrets(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let mut shown = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
    for (mark, part) in [('/', path.map(str::to_owned)), ('?', query.map(|_| "…".to_owned()))] {
        if let Some(part) = part {
            shown.push(mark);
            shown.push_str(&part);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn addresses_are_shown_without_what_is_secret() {
        for (url, shown) in [
            ("http://u:p@host:1/sd/x?token=secret", "http://host:1/sd/x?…"),
            ("https://host/a@b", "https://host/a@b"),
            ("http://host", "http://host"),
            ("host:9", "host:9"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
