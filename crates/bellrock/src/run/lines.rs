//! Lines of output become records: a line is one record, a Python traceback is one record, a line cut by nobody is cut here.

use br_std::Nanos;
use br_wire::fold::{Fold, Joined};
use std::time::Duration;

/// A line longer than this is cut, with a mark at the end.
const LINE_BYTES_MAX: usize = 256 << 10;
/// A traceback longer than this ends as a record, and the next lines begin another.
const RECORD_BYTES_MAX: usize = 512 << 10;
/// A traceback whose next line does not come within this time is complete.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
const CUT_MARK: &str = " …[cut]";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// When its first line was read.
    pub(super) at: Nanos,
    pub(super) text: String,
}

/// Gathers lines of one stream.
#[derive(Debug)]
pub(super) struct Gatherer {
    partial: Vec<u8>,
    /// The rest of a line that was cut is thrown away.
    skipping: bool,
    fold: Fold,
    open: Option<Record>,
    last_line_at: Nanos,
    last_record_at: Nanos,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self {
            partial: Vec::new(),
            skipping: false,
            fold: Fold::default(),
            open: None,
            last_line_at: Nanos(0),
            last_record_at: Nanos(0),
        }
    }

    /// Takes bytes as they were read and hands out the records that are complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], now: Nanos, out: &mut Vec<Record>) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..at]);
            self.end_line(now, out);
            bytes = &bytes[at + 1..];
        }
        self.extend(bytes);
    }

    /// Hands out a traceback whose next line has not come.
    pub(super) fn idle(&mut self, now: Nanos, out: &mut Vec<Record>) {
        if self.open.is_some() && now.since(self.last_line_at) >= PATIENCE {
            self.fold.close();
            self.close(out);
        }
    }

    /// The stream has ended.
    pub(super) fn finish(&mut self, now: Nanos, out: &mut Vec<Record>) {
        if !self.partial.is_empty() {
            self.end_line(now, out);
        }
        self.close(out);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.skipping = bytes.len() > room;
    }

    fn end_line(&mut self, now: Nanos, out: &mut Vec<Record>) {
        let mut line = String::from_utf8_lossy(&self.partial).into_owned();
        if line.ends_with('\r') {
            line.pop();
        }
        if self.skipping {
            line.push_str(CUT_MARK);
        }
        self.partial.clear();
        self.skipping = false;
        self.last_line_at = now;
        self.line(line, now, out);
    }

    fn line(&mut self, line: String, now: Nanos, out: &mut Vec<Record>) {
        let continues = self.fold.next(&line) == Joined::Continues;
        if continues
            && let Some(open) = &mut self.open
            && open.text.len() + line.len() < RECORD_BYTES_MAX
        {
            open.text.push('\n');
            open.text.push_str(&line);
            return;
        }
        self.close(out);
        if !line.is_empty() {
            // Lines of one read have one time: a nanosecond between them keeps their order.
            self.last_record_at = now.max(Nanos(self.last_record_at.0.saturating_add(1)));
            self.open = Some(Record { at: self.last_record_at, text: line });
        }
        if !self.fold.is_open() {
            self.close(out);
        }
    }

    fn close(&mut self, out: &mut Vec<Record>) {
        if let Some(mut record) = self.open.take() {
            record.text.truncate(record.text.trim_end_matches('\n').len());
            out.push(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(chunks: &[&str]) -> Vec<String> {
        let mut gatherer = Gatherer::new();
        let mut out = Vec::new();
        for chunk in chunks {
            gatherer.push(chunk.as_bytes(), Nanos(1), &mut out);
        }
        gatherer.finish(Nanos(2), &mut out);
        out.into_iter().map(|record| record.text).collect()
    }

    const TRACEBACK: &str = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nValueError: bad\n";

    #[test]
    fn plain_lines() {
        assert_eq!(records(&["one\ntw", "o\r\n\nthree"]), ["one", "two", "three"]);
    }

    #[test]
    fn a_traceback_is_one_record() {
        let text = format!("before\n{TRACEBACK}after\n");
        assert_eq!(records(&[&text]), ["before", TRACEBACK.trim_end(), "after"]);
    }

    #[test]
    fn the_line_that_announces_a_traceback_belongs_to_it() {
        let text = format!("12:00 ERROR [shop] job failed\n{TRACEBACK}12:01 INFO next\n");
        assert_eq!(
            records(&[&text]),
            [format!("12:00 ERROR [shop] job failed\n{}", TRACEBACK.trim_end()), "12:01 INFO next".into()]
        );
        assert_eq!(records(&["ERROR one\nERROR two\n"]), ["ERROR one", "ERROR two"]);
    }

    #[test]
    fn chained_tracebacks_are_one_record() {
        let text =
            format!("{TRACEBACK}\nDuring handling of the above exception, another exception occurred:\n\n{TRACEBACK}done\n");
        let records = records(&[&text]);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].matches("Traceback").count(), 2);
    }

    #[test]
    fn tracebacks_without_a_chain_sentence_are_records_of_their_own() {
        let one = TRACEBACK.trim_end();
        assert_eq!(records(&[TRACEBACK, TRACEBACK]), [one, one]);
        assert_eq!(records(&[TRACEBACK, "\n", TRACEBACK]), [one, one]);
        let group = "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in <module>\n  | ExceptionGroup: two (1 sub-exception)\n  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    |   File \"a.py\", line 2, in f\n    | ValueError: 1\n    +------------------------------------\n";
        assert_eq!(records(&[group, TRACEBACK, group]), [group.trim_end(), one, group.trim_end()]);
    }

    #[test]
    fn lines_of_one_read_keep_their_order_in_time() {
        let mut out = Vec::new();
        Gatherer::new().push(b"a\nb\nc\n", Nanos(7), &mut out);
        assert_eq!(out.iter().map(|record| record.at.0).collect::<Vec<_>>(), [7, 8, 9]);
    }

    #[test]
    fn a_waiting_traceback_comes_out_when_nothing_follows() {
        let mut gatherer = Gatherer::new();
        let mut out = Vec::new();
        gatherer.push(TRACEBACK.as_bytes(), Nanos(0), &mut out);
        gatherer.idle(Nanos(0) + PATIENCE / 2, &mut out);
        assert!(out.is_empty());
        gatherer.idle(Nanos(0) + PATIENCE, &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let records = records(&[&long[..LINE_BYTES_MAX], &long[..LINE_BYTES_MAX], "\nnext\n"]);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].len(), LINE_BYTES_MAX + CUT_MARK.len());
    }
}
