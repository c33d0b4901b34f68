//! One name across signals: `service.name` in a trace is `service_name` in LogQL, SQL and metrics.

/// The label or column name for an attribute key: characters outside `[a-zA-Z0-9_]` become `_`, a leading digit gets one in front.
pub fn label_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 1);
    if key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        name.push('_');
    }
    name.extend(key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }));
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn dots_become_underscores() {
        assert_eq!(super::label_name("service.name"), "service_name");
        assert_eq!(super::label_name("2xx-count"), "_2xx_count");
    }
}
