//! Functions of templates. A new one: a name in [`NAMES`] and an arm in one of the groups below.

use super::value::Value;
use crate::pipeline::Line;
use crate::stages::{Scanner, bounded_regex};
use crate::units;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use br_std::re2::Mode;
use br_std::text::{BoundedText, TooLong};
use br_storage::Budget;

const NAMES: &[&str] = &[
    "ToLower",
    "ToUpper",
    "Replace",
    "Trim",
    "TrimLeft",
    "TrimRight",
    "TrimPrefix",
    "TrimSuffix",
    "TrimSpace",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "count",
    "urldecode",
    "urlencode",
    "bytes",
    "duration",
    "duration_seconds",
    "unixEpochMillis",
    "unixEpochNanos",
    "toDateInZone",
    "unixToTime",
    "alignLeft",
    "alignRight",
    "b64dec",
    "b64enc",
    "lower",
    "upper",
    "title",
    "trunc",
    "substr",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "indent",
    "nindent",
    "replace",
    "repeat",
    "trim",
    "trimAll",
    "trimSuffix",
    "trimPrefix",
    "int",
    "float64",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "addf",
    "subf",
    "mulf",
    "divf",
    "max",
    "min",
    "maxf",
    "minf",
    "ceil",
    "floor",
    "round",
    "fromJson",
    "date",
    "toDate",
    "now",
    "unixEpoch",
    "default",
    "__line__",
    "__timestamp__",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "and",
    "or",
    "not",
    "printf",
    "print",
    "println",
    "len",
    "index",
];

/// A text that a function makes may be this long.
const TEXT_BYTES_MAX: usize = 1 << 20;

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn call(name: &str, arguments: &[Value], line: &Line<'_>) -> Result<Value, String> {
    match name {
        "__line__" => return Ok(Value::Text(line.text.clone().into_owned())),
        // A query answers the same each time: "now" is the time of the line.
        "__timestamp__" | "now" => return Ok(Value::Time(line.row.timestamp.0)),
        _ => {}
    }
    let result = logic(name, arguments)
        .or_else(|| numbers(name, arguments))
        .or_else(|| patterns(name, arguments, line.budget))
        .or_else(|| texts(name, arguments))
        .or_else(|| times(name, arguments))
        .or_else(|| others(name, arguments));
    result
        .unwrap_or_else(|| Err(format!("wrong number of args for {name}: got {}", arguments.len())))
        .map_err(|message| format!("error calling {name}: {message}"))
}

type Outcome = Option<Result<Value, String>>;

fn text(value: &Value) -> String {
    if *value == Value::Nil { String::new() } else { value.to_string() }
}

