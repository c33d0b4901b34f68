//! Messages out of a stream of bytes: each with its length in front, or each on a line of its own (RFC 6587).

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("a message of 0 bytes")]
    NoLength,
    #[error("a message that says it has {0} bytes")]
    TooLong(u64),
}

/// What nobody sends as one message.
const LENGTH_MAX: u64 = 1 << 30;
/// Digits of a length.
const DIGITS_MAX: usize = 10;

/// Collects bytes and gives messages. One that is longer than is allowed is cut: the rest of it is skipped.
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// What was given already.
    start: usize,
    message_bytes_max: usize,
    /// Bytes, or all up to the end of the line.
    to_skip: u64,
    skips_line: bool,
    cut: u64,
}

enum Frame {
    /// Bytes of the head, bytes of the message.
    Counted(usize, u64),
    Line,
    /// More has to come before it is clear.
    Unclear,
}

impl Splitter {
    pub fn new(message_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, message_bytes_max, to_skip: 0, skips_line: false, cut: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Messages that were cut so far.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The next whole message.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, Wrong> {
        if !self.skip() {
            return Ok(None);
        }
        let rest = &self.buffer[self.start..];
        match frame_of(rest)? {
            Frame::Unclear => Ok(None),
            Frame::Counted(head, length) => {
                let taken = usize::try_from(length).unwrap_or(usize::MAX).min(self.message_bytes_max);
                if rest.len() < head + taken {
                    return Ok(None);
                }
                let from = self.start + head;
                self.start = from + taken;
                self.to_skip = length - taken as u64;
                self.cut += u64::from(self.to_skip > 0);
                Ok(Some(&self.buffer[from..from + taken]))
            }
            Frame::Line => {
                let end = line_end(rest);
                let taken = end.unwrap_or(rest.len());
                if end.is_none() && taken <= self.message_bytes_max {
                    return Ok(None);
                }
                let taken = taken.min(self.message_bytes_max);
                let from = self.start;
                self.start += taken;
                self.skips_line = true;
                self.cut += u64::from(end != Some(taken));
                Ok(Some(&self.buffer[from..from + taken]))
            }
        }
    }

    /// The last message of a stream that has ended, when nothing else ends it.
    pub fn last(&mut self) -> Option<&[u8]> {
        if !self.skip() {
            return None;
        }
        let rest = &self.buffer[self.start..];
        match frame_of(rest) {
            // Half a message is none where its length is known.
            Ok(Frame::Counted(..)) | Err(_) => None,
            Ok(Frame::Line | Frame::Unclear) => {
                let from = self.start;
                self.start = self.buffer.len();
                Some(&self.buffer[from..]).filter(|message| !message.is_empty())
            }
        }
    }

    /// Leaves out what is to be skipped, and what stands between messages. False when nothing is left.
    fn skip(&mut self) -> bool {
        let rest = &self.buffer[self.start..];
        let counted = usize::try_from(self.to_skip).unwrap_or(usize::MAX).min(rest.len());
        self.start += counted;
        self.to_skip -= counted as u64;
        if self.skips_line {
            let rest = &self.buffer[self.start..];
            let Some(end) = line_end(rest) else {
                self.start = self.buffer.len();
                return false;
            };
            self.start += end;
            self.skips_line = false;
        }
        let rest = &self.buffer[self.start..];
        self.start += rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0)).count();
        self.start < self.buffer.len()
    }
}

/// Lines end with LF; some senders, such as Python's `SysLogHandler`, end a message with NUL.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', 0, bytes)
}

fn frame_of(bytes: &[u8]) -> Result<Frame, Wrong> {
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        return Ok(Frame::Line);
    }
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > DIGITS_MAX {
        return Ok(Frame::Line);
    }
    match (bytes.get(digits), bytes.get(digits + 1)) {
        (None, _) | (Some(b' '), None) => Ok(Frame::Unclear),
        (Some(b' '), Some(b'<')) => {
            let length = bytes[..digits].iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
            match length {
                0 => Err(Wrong::NoLength),
                LENGTH_MAX.. => Err(Wrong::TooLong(length)),
                _ => Ok(Frame::Counted(digits + 1, length)),
            }
        }
        _ => Ok(Frame::Line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All messages, however the bytes come.
    fn check(stream: &[u8], message_bytes_max: usize, expect: &[&str]) {
        for part in [1, 2, 3, 7, stream.len()] {
            let mut splitter = Splitter::new(message_bytes_max);
            let mut found = Vec::new();
            for bytes in stream.chunks(part) {
                splitter.push(bytes);
                while let Some(message) = splitter.next_message().expect("sound") {
                    found.push(String::from_utf8_lossy(message).into_owned());
                }
            }
            found.extend(splitter.last().map(|message| String::from_utf8_lossy(message).into_owned()));
            assert_eq!(found, expect, "in parts of {part}");
        }
    }

    #[test]
    fn both_ways_of_framing() {
        check(b"<1>a\n<2>b\r\n\n<3>c\0<4>d", 100, &["<1>a", "<2>b\r", "<3>c", "<4>d"]);
        check(b"4 <1>a5 <2>b\n6 <3>c\nd\n<4>e\n", 100, &["<1>a", "<2>b\n", "<3>c\nd", "<4>e"]);
        check(b"2026-11-27 no length\n7 days\n9 <1>half", 100, &["2026-11-27 no length", "7 days"]);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        check(b"<1>abcdef\n<2>b\n", 5, &["<1>ab", "<2>b"]);
        check(b"9 <1>abcdef4 <2>b", 5, &["<1>ab", "<2>b"]);
        check(b"<1>ab\n<2>b\n", 5, &["<1>ab", "<2>b"]);
        let mut splitter = Splitter::new(5);
        splitter.push(b"<1>abc\n<1>ab\n9 <1>abcdef");
        while splitter.next_message().expect("sound").is_some() {}
        assert_eq!(splitter.cut(), 2);
    }

    #[test]
    fn a_stream_that_makes_no_sense_ends() {
        for stream in ["0 <1>a", "9999999999 <1>a"] {
            let mut splitter = Splitter::new(5);
            splitter.push(stream.as_bytes());
            assert!(splitter.next_message().is_err(), "{stream}");
        }
    }
}
