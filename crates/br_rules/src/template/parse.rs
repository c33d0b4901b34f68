//! From tokens to a tree. Unknown functions and variables are found here, before anything runs.

use super::functions;
use super::lex::{Spanned, Token, lex};
use super::{TemplateError, Value};
use std::collections::BTreeMap;

/// A parsed template with the templates that it defines.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) body: Vec<Item>,
    pub(super) defined: BTreeMap<String, Vec<Item>>,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: u32,
    pub(super) kind: ItemKind,
}

#[derive(Debug)]
pub(super) enum ItemKind {
    Text(String),
    Action(Pipeline),
    If { condition: Pipeline, then: Vec<Item>, otherwise: Vec<Item> },
    With { value: Pipeline, then: Vec<Item>, otherwise: Vec<Item> },
    Range { over: Pipeline, body: Vec<Item>, otherwise: Vec<Item> },
    Template { name: String, data: Option<Pipeline> },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    /// Variables on the left, with their sign; two only in `range`.
    pub(super) variables: Vec<String>,
    /// `:=`, not `=`.
    pub(super) declares: bool,
    /// The value of one is the last argument of the next.
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A value with fields taken from it in turn.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Literal(Value),
    Dot,
    Variable(String),
    Function(String),
    Group(Box<Pipeline>),
}

/// Blocks, parentheses and templates may stand this deep in each other.
const DEPTH_MAX: usize = 48;

pub(super) fn parse(source: &str, variables: &[&str]) -> Result<Program, TemplateError> {
    let mut known: Vec<String> = vec!["$".to_owned()];
    known.extend(variables.iter().map(|name| (*name).to_owned()));
    let mut parser = Parser { tokens: lex(source)?, at: 0, variables: known, defined: BTreeMap::new(), depth: 0, ranges: 0 };
    let (body, end) = parser.items()?;
    if end != End::Source {
        return Err(parser.error("unexpected {{end}} or {{else}}"));
    }
    Ok(Program { body, defined: parser.defined })
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    /// Those in scope, innermost last.
    variables: Vec<String>,
    defined: BTreeMap<String, Vec<Item>>,
    depth: usize,
    /// How many `range` stand around.
    ranges: usize,
}

/// What ended a list of items.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Source,
    /// `{{end}}`
    Closed,
    /// `{{else}}`; what follows it, `if` or `with`, is still to be read.
    Else,
}

