//! What the configuration says of files to follow.

use super::chunk::Folding;
use super::pattern::{Expansion, Pattern};
use crate::scrape::PromDuration;
use br_model::TenantId;
use br_std::re2::{Mode, Regex};
use br_std::{Error, Result};
use br_wire::EnrichPolicy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One entry under `bellrock.files`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    paths: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    service: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    format: Format,
    multiline: Option<Multiline>,
    #[serde(default)]
    read_from: ReadFrom,
    ignore_older: Option<PromDuration>,
    tenant: Option<u32>,
}

/// What a file's lines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What its first line says.
    #[default]
    Auto,
    Json,
    Logfmt,
    Text,
    /// Docker's `json-file`.
    Docker,
    /// Kubernetes' container runtime interface.
    Cri,
}

/// Where a file is read from that is met for the first time as the first start looks around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadFrom {
    #[default]
    Beginning,
    End,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Multiline {
    /// `false`: each line is a record.
    Off(bool),
    Rule(MultilineRule),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MultilineRule {
    /// What the first line of a record matches.
    firstline: Option<String>,
    max_lines: Option<usize>,
    max_wait_time: Option<PromDuration>,
}

const LINES_MAX: usize = 500;
const WAIT: Duration = Duration::from_secs(1);
/// Longer than this nobody waits for a line.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Files that are followed in one way.
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<Pattern>,
    exclude: Vec<Pattern>,
    pub(super) service: Option<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) format: Format,
    pub(super) folding: Folding,
    /// How long a record may wait for its next line.
    pub(super) fold_wait: Duration,
    pub(super) is_read_from_end: bool,
    pub(super) ignore_older: Option<Duration>,
    pub(super) tenant: TenantId,
}

impl FilesConfig {
    /// Relative paths count from `folder`.
    pub fn source(&self, folder: &Path) -> Result<FileSource> {
        let patterns = |texts: &[String], is_path: bool| -> Result<Vec<Pattern>> {
            let absolute = |text: &String| {
                if !is_path && !text.contains('/') {
                    return Pattern::new(text);
                }
                Pattern::new(&std::path::absolute(folder.join(text))?.display().to_string())
            };
            texts.iter().map(absolute).collect()
        };
        if self.paths.is_empty() {
            return Err(Error::fix_request("paths: there is none"));
        }
        let (folding, fold_wait) = self.folding()?;
        Ok(FileSource {
            paths: patterns(&self.paths, true).map_err(|error| error.context("paths"))?,
            exclude: patterns(&self.exclude, false).map_err(|error| error.context("exclude"))?,
            service: self.service.clone().filter(|service| !service.is_empty()),
            labels: self.labels.clone().into_iter().collect(),
            format: self.format,
            folding,
            fold_wait,
            is_read_from_end: self.read_from == ReadFrom::End,
            ignore_older: self.ignore_older.map(|age| age.0),
            tenant: TenantId(self.tenant.unwrap_or(1)),
        })
    }

    fn folding(&self) -> Result<(Folding, Duration)> {
        let rule = match &self.multiline {
            None | Some(Multiline::Off(true)) => return Ok((Folding::Tracebacks, WAIT)),
            Some(Multiline::Off(false)) => return Ok((Folding::Off, WAIT)),
            Some(Multiline::Rule(rule)) => rule,
        };
        let wait = rule.max_wait_time.map_or(WAIT, |wait| wait.0).min(WAIT_MAX);
        let Some(pattern) = &rule.firstline else { return Ok((Folding::Tracebacks, wait)) };
        let regex = Regex::new(pattern, Mode::Part).map_err(|error| error.context("multiline.firstline"))?;
        let lines_max = rule.max_lines.unwrap_or(LINES_MAX).max(1);
        Ok((Folding::FirstLine { regex: Arc::new(regex), lines_max }, wait))
    }
}

impl FileSource {
    pub(super) fn expand(&self, paths_max: usize) -> Expansion {
        let mut found = Expansion::new(paths_max);
        for pattern in &self.paths {
            pattern.expand(&mut found);
        }
        found.paths.retain(|path| !self.exclude.iter().any(|pattern| pattern.matches(path)));
        found
    }

    /// Whether a file of this name would be followed.
    pub(super) fn names(&self, path: &Path) -> bool {
        let is_excluded = self.exclude.iter().any(|pattern| pattern.matches(path));
        !is_excluded && self.paths.iter().any(|pattern| pattern.matches(path))
    }

    /// As the configuration has it, for people.
    pub(super) fn shown(&self) -> String {
        self.paths.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
    }

    /// What is looked for in the lines. A container's runtime tells the time of each.
    pub(super) fn policy(&self) -> EnrichPolicy {
        let is_auto = matches!(self.format, Format::Auto | Format::Docker | Format::Cri);
        EnrichPolicy {
            json: is_auto || self.format == Format::Json,
            logfmt: is_auto || self.format == Format::Logfmt,
            trace_ids: true,
            time: !matches!(self.format, Format::Docker | Format::Cri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(yaml: &str) -> Result<FileSource, String> {
        let config: FilesConfig = serde_norway::from_str(yaml).map_err(|error| error.to_string())?;
        config.source(Path::new("/etc/bellrock")).map_err(|error| error.to_string())
    }

    #[test]
    fn entries() {
        let whole = source(
            "{ paths: [logs/*.log, /var/log/a.log], exclude: ['*.bak'], service: shop, labels: { env: prod }, format: text,
               multiline: { firstline: '^\\d', max_lines: 7, max_wait_time: 3s }, read_from: end, ignore_older: 1d, tenant: 2 }",
        )
        .expect("valid");
        assert_eq!(whole.shown(), "/etc/bellrock/logs/*.log, /var/log/a.log");
        assert_eq!((whole.fold_wait, whole.tenant, whole.is_read_from_end), (Duration::from_secs(3), TenantId(2), true));
        assert!(matches!(whole.folding, Folding::FirstLine { lines_max: 7, .. }));
        assert_eq!(whole.policy().to_text(), "trace_ids,time");
        let plain = source("{ paths: [/a] }").expect("valid");
        assert!(matches!(plain.folding, Folding::Tracebacks) && plain.format == Format::Auto);
        assert!(matches!(source("{ paths: [/a], multiline: false }").expect("valid").folding, Folding::Off));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, words) in [
            ("{ paths: [] }", "there is none"),
            ("{ paths: ['/a/**'] }", "the name of a file is missing"),
            ("{ paths: [/a], exclude: ['['] }", "exclude: "),
            ("{ paths: [/a], format: xml }", "xml"),
            ("{ paths: [/a], multiline: { firstline: '(' } }", "multiline.firstline"),
            ("{ path: [/a] }", "path"),
        ] {
            let error = source(yaml).expect_err(yaml);
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }
}
