//! Where the statements of a text end, and with which words one begins: without reading them any further.

/// The statements between semicolons, without those that are empty. Semicolons inside of quotes and comments are none.
pub fn split(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let (mut statements, mut from, mut at, mut is_blank) = (Vec::new(), 0, 0, true);
    while at < bytes.len() {
        let end = skip_comment(bytes, at);
        if end > at {
            at = end;
            continue;
        }
        if bytes[at] == b';' {
            if !is_blank {
                statements.push(&sql[from..at]);
            }
            (from, is_blank) = (at + 1, true);
            at += 1;
            continue;
        }
        is_blank &= bytes[at].is_ascii_whitespace();
        at = skip_token(bytes, at);
    }
    if !is_blank {
        statements.push(&sql[from..]);
    }
    statements
}

/// The first words, numbers and quoted names of a statement, in lower case where they are not quoted; other signs are left out.
pub fn words(sql: &str, count: usize) -> Vec<String> {
    let bytes = sql.as_bytes();
    let (mut words, mut at) = (Vec::new(), 0);
    while at < bytes.len() && words.len() < count {
        let end = skip_comment(bytes, at);
        if end > at {
            at = end;
            continue;
        }
        let end = skip_token(bytes, at);
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let quoted = sql[at..end].strip_prefix(char::from(quote)).unwrap_or_default();
                let quoted = quoted.strip_suffix(char::from(quote)).unwrap_or(quoted);
                let quote = char::from(quote);
                words.push(quoted.replace(&format!("{quote}{quote}"), &quote.to_string()));
            }
            first if is_word(first) || first == b'*' => words.push(sql[at..end].to_lowercase()),
            _ => {}
        }
        at = end;
    }
    words
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || byte >= 0x80
}

/// The end of the comment that begins here, or here when none does.
fn skip_comment(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"--") {
        return rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |line| at + line + 1);
    }
    if !rest.starts_with(b"/*") {
        return at;
    }
    let (mut depth, mut end) = (0_usize, at);
    while end < bytes.len() {
        if bytes[end..].starts_with(b"/*") {
            depth += 1;
            end += 2;
        } else if bytes[end..].starts_with(b"*/") {
            depth -= 1;
            end += 2;
            if depth == 0 {
                return end;
            }
        } else {
            end += 1;
        }
    }
    bytes.len()
}

/// The end of the quote, word or sign that begins here: always at a boundary of characters.
fn skip_token(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        quote @ (b'\'' | b'"') => skip_quote(bytes, at, quote, false),
        b'e' | b'E' if bytes.get(at + 1) == Some(&b'\'') => skip_quote(bytes, at + 1, b'\'', true),
        b'$' => skip_dollars(bytes, at),
        byte if is_word(byte) => bytes[at..].iter().position(|byte| !is_word(*byte)).map_or(bytes.len(), |length| at + length),
        _ => at + 1,
    }
}

fn skip_quote(bytes: &[u8], from: usize, quote: u8, has_backslashes: bool) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        if has_backslashes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

/// `$tag$ … $tag$`; a `$1` is no quote.
fn skip_dollars(bytes: &[u8], at: usize) -> usize {
    let Some(length) = bytes[at + 1..].iter().position(|byte| !is_word(*byte)) else { return at + 1 };
    let tag_end = at + 1 + length;
    if bytes[tag_end] != b'$' || bytes[at + 1].is_ascii_digit() {
        return at + 1;
    }
    let tag = &bytes[at..=tag_end];
    memchr::memmem::find(&bytes[tag_end + 1..], tag).map_or(bytes.len(), |found| tag_end + 1 + found + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        let check = |sql: &str, expect: &[&str]| assert_eq!(split(sql), expect, "{sql}");
        check("", &[]);
        check(" ; /* ; */ ; -- ;", &[]);
        check("BEGIN; SELECT 1;", &["BEGIN", " SELECT 1"]);
        check("SELECT ';', \"a;b\" ; SELECT 'it''s;'", &["SELECT ';', \"a;b\" ", " SELECT 'it''s;'"]);
        check(r"SELECT E'\';' ; x", &[r"SELECT E'\';' ", " x"]);
        check(r"SELECT '\'; x", &[r"SELECT '\'", " x"]);
        check("SELECT $a$;$b$;$a$; SELECT $1; y", &["SELECT $a$;$b$;$a$", " SELECT $1", " y"]);
        check("SELECT /* a /* ; */ ; */ 1; é;", &["SELECT /* a /* ; */ ; */ 1", " é"]);
        check("SELECT 'open; x", &["SELECT 'open; x"]);
    }

    #[test]
    fn the_first_words_are_read() {
        assert_eq!(words("/* hi */ DeAllocate \"My \"\"Name\"", 3), ["deallocate", "My \"Name"]);
        assert_eq!(words("SET extra_float_digits = 3", 3), ["set", "extra_float_digits", "3"]);
        assert_eq!(words("DISCARD ALL", 9), ["discard", "all"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(sql in "[a-z'\"$;\\-/*\\\\é1 \n]{0,40}") {
            let _ = (split(&sql), words(&sql, 5));
        }
    }
}
