//! From the bytes of a file to records: lines, the pieces of containers' lines, folded tracebacks.
//!
//! Nothing is remembered from one read to the next: what is not yet a whole record is read again. A place in the file is a place
//! between records, and all that a start needs to know.

use br_std::Nanos;
use br_std::re2::Regex;
use br_wire::container::{self, Piece};
use br_wire::fold::{Fold, Joined};
use std::borrow::Cow;
use std::sync::Arc;

/// A record's text; what would be more begins another, or is cut.
pub(super) const RECORD_BYTES_MAX: usize = 256 << 10;

/// What a file's lines are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    None,
    Docker,
    Cri,
}

impl Wrapping {
    /// What the first line of a file says.
    pub(super) fn of(line: &str) -> Self {
        if container::docker(line).is_some() {
            Self::Docker
        } else if container::cri(line).is_some() {
            Self::Cri
        } else {
            Self::None
        }
    }
}

/// Which lines make one record.
#[derive(Clone, Debug)]
pub(super) enum Folding {
    Off,
    Tracebacks,
    FirstLine { regex: Arc<Regex>, lines_max: usize },
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Open,
    /// Nothing has come for as long as a record waits for its next line.
    Quiet,
    /// Nobody writes to the file any more: its last line needs no end.
    Gone,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Its first byte, and the one behind its last, in the bytes that were given.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) text: String,
    pub(super) time: Option<Nanos>,
    /// Where a runtime tells it.
    pub(super) is_stderr: Option<bool>,
    pub(super) extra: Vec<(String, String)>,
    pub(super) has_traceback: bool,
    /// The bytes that its line had, where not all are in the text; else 0.
    pub(super) cut_from: usize,
    pub(super) lines: u64,
    /// Lines that were no UTF-8, or had zeros at an end.
    pub(super) mended: u64,
    /// Lines that are not what their file is made of: kept as they are.
    pub(super) unwrapped: u64,
}

impl Record {
    fn append(&mut self, more: Self) {
        self.text.push('\n');
        self.text.push_str(&more.text);
        self.end = more.end;
        self.lines += more.lines;
        self.mended += more.mended;
        self.unwrapped += more.unwrapped;
        self.cut_from = self.cut_from.max(more.cut_from);
    }
}

/// Whole records in their order, and how many bytes need not be read again.
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    pub(super) consumed: usize,
}

/// Reads records from bytes that begin with one.
pub(super) fn read(bytes: &[u8], wrapping: Wrapping, folding: &Folding, ending: Ending) -> Found {
    let mut reader = Reader { streams: [Stream::new(folding), Stream::new(folding)], wrapping, records: Vec::new() };
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        reader.line(&bytes[start..end], start, end + 1);
        start = end + 1;
    }
    if ending == Ending::Gone && start < bytes.len() {
        reader.line(&bytes[start..], start, bytes.len());
        start = bytes.len();
    }
    reader.finish(start, ending)
}

struct Reader<'f> {
    /// Of containers, output and errors. Everything else is in the first.
    streams: [Stream<'f>; 2],
    wrapping: Wrapping,
    records: Vec<Record>,
}

struct Stream<'f> {
    folding: &'f Folding,
    fold: Fold,
    /// Of a record with a first line.
    lines: usize,
    /// The pieces so far of a line that is not whole.
    partial: Option<Record>,
    open: Option<Record>,
}

impl Reader<'_> {
    fn line(&mut self, bytes: &[u8], start: usize, end: usize) {
        let trimmed = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        // What a writer that goes on behind a truncation leaves in front of itself.
        let text = without_zeros(trimmed);
        let mut record = Record { start, end, lines: 1, mended: u64::from(text.len() < trimmed.len()), ..Record::default() };
        let text = String::from_utf8_lossy(text);
        record.mended |= u64::from(matches!(text, Cow::Owned(_)));
        let is_partial = match self.wrapping {
            Wrapping::None => {
                record.text = text.into_owned();
                false
            }
            Wrapping::Docker => unwrap(container::docker(&text), &text, &mut record),
            Wrapping::Cri => unwrap(container::cri(&text), &text, &mut record),
        };
        let stream = &mut self.streams[usize::from(record.is_stderr == Some(true))];
        if let Some(whole) = stream.assemble(record, is_partial) {
            stream.fold(whole, &mut self.records);
        }
    }

    /// Leaves out what is not whole, and what stands behind the beginning of such a record.
    fn finish(mut self, lines_end: usize, ending: Ending) -> Found {
        let mut consumed = lines_end;
        for stream in &mut self.streams {
            if ending == Ending::Open {
                for record in stream.partial.iter().chain(&stream.open) {
                    consumed = consumed.min(record.start);
                }
                continue;
            }
            if let Some(partial) = stream.partial.take() {
                stream.fold(partial, &mut self.records);
            }
            self.records.extend(stream.open.take());
        }
        self.records.sort_by_key(|record| record.start);
        // Lines of two streams stand among each other: a record is left out where another's beginning cuts it.
        while let Some(cut) = self.records.iter().find(|record| record.start < consumed && record.end > consumed) {
            consumed = cut.start;
        }
        self.records.retain(|record| record.start < consumed);
        for record in &mut self.records {
            record.text.truncate(record.text.trim_end_matches('\n').len());
        }
        Found { records: self.records, consumed }
    }
}

