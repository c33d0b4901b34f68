//! Relabelling: rules that rewrite a label set, or drop what carries it.
//!
//! Source: Prometheus' configuration documentation, `relabel_config`.

use br_model::{Labels, LabelsBuilder};
use br_std::re2::{Captures, Mode, Regex};
use br_std::text::BoundedText;
use br_std::{Error, Result};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// The longest label that a rule makes.
const LABEL_BYTES_MAX: usize = 1 << 20;

/// A rule as written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    pub source_labels: Vec<String>,
    pub separator: String,
    pub regex: String,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: String,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".into(),
            regex: "(.*)".into(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".into(),
            action: "replace".into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// A rule that is ready to run.
#[derive(Clone, Debug)]
pub struct Relabel {
    action: Action,
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    replacement: String,
}

impl Relabel {
    pub fn compile(config: &RelabelConfig) -> Result<Self> {
        let action = action(&config.action)?;
        let needs_target = matches!(
            action,
            Action::Replace | Action::HashMod | Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual
        );
        if needs_target && config.target_label.is_empty() {
            return Err(Error::fix_request(format!("relabel action {:?} needs target_label", config.action)));
        }
        if action == Action::HashMod && config.modulus == 0 {
            return Err(Error::fix_request("relabel action \"hashmod\" needs modulus"));
        }
        let regex = Regex::new(&config.regex, Mode::Whole)
            .map_err(|error| Error::fix_request(format!("relabel regex {:?}: {error}", config.regex)))?;
        Ok(Self {
            action,
            source_labels: config.source_labels.clone(),
            separator: config.separator.clone(),
            regex,
            modulus: config.modulus,
            target_label: config.target_label.clone(),
            replacement: config.replacement.clone(),
        })
    }

    pub fn compile_all(configs: &[RelabelConfig]) -> Result<Vec<Self>> {
        configs.iter().map(Self::compile).collect()
    }

    /// Rewrites `labels`; false when what carries them is to be dropped.
    pub(super) fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let values: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name).unwrap_or("")).collect();
        let source = values.join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&source),
            Action::Drop => return !self.regex.is_match(&source),
            Action::KeepEqual => return labels.get(&self.target_label).unwrap_or("") == source,
            Action::DropEqual => return labels.get(&self.target_label).unwrap_or("") != source,
            Action::Replace => self.replace(&source, labels),
            Action::HashMod => {
                labels.set(&self.target_label, &(hash(&source) % self.modulus).to_string());
            }
            Action::Lowercase => {
                labels.set(&self.target_label, &source.to_lowercase());
            }
            Action::Uppercase => {
                labels.set(&self.target_label, &source.to_uppercase());
            }
            Action::LabelMap => self.map_names(labels),
            Action::LabelDrop => self.remove_names(labels, true),
            Action::LabelKeep => self.remove_names(labels, false),
        }
        true
    }

    fn replace(&self, source: &str, labels: &mut LabelsBuilder) {
        let Some(captures) = self.regex.captures(source) else { return };
        let (target, value) = (expanded(&self.target_label, &captures), expanded(&self.replacement, &captures));
        if !target.is_empty() {
            labels.set(&target, &value);
        }
    }

    fn map_names(&self, labels: &mut LabelsBuilder) {
        for (name, value) in labels.clone().build().iter() {
            if let Some(captures) = self.regex.captures(name) {
                let target = expanded(&self.replacement, &captures);
                labels.set(&target, value);
            }
        }
    }

    fn remove_names(&self, labels: &mut LabelsBuilder, matching: bool) {
        for (name, _) in labels.clone().build().iter() {
            if self.regex.is_match(name) == matching {
                labels.remove(name);
            }
        }
    }
}

/// A template with what the groups found; what is longer than any label may be ends there.
fn expanded(template: &str, captures: &Captures<'_, '_>) -> String {
    let mut text = BoundedText::new(LABEL_BYTES_MAX);
    let _ = text.push_expanded(template, &|name| captures.group(name));
    text.into_string()
}

