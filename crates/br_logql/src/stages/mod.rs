//! One file per stage, one line each in [`compile`].

mod decolorize;
mod json;
mod json_path;
mod json_scan;
mod label_choice;
mod label_filter;
mod label_format;
mod line_filter;
mod line_format;
mod logfmt;
mod pattern;
mod regexp;
mod unpack;
mod unwrap;

pub(crate) use json_scan::Scanner;
pub(crate) use line_filter::line_tests;
pub(crate) use unwrap::UnwrapStage;

use crate::ast::StageKind;
use crate::pipeline::Line;
use br_std::re2::{Mode, Regex};
use std::borrow::Cow;

/// One step of a pipeline.
pub(crate) trait Stage: Send + Sync {
    /// Changes the line or its labels; false drops it.
    fn process(&self, line: &mut Line<'_>) -> bool;
}

/// The pairs of a line of logfmt; an error says what is wrong with one.
pub(crate) fn logfmt_pairs(line: &str) -> impl Iterator<Item = Result<(&str, Cow<'_, str>), String>> {
    logfmt::pairs(line)
}

/// The unwrap stage is not among them: it ends in a number.
pub(crate) fn compile(kind: &StageKind) -> Result<Box<dyn Stage>, String> {
    Ok(match kind {
        StageKind::LineFilter(filter) => Box::new(line_filter::LineFilterStage(line_tests(filter)?)),
        StageKind::Json(extractions) if extractions.is_empty() => Box::new(json::JsonStage),
        StageKind::Json(extractions) => Box::new(json_path::JsonPathStage::new(extractions)?),
        StageKind::Logfmt { strict, keep_empty, extractions } => {
            Box::new(logfmt::LogfmtStage::new(*strict, *keep_empty, extractions))
        }
        StageKind::Regexp(pattern) => Box::new(regexp::RegexpStage::new(pattern)?),
        StageKind::Pattern(pattern) => Box::new(pattern::PatternStage::new(pattern)?),
        StageKind::Unpack => Box::new(unpack::UnpackStage),
        StageKind::LabelFilter(filter) => Box::new(label_filter::LabelFilterStage::new(filter)?),
        StageKind::LineFormat(template) => Box::new(line_format::LineFormatStage::new(template)?),
        StageKind::LabelFormat(formats) => Box::new(label_format::LabelFormatStage::new(formats)?),
        StageKind::Decolorize => Box::new(decolorize::DecolorizeStage),
        StageKind::Drop(choices) => Box::new(label_choice::DropStage(choices.clone())),
        StageKind::Keep(choices) => Box::new(label_choice::KeepStage(choices.clone())),
        StageKind::Unwrap(_) => return Err("unwrap is only allowed inside a range aggregation".to_owned()),
    })
}

/// A compiled regular expression may take this many bytes. Nothing can stop a match on its way: its time is that of the text
/// times the size of the expression.
const REGEX_BYTES_MAX: usize = 256 << 10;

pub(crate) fn bounded_regex(pattern: &str, mode: Mode) -> Result<Regex, String> {
    Regex::with_size(pattern, mode, REGEX_BYTES_MAX).map_err(|error| error.message().to_owned())
}
