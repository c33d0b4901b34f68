//! `| line_format "{{.level}} {{.msg}}"`.

use super::Stage;
use crate::pipeline::Line;
use crate::template::Template;
use std::borrow::Cow;

pub(super) struct LineFormatStage(Template);

impl LineFormatStage {
    pub(super) fn new(template: &str) -> Result<Self, String> {
        Template::parse(template).map(Self)
    }
}

impl Stage for LineFormatStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        match self.0.render(line) {
            Ok(text) => line.text = Cow::Owned(text),
            Err(message) => line.labels.set_error("TemplateFormatErr", message),
        }
        true
    }
}
