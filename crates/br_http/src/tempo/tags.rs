//! Names and values of attributes, for the completion of queries.

use super::range;
use crate::app::App;
use crate::error::TextError;
use crate::params::Params;
use crate::written;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use br_model::{AttributeValue, Attributes, Principal};
use br_query::door::Language;
use br_std::Error;
use br_storage::{SpanParts, SpanQuery, StoredSpan};
use br_traceql::Expr;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

type Answer = Result<Response, TextError>;

/// Spans that are looked at, newest first: completion must answer while a person types. `metrics` in the answer says when there
/// were more.
const SPANS_MAX: usize = 100_000;
const LIMIT_DEFAULT: usize = 1000;
const LIMIT_MAX: usize = 10_000;

/// Fields that every span has, by their TraceQL names.
const INTRINSICS: [&str; 8] =
    ["duration", "kind", "name", "rootName", "rootServiceName", "status", "statusMessage", "traceDuration"];

/// What spans were found to have, and whether all of them were looked at.
struct Found<T> {
    items: BTreeSet<T>,
    is_whole: bool,
}

impl<T> Found<T> {
    fn metrics(&self) -> Value {
        json!({ "totalJobs": 1, "completedJobs": u8::from(self.is_whole) })
    }
}

/// What is found of one span.
trait Item: Ord + Send + 'static {
    fn text(&self) -> &str;
}

impl<K: Ord + Send + 'static> Item for (K, String) {
    fn text(&self) -> &str {
        &self.1
    }
}

/// What an item takes in memory beside its text.
const ITEM_BYTES: u64 = 96;

/// Goes over the spans of the request's range that may match its `q`, and writes what was found in the parts of them.
async fn collect<T: Item>(
    app: &App,
    principal: &Principal,
    params: &Params,
    mut parts: SpanParts,
    mut look: impl FnMut(&StoredSpan, &mut BTreeSet<T>) + Send + 'static,
    answer: impl FnOnce(&Found<T>) -> Value + Send + 'static,
) -> Answer {
    let (range, tenant) = (range(app, params)?, principal.tenant);
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let (text, expr) = parsed(params.get("q").unwrap_or("{}"))?;
    let answer = app.query(tenant, Language::TraceQl, &text, None, move |sources, budget| {
        let source = sources.spans(tenant);
        let mut found = Found { items: BTreeSet::new(), is_whole: true };
        let (mut looked_at, mut of_span) = (0, BTreeSet::new());
        br_traceql::add_parts_of(&expr, &mut parts);
        let mut cursor = source.scan(&SpanQuery { range, hints: br_traceql::hints_of(&expr), parts }, budget)?;
        while let Some(batch) = cursor.next_batch()? {
            budget.check()?;
            for stored in batch.iter().filter(|stored| range.contains(stored.span.start)) {
                looked_at += 1;
                if looked_at > SPANS_MAX || found.items.len() > limit {
                    found.is_whole = false;
                    break;
                }
                if br_traceql::may_match(&expr, stored) {
                    look(stored, &mut of_span);
                }
                while let Some(item) = of_span.pop_first() {
                    if !found.items.contains(&item) {
                        // Once more as a part of the answer, before that is text.
                        budget.charge(2 * (item.text().len() as u64 + ITEM_BYTES))?;
                        found.items.insert(item);
                    }
                }
            }
            if !found.is_whole {
                break;
            }
        }
        while found.items.len() > limit {
            found.items.pop_last();
        }
        written::json(&answer(&found), budget)
    });
    Ok(written::response(answer.await?))
}

/// A query that is still being typed counts for the conditions in it that are whole, as in Tempo.
fn parsed(text: &str) -> Result<(String, Expr), Error> {
    if let Ok(expr) = br_traceql::parse(text) {
        return Ok((text.to_owned(), expr));
    }
    let inside = text.split_once('{').map_or("", |(_, inside)| inside);
    let inside = inside.rsplit_once('}').map_or(inside, |(inside, _)| inside);
    // A name alone may be the start of another one.
    let compares = |condition: &str| condition.contains(['=', '<', '>']);
    let whole = |condition: &&str| compares(condition) && br_traceql::parse(&format!("{{ {condition} }}")).is_ok();
    let conditions: Vec<&str> = inside.split("&&").map(str::trim).filter(whole).take(CONDITIONS_MAX).collect();
    let kept = format!("{{ {} }}", conditions.join(" && "));
    let expr = br_traceql::parse(&kept).map_err(|error| Error::fix_request(format!("invalid parameter \"q\": {error}")))?;
    Ok((kept, expr))
}

