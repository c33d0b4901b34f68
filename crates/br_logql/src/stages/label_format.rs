//! `| label_format new=old, text="{{.a}}"`.

use super::Stage;
use crate::ast::LabelFormat;
use crate::pipeline::Line;
use crate::template::Template;

pub(super) struct LabelFormatStage(Vec<Format>);

enum Format {
    Rename { to: String, from: String },
    Template { to: String, template: Template },
}

impl LabelFormatStage {
    pub(super) fn new(formats: &[LabelFormat]) -> Result<Self, String> {
        let compile = |format: &LabelFormat| {
            Ok(match format {
                LabelFormat::Rename { to, from } => Format::Rename { to: to.clone(), from: from.clone() },
                LabelFormat::Template { to, template } => {
                    Format::Template { to: to.clone(), template: Template::parse(template)? }
                }
            })
        };
        Ok(Self(formats.iter().map(compile).collect::<Result<_, String>>()?))
    }
}

impl Stage for LabelFormatStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        for format in &self.0 {
            match format {
                Format::Rename { to, from } => {
                    if let Some(value) = line.labels.get(from).map(str::to_owned) {
                        line.labels.set(to, value);
                        line.labels.remove(from);
                    }
                }
                Format::Template { to, template } => match template.render(line) {
                    Ok(value) => line.labels.set(to, value),
                    Err(message) => line.labels.set_error("TemplateFormatErr", message),
                },
            }
        }
        true
    }
}
