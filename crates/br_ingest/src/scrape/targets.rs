//! From target groups to targets: defaults, relabelling, checks, duplicates removed.
//!
//! Source: Prometheus' configuration documentation, `scrape_config` and `relabel_config`.

use super::job::Job;
use super::relabel::relabel;
use br_model::{Labels, LabelsBuilder};
use br_std::{Error, Result, duration};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Targets that share labels, as a discovery finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Each has `__address__` and what is known of it alone.
    pub targets: Vec<BTreeMap<String, String>>,
    pub labels: BTreeMap<String, String>,
}

impl TargetGroup {
    pub fn of_addresses(addresses: &[String], labels: &BTreeMap<String, String>) -> Self {
        let target = |address: &String| BTreeMap::from([(ADDRESS.to_owned(), address.clone())]);
        Self { targets: addresses.iter().map(target).collect(), labels: labels.clone() }
    }
}

pub(super) const ADDRESS: &str = "__address__";
const PARAM_PREFIX: &str = "__param_";

/// One address to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    /// On every series: `job`, `instance` and what relabelling left.
    pub labels: Labels,
    /// As discovered, before relabelling.
    pub discovered: Labels,
    pub interval: Duration,
    pub timeout: Duration,
}

/// What discovery and relabelling make of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) active: Vec<Target>,
    /// Discovered labels of targets that relabelling dropped, as many as `keep_dropped_targets` lets be kept.
    pub(super) dropped: Vec<Labels>,
    /// How many it dropped in all.
    pub(super) dropped_count: usize,
}

/// Turns groups into targets, with what is wrong with those that are none.
pub(super) fn targets(job: &Job, groups: &[Arc<TargetGroup>]) -> (Targets, Vec<Error>) {
    let mut targets = Targets::default();
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    let kept_max = usize::try_from(job.settings.keep_dropped_targets).unwrap_or(usize::MAX);
    for group in groups {
        for own in &group.targets {
            let discovered = discovered_labels(job, group, own);
            let Some(labels) = relabel(&job.relabel, discovered.clone()) else {
                targets.dropped_count += 1;
                if kept_max == 0 || targets.dropped.len() < kept_max {
                    targets.dropped.push(discovered);
                }
                continue;
            };
            match target(job, &labels, discovered) {
                Ok(target) => {
                    if seen.insert((target.url.clone(), target.labels.clone())) {
                        targets.active.push(target);
                    }
                }
                Err(error) => complaints.push(error),
            }
        }
    }
    (targets, complaints)
}

/// The error with which all targets of a job fail while there are too many.
pub(super) fn over_target_limit(job: &Job, count: usize) -> Option<String> {
    let limit = job.settings.target_limit;
    let is_over = limit > 0 && count as u64 > limit;
    is_over.then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"))
}

fn discovered_labels(job: &Job, group: &TargetGroup, own: &BTreeMap<String, String>) -> Labels {
    let mut labels = Labels::from_pairs(&group.labels).to_builder();
    for (name, value) in own {
        labels.set(name, value);
    }
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    default("job", job.name());
    default("__scheme__", &job.config.scheme);
    default("__metrics_path__", &job.config.metrics_path);
    default("__scrape_interval__", &duration::format(job.settings.interval));
    default("__scrape_timeout__", &duration::format(job.settings.timeout));
    for (name, values) in &job.config.params {
        if let Some(value) = values.first() {
            default(&format!("{PARAM_PREFIX}{name}"), value);
        }
    }
    labels.build()
}

/// The shortest time between two scrapes: a discovery may name any.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

