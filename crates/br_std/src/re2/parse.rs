//! Text to the tree that is compiled.

use super::class::perl;
use regex_syntax::hir::{Capture, Class, ClassUnicode, Dot, Hir, Look, Repetition};

/// How deep groups and repetitions may nest.
const HEIGHT_MAX: u32 = 250;
/// Parts that are more than a character.
const NODES_MAX: usize = 50_000;
/// How often something may be repeated, also by repetitions within repetitions.
const REPEATS_MAX: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether it can be read: sets that take time to make are left out of the tree.
    Check,
    /// All of the tree is wanted.
    Build,
}

pub(super) struct Parsed {
    pub(super) hir: Hir,
    pub(super) names: Vec<Option<Box<str>>>,
    /// Nothing was left out of the tree.
    pub(super) is_whole: bool,
}

/// What is wrong, and the part of the pattern that it is about.
#[derive(Debug)]
pub(super) struct Fault(String);

impl Fault {
    pub(super) fn new(what: &str, part: &str) -> Self {
        const CHARS_MAX: usize = 200;
        let end = part.char_indices().nth(CHARS_MAX).map_or(part.len(), |(at, _)| at);
        Self(format!("error parsing regexp: {what}: `{}`", &part[..end]))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub(super) fold: bool,
    dot_matches_newline: bool,
    multi_line: bool,
    lazy: bool,
}

/// A part of a concatenation.
struct Item {
    hir: Hir,
    /// How often something in it is repeated at most.
    repeats: u32,
    height: u32,
}

/// What stands between two parentheses, or all of it.
struct Group {
    branches: Vec<Item>,
    items: Vec<Item>,
    /// Characters that come after the items.
    literal: String,
    /// As before the group.
    flags: Flags,
    /// Number of the group; `None` for one that only groups.
    capture: Option<u32>,
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) flags: Flags,
    pub(super) purpose: Purpose,
    pub(super) ranges: usize,
    pub(super) folded: usize,
    pub(super) is_whole: bool,
    /// Nothing closes a named class from here on.
    pub(super) has_no_named_class: bool,
    nodes: usize,
    groups: Vec<Group>,
    names: Vec<Option<Box<str>>>,
}

pub(super) fn parse(text: &str, dot_matches_newline: bool, purpose: Purpose) -> Result<Parsed, String> {
    let flags = Flags { fold: false, dot_matches_newline, multi_line: false, lazy: false };
    let mut parser = Parser {
        text,
        at: 0,
        flags,
        purpose,
        ranges: 0,
        folded: 0,
        is_whole: true,
        has_no_named_class: false,
        nodes: 0,
        groups: vec![Group::new(flags, None)],
        names: Vec::new(),
    };
    let hir = parser.run().map_err(|Fault(message)| message)?;
    Ok(Parsed { hir, names: parser.names, is_whole: parser.is_whole })
}

impl Group {
    fn new(flags: Flags, capture: Option<u32>) -> Self {
        Self { branches: Vec::new(), items: Vec::new(), literal: String::new(), flags, capture }
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            let bytes = std::mem::take(&mut self.literal).into_bytes();
            self.items.push(Item { hir: Hir::literal(bytes), repeats: 1, height: 0 });
        }
    }

    fn end_branch(&mut self) {
        self.end_literal();
        let branch = joined(std::mem::take(&mut self.items), Hir::concat);
        self.branches.push(branch);
    }
}

fn joined(items: Vec<Item>, join: impl FnOnce(Vec<Hir>) -> Hir) -> Item {
    let repeats = items.iter().map(|item| item.repeats).max().unwrap_or(1);
    let height = items.iter().map(|item| item.height).max().unwrap_or(0);
    Item { hir: join(items.into_iter().map(|item| item.hir).collect()), repeats, height }
}

