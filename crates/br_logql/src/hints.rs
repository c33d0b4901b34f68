//! What a query asks of the store: conditions that follow from its stages, and what of a row it looks at.

use crate::ast::{
    CompareOp, Conversion, Grouping, LabelChoice, LabelFilter, LabelFormat, LineFilter, LineOp, LineOperand, LogExpr, Quantity,
    RangeAggregation, RangeOp, StageKind, Unwrap,
};
use crate::pattern::Pattern;
use br_model::TraceId;
use br_std::re2::{Mode, globs, required_literals};
use br_storage::{Derived, Direction, LineNeed, LogHint, LogNeeds, LogQuery, MatchOp, Matcher, TimeRange};
use std::collections::BTreeSet;

/// Hints of one query, at most: each is looked up.
const HINTS_MAX: usize = 64;
/// Alternatives of one hint, at most.
const ALTERNATIVES_MAX: usize = 16;
/// A shorter value is in every page.
const VALUE_BYTES_MIN: usize = 3;

/// The question to the store for this log query. The pipeline adds its line tests.
pub(crate) fn log_query(log: &LogExpr, range: TimeRange, direction: Direction, rows_wanted: Option<usize>) -> LogQuery {
    let rows_wanted = rows_wanted.filter(|_| drops_nothing(log));
    LogQuery { streams: log.matchers.clone(), hints: log_hints(log), direction, rows_wanted, ..LogQuery::new(range) }
}

/// The same for the rows of a range aggregation.
pub(crate) fn metric_query(aggregation: &RangeAggregation, grouping: Option<&Grouping>, range: TimeRange) -> LogQuery {
    let needs = metric_needs(aggregation, grouping);
    LogQuery { needs, ..log_query(&aggregation.log, range, Direction::Forward, None) }
}

/// Whether only the number of rows and the bytes of their lines make the samples.
pub(crate) fn only_counts(aggregation: &RangeAggregation) -> bool {
    let of_rows = matches!(
        aggregation.op,
        RangeOp::Rate | RangeOp::CountOverTime | RangeOp::BytesRate | RangeOp::BytesOverTime | RangeOp::AbsentOverTime
    );
    of_rows && !aggregation.log.stages.iter().any(|stage| matches!(stage.kind, StageKind::Unwrap(_)))
}

/// Whether a stage changes the line.
pub(crate) fn changes_line(kind: &StageKind) -> bool {
    matches!(kind, StageKind::LineFormat(_) | StageKind::Decolorize | StageKind::Unpack)
}

/// Whether every row that passes the line tests becomes a line of the answer.
fn drops_nothing(log: &LogExpr) -> bool {
    let mut line_is_original = true;
    log.stages.iter().all(|stage| {
        line_is_original &= !changes_line(&stage.kind);
        match stage.kind {
            StageKind::LineFilter(_) => line_is_original,
            StageKind::LabelFilter(_) => false,
            _ => true,
        }
    })
}

fn metric_needs(aggregation: &RangeAggregation, grouping: Option<&Grouping>) -> LogNeeds {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut unwrapped = None;
    let mut needs_all = false;
    let mut line = match aggregation.op {
        RangeOp::BytesRate | RangeOp::BytesOverTime => LineNeed::Length,
        _ => LineNeed::Nothing,
    };
    for stage in &aggregation.log.stages {
        match &stage.kind {
            // The store tests the line; one that was changed needed its text for that.
            StageKind::LineFilter(_) | StageKind::Drop(_) | StageKind::Keep(_) => {}
            StageKind::Json(_)
            | StageKind::Logfmt { .. }
            | StageKind::Regexp(_)
            | StageKind::Pattern(_)
            | StageKind::Unpack
            | StageKind::Decolorize => line = LineNeed::Text,
            StageKind::LabelFilter(filter) => names_of(filter, &mut names),
            StageKind::LineFormat(_) => (line, needs_all) = (LineNeed::Text, true),
            StageKind::LabelFormat(formats) => {
                for format in formats {
                    match format {
                        LabelFormat::Rename { to, from } => names.extend([to.as_str(), from.as_str()]),
                        // A template may name any label, the line, and the time.
                        LabelFormat::Template { .. } => (line, needs_all) = (LineNeed::Text, true),
                    }
                }
            }
            StageKind::Unwrap(Unwrap { label, conversion: Conversion::Number }) => unwrapped = Some(label.as_str()),
            StageKind::Unwrap(unwrap) => drop(names.insert(&unwrap.label)),
        }
    }
    match grouping {
        _ if aggregation.op == RangeOp::AbsentOverTime => {}
        Some(grouping) if !grouping.without => names.extend(grouping.labels.iter().map(String::as_str)),
        _ => needs_all = true,
    }
    if needs_all {
        return LogNeeds::whole(line);
    }
    let is_derived =
        |name: &str| [Derived::SEVERITY_TEXT, Derived::TRACE_ID, Derived::SPAN_ID].contains(&name) || is_computed(name);
    let is_number_only = |name: &&str| !names.contains(name) && !is_derived(name) && !is_chosen(name, &aggregation.log);
    let number = unwrapped.filter(is_number_only);
    names.extend(unwrapped);
    // A name that is taken already makes `name_extracted` of the same name.
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for mut name in names {
        wanted.insert(name.to_owned());
        while let Some(taken) = name.strip_suffix("_extracted") {
            wanted.insert(taken.to_owned());
            name = taken;
        }
    }
    let number = number.map(str::to_owned);
    LogNeeds { number, is_stream_cut: true, ..LogNeeds::named(line, wanted.into_iter().collect()) }
}

