//! The part of Go's `text/template` that rule files and notification texts use, with Prometheus' functions.
//!
//! Sources: the documentation of Go's `text/template` and `fmt`, and Prometheus' "Template reference".
//! A template costs a bounded number of steps, calls and output bytes, whatever its text says.

mod execute;
mod functions;
mod lex;
mod numbers;
mod parse;
mod printf;
mod time;
mod value;

pub use execute::Scope;
pub use value::Value;

use crate::step::Environment;
use br_model::Labels;
use br_std::Nanos;
use std::fmt;
use std::sync::Arc;

/// The longest text that one template may yield.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What is wrong with a template, and in which of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Counts from 1.
    pub line: u32,
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for TemplateError {}

/// A text with actions in double braces, parsed once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Template {
    source: Arc<str>,
    /// `None` for a text without actions.
    program: Option<Result<Arc<parse::Program>, TemplateError>>,
}

/// The variables that every template of a rule may use.
const ALERT_VARIABLES: [&str; 4] = ["$labels", "$externalLabels", "$externalURL", "$value"];

impl Template {
    /// Parses; a mistake is kept and comes out of [`Template::check`] and [`Template::render`].
    pub fn new(source: &str) -> Self {
        Self::with_variables(source, &ALERT_VARIABLES)
    }

    /// A template that may use other variables than those of alerts; each name starts with `$`.
    pub fn with_variables(source: &str, variables: &[&str]) -> Self {
        let program = source.contains("{{").then(|| parse::parse(source, variables).map(Arc::new));
        Self { source: source.into(), program }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn check(&self) -> Result<(), TemplateError> {
        match &self.program {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Runs the template with `dot` as its data.
    pub fn render(&self, dot: Value, scope: &Scope<'_>) -> Result<String, TemplateError> {
        match &self.program {
            None => Ok(self.source.as_ref().to_owned()),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(program)) => execute::run(program, dot, scope),
        }
    }
}

/// What the template of a rule sees of one sample.
pub struct AlertData<'a> {
    /// Of the sample, with its metric name.
    pub labels: &'a Labels,
    pub value: f64,
    pub at: Nanos,
    pub environment: &'a Environment<'a>,
}

impl AlertData<'_> {
    /// Expands; where that fails, the text says so, because the alert must go out all the same.
    pub fn expand(&self, rule_name: &str, template: &Template) -> String {
        if template.program.is_none() {
            return template.source.as_ref().to_owned();
        }
        let labels = Value::from_labels(self.labels);
        let external_labels = Value::from_labels(self.environment.external_labels);
        let external_url = Value::from(self.environment.external_url);
        let dot = Value::structure([
            ("Labels", labels.clone()),
            ("ExternalLabels", external_labels.clone()),
            ("ExternalURL", external_url.clone()),
            ("Value", Value::Float(self.value)),
        ]);
        let scope = Scope {
            variables: vec![
                ("$labels".to_owned(), labels),
                ("$externalLabels".to_owned(), external_labels),
                ("$externalURL".to_owned(), external_url),
                ("$value".to_owned(), Value::Float(self.value)),
            ],
            at: self.at,
            external_url: self.environment.external_url,
            query: self.environment.query,
        };
        template
            .render(dot, &scope)
            .unwrap_or_else(|error| format!("<error expanding template: error executing template __alert_{rule_name}: {error}>"))
    }
}