impl Parser {
    fn items(&mut self) -> Result<(Vec<Item>, End), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("nested too deep"));
        }
        let mut items = Vec::new();
        let end = loop {
            let line = self.line();
            match self.next() {
                None => break End::Source,
                Some(Token::Text(text)) => items.push(Item { line, kind: ItemKind::Text(text) }),
                Some(_) => {
                    if self.take_word("end") {
                        self.expect_close()?;
                        break End::Closed;
                    }
                    if self.take_word("else") {
                        break End::Else;
                    }
                    if let Some(kind) = self.action()? {
                        items.push(Item { line, kind });
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((items, end))
    }

    /// After `{{`. `None` for a definition, which leaves nothing in place.
    fn action(&mut self) -> Result<Option<ItemKind>, TemplateError> {
        let word = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let is_keyword =
            matches!(word.as_str(), "if" | "with" | "range" | "template" | "define" | "block" | "break" | "continue");
        if !is_keyword {
            let pipeline = self.pipeline(false)?;
            self.expect_close()?;
            return Ok(Some(ItemKind::Action(pipeline)));
        }
        self.at += 1;
        match word.as_str() {
            "if" | "with" | "range" => self.control(&word).map(Some),
            "template" => self.call().map(Some),
            "define" => self.define().map(|()| None),
            "block" => self.block().map(Some),
            _ => {
                self.expect_close()?;
                if self.ranges == 0 {
                    return Err(self.error(&format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                Ok(Some(if word == "break" { ItemKind::Break } else { ItemKind::Continue }))
            }
        }
    }

    fn control(&mut self, word: &str) -> Result<ItemKind, TemplateError> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(word == "range")?;
        self.expect_close()?;
        self.ranges += usize::from(word == "range");
        let (then, end) = self.items()?;
        self.ranges -= usize::from(word == "range");
        let otherwise = self.otherwise(word, end)?;
        self.variables.truncate(scope);
        Ok(match word {
            "if" => ItemKind::If { condition: pipeline, then, otherwise },
            "with" => ItemKind::With { value: pipeline, then, otherwise },
            _ => ItemKind::Range { over: pipeline, body: then, otherwise },
        })
    }

    /// What stands between `{{else}}` and `{{end}}`; `{{else if …}}` is an `if` of its own with the same end.
    fn otherwise(&mut self, word: &str, end: End) -> Result<Vec<Item>, TemplateError> {
        match end {
            End::Closed => return Ok(Vec::new()),
            End::Source => return Err(self.error(&format!("{{{{{word}}}}} without {{{{end}}}}"))),
            End::Else => {}
        }
        for chained in ["if", "with"] {
            if word == chained && self.take_word(chained) {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(self.error("nested too deep"));
                }
                let line = self.line();
                let kind = self.control(chained)?;
                self.depth -= 1;
                return Ok(vec![Item { line, kind }]);
            }
        }
        self.expect_close()?;
        match self.items()? {
            (items, End::Closed) => Ok(items),
            _ => Err(self.error("{{else}} without {{end}}")),
        }
    }

    fn call(&mut self) -> Result<ItemKind, TemplateError> {
        let name = self.template_name()?;
        let data = if self.peek() == Some(&Token::Close) { None } else { Some(self.pipeline(false)?) };
        self.expect_close()?;
        Ok(ItemKind::Template { name, data })
    }

    fn define(&mut self) -> Result<(), TemplateError> {
        if self.depth > 1 {
            return Err(self.error("{{define}} inside a block"));
        }
        let name = self.template_name()?;
        self.expect_close()?;
        self.definition(name)
    }

    /// `{{block "name" data}}…{{end}}` defines a template and uses it in place.
    fn block(&mut self) -> Result<ItemKind, TemplateError> {
        let name = self.template_name()?;
        let data = Some(self.pipeline(false)?);
        self.expect_close()?;
        self.definition(name.clone())?;
        Ok(ItemKind::Template { name, data })
    }

    /// A template sees no variables of its surroundings.
    fn definition(&mut self, name: String) -> Result<(), TemplateError> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let outer_ranges = std::mem::take(&mut self.ranges);
        let (body, end) = self.items()?;
        self.variables = outer;
        self.ranges = outer_ranges;
        if end != End::Closed {
            return Err(self.error(&format!("{{{{define {name:?}}}}} without {{{{end}}}}")));
        }
        self.defined.insert(name, body);
        Ok(())
    }

    fn template_name(&mut self) -> Result<String, TemplateError> {
        match self.next() {
            Some(Token::String(name)) => Ok(name),
            _ => Err(self.error("a template's name must be a string")),
        }
    }

    /// `$x := a b | c`, in a range also `$i, $x := …`.
    fn pipeline(&mut self, is_range: bool) -> Result<Pipeline, TemplateError> {
        let start = self.at;
        let mut variables = Vec::new();
        let mut declares = false;
        while let Some(Token::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            variables.push(name);
            match self.peek() {
                Some(Token::Comma) if is_range && variables.len() == 1 => self.at += 1,
                Some(Token::Declare) => {
                    self.at += 1;
                    declares = true;
                    break;
                }
                Some(Token::Assign) => {
                    self.at += 1;
                    break;
                }
                _ => {
                    // A value after all.
                    self.at = start;
                    variables.clear();
                    break;
                }
            }
        }
        if !declares && let Some(unknown) = variables.iter().find(|name| !self.variables.contains(name)) {
            return Err(self.error(&format!("undefined variable {unknown:?}")));
        }
        let mut commands = vec![self.command()?];
        while self.peek() == Some(&Token::Pipe) {
            self.at += 1;
            commands.push(self.command()?);
        }
        self.check_commands(&commands)?;
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// Only a function or a method can take what comes out of a pipe.
    fn check_commands(&self, commands: &[Vec<Operand>]) -> Result<(), TemplateError> {
        for command in commands.iter().skip(1) {
            let takes_input =
                command.first().is_some_and(|first| matches!(first.base, Base::Function(_)) || !first.fields.is_empty());
            if !takes_input {
                return Err(self.error("non executable command in pipeline"));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Vec<Operand>, TemplateError> {
        let mut operands = Vec::new();
        while let Some(operand) = self.operand()? {
            operands.push(operand);
            let stops = matches!(self.peek(), None | Some(Token::Pipe | Token::Close | Token::RightParen));
            let is_apart = self.tokens.get(self.at).is_some_and(|next| next.after_space);
            if !stops && !is_apart {
                return Err(self.error("unexpected token after an operand"));
            }
        }
        if operands.is_empty() {
            return Err(self.error("missing value for command"));
        }
        Ok(operands)
    }

    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let mut fields = Vec::new();
        let base = match self.peek().cloned() {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                Base::Dot
            }
            Some(Token::Variable(name)) => {
                if !self.variables.contains(&name) {
                    return Err(self.error(&format!("undefined variable {name:?}")));
                }
                Base::Variable(name)
            }
            Some(Token::String(text)) => Base::Literal(Value::from(text)),
            Some(Token::Int(value)) => Base::Literal(Value::Int(value)),
            Some(Token::Float(value)) => Base::Literal(Value::Float(value)),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Nil),
                word if functions::is_known(word) => Base::Function(word.to_owned()),
                word => return Err(self.error(&format!("function {word:?} not defined"))),
            },
            Some(Token::LeftParen) => {
                self.at += 1;
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(self.error("nested too deep"));
                }
                let inner = self.pipeline(false)?;
                self.depth -= 1;
                if self.peek() != Some(&Token::RightParen) {
                    return Err(self.error("unclosed left paren"));
                }
                Base::Group(Box::new(inner))
            }
            _ => return Ok(None),
        };
        self.at += 1;
        while let Some(Spanned { token: Token::Field(name), after_space: false, .. }) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Some(Operand { base, fields }))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|spanned| &spanned.token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_here = matches!(self.peek(), Some(Token::Word(here)) if here == word);
        self.at += usize::from(is_here);
        is_here
    }

    fn expect_close(&mut self) -> Result<(), TemplateError> {
        match self.next() {
            Some(Token::Close) => Ok(()),
            Some(token) => {
                self.at -= 1;
                Err(self.error(&format!("unexpected {token:?} in action")))
            }
            None => Err(self.error("unclosed action")),
        }
    }

    /// Of the token that comes next.
    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |spanned| spanned.line)
    }

    fn error(&self, message: &str) -> TemplateError {
        TemplateError { line: self.line(), message: message.to_owned() }
    }
}