/// Runs the rules in order. `None` when one of them drops.
pub fn relabel(rules: &[Relabel], labels: Labels) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels);
    }
    let mut builder = labels.to_builder();
    rules.iter().all(|rule| rule.apply(&mut builder)).then(|| builder.build())
}

fn action(name: &str) -> Result<Action> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "replace" | "" => Action::Replace,
        "keep" => Action::Keep,
        "drop" => Action::Drop,
        "keepequal" => Action::KeepEqual,
        "dropequal" => Action::DropEqual,
        "hashmod" => Action::HashMod,
        "labelmap" => Action::LabelMap,
        "labeldrop" => Action::LabelDrop,
        "labelkeep" => Action::LabelKeep,
        "lowercase" => Action::Lowercase,
        "uppercase" => Action::Uppercase,
        _ => return Err(Error::fix_request(format!("unknown relabel action {name:?}"))),
    })
}

/// The last eight bytes of the MD5 sum, as Prometheus takes them: shards must agree between the two.
fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    digest[8..].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, input: &[(&str, &str)], expect: Option<&[(&str, &str)]>) {
        let configs: Vec<RelabelConfig> = serde_norway::from_str(config).expect("yaml");
        let rules = Relabel::compile_all(&configs).expect("valid");
        let result = relabel(&rules, Labels::from_pairs(input.iter().copied()));
        assert_eq!(result, expect.map(|pairs| Labels::from_pairs(pairs.iter().copied())), "{config}");
    }

    #[test]
    fn actions() {
        check(
            "[{source_labels: [a, b], target_label: c}]",
            &[("a", "1"), ("b", "2")],
            Some(&[("a", "1"), ("b", "2"), ("c", "1;2")]),
        );
        check(
            "[{source_labels: [a], regex: 'f(.*)', target_label: '${1}_x', replacement: 'v'}]",
            &[("a", "foo")],
            Some(&[("a", "foo"), ("oo_x", "v")]),
        );
        check(
            "[{source_labels: [a], regex: '(\\d)[a&&b](?P<n>.)', target_label: b, replacement: '$n$1'}]",
            &[("a", "1&x")],
            Some(&[("a", "1&x"), ("b", "x1")]),
        );
        check("[{source_labels: [a], regex: '\\d', action: keep}]", &[("a", "٣")], None);
        check("[{source_labels: [a], regex: 'x', action: keep}]", &[("a", "y")], None);
        check("[{source_labels: [a], regex: 'x', action: drop}]", &[("a", "x")], None);
        check("[{source_labels: [a], target_label: b, action: dropequal}]", &[("a", "x"), ("b", "x")], None);
        check(
            "[{regex: '__meta_(.+)', action: labelmap}]",
            &[("__meta_zone", "z")],
            Some(&[("__meta_zone", "z"), ("zone", "z")]),
        );
        check("[{regex: 'a.*', action: labeldrop}]", &[("aa", "1"), ("b", "2")], Some(&[("b", "2")]));
        check("[{regex: 'a.*', action: labelkeep}]", &[("aa", "1"), ("b", "2")], Some(&[("aa", "1")]));
        check("[{source_labels: [a], target_label: a, action: uppercase}]", &[("a", "q")], Some(&[("a", "Q")]));
        check("[{source_labels: [a], target_label: a, replacement: ''}]", &[("a", "q")], Some(&[]));
    }

    #[test]
    fn shards_as_prometheus_does() {
        // From the documentation's shape: md5("foo") ends in ...; the remainder is what Prometheus' own tests expect for "foo" mod 1000.
        check(
            "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
            &[("c", "baz")],
            Some(&[("c", "baz"), ("d", "976")]),
        );
    }

    #[test]
    fn refuses() {
        for config in
            ["{action: replace}", "{action: hashmod, target_label: a}", "{action: nothing}", "{regex: '(', target_label: a}"]
        {
            let config: RelabelConfig = serde_norway::from_str(config).expect("yaml");
            assert!(Relabel::compile(&config).is_err(), "{config:?}");
        }
    }
}
