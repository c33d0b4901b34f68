//! What stands in place of a value. Every mask is as long as what it hides: lengths around it stay true, quotes stay quotes.

use sha2::{Digest, Sha256};

/// How a value is written where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Text,
    /// It must remain a number.
    Digits,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// `[card**********]`: the rule's name where it fits, else stars.
    #[default]
    Mask,
    /// `[card:9f2c01…]`: with a keyed hash, so that equal values can be told to be equal.
    Hash,
}

/// The key of hashes.
#[derive(Clone)]
pub(crate) struct HashKey([u8; BLOCK]);

const BLOCK: usize = 64;
/// Hexadecimal digits of a hash: fewer tell too many values apart wrongly, more are of no use.
const HASH_DIGITS_MIN: usize = 8;
const HASH_DIGITS_MAX: usize = 16;

impl HashKey {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        if secret.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            block[..secret.len()].copy_from_slice(secret);
        }
        Self(block)
    }

    /// HMAC (RFC 2104) with SHA-256.
    fn hmac(&self, value: &[u8]) -> [u8; 32] {
        let inner = Sha256::new().chain_update(self.0.map(|byte| byte ^ 0x36)).chain_update(value).finalize();
        Sha256::new().chain_update(self.0.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
    }
}

/// Writes the mask of `value` over `place`.
pub(crate) fn fill(place: &mut [u8], value: &[u8], name: &str, style: Style, key: Option<&HashKey>) {
    if style == Style::Digits {
        // No leading zero: JSON has none.
        for (at, byte) in place.iter_mut().filter(|byte| byte.is_ascii_digit()).enumerate() {
            *byte = if at == 0 { b'1' } else { b'0' };
        }
        return;
    }
    let room = place.len();
    place.fill(b'*');
    let mut label = String::new();
    let hash = key.map(|key| key.hmac(value));
    match hash {
        Some(hash) => {
            let named = room >= name.len() + 3 + HASH_DIGITS_MIN;
            if !named && room < 2 + HASH_DIGITS_MIN {
                return;
            }
            let around = if named { name.len() + 3 } else { 2 };
            let digits = (room - around).min(HASH_DIGITS_MAX);
            if named {
                label.push_str(name);
                label.push(':');
            }
            for at in 0..digits {
                let byte = hash[at / 2];
                let nibble = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
                label.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        None if room >= name.len() + 2 => label.push_str(name),
        None => return,
    }
    place[0] = b'[';
    place[1..=label.len()].copy_from_slice(label.as_bytes());
    place[room - 1] = b']';
}

/// Whether a value hides something already, here or by its sender.
pub(crate) fn is_masked(value: &[u8]) -> bool {
    match value {
        [b'[', .., b']'] => {
            let inner = &value[1..value.len() - 1];
            let stars = inner.iter().rev().take_while(|byte| **byte == b'*').count();
            let words = &inner[..inner.len() - stars];
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-' | b' ');
            words.len() <= 64 && words.iter().all(is_word)
        }
        [b'<', .., b'>'] => value.len() <= 32,
        _ => !value.is_empty() && value.iter().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(value: &str, key: Option<&HashKey>) -> String {
        let mut place = value.as_bytes().to_vec();
        fill(&mut place, value.as_bytes(), "card", Style::Text, key);
        String::from_utf8(place).expect("ASCII")
    }

    #[test]
    fn a_mask_is_as_long_as_the_value() {
        assert_eq!(masked("4111111111111111", None), "[card**********]");
        assert_eq!(masked("123456", None), "[card]");
        assert_eq!(masked("12345", None), "*****");
        let key = HashKey::new(b"k");
        let hashed = masked("4111111111111111", Some(&key));
        assert_eq!(hashed, masked("4111111111111111", Some(&key)));
        assert_ne!(hashed, masked("4111111111111112", Some(&key)));
        assert_ne!(hashed, masked("4111111111111111", Some(&HashKey::new(b"j"))));
        assert!(hashed.starts_with("[card:") && hashed.ends_with(']') && hashed.len() == 16, "{hashed}");
        assert_eq!(masked("1234567890", Some(&key)).len(), 10);
        assert_eq!(masked("123456789", Some(&key)), "*********");
        for mask in [hashed.as_str(), "[card**********]", "[card]", "*****", "[Filtered]", "<secret>", "xxxx"] {
            assert!(is_masked(mask.as_bytes()), "{mask}");
        }
        assert!(!is_masked(b"[1, 2]") && !is_masked(b"hunter2") && !is_masked(b""));
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac() {
        let mac = HashKey::new(b"Jefe").hmac(b"what do ya want for nothing?");
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    #[test]
    fn a_number_stays_one() {
        let mut place = *b"4111111111111111";
        fill(&mut place, b"4111111111111111", "card", Style::Digits, None);
        assert_eq!(&place, b"1000000000000000");
    }
}
