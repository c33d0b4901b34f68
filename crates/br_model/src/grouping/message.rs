//! Messages without what varies in them, so that "order 17 failed" and "order 18 failed" are one.
//!
//! Words stay, what a program fills in goes: mail and network addresses, URLs, ids, hashes, dates, durations, numbers, and
//! what is quoted behind an equals sign.

/// Longer messages are told apart by this much of them.
const BYTES_MAX: usize = 2048;
const TOP_LEVEL_DOMAINS: [&str; 10] = ["com", "edu", "gov", "internal", "io", "local", "localdomain", "mil", "net", "org"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const UNITS: [&str; 18] = [
    "d", "day", "days", "h", "hours", "hr", "m", "min", "mins", "minutes", "ms", "ns", "s", "sec", "secs", "seconds", "us", "µs",
];
/// What may stand around a value.
const OPENING: [char; 7] = ['(', '[', '{', '<', '"', '\'', '`'];
const CLOSING: [char; 13] = [')', ']', '}', '>', '"', '\'', '`', ',', ';', ':', '!', '?', '.'];

/// `job <uuid> took <duration>` of `job 6f9619ff-8b86-d011-b42d-00cf4fc964ff took 12.5s`; white space is collapsed.
pub(super) fn parameterised(message: &str) -> String {
    let message = without_quoted_values(cut(message));
    let words: Vec<String> = message.split_whitespace().map(word).collect();
    let is_date_part = |at: usize| words.get(at).is_some_and(|word| word.starts_with("<number>") || word.starts_with("<time>"));
    let mut shown = String::with_capacity(message.len());
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            shown.push(' ');
        }
        let beside_a_number = at > 0 && is_date_part(at - 1) || is_date_part(at + 1);
        let is_date = is_name_of(word, &MONTHS) && beside_a_number || is_name_of(word, &WEEKDAYS) && is_date_part(at + 1);
        shown.push_str(if is_date { "<date>" } else { word });
    }
    shown
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(BYTES_MAX)]
}

/// `name=<quoted>` for `name='Ann Lee'`.
fn without_quoted_values(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("='").into_iter().chain(rest.find("=\"")).min() {
        let (before, from_quote) = rest.split_at(at + 1);
        let quote = &from_quote[..1];
        let Some(end) = from_quote[1..].find(quote) else { break };
        shown.push_str(before);
        shown.push_str("<quoted>");
        rest = &from_quote[end + 2..];
    }
    shown.push_str(rest);
    shown
}

/// `Nov`, `November`, `Thu,`: with a capital, or it is a word like any other.
fn is_name_of(word: &str, names: &[&str]) -> bool {
    let word = word.trim_end_matches([',', '.']);
    let is_capital = word.starts_with(|first: char| first.is_ascii_uppercase()) && word.is_ascii();
    is_capital && word.len() >= 3 && names.contains(&word[..3].to_ascii_lowercase().as_str())
}

/// One word, with the punctuation around it left alone.
fn word(word: &str) -> String {
    let start = word.len() - word.trim_start_matches(OPENING).len();
    let inner = word[start..].trim_end_matches(CLOSING);
    let (before, after) = (&word[..start], &word[start + inner.len()..]);
    let core = match inner.split_once('=') {
        Some((key, value)) if !key.is_empty() && !inner.contains("://") => {
            let key = pieces(key);
            if value == "<quoted" { format!("{key}={value}") } else { format!("{key}={}", value_word(value)) }
        }
        _ => value(inner),
    };
    format!("{before}{core}{after}")
}

/// The value of `key=value`.
fn value_word(text: &str) -> String {
    if ["true", "false"].contains(&text.to_ascii_lowercase().as_str()) { "<bool>".to_owned() } else { word(text) }
}

