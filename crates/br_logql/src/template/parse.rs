//! Template text to a tree.

use super::functions;
use super::value::Value;
use crate::lexer::unquote_prefix;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { subject: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { key: Option<String>, element: Option<String>, subject: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Pipeline {
    /// `$x := …` or `$x = …`.
    pub(super) variable: Option<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(super) enum Command {
    Value(Operand),
    Call(String, Vec<Operand>),
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Literal(Value),
    /// `.a.b`; empty for `.` itself.
    Field(Vec<String>),
    /// `$x.a`; the name is empty for `$`.
    Variable(String, Vec<String>),
    Pipeline(Pipeline, Vec<String>),
    /// A function without arguments as an argument.
    Call(String),
}

/// Deeper nesting is refused.
const DEPTH_MAX: usize = 32;

enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let pieces = pieces(text)?;
    let mut at = 0;
    let (nodes, end) = nodes(&pieces, &mut at, DEPTH_MAX)?;
    match end {
        None => Ok(nodes),
        Some(word) => Err(format!("unexpected {{{{{word}}}}}")),
    }
}

/// Cuts text and actions apart, and takes the white space away that `{{-` and `-}}` ask for.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims_next = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let trims_before = after.starts_with("- ");
        let after = if trims_before { &after[1..] } else { after };
        let before = if trims_next { before.trim_start() } else { before };
        pieces.push(Piece::Text(if trims_before { before.trim_end() } else { before }));
        let end = action_end(after).ok_or("unclosed action")?;
        let inside = &after[..end];
        trims_next = inside.ends_with(" -");
        let inside = if trims_next { &inside[..inside.len() - 1] } else { inside };
        pieces.push(Piece::Action(inside.trim()));
        rest = &after[end + 2..];
    }
    pieces.push(Piece::Text(if trims_next { rest.trim_start() } else { rest }));
    Ok(pieces)
}

/// Where `}}` stands outside of strings and comments.
fn action_end(text: &str) -> Option<usize> {
    if text.trim_start().starts_with("/*") {
        let comment = text.find("*/")?;
        return text[comment..].find("}}").map(|end| comment + end);
    }
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("}}") {
            return Some(at);
        }
        at += match rest.as_bytes()[0] {
            b'"' => unquote_prefix(rest).ok()?.1,
            b'`' => rest[1..].find('`')? + 2,
            _ => rest.chars().next()?.len_utf8(),
        };
    }
    None
}

