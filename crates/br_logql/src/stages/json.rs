//! `| json`: every field of the line becomes a label, nested ones joined by `_`; arrays and null are left out.

use super::Stage;
use super::json_scan::{Malformed, Scanner};
use crate::labels::LineLabels;
use crate::pipeline::Line;
use br_model::names::label_name;
use std::borrow::Cow;

pub(super) const ERROR: &str = "JSONParserErr";

pub(super) struct JsonStage;

/// Deeper objects are left out.
const DEPTH_MAX: usize = 32;
/// Fields whose names are longer are left out: the name of an object is written again for each of its fields.
const NAME_BYTES_MAX: usize = 4 << 10;

impl Stage for JsonStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        with_text(line, |text, labels| {
            let mut scanner = Scanner::new(text);
            fields(&mut scanner, "", DEPTH_MAX, labels)?;
            scanner.end()
        });
        true
    }
}

/// Runs a JSON parser over the line and notes its error in the labels.
pub(super) fn with_text<'a>(line: &mut Line<'a>, parse: impl Fn(&str, &mut LineLabels<'a>) -> Result<(), Malformed>) {
    let Line { text, labels, .. } = line;
    if let Err(error) = parse(text, labels) {
        labels.set_error(ERROR, error.to_string());
    }
}

fn fields(scanner: &mut Scanner<'_>, prefix: &str, depth_left: usize, labels: &mut LineLabels<'_>) -> Result<(), Malformed> {
    scanner.object(|scanner, key| match scanner.blank() {
        _ if prefix.len() + key.len() > NAME_BYTES_MAX => scanner.skip().map(drop),
        Some(b'{') if depth_left > 0 => fields(scanner, &joined(prefix, &key), depth_left - 1, labels),
        Some(b'{' | b'[' | b'n') => scanner.skip().map(drop),
        Some(b'"') => {
            let value = scanner.string()?;
            labels.extract(Cow::Owned(joined(prefix, &key)), Cow::Owned(value.into_owned()));
            Ok(())
        }
        _ => {
            let value = scanner.skip()?;
            labels.extract(Cow::Owned(joined(prefix, &key)), Cow::Owned(value.to_owned()));
            Ok(())
        }
    })
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        return label_name(key);
    }
    let mut name = String::with_capacity(prefix.len() + 1 + key.len());
    name.push_str(prefix);
    name.push('_');
    name.extend(key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }));
    name
}
