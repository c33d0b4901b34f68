//! What is masked: the part of the configuration, and `bellrock redact`, which shows what it does.

use crate::config::Config;
use anyhow::{Context, Result, bail};
use br_ingest::redaction::RedactionOptions;
use br_redact::{Action, Exception, Pattern, Policy, RULES, Redactor, Shape};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RedactionConfig {
    enabled: bool,
    /// Count only.
    dry_run: bool,
    mask: Mask,
    hash_key: Option<Secret>,
    hash_key_file: Option<PathBuf>,
    /// Rules by name, on or off.
    rules: BTreeMap<String, bool>,
    /// Further names whose values are secret.
    keys: Vec<String>,
    patterns: Vec<PatternConfig>,
    exceptions: Vec<ExceptionConfig>,
}

impl Default for RedactionConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dry_run: false,
            mask: Mask::Name,
            hash_key: None,
            hash_key_file: None,
            rules: BTreeMap::new(),
            keys: Vec::new(),
            patterns: Vec::new(),
            exceptions: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mask {
    Name,
    Hash,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Secret(String);

/// It is never printed.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternConfig {
    name: String,
    regex: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ExceptionConfig {
    service: Option<String>,
    key: Option<String>,
    rules: Vec<String>,
}

impl RedactionConfig {
    /// An error says what of it cannot be.
    pub(crate) fn options(&self) -> Result<RedactionOptions> {
        // What is switched off must be right too: it will be switched on one day.
        let redactor = Redactor::new(&self.policy()?).context("bellrock.redaction")?;
        Ok(RedactionOptions::new(self.enabled.then_some(redactor), self.dry_run))
    }

    fn policy(&self) -> Result<Policy> {
        let (action, hash_key) = match self.mask {
            Mask::Name => (Action::Mask, Vec::new()),
            Mask::Hash => (Action::Hash, self.hash_key()?),
        };
        let pattern = |PatternConfig { name, regex }| Pattern { name, regex };
        let exception = |ExceptionConfig { service, key, rules }| Exception { service, key, rules };
        Ok(Policy {
            rules: self.rules.clone(),
            keys: self.keys.clone(),
            patterns: self.patterns.iter().cloned().map(pattern).collect(),
            exceptions: self.exceptions.iter().cloned().map(exception).collect(),
            action,
            hash_key,
        })
    }

    #[allow(clippy::disallowed_methods, reason = "a secret lies outside the data directory")]
    fn hash_key(&self) -> Result<Vec<u8>> {
        match (&self.hash_key, &self.hash_key_file) {
            (Some(Secret(key)), None) => Ok(key.clone().into_bytes()),
            (None, Some(file)) => {
                let key = std::fs::read_to_string(file);
                let key = key.with_context(|| format!("bellrock.redaction.hash_key_file: cannot read {}", file.display()))?;
                Ok(key.trim().to_owned().into_bytes())
            }
            _ => bail!("bellrock.redaction: mask: hash needs either hash_key or hash_key_file"),
        }
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct RedactArguments {
    /// What to look at; without it what is piped in.
    file: Option<PathBuf>,
    /// The configuration whose policy applies; without it the one that a server has by itself.
    #[arg(long, env = "BELLROCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print only how many values each rule found.
    #[arg(long)]
    counts: bool,
    /// List the rules, and which of them apply.
    #[arg(long)]
    rules: bool,
}

/// Prints the text with its mask, and on stderr what was found.
pub(crate) fn redact(arguments: &RedactArguments) -> Result<()> {
    let config = arguments.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
    let redactor = Redactor::new(&config.bellrock.redaction.policy()?).context("bellrock.redaction")?;
    if arguments.rules {
        list(&redactor);
        return Ok(());
    }
    let text = input(arguments)?;
    let shape = if matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) { Shape::Json } else { Shape::Text };
    let redacted = redactor.redact(&text, shape);
    if arguments.counts {
        for (rule, count) in &redacted.counts {
            println!("{rule:<20} {count:>8}");
        }
        return Ok(());
    }
    std::io::stdout().lock().write_all(redacted.body.as_ref().unwrap_or(&text))?;
    for (rule, count) in &redacted.counts {
        eprintln!("{rule:<20} {count:>8}");
    }
    Ok(())
}

fn list(redactor: &Redactor) {
    let active = redactor.active_rules();
    let state = |name: &str| if active.contains(&name) { "on" } else { "off" };
    for rule in RULES {
        println!("{:<16} {:<4} {}", rule.name, state(rule.name), rule.about);
    }
    for name in active.iter().filter(|name| !RULES.iter().any(|rule| rule.name == **name)) {
        println!("{name:<16} on   a pattern of the configuration");
    }
}

#[allow(clippy::disallowed_methods, reason = "what a user names lies outside the data directory")]
fn input(arguments: &RedactArguments) -> Result<Vec<u8>> {
    let Some(file) = &arguments.file else {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).context("cannot read stdin")?;
        return Ok(text);
    };
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