fn logic(name: &str, arguments: &[Value]) -> Outcome {
    let [first, rest @ ..] = arguments else { return None };
    Some(Ok(match (name, rest) {
        ("eq", [_, ..]) => Value::Bool(rest.iter().any(|other| same(first, other))),
        ("ne", [other]) => Value::Bool(!same(first, other)),
        ("lt", [other]) => Value::Bool(order(first, other).is_lt()),
        ("le", [other]) => Value::Bool(order(first, other).is_le()),
        ("gt", [other]) => Value::Bool(order(first, other).is_gt()),
        ("ge", [other]) => Value::Bool(order(first, other).is_ge()),
        ("and", _) => arguments.iter().find(|value| !value.is_true()).or(arguments.last()).cloned().unwrap_or(Value::Nil),
        ("or", _) => arguments.iter().find(|value| value.is_true()).or(arguments.last()).cloned().unwrap_or(Value::Nil),
        ("not", []) => Value::Bool(!first.is_true()),
        ("default", [value]) => {
            if value.is_true() {
                value.clone()
            } else {
                first.clone()
            }
        }
        _ => return None,
    }))
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

fn same(left: &Value, right: &Value) -> bool {
    if is_number(left) && is_number(right) { left.as_float() == right.as_float() } else { left == right }
}

fn order(left: &Value, right: &Value) -> std::cmp::Ordering {
    if is_number(left) || is_number(right) {
        return left.as_float().total_cmp(&right.as_float());
    }
    text(left).cmp(&text(right))
}

fn numbers(name: &str, arguments: &[Value]) -> Outcome {
    let [first, rest @ ..] = arguments else { return None };
    let ints = || rest.iter().map(Value::as_int);
    let floats = || rest.iter().map(Value::as_float);
    let (int, float) = (first.as_int(), first.as_float());
    Some(Ok(match (name, rest) {
        ("int", []) => Value::Int(int),
        ("float64", []) => Value::Float(float),
        ("add", _) => Value::Int(ints().fold(int, i64::wrapping_add)),
        ("sub", _) => Value::Int(ints().fold(int, i64::wrapping_sub)),
        ("mul", _) => Value::Int(ints().fold(int, i64::wrapping_mul)),
        ("div" | "mod", [by]) if by.as_int() == 0 => return Some(Err("division by zero".to_owned())),
        ("div", [by]) => Value::Int(int.wrapping_div(by.as_int())),
        ("mod", [by]) => Value::Int(int.wrapping_rem(by.as_int())),
        ("max", _) => Value::Int(ints().fold(int, i64::max)),
        ("min", _) => Value::Int(ints().fold(int, i64::min)),
        ("addf", _) => Value::Float(floats().fold(float, |sum, next| sum + next)),
        ("subf", _) => Value::Float(floats().fold(float, |rest, next| rest - next)),
        ("mulf", _) => Value::Float(floats().fold(float, |product, next| product * next)),
        ("divf", _) => Value::Float(floats().fold(float, |quotient, next| quotient / next)),
        ("maxf", _) => Value::Float(floats().fold(float, f64::max)),
        ("minf", _) => Value::Float(floats().fold(float, f64::min)),
        ("ceil", []) => Value::Float(float.ceil()),
        ("floor", []) => Value::Float(float.floor()),
        ("round", [] | [_]) => {
            let factor = 10f64.powi(rest.first().map_or(0, Value::as_int).clamp(-300, 300) as i32);
            Value::Float((float * factor).round() / factor)
        }
        _ => return None,
    }))
}

/// The subject comes last, so that a pipeline can hand it over.
fn texts(name: &str, arguments: &[Value]) -> Outcome {
    let words: Vec<String> = arguments.iter().map(text).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let made = match (name, words.as_slice()) {
        ("lower" | "ToLower", [subject]) => subject.to_lowercase(),
        ("upper" | "ToUpper", [subject]) => subject.to_uppercase(),
        ("title", [subject]) => title(subject),
        ("trim" | "TrimSpace", [subject]) => subject.trim().to_owned(),
        ("Trim", [subject, cut]) | ("trimAll", [cut, subject]) => subject.trim_matches(|c| cut.contains(c)).to_owned(),
        ("TrimLeft", [subject, cut]) => subject.trim_start_matches(|c| cut.contains(c)).to_owned(),
        ("TrimRight", [subject, cut]) => subject.trim_end_matches(|c| cut.contains(c)).to_owned(),
        ("TrimPrefix", [subject, cut]) | ("trimPrefix", [cut, subject]) => {
            subject.strip_prefix(cut).unwrap_or(subject).to_owned()
        }
        ("TrimSuffix", [subject, cut]) | ("trimSuffix", [cut, subject]) => {
            subject.strip_suffix(cut).unwrap_or(subject).to_owned()
        }
        ("Replace", [subject, from, to, _]) => return Some(replace(subject, from, to, arguments[3].as_int())),
        ("replace", [from, to, subject]) => return Some(replace(subject, from, to, -1)),
        ("repeat", [_, subject]) => {
            let count = usize::try_from(arguments[0].as_int()).unwrap_or(0);
            return Some(bounded(|out| out.push_times(subject, count)));
        }
        ("trunc", [_, subject]) => trunc(arguments[0].as_int(), subject),
        ("substr", [_, _, subject]) => substr(arguments[0].as_int(), arguments[1].as_int(), subject),
        ("indent" | "nindent", [_, subject]) => {
            let width = usize::try_from(arguments[0].as_int()).unwrap_or(0).min(1000);
            let start = if name == "nindent" { "\n" } else { "" };
            return Some(bounded(|out| indent(out, start, width, subject)));
        }
        ("alignLeft" | "alignRight", [_, subject]) => align(name == "alignLeft", arguments[0].as_int(), subject),
        ("urlencode", [subject]) => url_encode(subject),
        ("urldecode", [subject]) => return Some(url_decode(subject)),
        ("b64enc", [subject]) => BASE64.encode(subject),
        ("b64dec", [subject]) => match BASE64.decode(subject) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return Some(Err(error.to_string())),
        },
        ("contains", [wanted, subject]) => return Some(Ok(Value::Bool(subject.contains(wanted)))),
        ("hasPrefix", [wanted, subject]) => return Some(Ok(Value::Bool(subject.starts_with(wanted)))),
        ("hasSuffix", [wanted, subject]) => return Some(Ok(Value::Bool(subject.ends_with(wanted)))),
        ("print", _) => return Some(bounded(|out| words.iter().try_for_each(|word| out.push_str(word)))),
        ("println", _) => return Some(bounded(|out| println(out, &words))),
        ("printf", [format, ..]) => return Some(bounded(|out| printf(out, format, &arguments[1..]))),
        _ => return None,
    };
    // What is left above makes no more than a few bytes of one.
    Some(bounded(|out| out.push_str(&made)))
}

