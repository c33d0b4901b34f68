//! `| unpack`: text fields of a packed JSON line become labels, `_entry` becomes the line.

use super::Stage;
use super::json_scan::Scanner;
use crate::pipeline::Line;
use br_model::names::label_name;
use std::borrow::Cow;

pub(super) struct UnpackStage;

const ENTRY: &str = "_entry";

impl Stage for UnpackStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        let mut entry = None;
        let mut fields = Vec::new();
        let mut scanner = Scanner::new(&line.text);
        let result = scanner.object(|scanner, key| {
            if scanner.blank() != Some(b'"') {
                return scanner.skip().map(drop);
            }
            let value = scanner.string()?.into_owned();
            if key == ENTRY {
                entry = Some(value);
            } else {
                fields.push((label_name(&key), value));
            }
            Ok(())
        });
        if let Err(error) = result.and_then(|()| scanner.end()) {
            line.labels.set_error(super::json::ERROR, error.to_string());
            return true;
        }
        for (name, value) in fields {
            line.labels.extract(Cow::Owned(name), Cow::Owned(value));
        }
        if let Some(entry) = entry {
            line.text = Cow::Owned(entry);
        }
        true
    }
}
