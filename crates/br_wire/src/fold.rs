//! Which lines make one record: those of a Python traceback, with the line before it that announces it.
//!
//! What is kept of the lines, and how long the next one is waited for, is the caller's matter.

/// Where a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// To the record of the line before.
    Continues,
    Begins,
}

/// Where in a traceback the last line was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    /// After `Traceback (most recent call last):`, among the indented frames.
    Frames,
    /// After the line that names the exception: more may follow when the exception was raised during another.
    AfterException,
    /// After an empty line that may come before a chain sentence.
    AfterBlank,
    /// After a chain sentence: the next traceback belongs to this one.
    AfterChainSentence,
}

/// Follows the lines of one stream.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    state: State,
    is_open: bool,
}

impl Fold {
    pub fn next(&mut self, line: &str) -> Joined {
        if is_outer_header(line) && !matches!(self.state, State::Outside | State::AfterChainSentence) {
            // `print_exc()` and then an uncaught exception: two errors, whatever stands between them.
            self.close();
        }
        let next = next_state(self.state, line);
        // A logger writes its own line right before the traceback: `logging.exception` makes them one record.
        let continues = next != State::Outside && self.is_open;
        self.state = next;
        // A plain line waits for nothing, except for a traceback that an error line announces.
        self.is_open = next != State::Outside || announces_traceback(line);
        if continues { Joined::Continues } else { Joined::Begins }
    }

    /// Whether the next line may belong to the same record.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the last line was one of a traceback.
    pub fn is_inside(&self) -> bool {
        self.state != State::Outside
    }

    /// The next line begins a record, whatever it is.
    pub fn close(&mut self) {
        *self = Self::default();
    }
}

const HEADER: &str = "Traceback (most recent call last):";
const GROUP_HEADER: &str = "Exception Group Traceback (most recent call last):";

/// The first line of a traceback, and not that of an exception inside a group, which stands behind a margin.
fn is_outer_header(line: &str) -> bool {
    line.starts_with(HEADER) || line.trim_start_matches([' ', '+']).starts_with(GROUP_HEADER)
}

fn next_state(state: State, line: &str) -> State {
    let code = line.trim_start_matches(['|', '+', '-', ' ']);
    if code.starts_with(HEADER) || code.starts_with(GROUP_HEADER) {
        return State::Frames;
    }
    let is_chain_sentence = line.starts_with("During handling of the above exception")
        || line.starts_with("The above exception was the direct cause");
    match state {
        State::Frames if line.starts_with(' ') || line.starts_with('\t') => State::Frames,
        State::Frames => State::AfterException,
        State::AfterException | State::AfterBlank if is_chain_sentence => State::AfterChainSentence,
        State::AfterException | State::AfterBlank if line.is_empty() => State::AfterBlank,
        State::AfterChainSentence if line.is_empty() => State::AfterChainSentence,
        // Python 3.11 notes and messages of several lines are indented or follow at once without a mark; only the indented are ours.
        State::AfterException if line.starts_with(' ') => State::AfterException,
        _ => State::Outside,
    }
}

/// A plain-text error line after which `logging` may print a traceback.
fn announces_traceback(line: &str) -> bool {
    !line.starts_with('{') && ["ERROR", "CRITICAL", "Exception", "exception"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records, with `+` between their lines; one that is open at the end has `…` behind.
    fn folded(lines: &[&str]) -> Vec<String> {
        let mut fold = Fold::default();
        let mut records: Vec<String> = Vec::new();
        for line in lines {
            match (fold.next(line), records.last_mut()) {
                (Joined::Continues, Some(last)) => *last = format!("{last}+{line}"),
                _ => records.push((*line).to_owned()),
            }
        }
        if let Some(last) = records.last_mut().filter(|_| fold.is_open()) {
            last.push('…');
        }
        records
    }

    const TRACEBACK: [&str; 4] =
        ["Traceback (most recent call last):", "  File \"a.py\", line 1, in f", "    g()", "ValueError: bad"];

    #[test]
    fn a_traceback_is_one_record_until_something_else_comes() {
        let joined = TRACEBACK.join("+");
        assert_eq!(folded(&["one", "two"]), ["one", "two"]);
        assert_eq!(folded(&TRACEBACK), [format!("{joined}…")]);
        assert_eq!(
            folded(&[&["ERROR job failed"][..], &TRACEBACK, &["next"]].concat()),
            [format!("ERROR job failed+{joined}"), "next".to_owned()]
        );
        assert_eq!(folded(&[TRACEBACK, TRACEBACK].concat()), [joined.clone(), format!("{joined}…")]);
        let sentence = ["", "During handling of the above exception, another exception occurred:", ""];
        let chain = [&TRACEBACK[..], &sentence, &TRACEBACK, &["done"]].concat();
        assert_eq!(folded(&chain).len(), 2, "{:?}", folded(&chain));
    }

    #[test]
    fn an_error_line_waits_for_its_traceback_alone() {
        assert_eq!(folded(&["ERROR one", "ERROR two"]), ["ERROR one", "ERROR two…"]);
        assert_eq!(folded(&["{\"level\": \"ERROR\"}"]), ["{\"level\": \"ERROR\"}"]);
    }
}
