//! One body on its way: what is read, what is written over it, what was found.

use crate::keys::Secrecy;
use crate::mask::{Style, fill};
use crate::policy::Redactor;
use crate::rule::{FIRST_PATTERN, Rule, RuleId, RuleSet};
use crate::rules::is_word;
use crate::rules::pairs::is_secret;
use crate::scan::{Around, scan};
use regex_automata::Input;
use std::borrow::Cow;
use std::ops::Range;

/// Secrets of one body that are looked for where no name stands beside them.
const SECRETS_MAX: usize = 32;
/// Shorter ones stand in other words.
const SECRET_BYTES_MIN: usize = 8;

pub(crate) struct Pass<'a> {
    pub(crate) redactor: &'a Redactor,
    pub(crate) source: &'a [u8],
    /// The masked body, from the first value that was found.
    out: Option<Vec<u8>>,
    pub(crate) counts: Vec<u64>,
    pub(crate) scope: Scope<'a>,
    /// Names of labels are names of things: only the surest of them say that their value is a secret.
    pub(crate) is_of_metrics: bool,
    /// What stood under a secret name.
    secrets: Vec<&'a [u8]>,
    scratch: Scratch,
}

/// Where in a body it is looked.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// What applies here, exceptions of the service left out.
    pub(crate) rules: RuleSet,
    /// Empty where nobody says or asks.
    service: &'a [u8],
}

/// A text without its escapes, and where each byte of it stands in the body.
#[derive(Default)]
struct Scratch {
    text: Vec<u8>,
    places: Vec<u32>,
    /// Where in the body the text ends.
    end: usize,
}

/// What is known of a value from what stands around it.
#[derive(Clone, Copy)]
pub(crate) struct Under<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) secrecy: Option<Secrecy>,
}

impl Under<'_> {
    pub(crate) const NOTHING: Under<'static> = Under { key: b"", secrecy: None };
}

