//! Runs a parsed template.

use super::functions;
use super::parse::{Base, Item, ItemKind, Operand, Pipeline, Program};
use super::{OUTPUT_BYTES_MAX, TemplateError, Value, time};
use crate::step::Query;
use br_std::Nanos;
use br_std::text::{BoundedText, Steps};
use std::sync::Arc;

/// One run may evaluate this many actions and operands.
const STEPS_MAX: u64 = 200_000;
/// Templates may call templates this deep.
const CALLS_MAX: usize = 32;

/// What a template sees besides its data.
pub struct Scope<'a> {
    /// By name with the `$` sign.
    pub variables: Vec<(String, Value)>,
    pub at: Nanos,
    pub external_url: &'a str,
    pub query: Query<'a>,
}

pub(super) fn run(program: &Program, dot: Value, scope: &Scope<'_>) -> Result<String, TemplateError> {
    let mut variables = vec![("$".to_owned(), dot.clone())];
    variables.extend(scope.variables.iter().cloned());
    let mut runner = Runner {
        program,
        scope,
        variables,
        output: BoundedText::new(OUTPUT_BYTES_MAX),
        steps: Steps::new(STEPS_MAX),
        calls: 0,
        line: 1,
    };
    match runner.items(&program.body, &dot) {
        Ok(_) => Ok(runner.output.into_string()),
        Err(message) => Err(TemplateError { line: runner.line, message }),
    }
}

/// How a list of items ended.
#[derive(PartialEq, Eq)]
enum Flow {
    Through,
    Break,
    Continue,
}

pub(super) struct Runner<'a> {
    program: &'a Program,
    pub(super) scope: &'a Scope<'a>,
    variables: Vec<(String, Value)>,
    output: BoundedText,
    steps: Steps,
    calls: usize,
    line: u32,
}

