//! US social security numbers: area, group and serial as the administration gives them out.

use super::{at, before, has_word, has_word_near, is_word, run};
use std::ops::Range;

const REACH: usize = 48;
const WORDS: [&[u8]; 3] = [b"ssn", b"social", b"itin"];

/// A number that begins here; `start` begins a run of digits, and a word. Bare ones are known by their hyphens alone.
pub(crate) fn find(text: &[u8], start: usize, digits_end: usize, key: &[u8], takes_bare: bool) -> Option<Range<usize>> {
    let (end, is_written_out) = match digits_end - start {
        3 => (hyphenated_end(text, start)?, true),
        9 => (digits_end, false),
        _ => return None,
    };
    let joins = |byte: u8| is_word(byte) || matches!(byte, b'-' | b'.');
    let first = before(text, start);
    if is_word(at(text, end)) || joins(first) || at(text, end) == b'-' {
        return None;
    }
    let mut digits = text[start..end].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let mut number = |count: usize| digits.by_ref().take(count).fold(0, |number, digit| number * 10 + digit);
    let (area, group, serial) = (number(3), number(2), number(4));
    // From 900 on they are numbers of taxpayers.
    let is_given_out = area != 0 && area != 666 && group != 0 && serial != 0;
    if !is_given_out {
        return None;
    }
    let is_sure =
        takes_bare && is_written_out && area < 900 || has_word(key, &WORDS) || has_word_near(text, start, end, REACH, &WORDS);
    is_sure.then_some(start..end)
}

fn hyphenated_end(text: &[u8], start: usize) -> Option<usize> {
    let sign = at(text, start + 3);
    let group = run(text, start + 4, 3, |byte| byte.is_ascii_digit());
    if !matches!(sign, b'-' | b' ') || group != start + 6 || at(text, group) != sign {
        return None;
    }
    let serial = run(text, group + 1, 5, |byte| byte.is_ascii_digit());
    (serial == group + 5).then_some(serial)
}