/// Runs what makes a text, up to the limit.
fn bounded(make: impl FnOnce(&mut BoundedText) -> Result<(), TooLong>) -> Result<Value, String> {
    let mut out = BoundedText::new(TEXT_BYTES_MAX);
    make(&mut out)?;
    Ok(Value::Text(out.into_string()))
}

fn println(out: &mut BoundedText, words: &[&str]) -> Result<(), TooLong> {
    for (at, word) in words.iter().enumerate() {
        out.push_str(if at > 0 { " " } else { "" })?;
        out.push_str(word)?;
    }
    out.push('\n')
}

fn indent(out: &mut BoundedText, start: &str, width: usize, subject: &str) -> Result<(), TooLong> {
    out.push_str(start)?;
    for (at, line) in subject.split('\n').enumerate() {
        out.push_str(if at > 0 { "\n" } else { "" })?;
        out.push_times(" ", width)?;
        out.push_str(line)?;
    }
    Ok(())
}

/// Functions of regular expressions. They can take long: each match looks at the budget.
fn patterns(name: &str, arguments: &[Value], budget: &Budget) -> Outcome {
    let stopped = |error: br_std::Error| error.to_string();
    match (name, arguments) {
        ("count", [pattern, subject]) => Some(bounded_regex(&text(pattern), Mode::Part).and_then(|regex| {
            let mut count = 0;
            for _ in regex.captures_iter(&text(subject)) {
                budget.check().map_err(stopped)?;
                count += 1;
            }
            Ok(Value::Int(count))
        })),
        ("regexReplaceAll" | "regexReplaceAllLiteral", [pattern, subject, with]) => {
            let expands = name == "regexReplaceAll";
            Some(bounded_regex(&text(pattern), Mode::Part).and_then(|regex| {
                let (subject, with) = (text(subject), text(with));
                let mut out = BoundedText::new(TEXT_BYTES_MAX);
                let mut at = 0;
                for captures in regex.captures_iter(&subject) {
                    budget.check().map_err(stopped)?;
                    let found = captures.range();
                    out.push_str(&subject[at..found.start])?;
                    if expands {
                        out.push_expanded(&with, &|name| captures.group(name))?;
                    } else {
                        out.push_str(&with)?;
                    }
                    at = found.end;
                }
                out.push_str(&subject[at..])?;
                Ok(Value::Text(out.into_string()))
            }))
        }
        _ => None,
    }
}

fn title(subject: &str) -> String {
    let mut starts = true;
    let raise = |character: char| {
        let raised = if starts { character.to_uppercase().to_string() } else { character.to_string() };
        starts = character.is_whitespace();
        raised
    };
    subject.chars().map(raise).collect()
}

fn replace(subject: &str, from: &str, to: &str, times: i64) -> Result<Value, String> {
    let matches = subject.matches(from).count();
    if matches.saturating_mul(to.len()).saturating_add(subject.len()) > TEXT_BYTES_MAX {
        return Err(TooLong { bytes_max: TEXT_BYTES_MAX }.into());
    }
    let made = usize::try_from(times).map_or_else(|_| subject.replace(from, to), |times| subject.replacen(from, to, times));
    Ok(Value::Text(made))
}