/// Conditions that are kept of a query that is not whole.
const CONDITIONS_MAX: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Resource,
    Span,
}

impl Scope {
    const ALL: [(Self, &str); 2] = [(Self::Resource, "resource"), (Self::Span, "span")];

    fn attributes(self, stored: &StoredSpan) -> &Attributes {
        match self {
            Self::Resource => &stored.resource.attributes,
            Self::Span => &stored.span.attributes,
        }
    }
}

/// Which scopes a request asks for; none of these two where it asks for the intrinsics or for events only.
fn wanted(params: &Params) -> Vec<Scope> {
    let scope = params.get("scope").unwrap_or("none");
    Scope::ALL.into_iter().filter(|(_, name)| matches!(scope, "none") || scope == *name).map(|(scope, _)| scope).collect()
}

async fn named(
    app: &App,
    principal: &Principal,
    params: &Params,
    answer: impl FnOnce(&Found<(Scope, String)>) -> Value + Send + 'static,
) -> Answer {
    let scopes = wanted(params);
    let look = move |stored: &StoredSpan, names: &mut BTreeSet<(Scope, String)>| {
        for scope in &scopes {
            names.extend(scope.attributes(stored).iter().map(|(key, _)| (*scope, key.clone())));
        }
    };
    let keys = if wanted(params).contains(&Scope::Span) { None } else { Some(Vec::new()) };
    collect(app, principal, params, SpanParts { keys, ..SpanParts::NONE }, look, answer).await
}

pub(super) async fn names(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>, params: Params) -> Answer {
    named(&app, &principal, &params, |found| {
        let names: BTreeSet<&str> = found.items.iter().map(|(_, name)| name.as_str()).collect();
        json!({ "tagNames": names, "metrics": found.metrics() })
    })
    .await
}

pub(super) async fn scoped_names(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    params: Params,
) -> Answer {
    let wants_intrinsics = matches!(params.get("scope"), None | Some("none" | "intrinsic"));
    named(&app, &principal, &params, move |found| {
        let mut scopes: Vec<Value> = Vec::new();
        for (scope, word) in Scope::ALL {
            let tags: Vec<&str> = found.items.iter().filter(|(of, _)| *of == scope).map(|(_, name)| name.as_str()).collect();
            if !tags.is_empty() {
                scopes.push(json!({ "name": word, "tags": tags }));
            }
        }
        if wants_intrinsics {
            scopes.push(json!({ "name": "intrinsic", "tags": INTRINSICS }));
        }
        json!({ "scopes": scopes, "metrics": found.metrics() })
    })
    .await
}

/// Where the values of a tag are found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tag {
    Name,
    Status,
    StatusMessage,
    Kind,
    RootName,
    RootService,
    Attribute(Vec<Scope>, String),
}

/// A name as TraceQL writes it (`resource.service.name`, `.http.route`, `span."a b"`, `status`), or bare, as the older API has it.
fn tag(name: &str) -> Tag {
    let (scopes, key) = if let Some(key) = name.strip_prefix("resource.") {
        (vec![Scope::Resource], key)
    } else if let Some(key) = name.strip_prefix("span.") {
        (vec![Scope::Span], key)
    } else if let Some(key) = name.strip_prefix('.') {
        (vec![Scope::Resource, Scope::Span], key)
    } else {
        match name {
            "name" | "span:name" => return Tag::Name,
            "status" | "span:status" | "status.code" => return Tag::Status,
            "statusMessage" | "span:statusMessage" => return Tag::StatusMessage,
            "kind" | "span:kind" => return Tag::Kind,
            "rootName" | "trace:rootName" | "root.name" => return Tag::RootName,
            "rootServiceName" | "trace:rootService" | "root.service.name" => return Tag::RootService,
            _ => (vec![Scope::Resource, Scope::Span], name),
        }
    };
    let unquoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    let key = unquoted.map_or_else(|| key.to_owned(), |key| key.replace("\\\"", "\"").replace("\\\\", "\\"));
    Tag::Attribute(scopes, key)
}

