//! Payment cards: a range that an issuer has, its length, Luhn's check digit (ISO/IEC 7812-1).

use super::{at, before, has_word, has_word_near, is_word, luhn, name_before, run};
use crate::keys::is_of_number;
use std::ops::Range;

const DIGITS_MIN: usize = 12;
const DIGITS_MAX: usize = 19;
/// How far from a number of a rarer length a word must stand that speaks of cards.
const REACH: usize = 80;
const WORDS: [&[u8]; 26] = [
    b"card",
    b"cards",
    b"credit",
    b"debit",
    b"cc",
    b"pan",
    b"visa",
    b"maestro",
    b"mastercard",
    b"amex",
    b"discover",
    b"jcb",
    b"diners",
    b"payment",
    b"creditcard",
    b"ccnum",
    b"pay",
    b"paid",
    b"pays",
    b"paying",
    b"charge",
    b"charged",
    b"refund",
    b"refunded",
    b"billing",
    b"billed",
];

/// A card that begins here; `start` begins a run of digits, and a word.
pub(crate) fn find(text: &[u8], start: usize, digits_end: usize, key: &[u8]) -> Option<Range<usize>> {
    let (end, is_grouped) = match digits_end - start {
        4 => (grouped_end(text, start)?, true),
        DIGITS_MIN..=DIGITS_MAX => (digits_end, false),
        _ => return None,
    };
    if is_word(at(text, end)) || continues(text, start, end) {
        return None;
    }
    let digits = || text[start..end].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
    let issued = issued(digits())?;
    if !luhn(digits()) {
        return None;
    }
    if !is_grouped && is_of_number(name_before(text, start, key)) {
        return None;
    }
    let is_sure = issued == Issued::Commonly || has_word(key, &WORDS) || has_word_near(text, start, end, REACH, &WORDS);
    is_sure.then_some(start..end)
}

/// A whole number, without text around it.
pub(crate) fn is_card(number: u64, key: &[u8]) -> bool {
    let text = number.to_string();
    find(text.as_bytes(), 0, text.len(), key).is_some()
}

/// Digits that go on as `1.4111…`, `…4111-22` or `+4111…` are parts of something else.
fn continues(text: &[u8], start: usize, end: usize) -> bool {
    let joins = |byte: u8| matches!(byte, b'.' | b'-' | b',');
    let first = before(text, start);
    first == b'+'
        || joins(first) && before(text, start - 1).is_ascii_digit()
        || joins(at(text, end)) && at(text, end + 1).is_ascii_digit()
}

/// Behind 4 digits: the same sign, and groups as they are printed on cards.
fn grouped_end(text: &[u8], start: usize) -> Option<usize> {
    let sign = at(text, start + 4);
    if !matches!(sign, b' ' | b'-') {
        return None;
    }
    let mut at_sign = start + 4;
    let mut lengths = [0; 4];
    let mut groups = 0;
    while groups < lengths.len() && at(text, at_sign) == sign {
        let end = run(text, at_sign + 1, 7, |byte| byte.is_ascii_digit());
        let length = end - at_sign - 1;
        if length == 0 {
            break;
        }
        lengths[groups] = length;
        groups += 1;
        at_sign = end;
        if matches!(lengths[..groups], [4, 4, 4] | [6, 5 | 4]) {
            let is_longer = lengths[..groups] == [4, 4, 4] && at(text, end) == sign && {
                let last = run(text, end + 1, 5, |byte| byte.is_ascii_digit()) - end - 1;
                // 19 digits; four more digits are no card.
                last == 3
            };
            return Some(if is_longer { end + 4 } else { end });
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Issued {
    /// Range and length by which nine cards in ten go.
    Commonly,
    /// Many numbers that are no cards look like this.
    Rarely,
}

/// Ranges as the schemes publish them.
fn issued(digits: impl Iterator<Item = u8>) -> Option<Issued> {
    let (mut head, mut count) = (0u32, 0);
    for digit in digits {
        if count < 4 {
            head = head * 10 + u32::from(digit);
        }
        count += 1;
    }
    let common = match head {
        // Visa, Mastercard, Discover, JCB, UnionPay, Mir.
        4000..=4999 | 5100..=5599 | 2221..=2720 | 6011 | 6440..=6599 | 3500..=3599 | 6200..=6299 | 2200..=2204 => count == 16,
        // American Express, and JCB of old.
        3400..=3499 | 3700..=3799 | 2131 | 1800 => count == 15,
        // Diners Club.
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => count == 14,
        // Maestro.
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => matches!(count, 12..=19),
        _ => false,
    };
    if common {
        return Some(Issued::Commonly);
    }
    // Visa of 13 digits looks like the number of a product, one of 19 like any id; the rest are schemes of other countries.
    let rare = match head {
        0..=2999 => head == 604 && count == 12,
        _ => matches!(count, 12..=19),
    };
    rare.then_some(Issued::Rarely)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'t>(text: &'t str, key: &str) -> Option<&'t str> {
        let start = text.find(|letter: char| letter.is_ascii_digit())?;
        let end = run(text.as_bytes(), start, 64, |byte| byte.is_ascii_digit());
        find(text.as_bytes(), start, end, key.as_bytes()).map(|range| &text[range])
    }

    #[test]
    fn cards() {
        for text in [
            "4111111111111111",
            "paid with 4111 1111 1111 1111 today",
            "5105-1051-0510-5100",
            "378282246310005",
            "3782 822463 10005",
            "30569309025904",
            "card 4222222222222",
            "the card 6304000000000000.",
        ] {
            assert!(found(text, "").is_some(), "{text}");
        }
        assert_eq!(found("a 4111 1111 1111 1111-x", ""), Some("4111 1111 1111 1111"));
        for text in [
            "4111111111111112",
            "4222222222222",
            "order_id=4111111111111111",
            "\"spanId\":\"4111111111111111\"",
            "0.4111111111111111",
            "4111111111111111.5",
            "+4111111111111111",
            "4111-1111-1111-111111111111",
            "4111-1111-1111-1111-1111",
            "9111111111111111",
        ] {
            assert_eq!(found(text, ""), None, "{text}");
        }
        assert_eq!(found("4111111111111111", "traceId"), None);
        assert!(found("4222222222222", "cardNumber").is_some());
    }
}