/// A negative length keeps the end.
fn trunc(length: i64, subject: &str) -> String {
    let keep = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
    let skip = if length < 0 { subject.chars().count().saturating_sub(keep) } else { 0 };
    subject.chars().skip(skip).take(keep).collect()
}

fn substr(start: i64, end: i64, subject: &str) -> String {
    let start = usize::try_from(start).unwrap_or(0);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    subject.chars().skip(start).take(end.saturating_sub(start)).collect()
}

fn align(left: bool, width: i64, subject: &str) -> String {
    let width = usize::try_from(width).unwrap_or(0).min(10_000);
    let length = subject.chars().count();
    let pad = " ".repeat(width.saturating_sub(length));
    let cut = |skip: usize| subject.chars().skip(skip).take(width).collect::<String>();
    if left { cut(0) + &pad } else { pad + &cut(length.saturating_sub(width)) }
}

fn url_encode(subject: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    };
    subject.bytes().map(encode).collect()
}

fn url_decode(subject: &str) -> Result<Value, String> {
    let mut bytes = Vec::with_capacity(subject.len());
    let mut rest = subject.bytes().enumerate();
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let code = subject.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(code.ok_or_else(|| format!("invalid URL escape at byte {at}"))?);
                rest.nth(1);
            }
            _ => bytes.push(byte),
        }
    }
    Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The verbs `%s %v %d %f %q %x %t %%` with width, precision, `-` and `0`.
fn printf(out: &mut BoundedText, format: &str, arguments: &[Value]) -> Result<(), TooLong> {
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before)?;
        let flags = after.bytes().take_while(|byte| matches!(byte, b'-' | b'+' | b'0'..=b'9' | b'.' | b' ' | b'#')).count();
        let (spec, after) = after.split_at(flags);
        let Some(verb) = after.chars().next() else {
            return out.push_str("%!(NOVERB)");
        };
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            out.push('%')?;
            continue;
        }
        let Some(value) = arguments.next() else {
            out.push_shown(&format_args!("%!{verb}(MISSING)"))?;
            continue;
        };
        let (width, precision) = spec.split_once('.').map_or((spec, None), |(width, precision)| (width, Some(precision)));
        let precision = precision.and_then(|digits| digits.parse::<usize>().ok()).map(|digits| digits.min(100));
        let shown = match verb {
            'd' => value.as_int().to_string(),
            'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), value.as_float()),
            'x' => format!("{:x}", value.as_int()),
            'q' => format!("{:?}", text(value)),
            _ => precision.map_or_else(|| text(value), |length| text(value).chars().take(length).collect()),
        };
        let left = width.contains('-');
        let zero = width.starts_with('0') && !left;
        let width = width.trim_start_matches(['-', '+', ' ', '#', '0']).parse::<usize>().unwrap_or(0).min(1000);
        let missing = width.saturating_sub(shown.chars().count());
        if !left {
            out.push_times(if zero { "0" } else { " " }, missing)?;
        }
        out.push_str(&shown)?;
        if left {
            out.push_times(" ", missing)?;
        }
    }
    out.push_str(rest)
}

fn times(name: &str, arguments: &[Value]) -> Outcome {
    let nanos = |value: &Value| if let Value::Time(nanos) = value { *nanos } else { value.as_int() };
    Some(match (name, arguments) {
        ("unixEpoch", [time]) => Ok(Value::Text(nanos(time).div_euclid(1_000_000_000).to_string())),
        ("unixEpochMillis", [time]) => Ok(Value::Text(nanos(time).div_euclid(1_000_000).to_string())),
        ("unixEpochNanos", [time]) => Ok(Value::Text(nanos(time).to_string())),
        ("unixToTime", [time]) => unix_to_time(&text(time)),
        ("date", [layout, time]) => date(&text(layout), nanos(time)),
        ("toDate", [layout, time]) => to_date(&text(layout), "UTC", &text(time)),
        ("toDateInZone", [layout, zone, time]) => to_date(&text(layout), &text(zone), &text(time)),
        ("duration" | "duration_seconds", [subject]) => units::go_duration_nanos(&text(subject))
            .map(|nanos| Value::Float(nanos as f64 / 1e9))
            .ok_or_else(|| format!("invalid duration {:?}", text(subject))),
        _ => return None,
    })
}

