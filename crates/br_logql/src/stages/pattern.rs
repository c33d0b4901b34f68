//! `| pattern "<ip> - <_> <status>"`.

use super::Stage;
use crate::pattern::Pattern;
use crate::pipeline::Line;
use std::borrow::Cow;

pub(super) struct PatternStage(Pattern);

impl PatternStage {
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        Pattern::for_parser(pattern).map(Self)
    }
}

impl Stage for PatternStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        let Line { text, labels, .. } = line;
        for (name, value) in self.0.captures(text) {
            labels.extract(Cow::Owned(name.to_owned()), Cow::Owned(value.to_owned()));
        }
        true
    }
}
