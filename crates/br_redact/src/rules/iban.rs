//! Bank accounts (ISO 13616): the country's length, and 1 as the remainder of 97.

use super::{is_word, name_before};
use crate::keys::is_of_number;
use std::ops::Range;

/// A length for each country, as the registry has them.
const LENGTHS: &[u8] =
    b"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18\
FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27\
MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

/// An account that begins here; `start` begins a word.
pub(crate) fn find(text: &[u8], start: usize, key: &[u8]) -> Option<Range<usize>> {
    let &[first, second, third, fourth, ..] = text.get(start..)? else { return None };
    // The groups of a UUID are of four signs as well.
    if start.checked_sub(1).is_some_and(|before| text[before] == b'-') {
        return None;
    }
    if !(third.is_ascii_digit() && fourth.is_ascii_digit()) {
        return None;
    }
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let (entries, _) = LENGTHS.as_chunks::<4>();
    let [_, _, tens, ones] = entries.iter().find(|entry| entry[..2] == country)?;
    let length = usize::from(tens - b'0') * 10 + usize::from(ones - b'0');
    let end = account_end(text, start, length)?;
    let account = &text[start..end];
    if remainder(account) != 1 {
        return None;
    }
    let is_written_small = first.is_ascii_lowercase() && account.len() == length;
    (!is_written_small || !is_of_number(name_before(text, start, key))).then_some(start..end)
}

/// So many letters and digits, together or in groups of four.
fn account_end(text: &[u8], start: usize, length: usize) -> Option<usize> {
    let is_grouped = text.get(start + 4).is_some_and(|byte| matches!(byte, b' ' | b'-'));
    let (mut end, mut count) = (start, 0);
    while count < length {
        let byte = *text.get(end)?;
        if is_grouped && count > 0 && count % 4 == 0 && matches!(byte, b' ' | b'-') && !matches!(text[end - 1], b' ' | b'-') {
            end += 1;
            continue;
        }
        if !byte.is_ascii_alphanumeric() {
            return None;
        }
        count += 1;
        end += 1;
    }
    (!text.get(end).is_some_and(|byte| is_word(*byte))).then_some(end)
}

fn remainder(account: &[u8]) -> u32 {
    let signs = account.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let rotated = signs.clone().skip(4).chain(signs.take(4));
    rotated.fold(0, |remainder, sign| match sign {
        b'0'..=b'9' => (remainder * 10 + u32::from(sign - b'0')) % 97,
        _ => (remainder * 100 + u32::from(sign.to_ascii_uppercase() - b'A') + 10) % 97,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts() {
        for text in ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "nl91abna0417164300", "NO9386011117947"] {
            assert_eq!(find(text.as_bytes(), 0, b""), Some(0..text.len()), "{text}");
        }
        for text in ["DE89370400440532013001", "DE893704004405320130001", "XX89370400440532013000", "DE8937040044"] {
            assert_eq!(find(text.as_bytes(), 0, b""), None, "{text}");
        }
        assert_eq!(find(b"be68539007547034", 0, b"span_id"), None);
        assert_eq!(find(b"0aa000a0-ad34-43e5-a98c-ed6d2af30d67", 9, b""), None);
        assert_eq!(find(b"be68539007547034", 0, b"iban"), Some(0..16));
    }
}