/// Days, seconds, milliseconds, microseconds or nanoseconds, told apart by the number of digits.
fn unix_to_time(subject: &str) -> Result<Value, String> {
    let number: i64 = subject.parse().map_err(|_| format!("unable to parse time {subject:?}"))?;
    let factor = match subject.len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return Err(format!("unable to parse time {subject:?}")),
    };
    Ok(Value::Time(number.saturating_mul(factor)))
}

/// Go's reference layout to strftime, longest pieces first.
const LAYOUT: [(&str, &str); 24] = [
    ("January", "%B"),
    ("Monday", "%A"),
    ("-07:00", "%:z"),
    ("Z07:00", "%:z"),
    (".000000000", ".%9f"),
    (".000000", ".%6f"),
    ("-0700", "%z"),
    ("2006", "%Y"),
    (".000", ".%3f"),
    ("Jan", "%b"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("%", "%%"),
];

fn strftime_of(layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(character) = rest.chars().next() {
        if let Some((piece, code)) = LAYOUT.iter().find(|(piece, _)| rest.starts_with(piece)) {
            out.push_str(code);
            rest = &rest[piece.len()..];
        } else {
            out.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    out
}

fn date(layout: &str, nanos: i64) -> Result<Value, String> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).map_err(|error| error.to_string())?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(strftime_of(layout), &zoned).map(Value::Text).map_err(|error| error.to_string())
}

fn to_date(layout: &str, zone: &str, subject: &str) -> Result<Value, String> {
    let broken = jiff::fmt::strtime::parse(strftime_of(layout), subject).map_err(|error| error.to_string())?;
    let time = if let Ok(time) = broken.to_timestamp() {
        time
    } else {
        let date = broken.to_date().map_err(|error| error.to_string())?;
        let civil = date.to_datetime(broken.to_time().unwrap_or(jiff::civil::Time::midnight()));
        civil.in_tz(zone).map_err(|error| error.to_string())?.timestamp()
    };
    i64::try_from(time.as_nanosecond()).map(Value::Time).map_err(|error| error.to_string())
}

fn others(name: &str, arguments: &[Value]) -> Outcome {
    Some(match (name, arguments) {
        ("bytes", [subject]) => {
            units::bytes(&text(subject)).map(Value::Float).ok_or_else(|| format!("invalid size {:?}", text(subject)))
        }
        ("len", [Value::List(items)]) => Ok(Value::Int(items.len() as i64)),
        ("len", [Value::Map(fields)]) => Ok(Value::Int(fields.len() as i64)),
        ("len", [subject]) => Ok(Value::Int(text(subject).len() as i64)),
        ("index", [Value::List(items), at]) => {
            let item = usize::try_from(at.as_int()).ok().and_then(|at| items.get(at));
            item.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        ("index", [map @ Value::Map(_), key]) => Ok(map.field(&[text(key)])),
        ("fromJson", [subject]) => {
            let subject = text(subject);
            let mut scanner = Scanner::new(&subject);
            json(&mut scanner, 32).map_err(|error| format!("invalid JSON: {error}"))
        }
        _ => return None,
    })
}

fn json(scanner: &mut Scanner<'_>, depth_left: usize) -> Result<Value, String> {
    let depth_left = depth_left.checked_sub(1).ok_or("nested too deep")?;
    let mut wrong = None;
    let value = match scanner.blank() {
        Some(b'{') => {
            let mut fields = Vec::new();
            let result = scanner.object(|scanner, key| {
                match json(scanner, depth_left) {
                    Ok(value) => fields.push((key.into_owned(), value)),
                    Err(message) => wrong = Some(message),
                }
                Ok(())
            });
            result.map_err(|error| error.to_string())?;
            fields.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Map(fields)
        }
        Some(b'[') => {
            let mut items = Vec::new();
            let result = scanner.array(|scanner, _| {
                match json(scanner, depth_left) {
                    Ok(value) => items.push(value),
                    Err(message) => wrong = Some(message),
                }
                Ok(())
            });
            result.map_err(|error| error.to_string())?;
            Value::List(items)
        }
        Some(b'"') => Value::Text(scanner.string().map_err(|error| error.to_string())?.into_owned()),
        _ => match scanner.skip().map_err(|error| error.to_string())? {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Nil,
            number => Value::Float(number.parse().unwrap_or(0.0)),
        },
    };
    wrong.map_or(Ok(value), Err)
}