impl Runner<'_> {
    fn items(&mut self, items: &[Item], dot: &Value) -> Result<Flow, String> {
        let scope = self.variables.len();
        let mut flow = Flow::Through;
        for item in items {
            flow = self.item(item, dot)?;
            if flow != Flow::Through {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn item(&mut self, item: &Item, dot: &Value) -> Result<Flow, String> {
        self.line = item.line;
        self.count()?;
        match &item.kind {
            ItemKind::Text(text) => self.write(text)?,
            ItemKind::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.write(&value.to_string())?;
                }
            }
            ItemKind::If { condition, then, otherwise } => return self.branch(condition, then, otherwise, dot, false),
            ItemKind::With { value, then, otherwise } => return self.branch(value, then, otherwise, dot, true),
            ItemKind::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            ItemKind::Template { name, data } => {
                let data = data.as_ref().map_or(Ok(Value::Nil), |data| self.pipeline(data, dot))?;
                self.call(name, data)?;
            }
            ItemKind::Break => return Ok(Flow::Break),
            ItemKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    /// `if` keeps the data; `with` (`rebinds`) makes the value the data.
    fn branch(
        &mut self,
        condition: &Pipeline,
        then: &[Item],
        otherwise: &[Item],
        dot: &Value,
        rebinds: bool,
    ) -> Result<Flow, String> {
        let scope = self.variables.len();
        let value = self.pipeline(condition, dot)?;
        let flow = match (value.is_true(), rebinds) {
            (true, true) => self.items(then, &value),
            (true, false) => self.items(then, dot),
            (false, _) => self.items(otherwise, dot),
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, over: &Pipeline, body: &[Item], otherwise: &[Item], dot: &Value) -> Result<Flow, String> {
        let scope = self.variables.len();
        let declared = over.declares.then_some(&over.variables);
        let value = self.commands(&over.commands, dot)?;
        let elements: Vec<(Value, Value)> = match value {
            Value::List(values) => values.iter().enumerate().map(|(at, value)| (Value::Int(at as i64), value.clone())).collect(),
            Value::Map(map) | Value::Struct(map) => {
                map.iter().map(|(key, value)| (Value::from(key.as_str()), value.clone())).collect()
            }
            Value::Int(count) if count <= STEPS_MAX as i64 => (0..count).map(|at| (Value::Int(at), Value::Int(at))).collect(),
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {other}")),
        };
        if elements.is_empty() {
            return self.items(otherwise, dot);
        }
        for (key, element) in elements {
            self.count()?;
            match declared.map(Vec::as_slice) {
                Some([single]) => self.variables.push((single.clone(), element.clone())),
                Some([index, single]) => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((single.clone(), element.clone()));
                }
                _ => {
                    if let [single] = over.variables.as_slice() {
                        self.assign(single, element.clone())?;
                    }
                }
            }
            let flow = self.items(body, &element);
            self.variables.truncate(scope);
            if flow? == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    /// Runs a defined template with variables of its own.
    fn call(&mut self, name: &str, data: Value) -> Result<(), String> {
        let program = self.program;
        let body = program.defined.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
        if self.calls >= CALLS_MAX {
            return Err(format!("exceeded maximum template depth ({CALLS_MAX})"));
        }
        self.calls += 1;
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        let flow = self.items(body, &data);
        self.variables = outer;
        self.calls -= 1;
        flow.map(|_| ())
    }

    /// The function `tmpl`: what a defined template yields, as a value.
    pub(super) fn call_to_text(&mut self, name: &str, data: Value) -> Result<String, String> {
        let outer = std::mem::replace(&mut self.output, BoundedText::new(OUTPUT_BYTES_MAX));
        let outcome = self.call(name, data);
        let text = std::mem::replace(&mut self.output, outer);
        outcome.map(|()| text.into_string())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.commands(&pipeline.commands, dot)?;
        for name in &pipeline.variables {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                self.assign(name, value.clone())?;
            }
        }
        Ok(value)
    }

    fn commands(&mut self, commands: &[Vec<Operand>], dot: &Value) -> Result<Value, String> {
        let mut input = None;
        for command in commands {
            input = Some(self.command(command, input, dot)?);
        }
        Ok(input.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &[Operand], input: Option<Value>, dot: &Value) -> Result<Value, String> {
        self.count()?;
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Nil) };
        if let Base::Function(name) = &first.base {
            let value = if matches!(name.as_str(), "and" | "or") {
                self.shortcut(name == "and", rest, input, dot)?
            } else {
                let mut arguments = self.arguments(rest, dot)?;
                arguments.extend(input);
                functions::call(self, name, arguments)?
            };
            return take_fields(value, &first.fields, Vec::new());
        }
        let value = self.base(&first.base, dot)?;
        if rest.is_empty() && input.is_none() {
            return take_fields(value, &first.fields, Vec::new());
        }
        // Only a method takes arguments.
        let mut arguments = self.arguments(rest, dot)?;
        arguments.extend(input);
        if first.fields.is_empty() {
            return Err(format!("can't give argument to non-function {value}"));
        }
        take_fields(value, &first.fields, arguments)
    }

    fn arguments(&mut self, operands: &[Operand], dot: &Value) -> Result<Vec<Value>, String> {
        operands.iter().map(|operand| self.operand(operand, dot)).collect()
    }

    /// The first argument that decides; those after it are not evaluated.
    fn shortcut(&mut self, is_and: bool, operands: &[Operand], input: Option<Value>, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.is_true() != is_and {
                return Ok(value);
            }
            last = Some(value);
        }
        input.or(last).ok_or_else(|| "wrong number of args: want at least 1 got 0".to_owned())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        self.count()?;
        let value = match &operand.base {
            Base::Function(name) => functions::call(self, name, Vec::new())?,
            base => self.base(base, dot)?,
        };
        take_fields(value, &operand.fields, Vec::new())
    }

    fn base(&mut self, base: &Base, dot: &Value) -> Result<Value, String> {
        match base {
            Base::Literal(value) => Ok(value.clone()),
            Base::Dot => Ok(dot.clone()),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: {name}"))
            }
            Base::Group(pipeline) => self.pipeline(pipeline, dot),
            Base::Function(name) => functions::call(self, name, Vec::new()),
        }
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), String> {
        let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        slot.map(|(_, slot)| *slot = value).ok_or_else(|| format!("undefined variable: {name}"))
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        self.output.push_str(text).map_err(|_| format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"))
    }

    fn count(&mut self) -> Result<(), String> {
        Ok(self.steps.take(1)?)
    }
}

/// Takes fields in turn; `arguments` belong to the last one, which is then a method.
fn take_fields(value: Value, fields: &[String], arguments: Vec<Value>) -> Result<Value, String> {
    let mut value = value;
    let mut arguments = Some(arguments);
    for (at, name) in fields.iter().enumerate() {
        let arguments = if at + 1 == fields.len() { arguments.take().unwrap_or_default() } else { Vec::new() };
        value = field(&value, name, &arguments)?;
    }
    Ok(value)
}

/// A field or a method of a value.
fn field(value: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
    let none = || match arguments {
        [] => Ok(()),
        _ => Err(format!("{name} is not a method but has arguments")),
    };
    match value {
        Value::Map(map) => match (map.get(name), name) {
            (Some(found), _) => none().map(|()| found.clone()),
            (None, "SortedPairs" | "Names" | "Values" | "Remove") => map_method(map, name, arguments),
            (None, _) => none().map(|()| Value::from("")),
        },
        Value::Struct(fields) => {
            none()?;
            fields.get(name).cloned().ok_or_else(|| format!("can't evaluate field {name} in {value}"))
        }
        Value::Time(at) => match (name, arguments) {
            ("Format", [Value::String(layout)]) => Ok(Value::from(time::layout(*at, layout))),
            ("Unix", []) => Ok(Value::Int(at.as_secs())),
            ("UnixMilli", []) => Ok(Value::Int(at.as_millis())),
            ("UTC", []) => Ok(Value::Time(*at)),
            ("String", []) => Ok(Value::from(time::show(*at))),
            ("Year", []) => Ok(Value::from(time::layout(*at, "2006"))),
            _ => Err(format!("can't evaluate field {name} in type time.Time")),
        },
        Value::Duration(nanos) => match (name, arguments) {
            ("Seconds", []) => Ok(Value::Float(*nanos as f64 / 1e9)),
            ("Minutes", []) => Ok(Value::Float(*nanos as f64 / 6e10)),
            ("Hours", []) => Ok(Value::Float(*nanos as f64 / 3.6e12)),
            ("Milliseconds", []) => Ok(Value::Int(nanos / 1_000_000)),
            ("String", []) => Ok(Value::from(time::show_duration(*nanos))),
            _ => Err(format!("can't evaluate field {name} in type time.Duration")),
        },
        Value::Nil => Err(format!("nil data; no entry for key {name:?}")),
        other => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
    }
}

/// What Alertmanager's templates ask of a set of labels.
fn map_method(map: &Arc<std::collections::BTreeMap<String, Value>>, name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("Names", []) => Ok(Value::list(map.keys().map(|key| Value::from(key.as_str())).collect())),
        ("Values", []) => Ok(Value::list(map.values().cloned().collect())),
        ("SortedPairs", []) => {
            let pair = |(key, value): (&String, &Value)| {
                Value::structure([("Name", Value::from(key.as_str())), ("Value", value.clone())])
            };
            Ok(Value::list(map.iter().map(pair).collect()))
        }
        ("Remove", [Value::List(names)]) => {
            let is_kept = |key: &str| !names.iter().any(|name| matches!(name, Value::String(name) if name.as_ref() == key));
            let kept = map.iter().filter(|(key, _)| is_kept(key)).map(|(key, value)| (key.clone(), value.clone()));
            Ok(Value::Map(Arc::new(kept.collect())))
        }
        _ => Err(format!("wrong arguments for {name}")),
    }
}
