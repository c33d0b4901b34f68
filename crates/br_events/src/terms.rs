//! What a page filter knows of a row: the words of its body, its `key=value` pairs, its trace id — as 64-bit hashes.

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

/// The terms of a body, for building a filter.
pub(crate) fn body_terms(body: &str) -> impl Iterator<Item = u64> {
    words(body).filter(|word| is_indexed(word)).map(word_term)
}

/// What must be in the filter of a page for a body there to contain `needle` as a substring:
/// the words that have something else than a word on both sides within the needle.
pub(crate) fn substring_terms(needle: &str) -> Vec<u64> {
    let bytes = needle.as_bytes();
    let mut terms = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        let length = bytes[from..].iter().take_while(|byte| is_word_byte(**byte)).count();
        let is_whole = from > 0 && from + length < bytes.len();
        if is_whole && is_indexed(&bytes[from..from + length]) {
            terms.push(word_term(&bytes[from..from + length]));
        }
        from += length + 1;
    }
    terms
}

/// The terms of whole words that must all occur.
pub(crate) fn match_terms(text: &str) -> Vec<u64> {
    body_terms(text).collect()
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

    #[test]
    fn a_substring_needs_its_inner_words_only() {
        assert_eq!(substring_terms("refused by peer"), match_terms("by"));
        assert_eq!(substring_terms(" refused by "), match_terms("Refused BY"));
        assert_eq!(substring_terms("word"), Vec::<u64>::new());
        assert_eq!(substring_terms("a.b"), Vec::<u64>::new());
        assert_eq!(words("GET /api/v1 é_x").count(), 4);
    }

    #[test]
    fn whole_numbers_are_one_term() {
        assert_eq!(value_term("http.code", &200i64.into()), pair_term("http_code", "200.0"));
        assert_eq!(value_term("x", &200.0.into()), pair_term("x", "200"));
        assert_ne!(pair_term("x", "v1.0"), pair_term("x", "v1"));
    }
}
