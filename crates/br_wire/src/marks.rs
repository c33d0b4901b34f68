//! What was cut of a record, told by attributes of the record itself: a line that is too long, a text that is too long, attributes
//! that are too many.

use crate::Limits;
use br_model::{AttributeValue, Attributes, LogBatch, LogRecord, SpanBatch};

/// Where a line was cut for its length, its bytes are told under this key.
const CUT_LINE: &str = "bellrock.cut_from_bytes";
/// How many attributes were cut for the length of their text.
const CUT_ATTRIBUTES: &str = "bellrock.cut_attributes";
/// How many attributes were left out, here and by the sender.
const DROPPED_ATTRIBUTES: &str = "bellrock.dropped_attributes";
/// How many events and links of a span were left out, here and by the sender.
const DROPPED_EVENTS: &str = "bellrock.dropped_events";
const DROPPED_LINKS: &str = "bellrock.dropped_links";
const ALL: [&str; 5] = [CUT_LINE, CUT_ATTRIBUTES, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS];

/// What is missing of one record; zero is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The bytes that the line had.
    pub(crate) line_bytes: usize,
    /// Attributes that were cut before [`bound`] sees them.
    pub(crate) cut: usize,
    /// Left out before [`bound`] sees the attributes.
    pub(crate) attributes: usize,
    pub(crate) events: usize,
    pub(crate) links: usize,
}

/// Cuts a line that is too long, at a character. Gives the bytes that it had, or 0.
pub(crate) fn cut_line(line: &mut String, limits: &Limits) -> usize {
    let bytes = line.len();
    if bytes <= limits.line_bytes_max {
        return 0;
    }
    line.truncate(line.floor_char_boundary(limits.line_bytes_max));
    bytes
}

/// [`cut_line`] and [`bound`] for a record that is whole.
pub(crate) fn finish(record: &mut LogRecord, limits: &Limits) {
    let line_bytes = cut_line(&mut record.body, limits);
    bound(&mut record.attributes, Missing { line_bytes, ..Missing::default() }, limits);
}

