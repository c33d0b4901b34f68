//! The functions that templates call: Go's builtins, Prometheus' and the most used of Alertmanager's.

use super::execute::Runner;
use super::{OUTPUT_BYTES_MAX, Value, numbers, printf};
use br_std::Nanos;
use br_std::re2::{Mode, Regex};
use br_std::text::BoundedText;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

const NAMES: [&str; 61] = [
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "args",
    "tmpl",
    "safeHtml",
    "sortByLabel",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "toTime",
    "toDuration",
    "now",
    "title",
    "toUpper",
    "toLower",
    "stripPort",
    "stripDomain",
    "match",
    "reReplaceAll",
    "graphLink",
    "tableLink",
    "parseDuration",
    "urlQueryEscape",
    "externalURL",
    "pathPrefix",
    "trimSpace",
    "join",
    "stringSlice",
    "list",
    "toJson",
    "append",
    "since",
    "trimPrefix",
    "trimSuffix",
    "contains",
    "replaceAll",
    "split",
    "urlUnescape",
];

/// A regular expression in a template may take this many bytes when compiled.
const REGEX_BYTES_MAX: usize = 1 << 20;

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function; an error says what is wrong with the arguments.
pub(super) fn call(runner: &mut Runner<'_>, name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let outcome = match name {
        "query" => query(runner, &arguments),
        "tmpl" => match arguments.as_slice() {
            [template, data] => {
                let template = text(template)?.to_owned();
                runner.call_to_text(&template, data.clone()).map(Value::from)
            }
            _ => wrong_count(2, &arguments),
        },
        "now" => Ok(Value::Float(runner.scope.at.as_millis() as f64 / 1000.0)),
        "since" => match arguments.as_slice() {
            [Value::Time(at)] => Ok(Value::Duration(runner.scope.at.0.saturating_sub(at.0))),
            _ => Err("wants a time".to_owned()),
        },
        "externalURL" => Ok(Value::from(runner.scope.external_url)),
        "pathPrefix" => Ok(Value::from(path_of(runner.scope.external_url))),
        "not" | "len" | "index" | "slice" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => builtin(name, &arguments),
        "first" | "label" | "value" | "strvalue" | "sortByLabel" | "args" | "list" | "stringSlice" | "append" | "join" => {
            collection(name, &arguments)
        }
        "print" => Ok(Value::from(printf::print(&arguments, false))),
        "println" => Ok(Value::from(printf::print(&arguments, true))),
        "printf" => match arguments.split_first() {
            Some((format, rest)) => Ok(Value::from(printf::printf(text(format)?, rest)?)),
            None => wrong_count(1, &arguments),
        },
        "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage" | "humanizeTimestamp" | "toTime"
        | "toDuration" | "parseDuration" => number(name, &arguments),
        _ => strings(name, &arguments),
    };
    outcome.map_err(|message| format!("error calling {name}: {message}"))
}

