//! The name and labels at the start of a line.

use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_promql::ExprKind;
use br_storage::MatchOp;

/// The labels, and what follows them. `None` when the line starts with no series, such as one with a bare number.
pub fn split(line: &str) -> Result<Option<(Labels, &str)>, String> {
    let name_length = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(line.len());
    let starts_like_name = line.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':' | '{'));
    if !starts_like_name {
        return Ok(None);
    }
    let name = &line[..name_length];
    let after_blanks = line[name_length..].trim_start();
    if !after_blanks.starts_with('{') || after_blanks.starts_with("{{") {
        return Ok(Some((Labels::from_pairs([(METRIC_NAME, name)]), &line[name_length..])));
    }
    let length = braces(after_blanks)?;
    let (selector, rest) = after_blanks.split_at(length);
    // Words of the language may be names here: in quotes they are.
    let inner = selector[1..].trim_start();
    if inner == "}" {
        return Ok(Some((Labels::from_pairs([(METRIC_NAME, name)]), rest)));
    }
    let quoted = if name.is_empty() { format!("{{{inner}") } else { format!("{{\"{name}\",{inner}") };
    let expr = br_promql::parse(&quoted).map_err(|errors| format!("{name}{selector}: {errors}"))?;
    let ExprKind::Vector(vector) = expr.kind else {
        return Ok(None);
    };
    if let Some(matcher) = vector.matchers.iter().find(|matcher| matcher.op != MatchOp::Equal) {
        return Err(format!("{name}{selector}: a series has labels with =, not {}", matcher.op.as_str()));
    }
    let pairs = vector.matchers.iter().map(|matcher| (matcher.name.as_str(), matcher.value.as_str()));
    Ok(Some((Labels::from_pairs(pairs), rest)))
}

/// The length of a text in braces, which may have quoted parts.
fn braces(text: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(open) if character == open => quote = None,
            Some(open) => is_escaped = character == '\\' && open != '`',
            None if matches!(character, '"' | '\'' | '`') => quote = Some(character),
            None if character == '}' => return Ok(at + 1),
            None => {}
        }
    }
    Err(format!("no closing brace: {text}"))
}
