//! What a page filter knows of a row: the words of its body, its `key=value` pairs, its trace id — as 64-bit hashes; and parts of words.

use crate::parts::Probes;
use br_model::{AttributeValue, TraceId, names::label_name};
use br_std::hash::hash64;

/// Words outside these lengths, in bytes, are not in the filter and prune nothing.
const WORD_BYTES_MIN: usize = 2;
const WORD_BYTES_MAX: usize = 64;
/// `key=value` terms with a longer value are not in the filter.
const VALUE_BYTES_MAX: usize = 256;

const WORD: u8 = b'w';
const PAIR: u8 = b'=';
const TRACE: u8 = b't';

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The words of a text: runs of letters, digits, underscores and everything outside ASCII.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split(|byte| !is_word_byte(*byte)).filter(|word| !word.is_empty())
}

fn is_indexed(word: &[u8]) -> bool {
    (WORD_BYTES_MIN..=WORD_BYTES_MAX).contains(&word.len())
}

/// Words are equal whatever the case of their ASCII letters.
fn word_term(word: &[u8]) -> u64 {
    let mut bytes = [0u8; WORD_BYTES_MAX + 1];
    bytes[0] = WORD;
    let end = word.len().min(WORD_BYTES_MAX) + 1;
    bytes[1..end].copy_from_slice(&word[..end - 1]);
    bytes[1..end].make_ascii_lowercase();
    hash64(&bytes[..end])
}

/// The term of a word of a body; `None` where filters do not know such a word.
pub(crate) fn body_term(word: &[u8]) -> Option<u64> {
    is_indexed(word).then(|| word_term(word))
}

/// Follows the words of a text: which plain one, of letters alone, stands behind which.
///
/// What speaks to people has few such pairs, however many ids and numbers it carries, so that they cost little and tell a sentence from
/// its words.
#[derive(Default)]
pub(crate) struct Following(Option<u64>);

impl Following {
    /// The pair that this word makes with the one before; `term` is its own.
    pub(crate) fn pair(&mut self, word: &[u8], term: Option<u64>) -> Option<u64> {
        let term = term.filter(|_| word.iter().all(u8::is_ascii_alphabetic));
        let before = std::mem::replace(&mut self.0, term);
        // Both are hashes already, and their order matters.
        Some((before?.rotate_left(29) ^ term?).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// What must be in the filters of a page for it to have a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    pub(crate) whole: Vec<u64>,
    /// Words that stand one behind the other, which not all pages know of.
    pub(crate) follows: Vec<u64>,
    pub(crate) parts: Probes,
}

impl Terms {
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.follows.is_empty() && self.parts.as_slice().is_empty()
    }

    /// These too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.whole.extend(&other.whole);
        self.follows.extend(&other.follows);
        self.parts.extend(&other.parts);
    }
}

impl Extend<u64> for Terms {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, whole: T) {
        self.whole.extend(whole);
    }
}

impl FromIterator<u64> for Terms {
    fn from_iter<T: IntoIterator<Item = u64>>(whole: T) -> Self {
        Self { whole: whole.into_iter().collect(), ..Self::default() }
    }
}

/// What there must be for a body to contain `needle` as a substring: the words that have something else than a word on both sides
/// within the needle, and the parts of those at its ends, which may go on in the body.
pub(crate) fn substring_terms(needle: &str) -> Terms {
    let bytes = needle.as_bytes();
    let mut terms = Terms::default();
    let mut following = Following::default();
    let mut from = 0;
    while from < bytes.len() {
        let length = bytes[from..].iter().take_while(|byte| is_word_byte(**byte)).count();
        let word = &bytes[from..from + length];
        let is_whole = from > 0 && from + length < bytes.len();
        let term = body_term(word).filter(|_| is_whole);
        match term {
            Some(term) => terms.whole.push(term),
            None => terms.parts.add(word),
        }
        if length > 0 {
            terms.follows.extend(following.pair(word, term));
        }
        from += length + 1;
    }
    terms
}

/// The terms of whole words that must occur one after the other.
pub(crate) fn phrase_terms(text: &str) -> Terms {
    let mut following = Following::default();
    let mut terms = Terms::default();
    for word in words(text) {
        let term = body_term(word);
        terms.whole.extend(term);
        terms.follows.extend(following.pair(word, term));
    }
    terms
}

/// The terms of whole words that must all occur.
pub(crate) fn match_terms(text: &str) -> Terms {
    words(text).filter_map(body_term).collect()
}

pub(crate) fn trace_term(id: TraceId) -> u64 {
    let mut bytes = [TRACE; 17];
    bytes[1..].copy_from_slice(&id.0);
    hash64(&bytes)
}

/// Numbers that are whole have one text, whatever their type.
pub(crate) fn plain_text(text: &str) -> &str {
    text.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok()).unwrap_or(text)
}

