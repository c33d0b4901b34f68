//! Templates of `line_format` and `label_format`: the part of Go's text/template that LogQL queries use.
//!
//! Text, `{{ pipelines }}`, comments, trim markers, variables, `if`/`else`, `with`, `range`, and the functions of [`functions`].

mod functions;
mod parse;
mod value;

use crate::pipeline::Line;
use br_std::text::{BoundedText, Steps, TooLong};
use parse::{Command, Node, Operand, Pipeline};
use value::Value;

/// A rendered text may be this long.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// All loops of one rendering together may take this many turns.
const TURNS_MAX: usize = 10_000;

/// One rendering may go through this many parts of the template and operands.
const STEPS_MAX: u64 = 100_000;

/// What all values of one rendering take together, those that were let go of too: it bounds memory and time at once.
const VALUE_BYTES_MAX: u64 = 64 << 20;

pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(|nodes| Self { nodes }).map_err(|message| format!("invalid template: {message}"))
    }

    pub(crate) fn render(&self, line: &Line<'_>) -> Result<String, String> {
        let mut renderer = Renderer {
            line,
            variables: Vec::new(),
            out: BoundedText::new(OUTPUT_BYTES_MAX),
            turns: 0,
            steps: Steps::new(STEPS_MAX),
            value_bytes: Steps::new(VALUE_BYTES_MAX),
        };
        renderer.nodes(&self.nodes, None)?;
        Ok(renderer.out.into_string())
    }
}

struct Renderer<'a> {
    line: &'a Line<'a>,
    /// The latest of a name counts.
    variables: Vec<(String, Value)>,
    out: BoundedText,
    turns: usize,
    steps: Steps,
    value_bytes: Steps,
}

fn output_too_long(_: TooLong) -> String {
    format!("template output is longer than {OUTPUT_BYTES_MAX} bytes")
}

impl Renderer<'_> {
    /// `dot` is `None` at the top, where `.name` means a label.
    fn nodes(&mut self, nodes: &[Node], dot: Option<&Value>) -> Result<(), String> {
        let scope = self.variables.len();
        for node in nodes {
            self.count()?;
            self.node(node, dot)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    /// One step more; the query may have been told to stop.
    fn count(&mut self) -> Result<(), String> {
        self.line.budget.check().map_err(|error| error.to_string())?;
        Ok(self.steps.take(1)?)
    }

    /// What a value takes that is now held, or was made.
    fn weigh(&mut self, value: Value) -> Result<Value, String> {
        let bytes = value.bytes();
        self.value_bytes.take(bytes as u64).map_err(|_| format!("template values take more than {VALUE_BYTES_MAX} bytes"))?;
        Ok(value)
    }

    fn node(&mut self, node: &Node, dot: Option<&Value>) -> Result<(), String> {
        match node {
            Node::Text(text) => self.out.push_str(text).map_err(output_too_long)?,
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variable.is_none() {
                    self.out.push_shown(&value).map_err(output_too_long)?;
                }
            }
            Node::If { condition, then, otherwise } => {
                let value = self.pipeline(condition, dot)?;
                self.nodes(if value.is_true() { then } else { otherwise }, dot)?;
            }
            Node::With { subject, then, otherwise } => {
                let value = self.pipeline(subject, dot)?;
                if value.is_true() {
                    self.nodes(then, Some(&value))?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
            }
            Node::Range { key, element, subject, body, otherwise } => {
                let items = self.pipeline(subject, dot)?.items()?;
                if items.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                for (at, item) in items {
                    self.turns += 1;
                    if self.turns > TURNS_MAX {
                        return Err(format!("template loops take more than {TURNS_MAX} turns"));
                    }
                    self.value_bytes.take(item.bytes() as u64)?;
                    let scope = self.variables.len();
                    if let Some(key) = key {
                        self.variables.push((key.clone(), at));
                    }
                    if let Some(element) = element {
                        self.variables.push((element.clone(), item.clone()));
                    }
                    self.nodes(body, Some(&item))?;
                    self.variables.truncate(scope);
                }
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: Option<&Value>) -> Result<Value, String> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        if let Some(name) = &pipeline.variable {
            let value = self.weigh(value.clone())?;
            match self.variables.iter_mut().rev().find(|(known, _)| known == name).filter(|_| !pipeline.declares) {
                Some((_, slot)) => *slot = value.clone(),
                None => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, dot: Option<&Value>, piped: Option<Value>) -> Result<Value, String> {
        match command {
            Command::Value(operand) => self.operand(operand, dot),
            Command::Call(function, operands) => {
                let mut arguments = Vec::with_capacity(operands.len() + 1);
                for operand in operands {
                    arguments.push(self.operand(operand, dot)?);
                }
                arguments.extend(piped);
                self.count()?;
                let made = functions::call(function, &arguments, self.line)?;
                self.weigh(made)
            }
        }
    }

    fn operand(&mut self, operand: &Operand, dot: Option<&Value>) -> Result<Value, String> {
        self.count()?;
        let value = match operand {
            Operand::Literal(value) => value.clone(),
            Operand::Field(path) => match dot {
                Some(dot) => dot.field(path),
                None => path.first().map_or(Value::Nil, |name| Value::Text(self.line.labels.get_or_empty(name).to_owned())),
            },
            Operand::Variable(name, path) => {
                if name.is_empty() {
                    return self.operand(&Operand::Field(path.clone()), None);
                }
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Value::Nil, |(_, value)| value.field(path))
            }
            Operand::Pipeline(inner, path) => self.pipeline(inner, dot)?.field(path),
            Operand::Call(function) => functions::call(function, &[], self.line)?,
        };
        self.weigh(value)
    }
}
