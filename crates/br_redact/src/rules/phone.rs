//! Telephone numbers: international ones with `+`, others beside a word that says so (ITU-T E.164 for the lengths).

use super::{at, before, has_word, has_word_near, is_word};
use std::ops::Range;

const REACH: usize = 40;
const WORDS: [&[u8]; 12] =
    [b"phone", b"phones", b"telephone", b"tel", b"mobile", b"cell", b"cellphone", b"call", b"fax", b"sms", b"whatsapp", b"dial"];

/// A number that begins here; `start` begins a run of digits, and a word.
pub(crate) fn find(text: &[u8], floor: usize, start: usize, key: &[u8]) -> Option<Range<usize>> {
    let mut first = start;
    if first > floor && before(text, first) == b'(' {
        first -= 1;
    }
    let is_international = first > floor && before(text, first) == b'+';
    if is_international {
        first -= 1;
    }
    if is_word(before(text, first)) || matches!(before(text, first), b'.' | b'-' | b'/') {
        return None;
    }
    let (mut end, mut digits, mut parts) = (start, 0, 1);
    let mut at_byte = start;
    while let Some(byte) = text.get(at_byte) {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                end = at_byte + 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if at_byte - end < 2 => parts += usize::from(at_byte == end),
            _ => break,
        }
        at_byte += 1;
    }
    if is_word(at(text, end)) && !matches!(at(text, end), b'x') {
        return None;
    }
    let is_number = (7..=15).contains(&digits) && (is_international || parts <= 6);
    let is_sure = is_international && digits >= 8 || has_word(key, &WORDS) || has_word_near(text, first, end, REACH, &WORDS);
    (is_number && is_sure).then_some(first..end)
}
