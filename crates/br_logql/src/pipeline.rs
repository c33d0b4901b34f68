//! A log query's stages, compiled: what a line goes through.

use crate::ast::{LogExpr, StageKind};
use crate::hints::changes_line;
use crate::labels::{LineLabels, Origin};
use crate::stages::{self, Stage};
use br_model::Labels;
use br_storage::{Budget, LineTest, LogRow, Matcher};
use std::borrow::Cow;
use std::ops::Range;

/// Compiled once, used for each row.
pub struct Pipeline {
    matchers: Vec<Matcher>,
    /// Of the line as it came. It does not matter where they stand among stages that leave it as it is: they are first.
    line_tests: Vec<LineTest>,
    stages: Vec<Box<dyn Stage>>,
    /// Of the stages, those before and including the unwrap stage.
    unwrap: Option<stages::UnwrapStage>,
    after_unwrap: Vec<Box<dyn Stage>>,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Processed {
    /// All labels: of the stream, of the record, and those that stages found.
    pub labels: Labels,
    pub line: String,
}

/// A line between two stages.
pub(crate) struct Line<'a> {
    pub(crate) row: &'a LogRow,
    /// What a stage that can take long looks at on its way. Whoever runs the pipeline finds out between two rows.
    pub(crate) budget: &'a Budget,
    pub(crate) text: Cow<'a, str>,
    pub(crate) labels: LineLabels<'a>,
}

impl Line<'_> {
    pub(crate) fn labels_of(&self, origin: Origin) -> Labels {
        self.labels.build_origin(origin)
    }
}

impl Pipeline {
    /// Prepares the stages of `log`. The error says which bytes of the query are wrong, and why.
    pub fn compile(log: &LogExpr) -> Result<Self, (Range<usize>, String)> {
        let mut pipeline = Self {
            matchers: log.matchers.clone(),
            line_tests: Vec::new(),
            stages: Vec::new(),
            unwrap: None,
            after_unwrap: Vec::new(),
        };
        let mut line_is_original = true;
        for stage in &log.stages {
            let wrong = |message| (stage.span.clone(), message);
            match &stage.kind {
                StageKind::LineFilter(filter) if line_is_original => {
                    pipeline.line_tests.extend(stages::line_tests(filter).map_err(wrong)?);
                }
                StageKind::Unwrap(_) if pipeline.unwrap.is_some() => return Err(wrong("only one unwrap is allowed".to_owned())),
                StageKind::Unwrap(unwrap) => pipeline.unwrap = Some(stages::UnwrapStage::new(unwrap)),
                kind => {
                    let compiled = stages::compile(kind).map_err(wrong)?;
                    let list = if pipeline.unwrap.is_some() { &mut pipeline.after_unwrap } else { &mut pipeline.stages };
                    list.push(compiled);
                }
            }
            line_is_original &= !changes_line(&stage.kind);
        }
        Ok(pipeline)
    }

    /// The tests of the line, for a store that applies them: the pipeline does not do so any more.
    pub(crate) fn take_line_tests(&mut self) -> Vec<LineTest> {
        std::mem::take(&mut self.line_tests)
    }

    /// Whether the row's stream is selected. A store that was asked with the same matchers has seen to that already.
    pub fn selects(&self, stream: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(stream))
    }

    /// Runs the stages over one row of a selected stream; `None` when a filter drops it.
    /// A stage that works on one row for long stops when `budget` says so: look at it after each row.
    pub fn process(&self, row: &LogRow, budget: &Budget) -> Option<Processed> {
        let line = self.run(row, budget)?;
        Some(Processed { labels: line.labels.build(), line: line.text.into_owned() })
    }

    pub(crate) fn run<'a>(&self, row: &'a LogRow, budget: &'a Budget) -> Option<Line<'a>> {
        if !self.line_tests.iter().all(|test| test.holds(&row.line)) {
            return None;
        }
        let mut line = Line { row, budget, text: Cow::Borrowed(&row.line), labels: LineLabels::new(row) };
        self.stages.iter().all(|stage| stage.process(&mut line)).then_some(line)
    }

    /// As [`Self::run`], with the number that the unwrap stage finds. Without such a stage the number is 1.
    pub(crate) fn sample<'a>(&self, row: &'a LogRow, budget: &'a Budget) -> Option<(Line<'a>, f64)> {
        let mut line = self.run(row, budget)?;
        let Some(unwrap) = &self.unwrap else { return Some((line, 1.0)) };
        let value = unwrap.take(&mut line)?;
        self.after_unwrap.iter().all(|stage| stage.process(&mut line)).then_some((line, value))
    }
}