fn wrong_count(want: usize, arguments: &[Value]) -> Result<Value, String> {
    Err(format!("wrong number of args: want {want} got {}", arguments.len()))
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

fn query(runner: &Runner<'_>, arguments: &[Value]) -> Result<Value, String> {
    let [expression] = arguments else { return wrong_count(1, arguments) };
    let samples = (runner.scope.query)(text(expression)?, runner.scope.at)?;
    let samples = samples.iter().map(|sample| {
        Value::structure([("Labels", Value::from_labels(&sample.labels)), ("Value", Value::Float(sample.as_float()))])
    });
    Ok(Value::list(samples.collect()))
}

fn builtin(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("len", [value]) => match value {
            Value::String(text) => Ok(Value::Int(text.len() as i64)),
            Value::List(values) => Ok(Value::Int(values.len() as i64)),
            Value::Map(map) => Ok(Value::Int(map.len() as i64)),
            other => Err(format!("len of type {}", other.type_name())),
        },
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [Value::String(text), from, to @ ..]) => slice(text, from, to.first()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            for other in rest {
                if is_equal(first, other)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("ne", [left, right]) => Ok(Value::Bool(!is_equal(left, right)?)),
        ("lt", [left, right]) => Ok(Value::Bool(compare(left, right)? == Some(Ordering::Less))),
        ("gt", [left, right]) => Ok(Value::Bool(compare(left, right)? == Some(Ordering::Greater))),
        ("le", [left, right]) => Ok(Value::Bool(matches!(compare(left, right)?, Some(Ordering::Less | Ordering::Equal)))),
        ("ge", [left, right]) => Ok(Value::Bool(matches!(compare(left, right)?, Some(Ordering::Greater | Ordering::Equal)))),
        _ => Err(format!("wrong arguments: got {}", arguments.len())),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::List(values), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| values.get(at));
            found.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::Map(map), Value::String(key)) => Ok(map.get(key.as_ref()).cloned().unwrap_or_else(|| Value::from(""))),
        (Value::String(text), Value::Int(at)) => {
            let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            byte.map(|byte| Value::Int(i64::from(*byte))).ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::Nil, _) => Err("index of untyped nil".to_owned()),
        _ => Err(format!("can't index item of type {} with {}", value.type_name(), key.type_name())),
    }
}

fn slice(text: &str, from: &Value, to: Option<&Value>) -> Result<Value, String> {
    let end = Value::Int(text.len() as i64);
    let (Value::Int(from), Value::Int(to)) = (from, to.unwrap_or(&end)) else {
        return Err("cannot index slice with other than int".to_owned());
    };
    let part = usize::try_from(*from).ok().zip(usize::try_from(*to).ok()).and_then(|(from, to)| text.get(from..to));
    part.map(Value::from).ok_or_else(|| format!("index out of range: {from}..{to}"))
}

