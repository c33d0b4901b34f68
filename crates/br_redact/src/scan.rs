//! One pass over a text: where a word, a number or a sign begins that a rule may know, the rule looks.
//!
//! Clean text costs a look into a table for each byte; nothing is searched for twice.

use crate::keys::Keys;
use crate::rule::{Rule, RuleSet};
use crate::rules::{authorization, before, card, email, iban, jwt, national, network, pairs, pem, phone, run, ssn, tokens, url};
use std::ops::Range;

/// What is known of a text besides its bytes.
pub(crate) struct Around<'a> {
    /// The name that it is the value of.
    pub(crate) key: &'a [u8],
    pub(crate) rules: RuleSet,
    pub(crate) keys: &'a Keys,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    Other,
    Sign,
    Letter,
    Digit,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        classes[byte] = if letter.is_ascii_digit() {
            Class::Digit
        } else if letter.is_ascii_alphabetic() || letter == b'_' {
            Class::Letter
        } else if matches!(letter, b'@' | b'=' | b':' | b'%' | b'-') {
            Class::Sign
        } else {
            Class::Other
        };
        byte += 1;
    }
    classes
};

#[inline]
fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Tells of every value that a rule recognises, from the front to the back, none inside another.
pub(crate) fn scan(text: &[u8], around: &Around<'_>, found: &mut dyn FnMut(Range<usize>, Rule)) {
    let mut scanner = Scanner { text, around, floor: 0 };
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let (hit, next) = match class(*byte) {
            Class::Other => {
                at += 1;
                continue;
            }
            Class::Letter => (scanner.word(at), word_end(text, at)),
            Class::Digit => (scanner.number(at), word_end(text, at)),
            Class::Sign => scanner.sign(at),
        };
        at = next;
        if let Some((range, rule)) = hit {
            at = range.end;
            scanner.floor = range.end;
            found(range, rule);
        }
    }
}

#[inline]
fn word_end(text: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    while text.get(end).is_some_and(|byte| class(*byte) as u8 >= Class::Letter as u8) {
        end += 1;
    }
    end
}

type Hit = Option<(Range<usize>, Rule)>;

struct Scanner<'a> {
    text: &'a [u8],
    around: &'a Around<'a>,
    /// The end of the last value that was found.
    floor: usize,
}

