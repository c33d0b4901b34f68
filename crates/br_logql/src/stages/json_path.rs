//! `| json a="x.y[0]", b`: only the named fields.

use super::Stage;
use super::json_scan::{Malformed, Scanner};
use crate::ast::Extraction;
use crate::pipeline::Line;
use std::borrow::Cow;

pub(super) struct JsonPathStage {
    fields: Vec<(String, Vec<Step>)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

impl JsonPathStage {
    pub(super) fn new(extractions: &[Extraction]) -> Result<Self, String> {
        let field = |extraction: &Extraction| {
            let path = path(&extraction.source)
                .ok_or_else(|| format!("cannot parse expression [{}]: expecting a path such as a.b[0]", extraction.source))?;
            Ok((extraction.name.clone(), path))
        };
        Ok(Self { fields: extractions.iter().map(field).collect::<Result<_, String>>()? })
    }
}

impl Stage for JsonPathStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        for (name, path) in &self.fields {
            super::json::with_text(line, |text, labels| {
                if Scanner::new(text).blank() != Some(b'{') {
                    return Scanner::new(text).object(|_, _| Ok(()));
                }
                let value = find(text, path)?.map_or(Ok(Cow::Borrowed("")), text_of)?;
                labels.extract(Cow::Owned(name.clone()), Cow::Owned(value.into_owned()));
                Ok(())
            });
        }
        true
    }
}

/// A string without its quotes, nothing for null, everything else as written.
fn text_of(value: &str) -> Result<Cow<'_, str>, Malformed> {
    if value.starts_with('"') {
        Scanner::new(value).string()
    } else {
        Ok(Cow::Borrowed(if value == "null" { "" } else { value }))
    }
}

/// The value at a path, as written.
fn find<'a>(text: &'a str, path: &[Step]) -> Result<Option<&'a str>, Malformed> {
    let mut value = text;
    for step in path {
        let mut found = None;
        let mut scanner = Scanner::new(value);
        match (step, scanner.blank()) {
            (Step::Key(wanted), Some(b'{')) => scanner.object(|scanner, key| {
                let field = scanner.skip()?;
                if found.is_none() && key == wanted.as_str() {
                    found = Some(field);
                }
                Ok(())
            })?,
            (Step::Index(wanted), Some(b'[')) => scanner.array(|scanner, index| {
                let element = scanner.skip()?;
                if index == *wanted {
                    found = Some(element);
                }
                Ok(())
            })?,
            _ => {}
        }
        let Some(next) = found else { return Ok(None) };
        value = next;
    }
    Ok(Some(value))
}

/// Reads `a.b[0]["c d"]`.
fn path(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            if inside.starts_with('"') {
                let (key, length) = crate::lexer::unquote_prefix(inside).ok()?;
                steps.push(Step::Key(key));
                rest = inside[length..].strip_prefix(']')?;
            } else {
                let (index, after) = inside.split_once(']')?;
                steps.push(Step::Index(index.parse().ok()?));
                rest = after;
            }
            continue;
        }
        if !steps.is_empty() {
            rest = rest.strip_prefix('.')?;
        }
        let length =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || *byte >= 0x80).count();
        if length == 0 {
            return None;
        }
        steps.push(Step::Key(rest[..length].to_owned()));
        rest = &rest[length..];
    }
    (!steps.is_empty()).then_some(steps)
}