/// Whether a stage drops or keeps it, for which its value may decide.
fn is_chosen(label: &str, log: &LogExpr) -> bool {
    let is_of = |choice: &LabelChoice| match choice {
        LabelChoice::Name(name) => name == label,
        LabelChoice::Matching(matcher) => matcher.name == label,
    };
    log.stages.iter().any(|stage| match &stage.kind {
        StageKind::Drop(choices) | StageKind::Keep(choices) => choices.iter().any(is_of),
        _ => false,
    })
}

fn names_of<'a>(filter: &'a LabelFilter, names: &mut BTreeSet<&'a str>) {
    match filter {
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
            names_of(left, names);
            names_of(right, names);
        }
        LabelFilter::Text(matcher) => drop(names.insert(&matcher.name)),
        LabelFilter::Compare { name, .. } | LabelFilter::Ip { name, .. } => drop(names.insert(name)),
    }
}

/// Where a label that is neither of the stream nor of the record can have its value from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parsed {
    Nothing,
    /// Values stand in the line between characters that are part of no word, written as they are or with escapes.
    Words,
    /// Values stand in the line as they are.
    Parts,
    /// Of both kinds.
    Mixed,
    /// From a changed line, or made by a template.
    Anything,
}

impl Parsed {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Anything, _) | (_, Self::Anything) => Self::Anything,
            (one, other) if one == other => one,
            _ => Self::Mixed,
        }
    }
}

/// Conditions that every row satisfies which the query keeps.
pub fn log_hints(log: &LogExpr) -> Vec<LogHint> {
    let mut hints = Vec::new();
    let mut line_is_original = true;
    let mut parsed = Parsed::Nothing;
    // A row that could not be compared is kept by all comparisons behind that one.
    let mut may_have_error = false;
    for stage in &log.stages {
        let found = |found: Parsed| if line_is_original { found } else { Parsed::Anything };
        match &stage.kind {
            StageKind::LineFilter(filter) if line_is_original => line_hints(filter, &mut hints),
            StageKind::LabelFilter(filter) => {
                hints.extend(label_hints(filter, parsed));
                hints.extend(number_hint(filter).filter(|_| parsed == Parsed::Nothing && !may_have_error));
                may_have_error |= !is_of_texts(filter);
            }
            StageKind::Json(_) | StageKind::Logfmt { .. } | StageKind::Unpack => parsed = parsed.and(found(Parsed::Words)),
            StageKind::Regexp(_) | StageKind::Pattern(_) => parsed = parsed.and(found(Parsed::Parts)),
            StageKind::LabelFormat(_) => parsed = Parsed::Anything,
            StageKind::LineFormat(_) | StageKind::Unwrap(_) => may_have_error = true,
            // What is dropped is not found; nothing else takes its name but what is parsed later.
            StageKind::Drop(_) | StageKind::Keep(_) | StageKind::LineFilter(_) | StageKind::Decolorize => {}
        }
        line_is_original &= !changes_line(&stage.kind);
    }
    hints.truncate(HINTS_MAX);
    hints
}

/// One hint that stands for "one of these"; `None` when one of them says nothing, or there are too many.
fn any_of(alternatives: impl IntoIterator<Item = Option<LogHint>>) -> Option<LogHint> {
    let mut flat = Vec::new();
    for alternative in alternatives {
        match alternative? {
            LogHint::AnyOf(more) => flat.extend(more),
            one => flat.push(one),
        }
    }
    match flat.len() {
        1 => flat.pop(),
        2..=ALTERNATIVES_MAX => Some(LogHint::AnyOf(flat)),
        _ => None,
    }
}

fn contains(text: &str) -> Option<LogHint> {
    (!text.is_empty()).then(|| LogHint::LineContains(text.to_owned()))
}