fn is_equal(left: &Value, right: &Value) -> Result<bool, String> {
    match (left, right) {
        (Value::Nil, other) | (other, Value::Nil) => Ok(matches!(other, Value::Nil)),
        (Value::List(_) | Value::Map(_) | Value::Struct(_), _) | (_, Value::List(_) | Value::Map(_) | Value::Struct(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ if std::mem::discriminant(left) == std::mem::discriminant(right) => Ok(left == right),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

/// `None` where a NaN is compared.
fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) | (Value::Duration(left), Value::Duration(right)) => Ok(Some(left.cmp(right))),
        (Value::Float(left), Value::Float(right)) => Ok(left.partial_cmp(right)),
        (Value::String(left), Value::String(right)) => Ok(Some(left.cmp(right))),
        (Value::Bool(_) | Value::Nil | Value::List(_) | Value::Map(_) | Value::Struct(_), _) => {
            Err("invalid type for comparison".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn collection(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("first", [Value::List(samples)]) => {
            samples.first().cloned().ok_or_else(|| "first() called on vector with no elements".to_owned())
        }
        ("label", [label, sample]) => sample_label(sample, text(label)?),
        ("strvalue", [sample]) => sample_label(sample, "__value__"),
        ("value", [Value::Struct(sample)]) => sample.get("Value").cloned().ok_or_else(|| "not a sample".to_owned()),
        ("sortByLabel", [label, Value::List(samples)]) => {
            let label = text(label)?;
            let mut keyed = Vec::with_capacity(samples.len());
            for sample in samples.iter() {
                keyed.push((sample_label(sample, label)?.to_string(), sample.clone()));
            }
            keyed.sort_by(|left, right| left.0.cmp(&right.0));
            Ok(Value::list(keyed.into_iter().map(|(_, sample)| sample).collect()))
        }
        ("args", values) => {
            let named = values.iter().enumerate().map(|(at, value)| (format!("arg{at}"), value.clone()));
            Ok(Value::Map(Arc::new(named.collect::<BTreeMap<_, _>>())))
        }
        ("list" | "stringSlice", values) => Ok(Value::list(values.to_vec())),
        ("append", [Value::List(values), more @ ..]) => Ok(Value::list(values.iter().chain(more).cloned().collect())),
        ("join", [separator, Value::List(values)]) => {
            let values: Vec<String> = values.iter().map(Value::to_string).collect();
            Ok(Value::from(values.join(text(separator)?)))
        }
        _ => Err(format!("wrong arguments: got {}", arguments.len())),
    }
}

fn sample_label(sample: &Value, label: &str) -> Result<Value, String> {
    let Value::Struct(fields) = sample else { return Err(format!("not a sample but {}", sample.type_name())) };
    match fields.get("Labels") {
        Some(Value::Map(labels)) => Ok(labels.get(label).cloned().unwrap_or_else(|| Value::from(""))),
        _ => Err("not a sample".to_owned()),
    }
}

/// Functions of one number, which may also be given as text.
fn number(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let [argument] = arguments else { return wrong_count(1, arguments) };
    if name == "parseDuration" {
        let duration = br_std::duration::parse(text(argument)?).map_err(|error| error.to_string())?;
        return Ok(Value::Float(duration.as_secs_f64()));
    }
    let value = match argument {
        Value::Float(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Duration(nanos) => *nanos as f64 / 1e9,
        Value::String(text) => {
            parse_float(text).ok_or_else(|| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))?
        }
        other => return Err(format!("can't convert {} to float", other.type_name())),
    };
    match name {
        "humanize" => Ok(Value::from(numbers::humanize(value))),
        "humanize1024" => Ok(Value::from(numbers::humanize1024(value))),
        "humanizeDuration" => Ok(Value::from(numbers::humanize_duration(value))),
        "humanizePercentage" => Ok(Value::from(format!("{}%", numbers::general(value * 100.0, 4)))),
        "humanizeTimestamp" if !value.is_finite() => Ok(Value::from(numbers::general(value, 4))),
        "humanizeTimestamp" => Ok(Value::from(Value::Time(to_time(value)?).to_string())),
        "toTime" => to_time(value).map(Value::Time),
        _ => to_time(value).map(|time| Value::Duration(time.0)),
    }
}

/// What Go reads as a number: also `Inf`, `+Inf` and `NaN`.
fn parse_float(text: &str) -> Option<f64> {
    text.trim_start_matches(['+']).parse().ok()
}

fn to_time(seconds: f64) -> Result<Nanos, String> {
    let nanos = seconds * 1e9;
    if !nanos.is_finite() || nanos.abs() >= i64::MAX as f64 {
        return Err(format!("{} cannot be represented as a time", numbers::shortest(seconds)));
    }
    // To the millisecond, as Prometheus' timestamps.
    Ok(Nanos::from_millis(Nanos(nanos as i64).as_millis()))
}

fn strings(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("html" | "js" | "urlquery", values) => {
            let text = values.iter().map(Value::to_string).collect::<String>();
            Ok(Value::from(if name == "urlquery" { escape_query(&text) } else { escape_html(&text) }))
        }
        ("toJson", [value]) => Ok(Value::from(json(value))),
        ("safeHtml", [value]) => Ok(Value::from(text(value)?)),
        ("title", [value]) => Ok(Value::from(title(text(value)?))),
        ("toUpper", [value]) => Ok(Value::from(text(value)?.to_uppercase())),
        ("toLower", [value]) => Ok(Value::from(text(value)?.to_lowercase())),
        ("trimSpace", [value]) => Ok(Value::from(text(value)?.trim())),
        ("stripPort", [value]) => Ok(Value::from(split_host_port(text(value)?).map_or(text(value)?, |(host, _)| host))),
        ("stripDomain", [value]) => Ok(Value::from(strip_domain(text(value)?))),
        ("match", [pattern, value]) => Ok(Value::Bool(regex(text(pattern)?)?.is_match(text(value)?))),
        ("reReplaceAll", [pattern, replacement, value]) => re_replace_all(text(pattern)?, text(replacement)?, text(value)?),
        ("graphLink" | "tableLink", [expression]) => {
            let tab = u8::from(name == "tableLink");
            Ok(Value::from(format!("/graph?g0.expr={}&g0.tab={tab}", escape_query(text(expression)?))))
        }
        ("urlQueryEscape", [value]) => Ok(Value::from(escape_query(text(value)?))),
        ("urlUnescape", [value]) => unescape_query(text(value)?).map(Value::from).ok_or_else(|| "invalid URL escape".to_owned()),
        ("trimPrefix", [prefix, value]) => Ok(Value::from(text(value)?.strip_prefix(text(prefix)?).unwrap_or(text(value)?))),
        ("trimSuffix", [suffix, value]) => Ok(Value::from(text(value)?.strip_suffix(text(suffix)?).unwrap_or(text(value)?))),
        ("contains", [part, value]) => Ok(Value::Bool(text(value)?.contains(text(part)?))),
        ("replaceAll", [old, new, value]) => replace_all(text(old)?, text(new)?, text(value)?),
        ("split", [separator, value]) => Ok(Value::list(text(value)?.split(text(separator)?).map(Value::from).collect())),
        _ => Err(format!("wrong number of args: got {}", arguments.len())),
    }
}

fn re_replace_all(pattern: &str, replacement: &str, value: &str) -> Result<Value, String> {
    let regex = regex(pattern)?;
    let mut out = BoundedText::new(OUTPUT_BYTES_MAX);
    let mut at = 0;
    for captures in regex.captures_iter(value) {
        let found = captures.range();
        out.push_str(&value[at..found.start])?;
        out.push_expanded(replacement, &|name| captures.group(name))?;
        at = found.end;
    }
    out.push_str(&value[at..])?;
    Ok(Value::from(out.into_string()))
}

fn replace_all(old: &str, new: &str, value: &str) -> Result<Value, String> {
    let mut out = BoundedText::new(OUTPUT_BYTES_MAX);
    let mut at = 0;
    for (found, _) in value.match_indices(old) {
        out.push_str(&value[at..found])?;
        out.push_str(new)?;
        at = found + old.len();
    }
    out.push_str(&value[at..])?;
    Ok(Value::from(out.into_string()))
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::with_size(pattern, Mode::Part, REGEX_BYTES_MAX).map_err(|error| error.message().to_owned())
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_start = true;
    for character in text.chars() {
        if is_start {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        is_start = !(character.is_alphanumeric() || matches!(character, '_' | '\''));
    }
    out
}

/// `host:port` and `[v6]:port`; anything else has no port.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return Some((inner.strip_suffix(']')?, port));
    }
    (!host.contains([':', '[', ']'])).then_some((host, port))
}

/// `node1.example.com:9100` → `node1:9100`; addresses stay.
fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}

/// Percent encoding of a query value; a space becomes `+`.
fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn unescape_query(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &tail[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

fn json(value: &Value) -> String {
    let quoted = |text: &str| {
        let mut out = String::new();
        let _ = br_model::AttributeValue::from(text).write_json(&mut out);
        out
    };
    let pairs = |map: &BTreeMap<String, Value>| {
        let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{}:{}", quoted(key), json(value))).collect();
        format!("{{{}}}", pairs.join(","))
    };
    match value {
        Value::Nil => "null".to_owned(),
        Value::Bool(_) | Value::Int(_) => value.to_string(),
        Value::Float(number) if number.is_finite() => format!("{number}"),
        Value::Duration(nanos) => nanos.to_string(),
        Value::List(values) => format!("[{}]", values.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Map(map) | Value::Struct(map) => pairs(map),
        other => quoted(&other.to_string()),
    }
}

/// `https://host/bellrock` → `/bellrock`
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme.find('/').map_or("", |at| &after_scheme[at..])
}
