//! One line with a sample, taken apart.

use super::NO_TIMESTAMP;
use super::bounds::{check_label, shown};
use crate::Limits;
use br_model::Sample;
use std::borrow::Cow;

/// What is wrong with a line, and at which byte of it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: Cow<'static, str>,
}

pub(super) type LabelPairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

#[derive(Debug)]
pub(super) struct SampleLine<'a> {
    /// Name and labels as written: lines of one series usually have it in common.
    pub(super) series_text: &'a str,
    pub(super) name: Cow<'a, str>,
    pub(super) labels: LabelPairs<'a>,
    pub(super) value: f64,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) start: Option<Timestamp>,
    pub(super) exemplar: Option<ExemplarPart<'a>>,
}

#[derive(Debug)]
pub(super) struct ExemplarPart<'a> {
    pub(super) labels: LabelPairs<'a>,
    pub(super) value: f64,
    pub(super) timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Timestamp {
    pub(super) seconds: f64,
    pub(super) millis: i64,
}

/// Which blanks are allowed and what a timestamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// One space exactly, seconds as floats, exemplars; otherwise any blanks, and whole milliseconds.
    pub(super) openmetrics: bool,
    /// No comma behind the last label, no `st@`, no names in quotes.
    pub(super) strict: bool,
}

pub(super) fn parse<'a>(line: &'a str, rules: Rules, limits: &Limits) -> Result<SampleLine<'a>, Fault> {
    let mut cursor = Cursor { line, at: 0, rules, limits };
    cursor.skip_blanks();
    let start_at = cursor.at;
    let mut name = cursor.name()?.map(Cow::Borrowed);
    cursor.skip_blanks();
    let mut labels = Vec::new();
    if cursor.take("{") {
        cursor.labels(&mut labels, Some(&mut name))?;
    }
    let name = name.ok_or_else(|| cursor.fault("a metric name is expected"))?;
    let series_text = line[start_at..cursor.at].trim_ascii_end();
    cursor.blank()?;
    let value = cursor.number("value")?;
    let mut sample = SampleLine { series_text, name, labels, value, timestamp: None, start: None, exemplar: None };
    cursor.tail(&mut sample)?;
    Ok(sample)
}

/// Name and labels of a line as they are written, and its sample, where the line is as most are. What is unusual about it, or
/// wrong, makes it `None`: then it is for [`parse`].
pub(super) fn plain(line: &str, openmetrics: bool) -> Option<(&str, Sample)> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = line.as_bytes();
    let end = match bytes.iter().position(|byte| *byte == b'{' || blank(byte))? {
        // No value and no time has a brace, but an exemplar has.
        at if bytes[at] == b'{' => memchr::memrchr(b'}', bytes)? + 1,
        at => at,
    };
    let (series_text, rest) = line.split_at_checked(end)?;
    let rest = rest.strip_prefix(' ')?;
    let (value, time) = rest.split_once(' ').map_or((rest, None), |(value, time)| (value, Some(time)));
    if openmetrics && time.is_some() || series_text.is_empty() {
        return None;
    }
    let timestamp_ms = time.map_or(Some(NO_TIMESTAMP), |time| time.parse().ok())?;
    Some((series_text, Sample::float(timestamp_ms, parse_number(value)?)))
}

/// A number as Prometheus reads it: no hexadecimal, no underscores, no signed NaN; `Inf` and `NaN` in any case.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let is_foreign = text.bytes().any(|byte| matches!(byte, b'p' | b'P' | b'x' | b'X' | b'_'));
    let is_signed_nan = text.strip_prefix(['+', '-']).is_some_and(|rest| rest.eq_ignore_ascii_case("nan"));
    if is_foreign || is_signed_nan { None } else { text.parse().ok() }
}

/// Undoes `\\`, `\n` and, inside quotes, `\"`. Other pairs stay as they are.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some(escaped @ ('\\' | '"')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    Cow::Owned(plain)
}