fn target(job: &Job, labels: &Labels, discovered: Labels) -> Result<Target> {
    let wrong = |what: String| Error::fix_request(what);
    let full_address = labels.get(ADDRESS).unwrap_or("");
    let address = &*without_password(full_address);
    if address.is_empty() {
        return Err(wrong(format!("a target without address: {}", without_passwords(&discovered))));
    }
    if address.contains('/') {
        return Err(wrong(format!("{address:?} is not a valid address: HOST:PORT, without scheme and path")));
    }
    let scheme = labels.get("__scheme__").unwrap_or("");
    if !matches!(scheme, "http" | "https") {
        return Err(wrong(format!("{address:?}: the scheme is {scheme:?}, neither http nor https")));
    }
    let (interval, timeout) = (time(labels, "__scrape_interval__")?, time(labels, "__scrape_timeout__")?);
    if interval < INTERVAL_MIN {
        let (interval, least) = (duration::format(interval), duration::format(INTERVAL_MIN));
        return Err(wrong(format!("{address:?}: __scrape_interval__ is {interval}; {least} is the shortest")));
    }
    if timeout > interval {
        return Err(wrong(format!("{address:?}: __scrape_timeout__ is longer than __scrape_interval__")));
    }
    let mut shown = labels.without(|name| name.starts_with("__")).to_builder();
    if shown.get("instance").is_none() {
        shown.set("instance", address);
    }
    Ok(Target { url: url(job, scheme, full_address, labels)?, labels: shown.build(), discovered, interval, timeout })
}

/// An address or URL to be shown: `user:xxxxx@host` for `user:password@host`.
pub(super) fn without_password(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    let found = text[start..end].rfind('@').and_then(|at| Some((text[start..start + at].split_once(':')?.0, start + at)));
    found.map_or(Cow::Borrowed(text), |(user, at)| format!("{}{user}:xxxxx{}", &text[..start], &text[at..]).into())
}

/// Discovered labels, to be shown.
pub(super) fn without_passwords(discovered: &Labels) -> Labels {
    let Some(Cow::Owned(shown)) = discovered.get(ADDRESS).map(without_password) else { return discovered.clone() };
    let mut labels = discovered.to_builder();
    labels.set(ADDRESS, &shown);
    labels.build()
}

fn time(labels: &Labels, name: &str) -> Result<Duration> {
    let text = labels.get(name).unwrap_or("");
    match duration::parse(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(Error::fix_request(format!("{name}: {text:?} is not a duration above zero"))),
    }
}

/// As Prometheus has it: the port stays where it is the usual one of the scheme, a label wins over the first value of a parameter.
fn url(job: &Job, scheme: &str, address: &str, labels: &Labels) -> Result<String> {
    reqwest::Url::parse(&format!("{scheme}://{address}/"))
        .map_err(|error| Error::fix_request(format!("address {:?}: {error}", without_password(address))))?;
    let path = labels.get("__metrics_path__").unwrap_or("");
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let mut parameters = job.config.params.clone();
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix(PARAM_PREFIX) else { continue };
        let values = parameters.entry(name.to_owned()).or_default();
        match values.first_mut() {
            Some(first) => value.clone_into(first),
            None => values.push(value.to_owned()),
        }
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, values) in &parameters {
        query.extend_pairs(values.iter().map(|value| (name, value)));
    }
    let query = query.finish();
    let separator = if query.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{address}{slash}{}{separator}{query}", escaped(path)))
}

