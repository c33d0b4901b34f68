//! The name and labels at the start of a line.

use br_model::Labels;
use br_promql::ExprKind;

/// The labels, and what follows them. `None` when the line starts with no series, such as one with a bare number.
pub(super) fn split(line: &str) -> Result<Option<(Labels, &str)>, String> {
    let name_length = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(line.len());
    let starts_like_name = line.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':' | '{'));
    if !starts_like_name {
        return Ok(None);
    }
    let mut end = name_length;
    let after_blanks = line[end..].trim_start();
    if after_blanks.starts_with('{') && !after_blanks.starts_with("{{") {
        let open = line.len() - after_blanks.len();
        end = open + braces(after_blanks)?;
    }
    let selector = &line[..end];
    let rest = &line[end..];
    if selector == "{}" {
        return Ok(Some((Labels::empty(), rest)));
    }
    let expr = br_promql::parse(selector).map_err(|errors| format!("{selector}: {errors}"))?;
    let ExprKind::Vector(vector) = expr.kind else {
        return Ok(None);
    };
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
