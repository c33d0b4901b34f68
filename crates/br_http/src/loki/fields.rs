//! Fields that the newest lines of a query have: as metadata of their records, or within lines of JSON or logfmt.

use super::{Answer, json_text, range};
use crate::app::App;
use crate::params::Params;
use crate::written;
use axum::Extension;
use axum::extract::{Path, State};
use br_logql::{Expr, LogExpr, LogOptions};
use br_model::Principal;
use br_model::names::label_name;
use br_query::door::Language;
use br_std::{Error, Result};
use br_storage::{Budget, Direction, LogSource, TimeRange};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const LINES_DEFAULT: usize = 1000;
const LINES_MAX: usize = 5000;
const FIELDS_DEFAULT: usize = 1000;
const FIELDS_MAX: usize = 5000;
/// Objects within objects that are looked into.
const DEPTH_MAX: usize = 8;
/// Values of one field that are told apart.
const VALUES_MAX: usize = 5000;

#[derive(Default)]
struct Field {
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
    path: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    label: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    cardinality: usize,
    parsers: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    json_path: &'a [String],
}

#[derive(Serialize)]
struct Fields<'a> {
    fields: Vec<Shown<'a>>,
    limit: usize,
}

#[derive(Serialize)]
struct Values<'a> {
    values: Vec<&'a str>,
    limit: usize,
}

pub(super) async fn detected_fields(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let limit = fields_limit(&params)?;
    answer(&app, &principal, &params, move |fields, budget| {
        let mut shown: Vec<Shown<'_>> = fields.iter().map(|(label, field)| field.shown(label)).collect();
        shown.sort_by(|one, other| other.cardinality.cmp(&one.cardinality).then_with(|| one.label.cmp(other.label)));
        shown.truncate(limit);
        written::json(&Fields { fields: shown, limit }, budget)
    })
    .await
}

pub(super) async fn detected_values(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let limit = fields_limit(&params)?;
    answer(&app, &principal, &params, move |fields, budget| {
        let values = fields.get(&name).into_iter().flat_map(|field| &field.values).take(limit);
        written::json(&Values { values: values.map(String::as_str).collect(), limit }, budget)
    })
    .await
}

/// Grafana calls it `limit`, earlier `field_limit`.
fn fields_limit(params: &Params) -> Result<usize> {
    let name = if params.get("limit").is_some() { "limit" } else { "field_limit" };
    Ok(params.number(name, FIELDS_DEFAULT)?.clamp(1, FIELDS_MAX))
}

async fn answer(
    app: &App,
    principal: &Principal,
    params: &Params,
    write: impl FnOnce(&BTreeMap<String, Field>, &Budget) -> Result<String> + Send + 'static,
) -> Answer {
    let text = params.required("query")?.to_owned();
    let Expr::Log(log) = br_logql::parse(&text).map_err(Error::from)? else {
        return Err(Error::fix_request(format!("invalid parameter \"query\": {text:?} is not a log query")).into());
    };
    let lines = params.number("line_limit", LINES_DEFAULT)?.clamp(1, LINES_MAX);
    let (tenant, range) = (principal.tenant, range(app, params)?);
    let text = app
        .query(tenant, Language::LogQl, &text, None, move |sources, budget| {
            write(&detect(&*sources.logs(tenant), &log, range, lines, budget)?, budget)
        })
        .await?;
    json_text(text)
}

fn detect(
    source: &dyn LogSource,
    log: &LogExpr,
    range: TimeRange,
    lines: usize,
    budget: &Budget,
) -> Result<BTreeMap<String, Field>> {
    let options = LogOptions { range, direction: Direction::Backward, limit: lines, categorize: true };
    let result = br_logql::query_log(source, log, &options, budget)?;
    let mut fields = BTreeMap::new();
    for entry in result.streams.iter().flat_map(|stream| &stream.entries) {
        budget.check()?;
        for (name, value) in entry.metadata.iter() {
            add(&mut fields, name, value, None, budget)?;
        }
        if entry.line.trim_start().starts_with('{') {
            // What is no JSON after all has no fields.
            if let Ok(Value::Object(object)) = serde_json::from_str(&entry.line) {
                add_object(&mut fields, &object, &mut Vec::new(), budget)?;
            }
            continue;
        }
        for (name, value) in br_logql::logfmt_pairs(&entry.line) {
            let name = label_name(&name);
            if !name.is_empty() && !value.is_empty() {
                add(&mut fields, &name, &value, Some("logfmt"), budget)?;
            }
        }
    }
    Ok(fields)
}

fn add_object(
    fields: &mut BTreeMap<String, Field>,
    object: &serde_json::Map<String, Value>,
    path: &mut Vec<String>,
    budget: &Budget,
) -> Result<()> {
    for (key, value) in object {
        path.push(key.clone());
        let text = match value {
            Value::Object(inner) if path.len() < DEPTH_MAX => {
                add_object(fields, inner, path, budget)?;
                None
            }
            Value::Object(_) | Value::Array(_) | Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        if let Some(text) = text {
            let name = label_name(&path.join("_"));
            add(fields, &name, &text, Some("json"), budget)?;
            if let Some(field) = fields.get_mut(&name) {
                field.path.clone_from(path);
            }
        }
        path.pop();
    }
    Ok(())
}

fn add(
    fields: &mut BTreeMap<String, Field>,
    name: &str,
    value: &str,
    parser: Option<&'static str>,
    budget: &Budget,
) -> Result<()> {
    if !fields.contains_key(name) && fields.len() >= FIELDS_MAX {
        return Ok(());
    }
    let field = fields.entry(name.to_owned()).or_default();
    field.parsers.extend(parser);
    if field.values.len() < VALUES_MAX && !field.values.contains(value) {
        budget.charge(value.len() as u64 + 64)?;
        field.values.insert(value.to_owned());
    }
    Ok(())
}

impl Field {
    fn shown<'a>(&'a self, label: &'a str) -> Shown<'a> {
        let parsers = (!self.parsers.is_empty()).then(|| self.parsers.iter().copied().collect());
        Shown { label, kind: self.kind(), cardinality: self.values.len(), parsers, json_path: &self.path }
    }

    /// The narrowest type that all values have.
    fn kind(&self) -> &'static str {
        let all = |is: fn(&str) -> bool| self.values.iter().all(|value| is(value));
        if all(|value| value.parse::<i64>().is_ok()) {
            "int"
        } else if all(|value| value.parse::<f64>().is_ok()) {
            "float"
        } else if all(|value| value.parse::<bool>().is_ok()) {
            "boolean"
        } else if all(br_logql::is_duration) {
            "duration"
        } else if all(br_logql::is_bytes) {
            "bytes"
        } else {
            "string"
        }
    }
}
