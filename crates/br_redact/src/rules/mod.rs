//! One rule, one file: each looks at one place of a text and says where the value is that it recognises.

pub(crate) mod authorization;
pub(crate) mod card;
pub(crate) mod email;
pub(crate) mod iban;
pub(crate) mod jwt;
pub(crate) mod national;
pub(crate) mod network;
pub(crate) mod pairs;
pub(crate) mod pem;
pub(crate) mod phone;
pub(crate) mod ssn;
pub(crate) mod tokens;
pub(crate) mod url;

/// Words are letters, digits and `_`.
#[inline]
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[inline]
pub(crate) fn at(text: &[u8], index: usize) -> u8 {
    text.get(index).copied().unwrap_or(0)
}

/// The byte before `index`; zero at the beginning.
#[inline]
pub(crate) fn before(text: &[u8], index: usize) -> u8 {
    index.checked_sub(1).map_or(0, |before| text[before])
}

/// Where the bytes end, from `start` on, that `is_part` takes; at most `most` of them are looked at.
#[inline]
pub(crate) fn run(text: &[u8], start: usize, most: usize, is_part: impl Fn(u8) -> bool) -> usize {
    let rest = &text[start.min(text.len())..];
    start + rest.iter().take(most).take_while(|byte| is_part(**byte)).count()
}

/// Luhn's check over digits, the check digit last (ISO/IEC 7812-1, annex B).
pub(crate) fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let mut sum = 0u32;
    for (at, digit) in digits.rev().enumerate() {
        let digit = u32::from(digit);
        sum += match at % 2 {
            0 => digit,
            _ if digit > 4 => 2 * digit - 9,
            _ => 2 * digit,
        };
    }
    sum.is_multiple_of(10)
}

/// Whether one of these words stands near: within `reach` bytes before `start` or behind `end`.
pub(crate) fn has_word_near(text: &[u8], start: usize, end: usize, reach: usize, words: &[&[u8]]) -> bool {
    let before = &text[start.saturating_sub(reach)..start];
    let behind = &text[end..text.len().min(end + reach)];
    [before, behind].into_iter().any(|part| has_word(part, words))
}

/// Words as in a name too: `cardNumber` and `card_number` have the word `card`.
pub(crate) fn has_word(part: &[u8], words: &[&[u8]]) -> bool {
    let mut at = 0;
    while at < part.len() {
        if !part[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let start = at;
        at += 1;
        while at < part.len()
            && part[at].is_ascii_alphabetic()
            && !(part[at].is_ascii_uppercase() && part[at - 1].is_ascii_lowercase())
        {
            at += 1;
        }
        if words.iter().any(|word| word.eq_ignore_ascii_case(&part[start..at])) {
            return true;
        }
    }
    false
}

/// The name or word that stands right before a value: `order_id` before `order_id=4111…`, else the key of the whole text.
pub(crate) fn name_before<'t>(text: &'t [u8], start: usize, key: &'t [u8]) -> &'t [u8] {
    let mut end = start;
    let floor = start.saturating_sub(6);
    while end > floor && matches!(text[end - 1], b' ' | b'"' | b'\'' | b':' | b'=' | b'#' | b'\\' | b'(' | b'[' | b'>') {
        end -= 1;
    }
    if end == 0 {
        return key;
    }
    let is_name = |byte: &u8| is_word(*byte) || matches!(byte, b'.' | b'-');
    let length = text[..end].iter().rev().take(64).take_while(|byte| is_name(byte)).count();
    &text[end - length..end]
}
