//! `| regexp "(?P<name>…)"`: named groups become labels.

use super::{Stage, bounded_regex};
use crate::pipeline::Line;
use br_std::re2::{Mode, Regex};
use std::borrow::Cow;
use std::collections::HashSet;

pub(super) struct RegexpStage {
    regex: Regex,
    /// Index of the group and the name of its label.
    groups: Vec<(usize, String)>,
}

impl RegexpStage {
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let regex = bounded_regex(pattern, Mode::Part)?;
        let groups: Vec<(usize, String)> =
            regex.group_names().enumerate().filter_map(|(at, name)| name.map(|name| (at + 1, name.to_owned()))).collect();
        let mut known = HashSet::new();
        if let Some((_, name)) = groups.iter().find(|(_, name)| !known.insert(name)) {
            return Err(format!("duplicate extracted label name '{name}'"));
        }
        if groups.is_empty() {
            return Err("at least one named capture must be supplied".to_owned());
        }
        Ok(Self { regex, groups })
    }
}

impl Stage for RegexpStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        let Line { text, labels, .. } = line;
        if let Some(captures) = self.regex.captures(text) {
            for (at, name) in &self.groups {
                if let Some(value) = captures.get(*at) {
                    labels.extract(Cow::Owned(name.clone()), Cow::Owned(value.to_owned()));
                }
            }
        }
        true
    }
}
