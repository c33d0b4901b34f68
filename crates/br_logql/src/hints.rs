//! What a store may skip: conditions that follow from a query's stages.

use crate::ast::{LabelFilter, LineOp, LineOperand, LogExpr, StageKind};
use crate::pattern::Pattern;
use br_model::TraceId;
use br_std::re2::{Mode, required_literal};
use br_storage::{Direction, LogHint, LogQuery, MatchOp, TimeRange};

/// The question to the store for this log query.
pub fn log_query(log: &LogExpr, range: TimeRange, direction: Direction, rows_wanted: Option<usize>) -> LogQuery {
    let keeps_all = log.stages.iter().all(|stage| !matches!(stage.kind, StageKind::LineFilter(_) | StageKind::LabelFilter(_)));
    LogQuery {
        range,
        streams: log.matchers.clone(),
        kind: None,
        hints: log_hints(log),
        direction,
        rows_wanted: rows_wanted.filter(|_| keeps_all),
    }
}

/// Conditions that every row satisfies which the query keeps.
pub fn log_hints(log: &LogExpr) -> Vec<LogHint> {
    let mut hints = Vec::new();
    let mut line_is_original = true;
    let mut labels_are_original = true;
    for stage in &log.stages {
        match &stage.kind {
            StageKind::LineFilter(filter) if line_is_original => {
                if let [LineOperand::Text(text)] = filter.operands.as_slice() {
                    hints.extend(line_literal(filter.op, text).map(LogHint::LineContains));
                }
            }
            StageKind::LabelFilter(filter) if labels_are_original => label_hints(filter, &mut hints),
            StageKind::LineFormat(_) | StageKind::Decolorize => line_is_original = false,
            StageKind::Unpack => {
                line_is_original = false;
                labels_are_original = false;
            }
            StageKind::Json(_)
            | StageKind::Logfmt { .. }
            | StageKind::Regexp(_)
            | StageKind::Pattern(_)
            | StageKind::LabelFormat(_)
            | StageKind::Drop(_)
            | StageKind::Keep(_) => labels_are_original = false,
            StageKind::LineFilter(_) | StageKind::LabelFilter(_) | StageKind::Unwrap(_) => {}
        }
    }
    hints
}

fn line_literal(op: LineOp, text: &str) -> Option<String> {
    let literal = match op {
        LineOp::Contains => text.to_owned(),
        LineOp::Regex => required_literal(text, Mode::Part)?,
        LineOp::Pattern => Pattern::for_filter(text).ok()?.longest_literal()?.to_owned(),
        LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern => return None,
    };
    (!literal.is_empty()).then_some(literal)
}

fn label_hints(filter: &LabelFilter, hints: &mut Vec<LogHint>) {
    match filter {
        LabelFilter::And(left, right) => {
            label_hints(left, hints);
            label_hints(right, hints);
        }
        LabelFilter::Text(matcher) if matcher.op == MatchOp::Equal && !matcher.value.is_empty() => {
            let name = matcher.name.as_str();
            let is_computed = name.starts_with("__") || name.ends_with("_extracted") || name == "detected_level";
            if is_computed {
                return;
            }
            if name == "trace_id"
                && matcher.value.len() == 32
                && let Some(id) = TraceId::from_hex(&matcher.value)
            {
                hints.push(LogHint::TraceId(id));
                return;
            }
            hints.push(LogHint::AttributeEquals { name: name.to_owned(), value: matcher.value.clone() });
        }
        _ => {}
    }
}