/// Keeps as many attributes, and as much of their texts, as a record may have. What is missing then stands behind them.
pub(crate) fn bound(attributes: &mut Attributes, missing: Missing, limits: &Limits) {
    let cut = missing.cut + attributes.0.iter_mut().map(|(_, value)| cut_text(value, limits)).filter(|is_cut| *is_cut).count();
    let given = [missing.line_bytes, cut, missing.attributes, missing.events, missing.links];
    let marks_but_dropped = given.iter().enumerate().filter(|(at, count)| *at != 2 && **count > 0).count();
    let is_over = attributes.len() + marks_but_dropped + usize::from(missing.attributes > 0) > limits.attributes_max;
    let marks = marks_but_dropped + usize::from(is_over || missing.attributes > 0);
    let kept = attributes.len().min(limits.attributes_max.saturating_sub(marks));
    let dropped = missing.attributes + attributes.len() - kept;
    attributes.0.truncate(kept);
    for (key, count) in ALL.into_iter().zip([missing.line_bytes, cut, dropped, missing.events, missing.links]) {
        if count > 0 {
            attributes.push(key, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Adds those whose keys are not there yet to a record that is whole.
pub(crate) fn add(attributes: &mut Attributes, more: Attributes, limits: &Limits) {
    let mut missing = Missing::default();
    while let Some((key, AttributeValue::Int(count))) = attributes.0.last()
        && let Some(at) = ALL.iter().position(|mark| mark == key)
    {
        let Missing { line_bytes, cut, attributes: dropped, events, links } = &mut missing;
        *[line_bytes, cut, dropped, events, links][at] = usize::try_from(*count).unwrap_or(0);
        attributes.0.pop();
    }
    // Each is looked for among few: the rest is left out anyway.
    let over = more.len().saturating_sub(limits.attributes_max);
    missing.attributes += over;
    for (key, value) in more.0.into_iter().take(limits.attributes_max) {
        if attributes.get(&key).is_none() {
            attributes.push(key, value);
        }
    }
    bound(attributes, missing, limits);
}

fn cut_text(value: &mut AttributeValue, limits: &Limits) -> bool {
    match value {
        AttributeValue::String(text) if text.len() > limits.attribute_bytes_max => {
            text.truncate(text.floor_char_boundary(limits.attribute_bytes_max));
            true
        }
        _ => false,
    }
}

/// What was cut of the records of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Lines that were too long.
    pub lines: u64,
    /// Attributes whose text was too long.
    pub attributes_cut: u64,
    /// Attributes that were too many.
    pub attributes_dropped: u64,
    /// Events and links that were too many.
    pub span_children: u64,
}

impl Cuts {
    /// Says of a record that its line had so many bytes and was cut; 0 for one that is whole.
    pub fn mark_line(attributes: &mut Attributes, bytes: usize) {
        if bytes > 0 {
            attributes.push(CUT_LINE, i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Reads the marks of a batch.
    pub fn of(logs: &LogBatch, spans: &SpanBatch) -> Self {
        let mut cuts = Self::default();
        let records = logs.groups.iter().flat_map(|group| &group.records);
        records.for_each(|record| cuts.add(&record.attributes));
        let spans = spans.groups.iter().flat_map(|group| &group.spans);
        spans.for_each(|span| cuts.add(&span.attributes));
        cuts
    }

    fn add(&mut self, attributes: &Attributes) {
        // They stand behind all others.
        for (key, value) in attributes.0.iter().rev().take(ALL.len()) {
            let count = match value {
                AttributeValue::Int(count) if key.starts_with("bellrock.") => u64::try_from(*count).unwrap_or(0),
                _ => return,
            };
            match key.as_str() {
                CUT_LINE => self.lines += 1,
                CUT_ATTRIBUTES => self.attributes_cut += count,
                DROPPED_ATTRIBUTES => self.attributes_dropped += count,
                DROPPED_EVENTS | DROPPED_LINKS => self.span_children += count,
                _ => return,
            }
        }
    }

    /// In one line for the sender; `None` when nothing was cut.
    pub fn warning(&self, limits: &Limits) -> Option<String> {
        let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
        let parts = [
            (self.lines, format!("lines were cut after {}", kib(limits.line_bytes_max))),
            (self.attributes_cut, format!("attributes were cut after {}", kib(limits.attribute_bytes_max))),
            (self.attributes_dropped, format!("attributes were left out: a record has {} at the most", limits.attributes_max)),
            (
                self.span_children,
                format!("events and links were left out: a span has {} of each at the most", limits.span_children_max),
            ),
        ];
        let parts: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::ResourceLogs;

    #[test]
    fn what_is_missing_is_told_within_the_limit() {
        let limits = Limits { attributes_max: 4, attribute_bytes_max: 3, line_bytes_max: 3, ..Limits::default() };
        let check = |count: usize, text: &str, missing: Missing, expect: &[&str]| {
            let mut attributes: Attributes = (0..count).map(|at| (format!("k{at}"), text)).collect();
            bound(&mut attributes, missing, &limits);
            let shown: Vec<String> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(shown, expect, "{count} {text} {missing:?}");
            attributes
        };
        check(4, "abc", Missing::default(), &["k0=abc", "k1=abc", "k2=abc", "k3=abc"]);
        check(5, "a", Missing::default(), &["k0=a", "k1=a", "k2=a", "bellrock.dropped_attributes=2"]);
        check(1, "abé", Missing::default(), &["k0=ab", "bellrock.cut_attributes=1"]);
        check(1, "a", Missing { attributes: 7, ..Missing::default() }, &["k0=a", "bellrock.dropped_attributes=7"]);
        let all = Missing { line_bytes: 9, attributes: 1, events: 2, ..Missing::default() };
        let marks = ["k0=a", "bellrock.cut_from_bytes=9", "bellrock.dropped_attributes=4", "bellrock.dropped_events=2"];
        let attributes = check(4, "a", all, &marks);
        let mut more = attributes.clone();
        add(&mut more, [("k0", "x"), ("new", "y")].into_iter().collect(), &limits);
        let shown: Vec<String> = more.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let marks = ["k0=a", "bellrock.cut_from_bytes=9", "bellrock.dropped_attributes=5", "bellrock.dropped_events=2"];
        assert_eq!(shown, marks);
        let mut line = "abéd".to_owned();
        assert_eq!((cut_line(&mut line, &limits), line.as_str()), (5, "ab"));

        let records = vec![LogRecord { attributes, ..LogRecord::default() }, LogRecord::default()];
        let logs = LogBatch { groups: vec![ResourceLogs { records, ..ResourceLogs::default() }] };
        let cuts = Cuts::of(&logs, &SpanBatch::default());
        assert_eq!(cuts, Cuts { lines: 1, attributes_cut: 0, attributes_dropped: 4, span_children: 2 });
        let warning = cuts.warning(&limits).expect("something was cut");
        assert!(warning.contains("4 attributes were left out: a record has 4"), "{warning}");
        assert_eq!(Cuts::default().warning(&limits), None);
    }
}