impl<'a> Parser<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn too_large(&self) -> Fault {
        Fault::new("expression too large", self.text)
    }

    /// The innermost group that is open. The outermost one never closes.
    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push(Group::new(self.flags, None));
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    fn run(&mut self) -> Result<Hir, Fault> {
        // Where the repetition begins that stands right before.
        let mut repeated: Option<usize> = None;
        while let Some(character) = self.peek() {
            let was_repeated = repeated.take();
            match character {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.at += 1;
                    self.count_node()?;
                    self.group().end_branch();
                }
                '*' | '+' | '?' | '{' => {
                    let start = self.at;
                    match self.repetition()? {
                        Some((min, max)) => {
                            self.repeat(min, max, start, was_repeated)?;
                            repeated = Some(start);
                        }
                        None => self.literal('{')?,
                    }
                }
                '^' => self.look(if self.flags.multi_line { Look::StartLF } else { Look::Start }, 1)?,
                '$' => self.look(if self.flags.multi_line { Look::EndLF } else { Look::End }, 1)?,
                '.' => {
                    self.at += 1;
                    let dot = if self.flags.dot_matches_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                    self.push(Hir::dot(dot))?;
                }
                '[' => {
                    let set = self.brackets()?;
                    self.push_set(set)?;
                }
                '\\' => self.backslash()?,
                _ => self.literal(character)?,
            }
        }
        if self.groups.len() > 1 {
            return Err(Fault::new("missing closing )", self.text));
        }
        let group = self.group();
        group.end_branch();
        let branches = std::mem::take(&mut group.branches);
        Ok(joined(branches, Hir::alternation).hir)
    }

    fn count_node(&mut self) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err(self.too_large()) } else { Ok(()) }
    }

    fn push(&mut self, hir: Hir) -> Result<(), Fault> {
        self.push_item(Item { hir, repeats: 1, height: 0 })
    }

    fn push_item(&mut self, item: Item) -> Result<(), Fault> {
        self.count_node()?;
        let group = self.group();
        group.end_literal();
        group.items.push(item);
        Ok(())
    }

    fn push_set(&mut self, set: ClassUnicode) -> Result<(), Fault> {
        self.push(Hir::class(Class::Unicode(set)))
    }

    fn look(&mut self, look: Look, length: usize) -> Result<(), Fault> {
        self.at += length;
        self.push(Hir::look(look))
    }

    /// A character that stands for itself, and is as long in the pattern.
    fn literal(&mut self, character: char) -> Result<(), Fault> {
        self.at += character.len_utf8();
        self.character(u32::from(character))
    }

    /// A character by its number.
    fn character(&mut self, code: u32) -> Result<(), Fault> {
        // Halves of pairs are in no text.
        let Some(character) = char::from_u32(code) else { return self.push(Hir::fail()) };
        if self.flags.fold {
            let set = self.set(&[(character, character)], false)?;
            return self.push_set(set);
        }
        self.group().literal.push(character);
        Ok(())
    }

    fn open(&mut self) -> Result<(), Fault> {
        let before = self.flags;
        let mut capture = None;
        if self.rest().starts_with("(?") {
            if self.rest().starts_with("(?P<") || self.rest().starts_with("(?<") {
                let name = self.group_name()?;
                self.names.push(Some(name.into()));
                capture = Some(self.names.len() as u32);
            } else if !self.flag_group()? {
                return Ok(());
            }
        } else {
            self.at += 1;
            self.names.push(None);
            capture = Some(self.names.len() as u32);
        }
        self.count_node()?;
        self.group().end_literal();
        self.groups.push(Group::new(before, capture));
        // Compared with what is open, not with what is inside: a tree that high would be refused anyhow.
        if self.groups.len() as u32 > HEIGHT_MAX {
            return Err(Fault::new("expression nests too deeply", self.text));
        }
        Ok(())
    }

    /// `(?P<name>` or `(?<name>`.
    fn group_name(&mut self) -> Result<&'a str, Fault> {
        let rest = self.rest();
        let from = if rest.starts_with("(?P<") { 4 } else { 3 };
        let Some(end) = rest.find('>') else { return Err(Fault::new("invalid named capture", rest)) };
        let name = &rest[from..end];
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Fault::new("invalid named capture", &rest[..=end]));
        }
        self.at += end + 1;
        Ok(name)
    }

    /// `(?i)` or `(?i:`; false for the former, which is no group.
    fn flag_group(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        self.at += 2;
        let mut flags = self.flags;
        let (mut value, mut saw_flag) = (true, false);
        while let Some(character) = self.peek() {
            self.at += character.len_utf8();
            match character {
                'i' => flags.fold = value,
                'm' => flags.multi_line = value,
                's' => flags.dot_matches_newline = value,
                'U' => flags.lazy = value,
                '-' if value => {
                    (value, saw_flag) = (false, false);
                    continue;
                }
                ':' | ')' if value || saw_flag => {
                    self.flags = flags;
                    return Ok(character == ':');
                }
                _ => return Err(Fault::new("invalid or unsupported Perl syntax", &self.text[start..self.at])),
            }
            saw_flag = true;
        }
        Err(Fault::new("missing closing )", self.text))
    }

    fn close(&mut self) -> Result<(), Fault> {
        if self.groups.len() < 2 {
            return Err(Fault::new("unexpected )", self.text));
        }
        let Some(mut group) = self.groups.pop() else { return Err(Fault::new("unexpected )", self.text)) };
        self.at += 1;
        group.end_branch();
        self.flags = group.flags;
        let mut item = joined(group.branches, Hir::alternation);
        item.height += 1;
        if let Some(index) = group.capture {
            item.hir = Hir::capture(Capture { index, name: None, sub: Box::new(item.hir) });
        }
        self.push_item(item)
    }

    /// Least and most of a repetition, which is then read; `None` where a brace stands for itself.
    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, Fault> {
        let rest = self.rest();
        let bounds = match rest.as_bytes()[0] {
            b'*' => (0, None),
            b'+' => (1, None),
            b'?' => (0, Some(1)),
            _ => {
                let Some((min, max, length)) = braces(rest) else { return Ok(None) };
                let is_valid = min <= REPEATS_MAX && max.is_none_or(|max| min <= max && max <= REPEATS_MAX);
                if !is_valid {
                    return Err(Fault::new("invalid repeat count", &rest[..length]));
                }
                self.at += length - 1;
                (min, max)
            }
        };
        self.at += 1;
        Ok(Some(bounds))
    }

    /// Repeats what came last; `start` is where the repetition stands, `repeated` where one does that came right before.
    fn repeat(&mut self, min: u32, max: Option<u32>, start: usize, repeated: Option<usize>) -> Result<(), Fault> {
        let mut greedy = !self.flags.lazy;
        if self.take("?") {
            greedy = !greedy;
        }
        if let Some(repeated) = repeated {
            return Err(Fault::new("invalid nested repetition operator", &self.text[repeated..self.at]));
        }
        let written = &self.text[start..self.at];
        let is_counted = written.starts_with('{');
        let group = self.group();
        let last = group.literal.pop();
        group.end_literal();
        let item = match last {
            Some(last) => Item { hir: Hir::literal(last.to_string().into_bytes()), repeats: 1, height: 0 },
            None => group.items.pop().ok_or_else(|| Fault::new("missing argument to repetition operator", written))?,
        };
        let repeats = if is_counted { item.repeats.saturating_mul(max.unwrap_or(min).max(1)) } else { item.repeats };
        if repeats > REPEATS_MAX {
            return Err(Fault::new("invalid repeat count", written));
        }
        let height = item.height + 1;
        if height > HEIGHT_MAX {
            return Err(Fault::new("expression nests too deeply", self.text));
        }
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(item.hir) });
        self.push_item(Item { hir, repeats, height })
    }

    fn backslash(&mut self) -> Result<(), Fault> {
        let Some(letter) = self.rest()[1..].chars().next() else {
            return Err(Fault::new("trailing backslash at end of expression", ""));
        };
        match letter {
            'A' => return self.look(Look::Start, 2),
            'z' => return self.look(Look::End, 2),
            'b' => return self.look(Look::WordAscii, 2),
            'B' => return self.look(Look::WordAsciiNegate, 2),
            'C' => return Err(Fault::new("invalid escape sequence", "\\C")),
            'Q' => {
                self.at += 2;
                let rest = self.rest();
                let (quoted, length) = rest.find("\\E").map_or((rest, rest.len()), |end| (&rest[..end], end + 2));
                for character in quoted.chars() {
                    self.character(u32::from(character))?;
                }
                self.at += length;
                return Ok(());
            }
            _ => {}
        }
        let set = match perl(letter) {
            Some((ranges, is_negated)) => {
                self.at += 2;
                Some(self.set(ranges, is_negated)?)
            }
            None => self.unicode_class()?,
        };
        if let Some(set) = set {
            return self.push_set(set);
        }
        let code = self.escape()?;
        self.character(code)
    }

    /// A character that is written with a backslash, at which this begins.
    pub(super) fn escape(&mut self) -> Result<u32, Fault> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.peek() else { return Err(Fault::new("trailing backslash at end of expression", "")) };
        self.at += letter.len_utf8();
        let code = match letter {
            '0'..='7' => self.octal(letter),
            'x' => self.hexadecimal(),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => Some(u32::from(letter)),
            _ => None,
        };
        code.ok_or_else(|| Fault::new("invalid escape sequence", &self.text[start..self.at]))
    }

    /// One digit alone, but the zero, would be a reference back.
    fn octal(&mut self, first: char) -> Option<u32> {
        let digit = |parser: &Self| parser.peek().and_then(|character| character.to_digit(8));
        if first != '0' && digit(self).is_none() {
            return None;
        }
        let mut code = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(digit) = digit(self) else { break };
            self.at += 1;
            code = code * 8 + digit;
        }
        Some(code)
    }

    /// Two digits, or any number in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        if !self.take("{") {
            let mut code = 0;
            for _ in 0..2 {
                let character = self.peek()?;
                self.at += character.len_utf8();
                code = code * 16 + character.to_digit(16)?;
            }
            return Some(code);
        }
        let (mut code, mut digits) = (0, 0);
        loop {
            let character = self.peek()?;
            self.at += character.len_utf8();
            if character == '}' {
                return (digits > 0).then_some(code);
            }
            code = code * 16 + character.to_digit(16)?;
            digits += 1;
            if code > u32::from(char::MAX) {
                return None;
            }
        }
    }
}

/// `{2}`, `{2,}` or `{2,3}` at the beginning of a text, and its length. Everything else in braces stands for itself.
fn braces(text: &str) -> Option<(u32, Option<u32>, usize)> {
    // Not a search for the closing one: of very many open braces each would look at all of the rest.
    let end = 1 + text[1..].find(|character: char| !character.is_ascii_digit() && character != ',')?;
    let inner = text[end..].starts_with('}').then_some(&text[1..end])?;
    let (min, max) = match inner.split_once(',') {
        None => (number(inner)?, Some(number(inner)?)),
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    Some((min, max, end + 1))
}

/// Digits without a zero in front; a number that is far too long is as large as any that is too large.
fn number(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some(digits.parse().unwrap_or(u32::MAX))
}