/// What is shown for a value, and how it is known.
type ValueKind = (&'static str, fn(&str) -> bool);

fn value(text: &str) -> String {
    let kinds: [ValueKind; 9] = [
        ("<email>", is_email),
        ("<url>", is_url),
        ("<traceparent>", is_traceparent),
        ("<uuid>", is_uuid),
        ("<ip>", is_ip),
        ("<time>", is_time),
        ("<hex>", is_hex),
        ("<duration>", is_duration),
        ("<number>", is_number),
    ];
    match kinds.iter().find(|(_, is_kind)| is_kind(text)) {
        Some((shown, _)) => (*shown).to_owned(),
        None if is_host(text) => "<host>".to_owned(),
        None => pieces(text),
    }
}

/// Replaces the parts of a word that are values by themselves: `/orders/8812/items` is `/orders/<number>/items`.
fn pieces(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (piece, behind) = rest.split_at(run);
        shown.push_str(match piece {
            _ if is_uuid(rest.get(..36).unwrap_or_default()) => "<uuid>",
            _ if is_number(piece) => "<number>",
            _ if is_hex(piece) => "<hex>",
            _ if is_duration(piece) => "<duration>",
            _ if is_id(piece) => "<id>",
            _ => piece,
        });
        let behind = if is_uuid(rest.get(..36).unwrap_or_default()) { &rest[36..] } else { behind };
        let separator = behind.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&behind[..separator]);
        rest = &behind[separator..];
    }
    shown
}

/// Letters and digits mixed as no word mixes them; short ones such as `utf8` and `E1101` are words.
fn is_id(piece: &str) -> bool {
    let has_digit = piece.bytes().any(|byte| byte.is_ascii_digit());
    has_digit && (piece.starts_with(|first: char| first.is_ascii_digit()) || piece.len() >= 8)
}

fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else { return false };
    !name.is_empty()
        && host.contains('.')
        && host.chars().all(|character| character.is_alphanumeric() || "-.".contains(character))
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        !rest.is_empty() && scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn is_traceparent(text: &str) -> bool {
    has_hex_groups(text, &[2, 32, 16, 2])
}

fn is_uuid(text: &str) -> bool {
    has_hex_groups(text, &[8, 4, 4, 4, 12])
}