impl<'a> Pass<'a> {
    pub(crate) fn new(redactor: &'a Redactor, source: &'a [u8]) -> Self {
        let counts = vec![0; redactor.rule_count()];
        let scope = Scope { rules: redactor.rules, service: b"" };
        Self {
            redactor,
            source,
            out: None,
            counts,
            scope,
            is_of_metrics: false,
            secrets: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// What a value under this name is; below a secret everything is.
    pub(crate) fn under<'k>(&self, key: &'k [u8], above: Under<'_>) -> Under<'k> {
        let secrecy = above.secrecy.or_else(|| {
            let secrecy = self.redactor.keys.secrecy(key)?;
            (secrecy == Secrecy::Certain || !self.is_of_metrics).then_some(secrecy)
        });
        Under { key, secrecy }
    }

    /// The rules that apply to a value under this name.
    fn rules_under(&self, key: &[u8]) -> RuleSet {
        let mut rules = self.scope.rules;
        for exception in &self.redactor.exceptions {
            if exception.is_of_service(self.scope.service) && exception.is_of_key(key) {
                rules = rules.without(exception.rules);
            }
        }
        rules
    }

    /// Leaves out what exceptions say of a service, for what follows; hands back where it was before.
    pub(crate) fn enter_service(&mut self, service: &'a [u8]) -> Scope<'a> {
        let before = self.scope;
        self.scope.service = service;
        for exception in self.redactor.exceptions.iter().filter(|exception| exception.has_no_key()) {
            if exception.is_of_service(service) {
                self.scope.rules = self.scope.rules.without(exception.rules);
            }
        }
        before
    }

    /// A text as it stands in the body.
    pub(crate) fn text(&mut self, place: Range<usize>, under: Under<'_>) {
        self.styled(place, under, Style::Text);
    }

    /// The same, where it has to remain a number.
    pub(crate) fn styled(&mut self, place: Range<usize>, under: Under<'_>, style: Style) {
        let source = self.source;
        let start = place.start;
        self.look(&source[place], under, style, &|range| start + range.start..start + range.end);
    }

    /// A text with JSON's escapes, which is read without them: a long one piece by piece, so that this takes little memory.
    pub(crate) fn escaped(&mut self, place: Range<usize>, under: Under<'_>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut from = place.start;
        loop {
            let next = scratch.fill(self.source, from..place.end);
            let (places, end) = (&scratch.places, scratch.end);
            let at = |index: usize| places.get(index).map_or(end, |place| *place as usize);
            self.look(&scratch.text, under, Style::Text, &|range| at(range.start)..at(range.end));
            let Some(next) = next else { break };
            from = next;
        }
        self.scratch = scratch;
    }

    fn look(&mut self, text: &[u8], under: Under<'_>, style: Style, place: &dyn Fn(Range<usize>) -> Range<usize>) {
        let rules = self.rules_under(under.key);
        if let Some(secrecy) = under.secrecy {
            let rule = if secrecy == Secrecy::Header { Rule::Authorization } else { Rule::KeyName };
            let is_number = style == Style::Digits && secrecy != Secrecy::Certain;
            if rules.has(rule) && is_secret(text, secrecy) && !is_number {
                return self.hit(text, 0..text.len(), rule as RuleId, style, place);
            }
        }
        if self.redactor.patterns.is_some() {
            self.own_patterns(text, rules, style, place);
        }
        let redactor = self.redactor;
        let around = Around { key: under.key, rules, keys: &redactor.keys };
        scan(text, &around, &mut |range, rule| self.hit(text, range, rule as RuleId, style, place));
    }

    fn own_patterns(&mut self, text: &[u8], rules: RuleSet, style: Style, place: &dyn Fn(Range<usize>) -> Range<usize>) {
        let redactor = self.redactor;
        let Some(patterns) = &redactor.patterns else { return };
        let mut captures = patterns.regex.create_captures();
        let mut from = 0;
        while from < text.len() {
            let input = Input::new(text).range(from..);
            patterns.regex.search_captures(&input, &mut captures);
            let Some(found) = captures.get_match() else { return };
            let group = patterns.groups.get(found.pattern().as_usize()).copied().unwrap_or(0);
            let range = captures.get_group(group).map_or(found.range(), |span| span.start..span.end);
            from = found.end().max(from + 1);
            let id = FIRST_PATTERN + found.pattern().as_usize() as RuleId;
            if rules.has_id(id) && !range.is_empty() {
                self.hit(text, whole_letters(text, range), id, style, place);
            }
        }
    }

    fn hit(&mut self, text: &[u8], range: Range<usize>, id: RuleId, style: Style, place: &dyn Fn(Range<usize>) -> Range<usize>) {
        let value = &text[range.clone()];
        let place = place(range);
        if id == Rule::KeyName as RuleId && self.secrets.len() < SECRETS_MAX {
            let raw = &self.source[place.clone()];
            if is_telling(raw) && !self.secrets.contains(&raw) {
                self.secrets.push(raw);
            }
        }
        self.mask(place, value, id, style);
    }

    pub(crate) fn mask(&mut self, place: Range<usize>, value: &[u8], id: RuleId, style: Style) {
        self.counts[usize::from(id)] += 1;
        let (source, redactor) = (self.source, self.redactor);
        let out = self.out.get_or_insert_with(|| source.to_vec());
        fill(&mut out[place], value, redactor.rule_name(id), style, redactor.hash_key.as_ref());
    }

    /// Writes zero over a varint, in as many bytes: the form with trailing zero groups, which every reader takes.
    pub(crate) fn zero_varint(&mut self, place: Range<usize>, id: RuleId) {
        self.counts[usize::from(id)] += 1;
        let source = self.source;
        let out = self.out.get_or_insert_with(|| source.to_vec());
        let last = place.end - 1;
        out[place.start..last].fill(0x80);
        out[last] = 0;
    }

    /// Runs of text in bytes of no known form.
    pub(crate) fn raw(&mut self, place: Range<usize>) {
        const RUN_BYTES_MIN: usize = 6;
        let source = self.source;
        let is_text = |byte: u8| byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r');
        let mut at = place.start;
        while at < place.end {
            let length = source[at..place.end].iter().take_while(|byte| is_text(**byte)).count();
            if length >= RUN_BYTES_MIN {
                self.text(at..at + length, Under::NOTHING);
            }
            at += length + 1;
        }
    }

    /// What was once seen to be a secret is one wherever it stands: a parameter of a message, a copy in another field.
    pub(crate) fn finish(mut self) -> (Option<Vec<u8>>, Vec<u64>) {
        let (source, redactor) = (self.source, self.redactor);
        let secrets = std::mem::take(&mut self.secrets);
        for secret in secrets {
            let mut masked = 0;
            let Some(out) = &mut self.out else { break };
            for start in memchr::memmem::find_iter(source, secret) {
                let place = start..start + secret.len();
                let is_alone = !start.checked_sub(1).is_some_and(|before| source[before].is_ascii_alphanumeric())
                    && !source.get(place.end).is_some_and(|byte| is_word(*byte));
                if is_alone && out[place.clone()] == source[place.clone()] {
                    let name = redactor.rule_name(Rule::KeyName as RuleId);
                    fill(&mut out[place], secret, name, Style::Text, redactor.hash_key.as_ref());
                    masked += 1;
                }
            }
            self.counts[Rule::KeyName as usize] += masked;
        }
        (self.out, self.counts)
    }
}

/// Long and mixed enough to be nothing else, and no id: those must stay what they are.
fn is_telling(secret: &[u8]) -> bool {
    let has = |kind: fn(&u8) -> bool| secret.iter().any(kind);
    secret.len() >= SECRET_BYTES_MIN
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !secret.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
        && !secret.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b'\n'))
}

/// A mask that began inside a letter of several bytes would leave half of it.
fn whole_letters(text: &[u8], range: Range<usize>) -> Range<usize> {
    let is_inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let (mut start, mut end) = (range.start, range.end);
    while start > 0 && is_inside(start) {
        start -= 1;
    }
    while is_inside(end) {
        end += 1;
    }
    start..end
}

/// What is read of an escaped text at once, and how much of it the next piece repeats: a value may stand across the two.
const PIECE_BYTES: usize = 1 << 20;
const REPEATED_BYTES: usize = 16 << 10;

impl Scratch {
    /// Reads what stands between two quotes; where to go on when that is much. What is no escape stays as it is.
    fn fill(&mut self, source: &[u8], place: Range<usize>) -> Option<usize> {
        self.text.clear();
        self.places.clear();
        let mut at = place.start;
        let mut next = None;
        while at < place.end && at - place.start < PIECE_BYTES {
            if next.is_none() && at - place.start >= PIECE_BYTES - REPEATED_BYTES {
                next = Some(at);
            }
            if source[at] == b'\\' {
                let (letter, length) = unescape(&source[at..place.end]);
                self.text.extend_from_slice(&letter);
                self.places.resize(self.text.len(), at as u32);
                at += length;
            } else {
                self.text.push(source[at]);
                self.places.push(at as u32);
                at += 1;
            }
        }
        self.end = at.min(place.end);
        if at < place.end { next } else { None }
    }
}

/// The letter that an escape stands for, and how many bytes the escape has.
fn unescape(rest: &[u8]) -> (Cow<'static, [u8]>, usize) {
    let plain = |text: &'static [u8]| (Cow::Borrowed(text), 2);
    match rest.get(1) {
        Some(b'n') => plain(b"\n"),
        Some(b't') => plain(b"\t"),
        Some(b'r') => plain(b"\r"),
        Some(b'b') => plain(b"\x08"),
        Some(b'f') => plain(b"\x0c"),
        Some(b'"') => plain(b"\""),
        Some(b'\\') => plain(b"\\"),
        Some(b'/') => plain(b"/"),
        Some(b'u') => unescape_unicode(rest),
        _ => (Cow::Borrowed(b"\\"), 1),
    }
}

fn unescape_unicode(rest: &[u8]) -> (Cow<'static, [u8]>, usize) {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(rest.get(at..at + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(2) else { return (Cow::Borrowed(b"\\"), 1) };
    let (letter, length) = match first {
        0xd800..=0xdbff if rest.get(6..8) == Some(b"\\u") => match unit(8) {
            Some(second @ 0xdc00..=0xdfff) => (char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)), 12),
            _ => (None, 6),
        },
        _ => (char::from_u32(first), 6),
    };
    (Cow::Owned(letter.unwrap_or(char::REPLACEMENT_CHARACTER).to_string().into_bytes()), length)
}