/// Takes a quoted string off the front of `text`: its content, still escaped, and how many bytes it has with its quotes.
pub(super) fn quoted(text: &str) -> Option<(&str, usize)> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return Some((&text[1..at], at + 1)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

struct Cursor<'a, 'l> {
    line: &'a str,
    at: usize,
    rules: Rules,
    limits: &'l Limits,
}

impl<'a> Cursor<'a, '_> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn fault(&self, message: impl Into<Cow<'static, str>>) -> Fault {
        Fault { at: self.at, message: message.into() }
    }

    fn take(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        if is_there {
            self.at += token.len();
        }
        is_there
    }

    /// Skips blanks where the format allows any number of them.
    fn skip_blanks(&mut self) {
        if !self.rules.openmetrics {
            self.at += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        }
    }

    /// Blanks that must be there, except behind a closing brace in the text format.
    fn blank(&mut self) -> Result<(), Fault> {
        if self.rules.openmetrics {
            return if self.take(" ") { Ok(()) } else { Err(self.fault("one space is expected")) };
        }
        let before = self.at;
        self.skip_blanks();
        let is_behind_brace = self.line[..self.at].ends_with('}');
        if self.at > before || is_behind_brace || self.line[..self.at].ends_with([' ', '\t']) {
            Ok(())
        } else {
            Err(self.fault("a space is expected"))
        }
    }

    /// A bare name; `None` when there is none because a brace follows.
    fn name(&mut self) -> Result<Option<&'a str>, Fault> {
        if self.rest().starts_with('{') {
            return Ok(None);
        }
        let name = self.word(|byte| byte == b':');
        if name.is_empty() { Err(self.fault("a metric name is expected")) } else { Ok(Some(name)) }
    }

    fn word(&mut self, also: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let starts_badly = rest.as_bytes().first().is_none_or(u8::is_ascii_digit);
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || also(*byte);
        let length = if starts_badly { 0 } else { rest.bytes().take_while(is_part).count() };
        self.at += length;
        &rest[..length]
    }

    fn quoted(&mut self, what: &'static str) -> Result<Cow<'a, str>, Fault> {
        let (content, length) = quoted(self.rest()).ok_or_else(|| self.fault(what))?;
        self.at += length;
        Ok(unescape(content))
    }

    /// Labels up to and with the closing brace. A quoted string without a value is the metric's name, where one may stand.
    fn labels(&mut self, labels: &mut LabelPairs<'a>, mut metric_name: Option<&mut Option<Cow<'a, str>>>) -> Result<(), Fault> {
        loop {
            self.skip_blanks();
            if self.rest().starts_with('}') {
                let is_behind_comma = self.line[..self.at].ends_with(',');
                if self.rules.strict && is_behind_comma {
                    return Err(self.fault("a label is expected behind the comma"));
                }
                self.at += 1;
                return Ok(());
            }
            let label_at = self.at;
            let is_quoted = self.rest().starts_with('"');
            if is_quoted && self.rules.strict {
                return Err(self.fault("OpenMetrics 1.0 has no names in quotes"));
            }
            let name = if is_quoted { self.quoted("an unfinished label name")? } else { Cow::Borrowed(self.word(|_| false)) };
            self.skip_blanks();
            if self.take("=") {
                self.skip_blanks();
                let value = self.quoted("a label value in double quotes is expected")?;
                add_label(labels, label_at, name, value, self.limits)?;
            } else {
                match metric_name.as_deref_mut() {
                    Some(place) if is_quoted && place.is_none() && !name.is_empty() => *place = Some(name),
                    _ if name.is_empty() => return Err(self.fault("a label name is expected")),
                    _ => return Err(self.fault("= is expected behind a label name")),
                }
            }
            self.skip_blanks();
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err(self.fault("a comma or a closing brace is expected behind a label"));
            }
        }
    }

    /// Everything up to the next blank.
    fn token(&mut self) -> &'a str {
        let rest = self.rest();
        let token = &rest[..rest.find([' ', '\t']).unwrap_or(rest.len())];
        self.at += token.len();
        token
    }

    fn number(&mut self, what: &'static str) -> Result<f64, Fault> {
        let at = self.at;
        let token = self.token();
        parse_number(token).ok_or_else(|| Fault { at, message: format!("{:?} is not a {what}", shown(token)).into() })
    }

    fn timestamp(&mut self) -> Result<Timestamp, Fault> {
        let at = self.at;
        if self.rules.openmetrics {
            let seconds = self.number("timestamp")?;
            if !seconds.is_finite() {
                return Err(Fault { at, message: "a timestamp must be finite".into() });
            }
            return Ok(Timestamp { seconds, millis: (seconds * 1000.0).round() as i64 });
        }
        let token = self.token();
        let millis: i64 = token
            .parse()
            .map_err(|_| Fault { at, message: format!("{:?} is not a timestamp in milliseconds", shown(token)).into() })?;
        Ok(Timestamp { seconds: millis as f64 / 1000.0, millis })
    }

    /// What may stand behind the value: timestamp, start timestamp, exemplar.
    fn tail(&mut self, sample: &mut SampleLine<'a>) -> Result<(), Fault> {
        if !self.rules.openmetrics {
            self.skip_blanks();
            if !self.rest().is_empty() {
                sample.timestamp = Some(self.timestamp()?);
                self.skip_blanks();
            }
            return self.end();
        }
        if self.rest().starts_with(' ') && !self.rest().starts_with(" #") && !self.rest().starts_with(" st@") {
            self.at += 1;
            sample.timestamp = Some(self.timestamp()?);
        }
        if !self.rules.strict && self.take(" st@") {
            sample.start = Some(self.timestamp()?);
        }
        if self.take(" # {") {
            let mut labels = Vec::new();
            self.labels(&mut labels, None)?;
            self.blank()?;
            let value = self.number("exemplar value")?;
            let timestamp = if self.take(" ") { Some(self.timestamp()?) } else { None };
            sample.exemplar = Some(ExemplarPart { labels, value, timestamp });
        }
        self.end()
    }

    fn end(&self) -> Result<(), Fault> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.fault("the line should end here")) }
    }
}

fn add_label<'a>(
    labels: &mut LabelPairs<'a>,
    at: usize,
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    limits: &Limits,
) -> Result<(), Fault> {
    check_label(limits, labels.len(), &name, &value).map_err(|message| Fault { at, message: message.into() })?;
    if name.is_empty() || name == br_model::labels::METRIC_NAME {
        return Err(Fault { at, message: "a label name is expected".into() });
    }
    if labels.iter().any(|(other, _)| *other == name) {
        return Err(Fault { at, message: format!("label {:?} stands twice", shown(&name)).into() });
    }
    labels.push((name, value));
    Ok(())
}