/// A path whose every other byte is escaped, as Go does it.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What each rule makes of the labels, up to the one that drops.
pub(super) fn steps(job: &Job, labels: Labels) -> Vec<(LabelsBuilder, bool)> {
    let mut steps = Vec::new();
    let mut builder = labels.to_builder();
    for rule in &job.relabel {
        let keeps = rule.apply(&mut builder);
        steps.push((builder.clone(), keeps));
        if !keeps {
            break;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::config::{GlobalConfig, ScrapeConfig};
    use super::*;

    fn job(yaml: &str) -> Job {
        Job::new(serde_norway::from_str::<ScrapeConfig>(yaml).expect("yaml"), &GlobalConfig::default()).expect("valid")
    }

    fn found(job: &Job) -> (Targets, Vec<Error>) {
        let groups = job.config.static_configs.iter().map(|group| TargetGroup::of_addresses(&group.targets, &group.labels));
        targets(job, &groups.map(Arc::new).collect::<Vec<_>>())
    }

    #[test]
    fn labels_and_urls() {
        let job = job("
            job_name: shop
            metrics_path: /m?
            params: { x: [a b, c] }
            static_configs: [{ targets: ['h:1', 'bad/path', 'h:2', 'h:1'], labels: { env: dev } }]
            relabel_configs: [{ source_labels: [__address__], regex: 'h:2', action: drop }]");
        let (found, complaints) = found(&job);
        assert_eq!(found.active.len(), 1, "the same target twice is one");
        assert_eq!(found.active[0].url, "http://h:1/m%3F?x=a+b&x=c");
        assert_eq!(found.active[0].labels.to_string(), r#"{env="dev", instance="h:1", job="shop"}"#);
        assert_eq!((found.dropped.len(), found.dropped_count, complaints.len()), (1, 1, 1));
    }

    #[test]
    fn a_password_in_an_address_is_sent_and_not_shown() {
        let (found, complaints) = found(&job("{ job_name: a, static_configs: [{ targets: ['me:se@cret@h:1', 'me@h:2'] }] }"));
        assert!(complaints.is_empty(), "{complaints:?}");
        let target = &found.active[0];
        assert_eq!(target.url, "http://me:se@cret@h:1/metrics");
        assert_eq!(without_password(&target.url), "http://me:xxxxx@h:1/metrics");
        assert_eq!(target.labels.get("instance"), Some("me:xxxxx@h:1"));
        assert_eq!(without_passwords(&target.discovered).get(ADDRESS), Some("me:xxxxx@h:1"));
        assert_eq!(found.active[1].labels.get("instance"), Some("me@h:2"));
        assert_eq!(without_password("http://h/a:b@c"), "http://h/a:b@c");
    }

    #[test]
    fn relabelling_sets_address_parameters_and_times() {
        let job = job("
            job_name: probe
            keep_dropped_targets: 1
            static_configs: [{ targets: ['https://shop/', gone-1, gone-2] }]
            relabel_configs:
              - { source_labels: [__address__], regex: 'gone.*', action: drop }
              - { source_labels: [__address__], target_label: __param_target }
              - { source_labels: [__param_target], target_label: instance }
              - { target_label: __address__, replacement: 'blackbox:80' }
              - { target_label: __scrape_interval__, replacement: 20s }");
        let (found, complaints) = found(&job);
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(found.active[0].url, "http://blackbox:80/metrics?target=https%3A%2F%2Fshop%2F");
        assert_eq!(found.active[0].labels.to_string(), r#"{instance="https://shop/", job="probe"}"#);
        assert_eq!(found.active[0].interval, Duration::from_secs(20));
        assert_eq!((found.dropped.len(), found.dropped_count), (1, 2));
    }

    #[test]
    fn targets_that_are_none_are_told() {
        for (rule, expect) in [
            ("{ target_label: __address__, replacement: '' }", "without address"),
            ("{ target_label: __scheme__, replacement: ftp }", "neither http nor https"),
            ("{ target_label: __scrape_timeout__, replacement: 2m }", "longer than __scrape_interval__"),
            ("{ target_label: __scrape_interval__, replacement: soon }", "\"soon\" is not a duration"),
            ("{ target_label: __scrape_interval__, replacement: 1ms }", "is 1ms; 100ms is the shortest"),
            ("{ target_label: __address__, replacement: 'me:secret@h:x' }", "address \"me:xxxxx@h:x\""),
        ] {
            let job = job(&format!("{{ job_name: a, static_configs: [{{ targets: ['h:1'] }}], relabel_configs: [{rule}] }}"));
            let (found, complaints) = found(&job);
            assert!(found.active.is_empty() && complaints[0].to_string().contains(expect), "{rule}: {complaints:?}");
        }
    }
}
