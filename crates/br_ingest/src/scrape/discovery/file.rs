//! Files of target groups, read again when they change.

use super::{Found, Source, TargetGroup};
use crate::scrape::config::{FileSdConfig, StaticConfig};
use br_std::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files are small: looking every few seconds is cheaper than missing a change for five minutes.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Some hundred thousand targets.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) fn check(config: &FileSdConfig) -> Result<()> {
    if config.files.is_empty() {
        return Err(Error::fix_request("files is empty"));
    }
    for file in &config.files {
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or("");
        if !matches!(extension, "json" | "yml" | "yaml") {
            return Err(Error::fix_request(format!("the name {file:?} must end in .json, .yml or .yaml")));
        }
    }
    Ok(())
}

pub(super) struct Files {
    config: FileSdConfig,
    /// The last good groups of each file.
    known: BTreeMap<PathBuf, Vec<TargetGroup>>,
}

impl Files {
    pub(super) fn new(config: FileSdConfig) -> Self {
        Self { config, known: BTreeMap::new() }
    }

    fn read(&mut self) -> Found {
        let mut complaints = Vec::new();
        let mut present = Vec::new();
        for pattern in &self.config.files {
            for path in expand_pattern(Path::new(pattern)) {
                match read_file(&path) {
                    Ok(groups) => {
                        self.known.insert(path.clone(), groups);
                    }
                    Err(error) => complaints.push(error.context(path.display())),
                }
                present.push(path);
            }
        }
        self.known.retain(|path, _| present.contains(path));
        Found { groups: self.known.values().flatten().cloned().collect(), complaints }
    }
}

impl Source for Files {
    /// Beside the runtime: the files may lie on a disk of the network.
    async fn look(&mut self) -> Result<Found> {
        let mut files = Self { config: self.config.clone(), known: std::mem::take(&mut self.known) };
        let read = tokio::task::spawn_blocking(move || {
            let found = files.read();
            (files, found)
        });
        let (files, found) = read.await.map_err(|error| Error::corrupt(format!("reading files of targets: {error}")))?;
        self.known = files.known;
        Ok(found)
    }

    fn interval(&self) -> Duration {
        self.config.refresh_interval.0.min(LOOK_INTERVAL_MAX)
    }
}

#[allow(clippy::disallowed_methods, reason = "target files belong to the operator, not to the data directory")]
fn read_file(path: &Path) -> Result<Vec<TargetGroup>> {
    let metadata = std::fs::metadata(path)?;
    // One that is no file may never end, or never begin.
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(Error::fix_request(format!("no file, or one of more than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path)?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let parsed: Result<Option<Vec<StaticConfig>>, String> = if is_json {
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    } else {
        serde_norway::from_slice(&bytes).map_err(|error| error.to_string())
    };
    let groups = parsed.map_err(Error::fix_request)?.unwrap_or_default();
    let group = |group: StaticConfig| {
        let mut found = TargetGroup::of_addresses(&group.targets, &group.labels);
        found.labels.insert("__meta_filepath".into(), path.display().to_string());
        found
    };
    Ok(groups.into_iter().map(group).collect())
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

#[cfg(test)]
mod tests {
    use super::super::super::values::PromDuration;
    use super::*;

    #[test]
    fn a_broken_file_keeps_its_last_good_targets() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("web.json");
        let pattern = folder.path().join("*.json").display().to_string();
        let config = FileSdConfig { files: vec![pattern], refresh_interval: PromDuration(Duration::from_secs(1)) };
        check(&config).expect("a JSON file");
        let mut files = Files::new(config);
        write(&path, r#"[{"targets": ["a:1"], "labels": {"x": "y"}}]"#);
        let good = files.read();
        assert!(good.complaints.is_empty());
        assert_eq!(good.groups[0].labels["__meta_filepath"], path.display().to_string());
        write(&path, r#"[{"targets": ["#);
        let bad = files.read();
        assert_eq!((bad.complaints.len(), &bad.groups), (1, &good.groups));
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).expect("temporary file");
    }
}