/// Makes the terms of the attributes of one key, which go by its label name.
pub(crate) struct PairTerms {
    buffer: Vec<u8>,
    prefix_bytes: usize,
}

impl PairTerms {
    pub(crate) fn new(key: &str) -> Self {
        let mut buffer = vec![PAIR];
        buffer.extend_from_slice(label_name(key).as_bytes());
        buffer.push(0);
        Self { prefix_bytes: buffer.len(), buffer }
    }

    /// `None` when such a pair is not in filters.
    pub(crate) fn term(&mut self, text: &str) -> Option<u64> {
        if text.len() > VALUE_BYTES_MAX {
            return None;
        }
        self.buffer.truncate(self.prefix_bytes);
        self.buffer.extend_from_slice(plain_text(text).as_bytes());
        Some(hash64(&self.buffer))
    }
}

/// The term for an attribute. `None` when such a pair is not in filters.
pub(crate) fn pair_term(key: &str, text: &str) -> Option<u64> {
    PairTerms::new(key).term(text)
}

pub(crate) fn value_term(key: &str, value: &AttributeValue) -> Option<u64> {
    match value {
        AttributeValue::String(_) | AttributeValue::Bool(_) | AttributeValue::Int(_) => pair_term(key, &value.to_string()),
        // Beyond this, doubles and integers of the same value no longer have the same text.
        AttributeValue::Double(number) if number.abs() < 1e15 => pair_term(key, &format!("{number:?}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::parts::{PageParts, build, row_bytes};

    #[test]
    fn a_substring_needs_its_inner_words_and_parts_of_the_outer_ones() {
        assert_eq!(substring_terms("xy by zz"), match_terms("by"));
        let phrase = substring_terms("card issuer declined 2 of them twice");
        assert_eq!(phrase.follows, [phrase_terms("Issuer, DECLINED").follows, phrase_terms("of them").follows].concat());
        assert_ne!(phrase_terms("declined issuer").follows, phrase_terms("issuer declined").follows);
        assert_eq!(substring_terms(" refused by "), phrase_terms("Refused BY"));
        assert_eq!(substring_terms("cut"), Terms::default());
        assert_eq!(substring_terms("a.b"), Terms::default());
        let bare = substring_terms("timeout");
        assert!(bare.whole.is_empty() && bare.parts.as_slice().len() == 12, "{bare:?}");
        assert_eq!(bare, substring_terms("TimeOut"));
        assert_eq!(words("GET /api/v1 é_x").count(), 4);
    }

    /// Whether a page with this body alone may have what is asked for.
    fn may_hold(body: &str, terms: &Terms) -> bool {
        let mut page = PageParts::default();
        words(body).for_each(|word| page.add(word));
        let known = phrase_terms(body);
        let parts = build(&[page]);
        let is_set = |bit: u32| parts.bytes[bit as usize % parts.bits * row_bytes(1)] & 1 == 1;
        let parts_hold = parts.bits == 0
            || terms.parts.as_slice().iter().all(|probe| is_set(probe.bit) || probe.is_short && parts.long & 1 == 1);
        let are_known = |terms: &[u64], known: &[u64]| terms.iter().all(|term| known.contains(term));
        are_known(&terms.whole, &known.whole) && are_known(&terms.follows, &known.follows) && parts_hold
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_body_contains_is_not_ruled_out(
            words in proptest::collection::vec("[a-cA-C]{0,6}|[0-9a-f]{1,40}|[é漢字ß]{1,3}|[a-z_]{60,70}|[0-9]{4,9}", 0..6),
            gaps in proptest::collection::vec("[ ./:\"-]{0,2}", 6),
            cut in (0usize..200, 0usize..200),
        ) {
            let body: String = words.iter().zip(&gaps).flat_map(|(word, gap)| [word.as_str(), gap]).collect();
            let places: Vec<usize> = (0..=body.len()).filter(|at| body.is_char_boundary(*at)).collect();
            let (one, other) = (places[cut.0 % places.len()], places[cut.1 % places.len()]);
            let needle = &body[one.min(other)..one.max(other)];
            proptest::prop_assert!(may_hold(&body, &substring_terms(needle)), "{needle:?} in {body:?}");
            proptest::prop_assert!(may_hold(&body, &match_terms(&body)));
            let twice = format!("{body} {body}");
            proptest::prop_assert!(may_hold(&twice, &phrase_terms(&body)));
        }
    }

    #[test]
    fn whole_numbers_are_one_term() {
        assert_eq!(value_term("http.code", &200i64.into()), pair_term("http_code", "200.0"));
        assert_eq!(value_term("x", &200.0.into()), pair_term("x", "200"));
        assert_ne!(pair_term("x", "v1.0"), pair_term("x", "v1"));
    }
}
