//! Numbers of persons in other countries, where a check digit or the form makes them sure.

use super::{at, before, is_word};
use std::ops::Range;

/// `start` begins a word of letters and digits.
pub(crate) fn find(text: &[u8], start: usize) -> Option<Range<usize>> {
    let end = super::run(text, start, 20, |byte| byte.is_ascii_alphanumeric());
    if is_word(at(text, end)) || matches!(before(text, start), b'.' | b'-' | b'+') {
        return None;
    }
    let word = &text[start..end];
    let is_one = match word.len() {
        9 => is_spanish(word) || is_british(word),
        16 => is_italian(word),
        _ => false,
    };
    if is_one {
        return Some(start..end);
    }
    brazilian(text, start)
}

/// DNI and NIE: eight digits and a letter by their remainder of 23.
fn is_spanish(word: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let first = match word[0].to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        letter @ b'X'..=b'Z' => u32::from(letter - b'X'),
        _ => return false,
    };
    let rest = &word[1..8];
    if !rest.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = rest.iter().fold(first, |number, digit| number * 10 + u32::from(digit - b'0'));
    word[8] == LETTERS[(number % 23) as usize]
}

/// A national insurance number: two letters that are given out, six digits, A to D.
fn is_british(word: &[u8]) -> bool {
    let [first, second, digits @ .., last] = word else { return false };
    let is_prefix = first.is_ascii_uppercase() && second.is_ascii_uppercase();
    let is_never = b"DFIQUV".contains(first)
        || b"DFIQUVO".contains(second)
        || [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"].contains(&&[*first, *second]);
    is_prefix && !is_never && digits.iter().all(u8::is_ascii_digit) && (b'A'..=b'D').contains(last)
}

/// Codice fiscale, with its check letter.
fn is_italian(word: &[u8]) -> bool {
    const ODD: [u32; 26] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    const FORM: &[u8; 16] = b"AAAAAA00A00A000A";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'A' { byte.is_ascii_alphabetic() } else { byte.is_ascii_digit() };
    if !word.iter().zip(FORM).all(fits) {
        return false;
    }
    let value = |byte: u8| {
        if byte.is_ascii_digit() { usize::from(byte - b'0') } else { usize::from(byte.to_ascii_uppercase() - b'A') }
    };
    let each = word[..15].iter().enumerate();
    let sum: u32 = each.map(|(at, byte)| if at % 2 == 0 { ODD[value(*byte)] } else { value(*byte) as u32 }).sum();
    value(word[15]) as u32 == sum % 26
}

/// CPF as it is written: `123.456.789-09`, with two check digits.
fn brazilian(text: &[u8], start: usize) -> Option<Range<usize>> {
    let end = start + 14;
    let written = text.get(start..end)?;
    if written[3] != b'.' || written[7] != b'.' || written[11] != b'-' || is_word(at(text, end)) {
        return None;
    }
    let digits: Vec<u32> = written.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0')).collect();
    let check = |count: usize| {
        let sum: u32 = digits[..count].iter().zip((2..=count as u32 + 1).rev()).map(|(digit, weight)| digit * weight).sum();
        sum * 10 % 11 % 10
    };
    let is_one = digits.len() == 11 && digits.iter().any(|digit| *digit != digits[0]);
    (is_one && check(9) == digits[9] && check(10) == digits[10]).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for text in ["12345678Z", "X1234567L", "AB123456C", "RSSMRA85T10A562S", "529.982.247-25"] {
            assert_eq!(find(text.as_bytes(), 0), Some(0..text.len()), "{text}");
        }
        for text in ["12345678A", "AB123456E", "RSSMRA85T10A562T", "529.982.247-26", "111.111.111-11", "abcdefghi"] {
            assert_eq!(find(text.as_bytes(), 0), None, "{text}");
        }
    }
}
