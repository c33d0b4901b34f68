//! Go's `printf` for the values that templates have.

use super::{Value, numbers};

/// A width or precision may be this large.
const WIDTH_MAX: usize = 1000;

/// `print` and `println`: the first sets a space between operands when neither is text, the second always.
pub(super) fn print(values: &[Value], is_line: bool) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::String(_));
        if at > 0 && (is_line || !(is_text(value) || is_text(&values[at - 1]))) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    if is_line {
        out.push('\n');
    }
    out
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// An argument that does not fit its verb is shown as Go shows it: `%!d(string=hi)`.
pub(super) fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = characters.next_if(|flag| "-+# 0".contains(*flag)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        spec.width = count(&mut characters, &mut arguments)?;
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(count(&mut characters, &mut arguments)?.unwrap_or(0));
        }
        match characters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.next() {
                Some(argument) => out.push_str(&pad(&spec, argument, verb)),
                None => out.extend(["%!", &verb.to_string(), "(MISSING)"]),
            },
        }
        if out.len() > super::OUTPUT_BYTES_MAX {
            return Err("the text is too long".to_owned());
        }
    }
    let extra: Vec<String> = arguments.map(|value| format!("{}={value}", value.type_name())).collect();
    if !extra.is_empty() {
        out.extend(["%!(EXTRA ", &extra.join(", "), ")"]);
    }
    Ok(out)
}

/// A width or precision: digits, or `*` for the next argument.
fn count<'a>(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &mut impl Iterator<Item = &'a Value>,
) -> Result<Option<usize>, String> {
    let count = if characters.next_if_eq(&'*').is_some() {
        match arguments.next() {
            Some(Value::Int(count)) => usize::try_from(*count).ok(),
            _ => return Err("%!(BADWIDTH)".to_owned()),
        }
    } else {
        let mut count = None;
        while let Some(digit) = characters.next_if(char::is_ascii_digit) {
            let digit = digit.to_digit(10).unwrap_or(0) as usize;
            count = Some(count.unwrap_or(0usize).saturating_mul(10).saturating_add(digit));
        }
        count
    };
    match count {
        Some(count) if count > WIDTH_MAX => Err(format!("a width of {count} is more than {WIDTH_MAX}")),
        count => Ok(count),
    }
}

fn pad(spec: &Spec, argument: &Value, verb: char) -> String {
    let body = body(spec, argument, verb).unwrap_or_else(|| format!("%!{verb}({}={argument})", argument.type_name()));
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(body.chars().count())) else { return body };
    if spec.minus {
        return format!("{body}{}", " ".repeat(missing));
    }
    let is_number = matches!(argument, Value::Int(_) | Value::Float(_));
    if spec.zero && is_number {
        let (sign, digits) = body.split_at(usize::from(body.starts_with(['+', '-', ' '])));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{body}", " ".repeat(missing))
}

/// `None` when the verb is not for this value.
fn body(spec: &Spec, argument: &Value, verb: char) -> Option<String> {
    let text = match (argument, verb) {
        (value, 'T') => value.type_name().to_owned(),
        (Value::String(text), 'v' | 's') => cut(text, spec.precision),
        (Value::String(text), 'q') => format!("{:?}", cut(text, spec.precision)),
        (Value::String(text), 'x' | 'X') => hex(text, verb),
        (Value::Bool(value), 't' | 'v') => value.to_string(),
        (Value::Int(value), 'd' | 'v') => signed(spec, value.to_string()),
        (Value::Int(value), 'x' | 'X' | 'o' | 'b') => radix(spec, *value, verb),
        (Value::Int(value), 'c') => char::from_u32(u32::try_from(*value).ok()?)?.to_string(),
        (Value::Int(value), 'q') => format!("{:?}", char::from_u32(u32::try_from(*value).ok()?)?),
        (Value::Int(value), 'U') => format!("U+{value:04X}"),
        (Value::Float(value), 'f' | 'F') => signed(spec, numbers::fixed(*value, spec.precision.unwrap_or(6))),
        (Value::Float(value), 'e') => signed(spec, numbers::scientific(*value, spec.precision.unwrap_or(6))),
        (Value::Float(value), 'E') => signed(spec, numbers::scientific(*value, spec.precision.unwrap_or(6)).to_uppercase()),
        (Value::Float(value), 'g' | 'v' | 'G') => {
            let text = spec.precision.map_or_else(|| numbers::shortest(*value), |precision| numbers::general(*value, precision));
            signed(spec, if verb == 'G' { text.replace('e', "E") } else { text })
        }
        (Value::Duration(value), 'd') => value.to_string(),
        (Value::List(values), 's' | 'd' | 'f' | 'g' | 'q') => {
            let parts: Vec<String> = values.iter().map(|value| pad(&Spec { ..Spec::default() }, value, verb)).collect();
            format!("[{}]", parts.join(" "))
        }
        (Value::Nil, 'v') => "<nil>".to_owned(),
        (Value::Time(_) | Value::Duration(_) | Value::List(_) | Value::Map(_) | Value::Struct(_), 's' | 'v') => {
            argument.to_string()
        }
        _ => return None,
    };
    Some(text)
}

fn cut(text: &str, precision: Option<usize>) -> String {
    precision.map_or_else(|| text.to_owned(), |precision| text.chars().take(precision).collect())
}

fn signed(spec: &Spec, text: String) -> String {
    if text.starts_with(['-', '+']) {
        return text;
    }
    match (spec.plus, spec.space) {
        (true, _) => format!("+{text}"),
        (false, true) => format!(" {text}"),
        (false, false) => text,
    }
}

fn radix(spec: &Spec, value: i64, verb: char) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    let digits = match verb {
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        'o' => format!("{value:o}"),
        _ => format!("{value:b}"),
    };
    let prefix = match (spec.sharp, verb) {
        (true, 'x') => "0x",
        (true, 'X') => "0X",
        (true, 'o') => "0",
        (true, _) => "0b",
        (false, _) => "",
    };
    format!("{sign}{prefix}{digits}")
}

fn hex(text: &str, verb: char) -> String {
    text.bytes().map(|byte| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") }).collect()
}