impl<'f> Stream<'f> {
    fn new(folding: &'f Folding) -> Self {
        Self { folding, fold: Fold::default(), lines: 0, partial: None, open: None }
    }

    /// A whole line of pieces.
    fn assemble(&mut self, piece: Record, is_partial: bool) -> Option<Record> {
        let line = match self.partial.take() {
            None => piece,
            Some(mut line) => {
                let length = line.cut_from.max(line.text.len()) + piece.text.len();
                let room = RECORD_BYTES_MAX.saturating_sub(line.text.len());
                line.text.push_str(&piece.text[..piece.text.floor_char_boundary(room)]);
                line.cut_from = if line.text.len() < length { length } else { 0 };
                line.end = piece.end;
                line.mended |= piece.mended;
                line
            }
        };
        if is_partial {
            self.partial = Some(line);
            return None;
        }
        Some(line)
    }

    fn fold(&mut self, line: Record, out: &mut Vec<Record>) {
        let (joined, is_open, has_traceback) = match self.folding {
            Folding::Off => (Joined::Begins, false, false),
            Folding::Tracebacks => {
                let joined = self.fold.next(&line.text);
                (joined, self.fold.is_open(), self.fold.is_inside())
            }
            Folding::FirstLine { regex, lines_max } => {
                let continues = self.open.is_some() && self.lines < *lines_max && !regex.is_match(&line.text);
                self.lines = if continues { self.lines + 1 } else { 1 };
                (if continues { Joined::Continues } else { Joined::Begins }, true, false)
            }
        };
        if joined == Joined::Continues
            && let Some(open) = &mut self.open
            && open.text.len() + line.text.len() < RECORD_BYTES_MAX
        {
            open.append(line);
            open.has_traceback |= has_traceback;
        } else {
            out.extend(self.open.take());
            let is_blank = line.text.trim().is_empty();
            self.open = (!is_blank).then_some(Record { has_traceback, ..line });
        }
        if !is_open {
            out.extend(self.open.take());
        }
    }
}

