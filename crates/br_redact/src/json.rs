//! JSON in place: what is masked stays JSON.
//!
//! Names of members say what their values are, also where a name and a value are members of their own, as in OTLP's attributes
//! and in lists of headers. What is no JSON is read as text from where it ceases to be.

use crate::mask::Style;
use crate::pass::{Pass, Scope, Under};
use crate::rule::{Rule, RuleId};
use crate::rules::card;
use std::ops::Range;

/// Deeper bodies are refused by those who decode them.
const DEPTH_MAX: usize = 128;

/// Reads values one behind the other, as lines of JSON have them.
pub(crate) fn redact(pass: &mut Pass<'_>, place: Range<usize>) {
    let mut walk = Walk { pass, end: place.end, postponed: 0 };
    let mut at = walk.blank(place.start);
    while at < place.end {
        let Some(end) = walk.value(at, Under::NOTHING, 0) else {
            pass.text(at..place.end, Under::NOTHING);
            return;
        };
        at = walk.blank(end);
    }
}

struct Walk<'p, 'a> {
    pass: &'p mut Pass<'a>,
    end: usize,
    /// How many values around this one were read before their names, and are read a second time now.
    postponed: usize,
}

/// Each costs those below it a look more.
const POSTPONED_MAX: usize = 4;

impl<'a> Walk<'_, 'a> {
    fn byte(&self, at: usize) -> Option<u8> {
        if at < self.end { Some(self.pass.source[at]) } else { None }
    }

    fn blank(&self, mut at: usize) -> usize {
        while self.byte(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        at
    }

    /// The end of a value that begins here; `None` where it is no JSON.
    fn value(&mut self, at: usize, under: Under<'_>, depth: usize) -> Option<usize> {
        match self.byte(at)? {
            b'"' => {
                let (content, end) = self.string(at)?;
                self.look(content, under);
                Some(end)
            }
            b'{' if depth < DEPTH_MAX => self.object(at, under, depth),
            b'[' if depth < DEPTH_MAX => self.array(at, under, depth),
            b'-' | b'0'..=b'9' => Some(self.number(at, under)),
            b't' | b'f' | b'n' => {
                let mut end = at;
                while self.byte(end).is_some_and(|byte| byte.is_ascii_alphabetic()) {
                    end += 1;
                }
                Some(end)
            }
            _ => None,
        }
    }

    /// What stands between the quotes, and where the string ends.
    fn string(&self, at: usize) -> Option<(Range<usize>, usize)> {
        let start = at + 1;
        let mut from = start;
        loop {
            let found = from + memchr::memchr2(b'"', b'\\', self.pass.source.get(from..self.end)?)?;
            if self.pass.source[found] == b'"' {
                return Some((start..found, found + 1));
            }
            from = found + 2;
        }
    }

    fn look(&mut self, content: Range<usize>, under: Under<'_>) {
        let text = &self.pass.source[content.clone()];
        if memchr::memchr(b'\\', text).is_some() {
            self.pass.escaped(content, under);
        } else if matches!(under.key, b"intValue" | b"asInt" | b"int_value" | b"as_int") {
            self.pass.styled(content, under, Style::Digits);
        } else {
            self.pass.text(content, under);
        }
    }

    fn number(&mut self, at: usize, under: Under<'_>) -> usize {
        let mut end = at + 1;
        while self.byte(end).is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
            end += 1;
        }
        // Fewer digits are looked at only where a name says that they are secret.
        const DIGITS_MIN: usize = 12;
        if under.secrecy.is_some() || end - at >= DIGITS_MIN {
            let text = &self.pass.source[at..end];
            let is_card = || std::str::from_utf8(text).ok()?.parse().ok().map(|number| card::is_card(number, under.key));
            if under.secrecy == Some(crate::keys::Secrecy::Certain) {
                self.pass.styled(at..end, under, Style::Digits);
            } else if self.pass.scope.rules.has(Rule::Card) && is_card() == Some(true) {
                self.pass.mask(at..end, text, Rule::Card as RuleId, Style::Digits);
            }
        }
        end
    }

    fn array(&mut self, at: usize, under: Under<'_>, depth: usize) -> Option<usize> {
        let mut at = self.blank(at + 1);
        if self.byte(at)? == b']' {
            return Some(at + 1);
        }
        let named = self.pair(at);
        let mut index = 0;
        loop {
            let under = match &named {
                Some(name) if index == 1 => self.pass.under(&self.pass.source[name.clone()], under),
                _ => under,
            };
            at = self.value(at, under, depth + 1)?;
            at = self.blank(at);
            match self.byte(at)? {
                b',' => at = self.blank(at + 1),
                b']' => return Some(at + 1),
                _ => return None,
            }
            index += 1;
        }
    }

    /// The first of two strings, as headers are listed: `["Authorization", "…"]`.
    fn pair(&self, at: usize) -> Option<Range<usize>> {
        const NAME_BYTES_MAX: usize = 128;
        if self.byte(at)? != b'"' {
            return None;
        }
        let (name, end) = self.string(at)?;
        let comma = self.blank(end);
        let second = self.blank(comma + 1);
        if name.len() > NAME_BYTES_MAX || self.byte(comma)? != b',' || self.byte(second)? != b'"' {
            return None;
        }
        let (_, end) = self.string(second)?;
        (self.byte(self.blank(end))? == b']').then_some(name)
    }

    fn object(&mut self, at: usize, under: Under<'_>, depth: usize) -> Option<usize> {
        let before = self.enter(at, depth);
        let end = self.members(at, under, depth);
        self.pass.scope = before;
        end
    }

    /// The rules of the service whose resource is a member of this object.
    fn enter(&mut self, at: usize, depth: usize) -> Scope<'a> {
        let scope = self.pass.scope;
        // `{"resourceLogs": [{"resource": …}]}`, and the spans of Zipkin's lists.
        if !self.pass.redactor.has_services || depth > 2 {
            return scope;
        }
        let Some(service) = self.service(at) else { return scope };
        let source = self.pass.source;
        self.pass.enter_service(&source[service])
    }

    fn service(&self, at: usize) -> Option<Range<usize>> {
        if let Some(endpoint) = self.member(at, b"localEndpoint") {
            return self.member(endpoint, b"serviceName").and_then(|name| self.string(name)).map(|(name, _)| name);
        }
        if let Some(labels) = self.member(at, b"stream") {
            let name = self.member(labels, b"service_name").or_else(|| self.member(labels, b"service"));
            return name.and_then(|name| self.string(name)).map(|(name, _)| name);
        }
        let attributes = self.member(self.member(at, b"resource")?, b"attributes")?;
        let mut at = self.blank(attributes + 1);
        while self.byte(at)? == b'{' {
            let key = self.member(at, b"key").and_then(|key| self.string(key));
            if key.is_some_and(|(key, _)| &self.pass.source[key] == b"service.name") {
                let value = self.member(self.member(at, b"value")?, b"stringValue")?;
                return self.string(value).map(|(value, _)| value);
            }
            at = self.blank(self.skip(at, 0)?);
            if self.byte(at)? != b',' {
                return None;
            }
            at = self.blank(at + 1);
        }
        None
    }

    /// Where the value of a member begins.
    fn member(&self, object: usize, name: &[u8]) -> Option<usize> {
        if self.byte(object)? != b'{' {
            return None;
        }
        let mut at = self.blank(object + 1);
        while self.byte(at)? == b'"' {
            let (key, end) = self.string(at)?;
            let colon = self.blank(end);
            if self.byte(colon)? != b':' {
                return None;
            }
            let value = self.blank(colon + 1);
            if &self.pass.source[key] == name {
                return Some(value);
            }
            at = self.blank(self.skip(value, 0)?);
            if self.byte(at)? != b',' {
                return None;
            }
            at = self.blank(at + 1);
        }
        None
    }

    /// The end of a value, which is not looked at.
    fn skip(&self, at: usize, depth: usize) -> Option<usize> {
        match self.byte(at)? {
            b'"' => self.string(at).map(|(_, end)| end),
            b'{' | b'[' if depth < DEPTH_MAX => {
                let mut at = at + 1;
                loop {
                    at = self.blank(at);
                    match self.byte(at)? {
                        b'}' | b']' => return Some(at + 1),
                        b',' | b':' => at += 1,
                        _ => at = self.skip(at, depth + 1)?,
                    }
                }
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                let mut end = at;
                while self.byte(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')) {
                    end += 1;
                }
                Some(end)
            }
            _ => None,
        }
    }

    fn members(&mut self, at: usize, under: Under<'_>, depth: usize) -> Option<usize> {
        let source: &'a [u8] = self.pass.source;
        // The name of `{"key": name, "value": …}`.
        let mut told: Option<Range<usize>> = None;
        let mut waiting: Option<usize> = None;
        let mut at = self.blank(at + 1);
        if self.byte(at)? == b'}' {
            return Some(at + 1);
        }
        loop {
            let (key, end) = self.string(at)?;
            self.look(key.clone(), Under::NOTHING);
            let colon = self.blank(end);
            if self.byte(colon)? != b':' {
                return None;
            }
            let value = self.blank(colon + 1);
            let key = &source[key];
            if matches!(key, b"key" | b"name") && self.byte(value)? == b'"' {
                told = self.string(value).map(|(name, _)| name);
            }
            at = match (key, &told) {
                (b"value", Some(name)) => {
                    let under = self.pass.under(&source[name.clone()], under);
                    self.value(value, under, depth + 1)?
                }
                (b"value", None) if self.postponed < POSTPONED_MAX => {
                    waiting = Some(value);
                    self.skip(value, depth + 1)?
                }
                _ => {
                    let inner = self.pass.under(key, under);
                    // The members of an attribute's value are called after their types.
                    let is_typed = matches!(key, b"stringValue" | b"arrayValue" | b"kvlistValue" | b"values");
                    let inner = if is_typed { Under { key: under.key, ..inner } } else { inner };
                    self.value(value, inner, depth + 1)?
                }
            };
            at = self.blank(at);
            match self.byte(at)? {
                b',' => at = self.blank(at + 1),
                b'}' => break,
                _ => return None,
            }
        }
        if let Some(value) = waiting {
            let key = told.map_or(&b"value"[..], |name| &source[name]);
            let under = self.pass.under(key, under);
            self.postponed += 1;
            let end = self.value(value, under, depth + 1);
            self.postponed -= 1;
            end?;
        }
        Some(at + 1)
    }
}