fn has_hex_groups(text: &str, lengths: &[usize]) -> bool {
    let mut groups = text.split('-');
    let is_group = |length: &usize| {
        groups.next().is_some_and(|group| group.len() == *length && group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    lengths.iter().all(is_group) && groups.next().is_none()
}

/// With a port or a prefix length behind it, or without.
fn is_ip(text: &str) -> bool {
    let bare = text.split('/').next().unwrap_or(text).trim_start_matches('[');
    let (before_port, port) = bare.rsplit_once(':').unwrap_or((bare, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port && before_port.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let six = if is_port { before_port.trim_end_matches(']') } else { bare };
    let is_six = |text: &str| text.matches(':').count() >= 2 && text.parse::<std::net::Ipv6Addr>().is_ok();
    is_six(bare) || is_six(six)
}

/// `2026-11-20T10:00:01Z`, `2026-11-20`, `10:00:01.5`, `20/Nov/2026:10:00:01`: digits in groups of at most four.
fn is_time(text: &str) -> bool {
    let separators = text.bytes().filter(|byte| b":-/".contains(byte)).count();
    let starts = text.starts_with(|first: char| first.is_ascii_digit());
    let ends = text.ends_with(|last: char| last.is_ascii_digit() || last == 'Z');
    if separators < 2 || !starts || !ends {
        return false;
    }
    let is_part = |part: &str| {
        let is_month = part.len() == 3 && MONTHS.contains(&part.to_ascii_lowercase().as_str());
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) || is_month
    };
    let parts: Vec<&str> = text.trim_end_matches('Z').split([':', '-', '/', 'T', '.', '+', ',', ' ']).collect();
    parts.len() <= 9 && parts.iter().all(|part| is_part(part)) && parts.iter().take(3).all(|part| part.len() <= 4)
}

/// `0x7f3a`, or eight hexadecimal digits of one case and more with a decimal one and a letter among them.
fn is_hex(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    let is_one_case = !text.bytes().any(|byte| byte.is_ascii_uppercase()) || !text.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_sha = text.len() >= 7 && text.bytes().any(|byte| byte.is_ascii_digit()) && !is_number(text);
    is_sha && is_one_case && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `12.5s`, `2h30m`
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.').len();
        let behind = &rest[digits..];
        let unit = behind.len() - behind.trim_start_matches(char::is_alphabetic).len();
        if !rest.starts_with(|first: char| first.is_ascii_digit()) || !UNITS.contains(&&behind[..unit]) {
            return false;
        }
        rest = &behind[unit..];
    }
    !text.is_empty()
}

/// `-3`, `1e-5`, `1,234.50`, `5%`
fn is_number(text: &str) -> bool {
    let unsigned = text.trim_start_matches(['-', '+', '#', '$', '€', '£']).trim_end_matches('%');
    let plain = unsigned.replace([',', '_'], "");
    unsigned.starts_with(|first: char| first.is_ascii_digit()) && plain.parse::<f64>().is_ok()
}

/// A name of two labels and more whose last is a customary top-level domain, with a port or without. A module path looks alike.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let has_domain = name.rsplit_once('.').is_some_and(|(_, domain)| TOP_LEVEL_DOMAINS.contains(&domain));
    is_port && has_domain && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expect: &str) {
        assert_eq!(parameterised(message), expect, "{message}");
        assert_eq!(parameterised(expect), expect, "what was replaced stays");
    }

    #[test]
    fn values_become_their_kind() {
        check(
            "job 6f9619ff-8b86-d011-b42d-00cf4fc964ff took 12.5s on 10.0.0.1 at 2026-11-20T10:00:01Z",
            "job <uuid> took <duration> on <ip> at <time>",
        );
        check("mail to ann@example.com, bob@x.org.", "mail to <email>, <email>.");
        check("GET https://x.example/a?b=1 failed: 503", "GET <url> failed: <number>");
        check("db-1.internal.example.com:5432 refused", "<host> refused");
        check("at [2001:db8::1]:8080 and ::1 and 10.0.0.0/8", "at [<ip> and <ip> and <ip>");
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "<traceparent>");
        check("object at 0x7f3a2b <Foo at 0xdeadbeef>", "object at <hex> <Foo at <hex>>");
        check("commit 3f2a1bc in d41d8cd98f00b204e9800998ecf8427e", "commit <hex> in <hex>");
        check("-3 of 1,234.50 EUR (5%) after 2h30m, 1e-5", "<number> of <number> EUR (<number>) after <duration>, <number>");
        check("key='Ann Lee' ok=true n=7 who=ann", "key=<quoted> ok=<bool> n=<number> who=ann");
        check("Key (email)=(ann@example.com) already exists.", "Key (email)=(<email>) already exists.");
        check("/orders/8812/items/u-1eef order_17", "/orders/<number>/items/u-<id> order_<number>");
        check("/jobs/6f9619ff-8b86-d011-b42d-00cf4fc964ff/log", "/jobs/<uuid>/log");
    }

    #[test]
    fn dates_of_all_kinds() {
        check("at Thu, 26 Nov 2026 10:00:01 GMT", "at <date> <number> <date> <number> <time> GMT");
        check("[20/Nov/2026:10:00:01 +0000]", "[<time> <number>]");
        check("since 2026-11-20 10:00:01,500", "since <time> <time>");
        check("You may go. March on!", "You may go. March on!");
    }

    #[test]
    fn words_stay() {
        for message in
            ["could not open socket", "utf8 sha256 http2 E1101", "shop.pay.charge", "user %s failed to pay %(sum)s", "", "é ü"]
        {
            check(message, message);
        }
        assert_ne!(parameterised("could not open socket 17"), parameterised("could not close socket 17"));
        assert_eq!(parameterised("a\n  b\t c"), "a b c");
    }

    #[test]
    fn long_and_hostile_messages() {
        let long = "é".repeat(5000);
        assert!(parameterised(&long).len() <= BYTES_MAX);
        for message in ["='", "=\"\"", "a='b", "::::", "0x", "%", "12é", "é12", "-", "2026-é-20", "[[[]]]", "<quoted>", "1::2=é"]
        {
            parameterised(message);
        }
    }
}