/// Fills a record with what its line holds; a line that is something else is kept as it is. Gives whether more pieces follow.
fn unwrap(piece: Option<Piece<'_>>, line: &str, record: &mut Record) -> bool {
    let Some(Piece { time, is_stderr, text, is_partial, extra }) = piece else {
        line.clone_into(&mut record.text);
        record.unwrapped = u64::from(!line.is_empty());
        return false;
    };
    (record.time, record.is_stderr, record.extra) = (time, Some(is_stderr), extra);
    record.text = text.into_owned();
    is_partial
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(start, |last| last + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records, with `+` for their line feeds, and how many bytes are done with.
    fn shown(text: &str, wrapping: Wrapping, folding: &Folding, ending: Ending) -> (Vec<String>, usize) {
        let found = read(text.as_bytes(), wrapping, folding, ending);
        (found.records.into_iter().map(|record| record.text.replace('\n', "+")).collect(), found.consumed)
    }

    fn plain(text: &str, ending: Ending) -> (Vec<String>, usize) {
        shown(text, Wrapping::None, &Folding::Tracebacks, ending)
    }

    const TRACEBACK: &str = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nValueError: bad\n";

    #[test]
    fn a_place_is_between_records() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(plain("one\r\n\ntwo\nthr", Ending::Open), (lines(&["one", "two"]), 10));
        assert_eq!(plain("one\nthr", Ending::Quiet), (lines(&["one"]), 4));
        assert_eq!(plain("one\nthr", Ending::Gone), (lines(&["one", "thr"]), 7));
        let text = format!("one\n{TRACEBACK}");
        assert_eq!(plain(&text, Ending::Open), (lines(&["one"]), 4));
        let joined = TRACEBACK.trim_end().replace('\n', "+");
        assert_eq!(plain(&text, Ending::Quiet), (vec!["one".to_owned(), joined.clone()], text.len()));
        assert_eq!(plain(&format!("{text}next\n"), Ending::Open).0, ["one", &joined, "next"]);
        assert_eq!(shown(&text, Wrapping::None, &Folding::Off, Ending::Open).0.len(), 5);
    }

    #[test]
    fn garbage_is_mended_and_counted() {
        let found = read(b"\0\0\0one\n\xfftwo\n\0\0\nthree\n", Wrapping::None, &Folding::Off, Ending::Open);
        let shown: Vec<_> = found.records.iter().map(|record| (record.text.as_str(), record.mended)).collect();
        assert_eq!(shown, [("one", 1), ("\u{fffd}two", 1), ("three", 0)]);
    }

    #[test]
    fn a_first_line_begins_a_record() {
        let regex = Arc::new(Regex::new("^[0-9]", br_std::re2::Mode::Part).expect("valid"));
        let folding = Folding::FirstLine { regex, lines_max: 3 };
        let text = "1 a\n b\n c\n d\n2 e\n";
        assert_eq!(shown(text, Wrapping::None, &folding, Ending::Open), (vec!["1 a+ b+ c".into(), " d".into()], 13));
        assert_eq!(shown(text, Wrapping::None, &folding, Ending::Quiet).0.len(), 3);
    }

    fn cri(lines: &[&str]) -> String {
        lines.iter().flat_map(|line| ["2026-01-02T10:00:00.5Z ", line, "\n"]).collect()
    }

    #[test]
    fn pieces_of_two_streams_are_put_together() {
        let text = cri(&["stdout P one ", "stderr F err", "stdout F two", "stdout P thr"]);
        let line = text.len() / 4;
        let (records, consumed) = shown(&text, Wrapping::Cri, &Folding::Tracebacks, Ending::Open);
        assert_eq!(records, ["one two", "err"]);
        assert!(consumed > 2 * line && text[consumed..].contains("thr") && !text[consumed..].contains("two"));
        assert_eq!(shown(&text, Wrapping::Cri, &Folding::Tracebacks, Ending::Quiet).0, ["one two", "err", "thr"]);
    }

    #[test]
    fn no_record_is_cut_by_the_place() {
        // The traceback of one stream begins before the line of the other is whole: that one waits.
        let text = cri(&["stdout P a", "stderr F Traceback (most recent call last):", "stdout F b", "stderr F   File"]);
        assert_eq!(shown(&text, Wrapping::Cri, &Folding::Tracebacks, Ending::Open), (Vec::new(), 0));
        let (records, consumed) = shown(&text, Wrapping::Cri, &Folding::Tracebacks, Ending::Quiet);
        assert_eq!((records, consumed), (vec!["ab".into(), "Traceback (most recent call last):+  File".into()], text.len()));
    }

    #[test]
    fn endless_pieces_are_cut() {
        let piece = format!("stdout P {}", "x".repeat(100 << 10));
        let mut lines = vec![piece.as_str(); 4];
        lines.push("stdout F end");
        let text = cri(&lines);
        let found = read(text.as_bytes(), Wrapping::Cri, &Folding::Tracebacks, Ending::Open);
        let [record] = &found.records[..] else { panic!("one line") };
        assert_eq!((record.text.len(), record.cut_from), (RECORD_BYTES_MAX, (400 << 10) + 3));
    }

    #[test]
    fn what_is_not_wrapped_is_kept() {
        let text = "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T10:00:00Z\"}\nbroken\n";
        let found = read(text.as_bytes(), Wrapping::of(text.lines().next().expect("one")), &Folding::Off, Ending::Open);
        let shown: Vec<_> = found.records.iter().map(|record| (record.text.as_str(), record.unwrapped)).collect();
        assert_eq!(shown, [("a", 0), ("broken", 1)]);
        assert_eq!(Wrapping::of("plain"), Wrapping::None);
        assert_eq!(Wrapping::of("2026-01-02T10:00:00Z stdout F x"), Wrapping::Cri);
    }
}