fn line_hints(filter: &LineFilter, hints: &mut Vec<LogHint>) {
    let of_text = |text: &str| match filter.op {
        LineOp::Contains => vec![contains(text)],
        LineOp::Regex => {
            let required = required_literals(text, Mode::Part).into_iter();
            required.map(|either| any_of(either.iter().map(|literal| contains(literal)))).collect()
        }
        LineOp::Pattern => vec![Pattern::for_filter(text).ok().and_then(|pattern| contains(pattern.longest_literal()?))],
        LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern => Vec::new(),
    };
    let of_operand = |operand: &LineOperand| match operand {
        LineOperand::Text(text) => of_text(text).into_iter().flatten().collect(),
        LineOperand::Ip(_) => Vec::new(),
    };
    match filter.operands.as_slice() {
        [one] => hints.extend(of_operand(one)),
        several => hints.extend(any_of(several.iter().map(|operand| of_operand(operand).into_iter().next()))),
    }
}

/// All of these hold.
fn label_hints(filter: &LabelFilter, parsed: Parsed) -> Vec<LogHint> {
    match filter {
        LabelFilter::And(left, right) => {
            let mut hints = label_hints(left, parsed);
            hints.extend(label_hints(right, parsed));
            hints
        }
        LabelFilter::Or(left, right) => {
            let sides = [left, right].map(|side| label_hints(side, parsed).into_iter().next());
            any_of(sides).into_iter().collect()
        }
        LabelFilter::Text(matcher) => matcher_hint(matcher, parsed).into_iter().collect(),
        LabelFilter::Compare { .. } | LabelFilter::Ip { .. } => Vec::new(),
    }
}

/// What the first test of a filter that must hold says of a number.
fn number_hint(filter: &LabelFilter) -> Option<LogHint> {
    match filter {
        LabelFilter::And(left, _) => number_hint(left),
        LabelFilter::Compare { name, op, value: Quantity::Number(number) } if !is_computed(name) => {
            let (low, high) = match op {
                CompareOp::Equal => (*number, *number),
                CompareOp::Greater | CompareOp::GreaterEqual => (*number, f64::INFINITY),
                CompareOp::Less | CompareOp::LessEqual => (f64::NEG_INFINITY, *number),
                CompareOp::NotEqual => return None,
            };
            Some(LogHint::NumberBetween { name: name.clone(), low, high })
        }
        LabelFilter::Or(..) | LabelFilter::Text(_) | LabelFilter::Compare { .. } | LabelFilter::Ip { .. } => None,
    }
}

/// Whether nothing of it can fail.
fn is_of_texts(filter: &LabelFilter) -> bool {
    match filter {
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => is_of_texts(left) && is_of_texts(right),
        LabelFilter::Text(_) => true,
        LabelFilter::Compare { .. } | LabelFilter::Ip { .. } => false,
    }
}

/// Whether the value does not stand in a record under this name.
fn is_computed(name: &str) -> bool {
    name.starts_with("__") || name.ends_with("_extracted") || name == Derived::DETECTED_LEVEL
}

fn matcher_hint(matcher: &Matcher, parsed: Parsed) -> Option<LogHint> {
    let name = matcher.name.as_str();
    if is_computed(name) {
        return None;
    }
    match matcher.op {
        MatchOp::Equal => value_hint(name, &matcher.value, parsed),
        MatchOp::Regex => any_of(globs(&matcher.value)?.iter().map(|glob| value_hint(name, glob.word()?, parsed))),
        MatchOp::NotEqual | MatchOp::NotRegex => None,
    }
}

/// The label has this value: of the stream, of the record, or found in the line.
fn value_hint(name: &str, value: &str, parsed: Parsed) -> Option<LogHint> {
    if value.is_empty() {
        return None;
    }
    let of_line = match parsed {
        Parsed::Nothing => None,
        _ if value.len() < VALUE_BYTES_MIN => return None,
        Parsed::Words if is_written_plainly(value) => Some(LogHint::LineHasWords(value.to_owned())),
        Parsed::Mixed if is_written_plainly(value) => contains(value),
        Parsed::Parts => contains(value),
        Parsed::Words | Parsed::Mixed | Parsed::Anything => return None,
    };
    let id = TraceId::from_hex(value).filter(|id| name == Derived::TRACE_ID && id.to_string() == value);
    let attribute = LogHint::AttributeEquals { name: name.to_owned(), value: value.to_owned() };
    any_of(of_line.into_iter().chain(id.map(LogHint::TraceId)).chain([attribute]).map(Some))
}

/// Whether nothing that writes JSON or logfmt escapes a character of it, though JSON would allow it for all.
fn is_written_plainly(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _-.:,;/@#%*()[]{}!?|~^$".contains(&byte))
}