/// Reads until an `end` or `else`, which it hands back.
fn nodes<'a>(pieces: &[Piece<'a>], at: &mut usize, depth_left: usize) -> Result<(Vec<Node>, Option<&'a str>), String> {
    let depth_left = depth_left.checked_sub(1).ok_or("nested too deep")?;
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.get(*at) {
        *at += 1;
        let action = match piece {
            Piece::Text("") => continue,
            Piece::Text(text) => {
                nodes.push(Node::Text((*text).to_owned()));
                continue;
            }
            Piece::Action(action) => *action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
        match word {
            "" if action.is_empty() => return Err("missing value for command".to_owned()),
            _ if action.starts_with("/*") => {}
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" | "with" | "range" => nodes.push(block(word, rest, pieces, at, depth_left)?),
            _ => nodes.push(Node::Action(pipeline_of(action)?)),
        }
    }
    Ok((nodes, None))
}

fn block(word: &str, head: &str, pieces: &[Piece<'_>], at: &mut usize, depth_left: usize) -> Result<Node, String> {
    let (then, end) = nodes(pieces, at, depth_left)?;
    let otherwise = match end {
        None => return Err(format!("unexpected EOF in {{{{{word}}}}}")),
        Some("end") => Vec::new(),
        Some(rest) => {
            let rest = rest.trim_start_matches("else").trim();
            if let Some(condition) = rest.strip_prefix("if ") {
                let depth_left = depth_left.checked_sub(1).ok_or("nested too deep")?;
                vec![block("if", condition, pieces, at, depth_left)?]
            } else {
                let (otherwise, end) = nodes(pieces, at, depth_left)?;
                if end != Some("end") {
                    return Err(format!("unexpected end of {{{{else}}}} of {word}"));
                }
                otherwise
            }
        }
    };
    Ok(match word {
        "if" => Node::If { condition: pipeline_of(head)?, then, otherwise },
        "with" => Node::With { subject: pipeline_of(head)?, then, otherwise },
        _ => {
            let (names, subject) = head.split_once(":=").unwrap_or(("", head));
            let names: Vec<String> = names.split(',').map(|name| name.trim().trim_start_matches('$').to_owned()).collect();
            let (key, element) = match names.as_slice() {
                [key, element] => (Some(key.clone()), Some(element.clone())),
                [element] if !element.is_empty() => (None, Some(element.clone())),
                _ => (None, None),
            };
            Node::Range { key, element, subject: pipeline_of(subject)?, body: then, otherwise }
        }
    })
}

fn pipeline_of(text: &str) -> Result<Pipeline, String> {
    let mut reader = Reader { rest: text };
    let pipeline = reader.pipeline(DEPTH_MAX)?;
    if reader.rest.is_empty() { Ok(pipeline) } else { Err(format!("unexpected {:?} in command", reader.rest)) }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self) -> &'a str {
        let length = self.rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }

    /// `.a.b` with nothing in between.
    fn path(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        while self.rest.starts_with('.') {
            self.rest = &self.rest[1..];
            let name = self.word();
            if !name.is_empty() {
                path.push(name.to_owned());
            }
        }
        path
    }

    fn pipeline(&mut self, depth_left: usize) -> Result<Pipeline, String> {
        let depth_left = depth_left.checked_sub(1).ok_or("nested too deep")?;
        let mut pipeline = Pipeline::default();
        self.skip_blank();
        if let Some(rest) = self.rest.strip_prefix('$') {
            let mut ahead = Reader { rest };
            let name = ahead.word().to_owned();
            ahead.skip_blank();
            let declares = ahead.rest.starts_with(":=");
            if declares || (ahead.rest.starts_with('=') && !ahead.rest.starts_with("==")) {
                self.rest = &ahead.rest[if declares { 2 } else { 1 }..];
                pipeline.variable = Some(name);
                pipeline.declares = declares;
            }
        }
        loop {
            pipeline.commands.push(self.command(depth_left)?);
            self.skip_blank();
            let Some(rest) = self.rest.strip_prefix('|') else { return Ok(pipeline) };
            self.rest = rest;
        }
    }

    fn command(&mut self, depth_left: usize) -> Result<Command, String> {
        self.skip_blank();
        let first = self.operand(depth_left)?.ok_or("missing value for command")?;
        let mut operands = Vec::new();
        self.skip_blank();
        while let Some(operand) = self.operand(depth_left)? {
            operands.push(operand);
            self.skip_blank();
        }
        match first {
            Operand::Call(name) => Ok(Command::Call(name, operands)),
            value if operands.is_empty() => Ok(Command::Value(value)),
            _ => Err("can't give argument to non-function".to_owned()),
        }
    }

    /// `None` where no operand starts.
    fn operand(&mut self, depth_left: usize) -> Result<Option<Operand>, String> {
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        Ok(Some(match first {
            '|' | ')' => return Ok(None),
            '"' => {
                let (text, length) = unquote_prefix(self.rest).map_err(|(message, _)| message.to_owned())?;
                self.rest = &self.rest[length..];
                Operand::Literal(Value::Text(text))
            }
            '`' => {
                let (text, rest) = self.rest[1..].split_once('`').ok_or("unterminated raw quoted string")?;
                self.rest = rest;
                Operand::Literal(Value::Text(text.to_owned()))
            }
            '(' => {
                self.rest = &self.rest[1..];
                let inner = self.pipeline(depth_left)?;
                self.rest = self.rest.strip_prefix(')').ok_or("unclosed left paren")?;
                Operand::Pipeline(inner, self.path())
            }
            '.' => Operand::Field(self.path()),
            '$' => {
                self.rest = &self.rest[1..];
                let name = self.word().to_owned();
                Operand::Variable(name, self.path())
            }
            '-' | '+' | '0'..='9' => self.number()?,
            _ if first.is_ascii_alphabetic() || first == '_' => match self.word() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Nil),
                word if functions::is_known(word) => Operand::Call(word.to_owned()),
                word => return Err(format!("function {word:?} not defined")),
            },
            _ => return Err(format!("unexpected {first:?} in command")),
        }))
    }

    fn number(&mut self) -> Result<Operand, String> {
        let length =
            self.rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+')).count();
        let (text, rest) = self.rest.split_at(length);
        let value = if let Ok(number) = text.parse::<i64>() {
            Value::Int(number)
        } else {
            Value::Float(text.parse().map_err(|_| format!("bad number syntax: {text:?}"))?)
        };
        self.rest = rest;
        Ok(Operand::Literal(value))
    }
}
