//! `| drop a, b="x"` and `| keep a, b=~"x.*"`.

use super::Stage;
use crate::ast::LabelChoice;
use crate::labels::{ERROR, ERROR_DETAILS};
use crate::pipeline::Line;

pub(super) struct DropStage(pub(super) Vec<LabelChoice>);

pub(super) struct KeepStage(pub(super) Vec<LabelChoice>);

fn chosen(choices: &[LabelChoice], name: &str, value: &str) -> bool {
    choices.iter().any(|choice| match choice {
        LabelChoice::Name(wanted) => wanted == name,
        LabelChoice::Matching(matcher) => matcher.name == name && matcher.matches(value),
    })
}

impl Stage for DropStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        line.labels.retain(|name, value| !chosen(&self.0, name, value));
        true
    }
}

/// The marks of an error stay in any case.
impl Stage for KeepStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        line.labels.retain(|name, value| matches!(name, ERROR | ERROR_DETAILS) || chosen(&self.0, name, value));
        true
    }
}