impl Tag {
    /// What of a span its values are found in.
    fn parts(&self) -> SpanParts {
        let mut parts = SpanParts::NONE;
        match self {
            Self::Attribute(scopes, key) if scopes.contains(&Scope::Span) => parts.add_key(key),
            Self::StatusMessage => parts.texts = true,
            _ => {}
        }
        parts
    }

    /// Pairs of type and value. Of a root only what the root span itself says is looked at.
    fn values(&self, stored: &StoredSpan, values: &mut BTreeSet<(&'static str, String)>) {
        let span = &stored.span;
        let is_root = span.parent_span_id.is_none();
        let (kind, value) = match self {
            Self::Name => ("string", span.name.clone()),
            Self::Status => ("keyword", span.status.as_str().to_owned()),
            Self::StatusMessage => ("string", span.status_message.clone()),
            Self::Kind => ("keyword", span.kind.as_str().to_owned()),
            Self::RootName if is_root => ("string", span.name.clone()),
            Self::RootService if is_root => ("string", stored.resource.service_name().to_owned()),
            Self::RootName | Self::RootService => return,
            Self::Attribute(scopes, key) => {
                for scope in scopes {
                    let of_key = scope.attributes(stored).iter().filter(|(name, _)| name == key);
                    values.extend(of_key.map(|(_, value)| (kind_of(value), text(value))));
                }
                return;
            }
        };
        if !value.is_empty() {
            values.insert((kind, value));
        }
    }
}

fn kind_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::Int(_) => "int",
        AttributeValue::Double(_) => "float",
        AttributeValue::Bool(_) => "bool",
        _ => "string",
    }
}

/// A value as text, without quotes around it.
pub(super) fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) async fn values(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let tag = tag(&name);
    let parts = tag.parts();
    let look = move |stored: &StoredSpan, values: &mut BTreeSet<(&'static str, String)>| tag.values(stored, values);
    collect(&app, &principal, &params, parts, look, |found| {
        let values: BTreeSet<&str> = found.items.iter().map(|(_, value)| value.as_str()).collect();
        json!({ "tagValues": values, "metrics": found.metrics() })
    })
    .await
}

pub(super) async fn typed_values(
    State(app): State<Arc<App>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let tag = tag(&name);
    let parts = tag.parts();
    let look = move |stored: &StoredSpan, values: &mut BTreeSet<(&'static str, String)>| tag.values(stored, values);
    collect(&app, &principal, &params, parts, look, |found| {
        let values: Vec<Value> = found.items.iter().map(|(kind, value)| json!({ "type": kind, "value": value })).collect();
        json!({ "tagValues": values, "metrics": found.metrics() })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_being_typed_keeps_its_whole_conditions() {
        let check = |text: &str, expect: &str| assert_eq!(parsed(text).expect("something is left").0, expect, "{text}");
        check("{ .a = 1 } | count() > 2", "{ .a = 1 } | count() > 2");
        check("{ .a = 1 && .b = }", "{ .a = 1 }");
        check("{ .a = && name = `x` && resource.", "{ name = `x` }");
        check("{ .a = \"x && y\" && .b", "{  }");
        check("{", "{  }");
        check("nonsense", "{  }");
    }

    #[test]
    fn tags() {
        let both = vec![Scope::Resource, Scope::Span];
        for (name, expect) in [
            ("resource.service.name", Tag::Attribute(vec![Scope::Resource], "service.name".into())),
            (".http.route", Tag::Attribute(both.clone(), "http.route".into())),
            ("http.route", Tag::Attribute(both, "http.route".into())),
            ("span.\"a b\"", Tag::Attribute(vec![Scope::Span], "a b".into())),
            ("status", Tag::Status),
            ("rootServiceName", Tag::RootService),
        ] {
            assert_eq!(tag(name), expect, "{name}");
        }
    }
}
