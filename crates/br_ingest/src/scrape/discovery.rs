//! Which targets there are: static groups and files that are read again when they change.

use super::config::{FileSdConfig, Job, TargetGroup};
use super::relabel::relabel;
use br_model::Labels;
use br_std::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One address to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    /// On every series: `job`, `instance` and what relabelling left.
    pub labels: Labels,
    /// As discovered, before relabelling.
    pub discovered: Labels,
}

/// What discovery and relabelling make of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) active: Vec<Target>,
    /// Discovered labels of the targets that relabelling dropped.
    pub(super) dropped: Vec<Labels>,
}

/// Reads the groups that a `file_sd` entry names. A file that cannot be read or parsed keeps its last good groups in `known`,
/// and the complaint is returned.
pub(super) fn read_files(config: &FileSdConfig, known: &mut BTreeMap<PathBuf, Vec<TargetGroup>>) -> Vec<Error> {
    let mut complaints = Vec::new();
    let mut present = Vec::new();
    for pattern in &config.files {
        for path in expand_pattern(Path::new(pattern)) {
            match read_file(&path) {
                Ok(groups) => {
                    known.insert(path.clone(), groups);
                }
                Err(error) => complaints.push(error.context(format!("file_sd {}", path.display()))),
            }
            present.push(path);
        }
    }
    known.retain(|path, _| present.contains(path));
    complaints
}

#[allow(clippy::disallowed_methods, reason = "target files belong to the operator, not to the data directory")]
fn read_file(path: &Path) -> Result<Vec<TargetGroup>> {
    let bytes = std::fs::read(path)?;
    let parsed: Result<Vec<TargetGroup>, String> = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Some("yml" | "yaml") => serde_norway::from_slice(&bytes).map_err(|error| error.to_string()),
        _ => return Err(Error::fix_request("the name must end in .json, .yml or .yaml")),
    };
    let mut groups = parsed.map_err(Error::fix_request)?;
    for (at, group) in groups.iter_mut().enumerate() {
        group.source = format!("{}:{at}", path.display());
    }
    Ok(groups)
}

/// The files that a pattern names: its last part may hold one `*`.
pub fn expand_pattern(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((before, after)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let matching =
        names.filter(|name| name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after));
    let mut paths: Vec<PathBuf> = matching.map(|name| folder.join(name)).collect();
    paths.sort();
    paths
}

/// Turns groups into targets: defaults, relabelling, address checks, duplicates removed.
pub(super) fn targets(job: &Job, groups: &[TargetGroup]) -> (Targets, Vec<Error>) {
    let mut targets = Targets::default();
    let mut complaints = Vec::new();
    for group in groups {
        for address in &group.targets {
            let discovered = discovered_labels(job, group, address);
            match relabel(&job.relabel, discovered.clone()) {
                None => targets.dropped.push(discovered),
                Some(labels) => match target(job, &labels, discovered) {
                    Ok(target) if targets.active.iter().any(|other| other.url == target.url && other.labels == target.labels) => {
                    }
                    Ok(target) => targets.active.push(target),
                    Err(error) => complaints.push(error),
                },
            }
        }
    }
    if job.target_limit > 0 && targets.active.len() as u64 > job.target_limit {
        complaints.push(Error::over_limit(format!(
            "{} targets, target_limit is {}: none is scraped",
            targets.active.len(),
            job.target_limit
        )));
        targets.active.clear();
    }
    (targets, complaints)
}

fn discovered_labels(job: &Job, group: &TargetGroup, address: &str) -> Labels {
    let mut labels = Labels::from_pairs(&group.labels).to_builder();
    labels.set("__address__", address);
    for (name, value) in [
        ("job", job.config.job_name.as_str()),
        ("__scheme__", &job.config.scheme),
        ("__metrics_path__", &job.config.metrics_path),
        ("__scrape_interval__", &br_std::duration::format(job.interval)),
        ("__scrape_timeout__", &br_std::duration::format(job.timeout)),
    ] {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    for (name, values) in &job.config.params {
        if let Some(value) = values.first() {
            labels.set(&format!("__param_{name}"), value);
        }
    }
    if let Some((path, _)) = group.source.rsplit_once(':') {
        labels.set("__meta_filepath", path);
    }
    labels.build()
}

fn target(job: &Job, labels: &Labels, discovered: Labels) -> Result<Target> {
    let address = labels.get("__address__").unwrap_or("");
    if address.is_empty() || address.contains('/') {
        return Err(Error::fix_request(format!(
            "job {:?}: {address:?} is not a valid address: HOST:PORT, without path",
            job.config.job_name
        )));
    }
    let scheme = labels.get("__scheme__").unwrap_or("http");
    let path = labels.get("__metrics_path__").unwrap_or("/metrics");
    let mut url = reqwest::Url::parse(&format!("{scheme}://{address}"))
        .map_err(|error| Error::fix_request(format!("job {:?}: address {address:?}: {error}", job.config.job_name)))?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    url.set_path(path);
    url.set_query((!query.is_empty()).then_some(query));
    for (name, values) in &job.config.params {
        let first = labels.get(&format!("__param_{name}")).map(str::to_owned);
        for value in first.into_iter().chain(values.iter().skip(1).cloned()) {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    let mut builder = labels.to_builder();
    if labels.get("instance").is_none() {
        builder.set("instance", address);
    }
    let labels = builder.build().without(|name| name.starts_with("__"));
    Ok(Target { url: url.to_string(), labels, discovered })
}

#[cfg(test)]
mod tests {
    use super::super::config::{GlobalConfig, ScrapeConfig};
    use super::*;

    fn job(yaml: &str) -> Job {
        Job::new(serde_norway::from_str::<ScrapeConfig>(yaml).expect("yaml"), &GlobalConfig::default()).expect("valid")
    }

    #[test]
    fn labels_and_urls() {
        let job = job("
            job_name: shop
            metrics_path: /m
            params: { x: [a b] }
            static_configs: [{ targets: ['h:1', 'bad/path', 'h:2'], labels: { env: dev } }]
            relabel_configs: [{ source_labels: [__address__], regex: 'h:2', action: drop }]");
        let (found, complaints) = targets(&job, &job.config.static_configs);
        assert_eq!(found.active.len(), 1);
        assert_eq!(found.active[0].url, "http://h:1/m?x=a+b");
        assert_eq!(found.active[0].labels.to_string(), r#"{env="dev", instance="h:1", job="shop"}"#);
        assert_eq!((found.dropped.len(), complaints.len()), (1, 1));
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_targets() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("web.json");
        let config = FileSdConfig {
            files: vec![folder.path().join("*.json").display().to_string()],
            refresh_interval: super::super::config::PromDuration(std::time::Duration::from_secs(1)),
        };
        let mut known = BTreeMap::new();
        write(&path, r#"[{"targets": ["a:1"], "labels": {"x": "y"}}]"#);
        assert!(read_files(&config, &mut known).is_empty());
        write(&path, r#"[{"targets": ["#);
        assert_eq!(read_files(&config, &mut known).len(), 1);
        assert_eq!(known[&path][0].targets, ["a:1"]);
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).expect("temporary file");
    }
}