impl Scanner<'_> {
    fn has(&self, rule: Rule) -> bool {
        self.around.rules.has(rule)
    }

    #[inline]
    fn word(&self, start: usize) -> Hit {
        let text = self.text;
        let &[first, second, third, ..] = text.get(start..)? else { return None };
        if third.is_ascii_digit()
            && let Some(hit) = self.word_with_digits(start)
        {
            return Some(hit);
        }
        if tokens::may_begin(first, second) || first == b'e' {
            if first == b'e'
                && second == b'y'
                && third == b'J'
                && self.has(Rule::Jwt)
                && let Some(range) = jwt::find(text, start)
            {
                return Some((range, Rule::Jwt));
            }
            if self.has(Rule::ApiKey)
                && let Some(range) = tokens::find(text, start)
            {
                return Some((range, Rule::ApiKey));
            }
        }
        match first {
            b'B' | b'b' if matches!(second, b'e' | b'E' | b'a' | b'A') && self.has(Rule::Authorization) => {
                authorization::find(text, start).map(|range| (range, Rule::Authorization))
            }
            b'h' if second == b'o' && third == b'o' && self.has(Rule::ApiKey) => {
                tokens::slack_hook(text, start).map(|range| (range, Rule::ApiKey))
            }
            b'a'..=b'f' | b'A'..=b'F' => self.machine(start),
            _ => None,
        }
    }

    fn word_with_digits(&self, start: usize) -> Hit {
        if self.has(Rule::Iban)
            && let Some(range) = iban::find(self.text, start, self.around.key)
        {
            return Some((range, Rule::Iban));
        }
        self.national(start)
    }

    fn national(&self, start: usize) -> Hit {
        if !self.has(Rule::NationalId) {
            return None;
        }
        national::find(self.text, start).map(|range| (range, Rule::NationalId))
    }

    /// Addresses that begin with hexadecimal digits.
    fn machine(&self, start: usize) -> Hit {
        if self.has(Rule::Mac)
            && let Some(range) = network::mac(self.text, start)
        {
            return Some((range, Rule::Mac));
        }
        if !self.has(Rule::Ipv6) {
            return None;
        }
        network::ipv6(self.text, start).map(|range| (range, Rule::Ipv6))
    }

    #[inline]
    fn number(&self, start: usize) -> Hit {
        let text = self.text;
        let end = run(text, start, 64, |byte| byte.is_ascii_digit());
        let length = end - start;
        if (length == 4 && matches!(text.get(end), Some(b' ' | b'-')) || (12..=19).contains(&length))
            && self.has(Rule::Card)
            && let Some(range) = card::find(text, start, end, self.around.key)
        {
            return Some((range, Rule::Card));
        }
        let has_bare = self.has(Rule::UsSsnBare);
        if (length == 3 && matches!(text.get(end), Some(b' ' | b'-')) || length == 9)
            && (has_bare || self.has(Rule::UsSsn))
            && let Some(range) = ssn::find(text, start, end, self.around.key, has_bare)
        {
            return Some((range, if has_bare { Rule::UsSsnBare } else { Rule::UsSsn }));
        }
        if text.get(end) == Some(&b':')
            && self.has(Rule::ApiKey)
            && let Some(range) = tokens::telegram(text, start, end)
        {
            return Some((range, Rule::ApiKey));
        }
        if self.has(Rule::Ipv4)
            && length <= 3
            && text.get(end) == Some(&b'.')
            && let Some(range) = network::ipv4(text, start)
        {
            return Some((range, Rule::Ipv4));
        }
        self.machine(start).or_else(|| self.national(start)).or_else(|| self.phone(start))
    }

    fn phone(&self, start: usize) -> Hit {
        if !self.has(Rule::Phone) {
            return None;
        }
        phone::find(self.text, self.floor, start, self.around.key).map(|range| (range, Rule::Phone))
    }

    /// What is found, and where to go on when nothing is.
    fn sign(&mut self, at: usize) -> (Hit, usize) {
        let text = self.text;
        match text[at] {
            b'@' => (self.email(at, 1), at + 1),
            b'%' => {
                let is_escape = text.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                if !is_escape {
                    return (None, at + 1);
                }
                let hit = if &text[at + 1..at + 3] == b"40" { self.email(at, 3) } else { None };
                // A word may begin behind it.
                (hit, at + 3)
            }
            b'-' => (self.hyphens(at), at + 1),
            b':' if text[at + 1..].starts_with(b"//") => self.url(at),
            _ => (self.pair(at), at + 1),
        }
    }

    fn email(&self, sign: usize, width: usize) -> Hit {
        if !self.has(Rule::Email) {
            return None;
        }
        email::find(self.text, self.floor, sign, width).map(|range| (range, Rule::Email))
    }

    fn hyphens(&self, at: usize) -> Hit {
        if self.text.get(at + 1) != Some(&b'-') || before(self.text, at) == b'-' {
            return None;
        }
        if self.has(Rule::PrivateKey)
            && let Some(range) = pem::find(self.text, at)
        {
            return Some((range, Rule::PrivateKey));
        }
        if !self.has(Rule::KeyName) {
            return None;
        }
        pairs::option(self.text, at, self.around.keys).map(|pair| (pair.value, Rule::KeyName))
    }

    fn url(&mut self, colon: usize) -> (Hit, usize) {
        let Some(user) = url::user(self.text, colon) else { return (None, colon + 1) };
        if let Some(password) = user.password.filter(|_| self.has(Rule::UrlPassword)) {
            (Some((password, Rule::UrlPassword)), user.host)
        } else {
            self.floor = user.host;
            (None, user.host)
        }
    }

    fn pair(&self, sign: usize) -> Hit {
        let (by_name, by_header) = (self.has(Rule::KeyName), self.has(Rule::Authorization));
        if (by_name || by_header)
            && let Some(pair) = pairs::find(self.text, self.floor, sign, self.around.keys)
        {
            return match pair.is_header {
                true if by_header => Some((pair.value, Rule::Authorization)),
                false if by_name => Some((pair.value, Rule::KeyName)),
                _ => None,
            };
        }
        if self.text[sign] == b':' && self.text.get(sign + 1) == Some(&b':') && self.has(Rule::Ipv6) {
            return network::ipv6(self.text, sign).map(|range| (range, Rule::Ipv6));
        }
        None
    }
}
