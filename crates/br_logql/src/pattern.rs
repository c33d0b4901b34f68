//! `<name> literal <_>`: cuts a line at literals.

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    /// `None` for `<_>`.
    Capture(Option<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    /// For the parser stage: at least one named capture, none twice, and a literal between two captures.
    pub(crate) fn for_parser(text: &str) -> Result<Self, String> {
        let pattern = Self { parts: parts(text) };
        let names: Vec<&str> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        if let Some((at, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(format!("duplicate capture name ({name}) at capture {}", at + 1));
        }
        pattern.checked()
    }

    /// For the line filter: no names.
    pub(crate) fn for_filter(text: &str) -> Result<Self, String> {
        let pattern = Self { parts: parts(text) };
        if pattern.names().next().is_some() {
            return Err("named captures are not allowed in a line filter pattern".to_owned());
        }
        pattern.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let adjacent = self.parts.windows(2).any(|pair| matches!(pair, [Part::Capture(_), Part::Capture(_)]));
        if adjacent { Err("found consecutive capture without a literal between them".to_owned()) } else { Ok(self) }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(Some(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The longest text that every matching line contains.
    pub(crate) fn longest_literal(&self) -> Option<&str> {
        let literals = self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Capture(_) => None,
        });
        literals.max_by_key(|text| text.len())
    }

    /// Hands out `(name, value)` from left to right until a literal is missing.
    pub(crate) fn captures<'p, 'l>(&'p self, line: &'l str) -> Vec<(&'p str, &'l str)> {
        let mut found = Vec::new();
        let mut rest = line;
        let mut parts = self.parts.iter();
        let mut pending: Option<&Option<String>> = None;
        for part in parts.by_ref() {
            match part {
                Part::Capture(name) => pending = Some(name),
                Part::Literal(literal) => match (pending.take(), rest.find(literal.as_str())) {
                    (None, Some(0)) => rest = &rest[literal.len()..],
                    (None, _) => return found,
                    (Some(name), at) => {
                        let end = at.unwrap_or(rest.len());
                        if let Some(name) = name {
                            found.push((name.as_str(), &rest[..end]));
                        }
                        let Some(at) = at else { return found };
                        rest = &rest[at + literal.len()..];
                    }
                },
            }
        }
        if let Some(Some(name)) = pending {
            found.push((name.as_str(), rest));
        }
        found
    }

    /// Whether the whole line is made of the literals in order with anything at the captures.
    pub(crate) fn matches(&self, line: &str) -> bool {
        let mut rest = line;
        let mut open = false;
        for (at, part) in self.parts.iter().enumerate() {
            let Part::Literal(literal) = part else {
                open = true;
                continue;
            };
            let is_last = at + 1 == self.parts.len();
            if is_last && open {
                return rest.ends_with(literal.as_str());
            }
            let Some(found) = rest.find(literal.as_str()) else { return false };
            if found > 0 && !open {
                return false;
            }
            rest = &rest[found + literal.len()..];
            open = false;
        }
        open || rest.is_empty()
    }
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some((name, length)) = capture(rest) {
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
            rest = &rest[length..];
        } else {
            literal.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    parts
}

/// `<name>` at the start of `text`, with its length.
fn capture(text: &str) -> Option<(&str, usize)> {
    let inside = text.strip_prefix('<')?;
    let name = &inside[..inside.find('>')?];
    br_model::labels::is_legacy_label_name(name).then_some((name, name.len() + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_and_matches() {
        let pattern = Pattern::for_parser("<ip> - <_> [<when>] <rest>").expect("valid");
        let line = "1.2.3.4 - bob [now] GET /";
        assert_eq!(pattern.captures(line), [("ip", "1.2.3.4"), ("when", "now"), ("rest", "GET /")]);
        assert_eq!(pattern.captures("1.2.3.4"), [("ip", "1.2.3.4")]);
        let filter = Pattern::for_filter("GET <_> 200").expect("valid");
        assert!(filter.matches("GET /a 200") && !filter.matches("GET /a 500") && !filter.matches("x GET /a 200"));
        assert!(Pattern::for_filter("<_>ms").expect("valid").matches("took 5ms 7ms"));
        assert!(!Pattern::for_filter("GET").expect("valid").matches("GET /"));
        assert!(Pattern::for_parser("<a><b>").is_err() && Pattern::for_parser("<a> <a>").is_err());
    }
}
