//! `| regexp "(?P<name>…)"`: named groups become labels.

use super::{Stage, bounded_regex};
use crate::pipeline::Line;
use regex::Regex;
use std::borrow::Cow;

pub(super) struct RegexpStage {
    regex: Regex,
    /// Index of the group and the name of its label.
    groups: Vec<(usize, String)>,
}

impl RegexpStage {
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let regex = bounded_regex(pattern).map_err(|message| {
            if message.contains("duplicate capture group name") {
                format!("duplicate extracted label name: {message}")
            } else {
                message
            }
        })?;
        let groups: Vec<(usize, String)> =
            regex.capture_names().enumerate().filter_map(|(at, name)| name.map(|name| (at, name.to_owned()))).collect();
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
                    labels.extract(Cow::Owned(name.clone()), Cow::Owned(value.as_str().to_owned()));
                }
            }
        }
        true
    }
}
