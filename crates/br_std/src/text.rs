//! Texts that are made by somebody else's rules: templates, replacements. They stop growing at a limit, while they are made.

use std::fmt;

/// A text would have become longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    pub bytes_max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text would be longer than {} bytes", self.bytes_max)
    }
}

impl std::error::Error for TooLong {}

impl From<TooLong> for String {
    fn from(error: TooLong) -> Self {
        error.to_string()
    }
}

/// A text that never takes more than a number of bytes: what does not fit is refused, and the text stays as it was.
#[derive(Clone, Debug)]
pub struct BoundedText {
    text: String,
    bytes_max: usize,
}

impl BoundedText {
    pub fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), bytes_max }
    }

    pub fn push_str(&mut self, text: &str) -> Result<(), TooLong> {
        if self.text.len().saturating_add(text.len()) > self.bytes_max {
            return Err(TooLong { bytes_max: self.bytes_max });
        }
        self.text.push_str(text);
        Ok(())
    }

    pub fn push(&mut self, character: char) -> Result<(), TooLong> {
        self.push_str(character.encode_utf8(&mut [0; 4]))
    }

    /// The same text so many times.
    pub fn push_times(&mut self, text: &str, times: usize) -> Result<(), TooLong> {
        let bytes = text.len().saturating_mul(times);
        if self.text.len().saturating_add(bytes) > self.bytes_max {
            return Err(TooLong { bytes_max: self.bytes_max });
        }
        for _ in 0..times {
            self.text.push_str(text);
        }
        Ok(())
    }

    /// Whatever can be shown.
    pub fn push_shown(&mut self, shown: &impl fmt::Display) -> Result<(), TooLong> {
        let too_long = TooLong { bytes_max: self.bytes_max };
        fmt::write(self, format_args!("{shown}")).map_err(|_| too_long)
    }

    /// A template of a regular expression's replacement, as Go reads it: `$1`, `$name`, `${name}`, and `$$` for a dollar sign.
    pub fn push_expanded<'g>(&mut self, template: &str, group: &dyn Fn(&str) -> &'g str) -> Result<(), TooLong> {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            self.push_str(before)?;
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                self.push('$')?;
                rest = after;
                continue;
            }
            let (name, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some(braced) => braced,
                None => rest.split_at(rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())),
            };
            if name.is_empty() {
                self.push('$')?;
                continue;
            }
            self.push_str(group(name))?;
            rest = after;
        }
        self.push_str(rest)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn into_string(self) -> String {
        self.text
    }
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text).map_err(|_| fmt::Error)
    }
}

/// Counts what is done up to a limit.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    done: u64,
    max: u64,
}

/// More was to be done than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySteps {
    pub max: u64,
}

impl fmt::Display for TooManySteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template takes more than {} steps", self.max)
    }
}

impl std::error::Error for TooManySteps {}

impl From<TooManySteps> for String {
    fn from(error: TooManySteps) -> Self {
        error.to_string()
    }
}

impl Steps {
    pub fn new(max: u64) -> Self {
        Self { done: 0, max }
    }

    pub fn take(&mut self, steps: u64) -> Result<(), TooManySteps> {
        self.done = self.done.saturating_add(steps);
        if self.done > self.max { Err(TooManySteps { max: self.max }) } else { Ok(()) }
    }

    pub fn done(&self) -> u64 {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_expanded() {
        let check = |template: &str, expect: &str| {
            let mut text = BoundedText::new(20);
            let outcome = text.push_expanded(template, &|name| if name == "1" { "one" } else { "" });
            assert_eq!(outcome.map(|()| text.into_string()).unwrap_or_default(), expect, "{template}");
        };
        check("$1 ${1}b $$ $- $no$", "one oneb $ $- $");
        check("$1$1$1$1$1$1$1", "");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut text = BoundedText::new(5);
        assert!(text.push_str("abc").is_ok() && text.push('é').is_ok());
        assert_eq!(text.push('x'), Err(TooLong { bytes_max: 5 }));
        assert!(text.push_times("y", usize::MAX).is_err() && text.push_shown(&1).is_err() && text.push_str("").is_ok());
        assert_eq!(text.into_string(), "abcé");
        let mut steps = Steps::new(2);
        assert!(steps.take(2).is_ok() && steps.take(1).is_err() && steps.take(u64::MAX).is_err());
    }
}
