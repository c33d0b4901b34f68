//! Random documents: every value that is planted is found, and nothing of what only looks like one.

use br_redact::{Redactor, Shape};
use proptest::prelude::*;

fn luhn_digit(digits: &str) -> char {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            match at % 2 {
                0 if digit > 4 => 2 * digit - 9,
                0 => 2 * digit,
                _ => digit,
            }
        })
        .sum();
    char::from_digit((10 - sum % 10) % 10, 10).expect("a digit")
}

fn card() -> impl Strategy<Value = String> {
    let ranges = prop_oneof![
        Just(("4", 15)),
        Just(("51", 15)),
        Just(("2720", 15)),
        Just(("34", 14)),
        Just(("6011", 15)),
        Just(("3530", 15))
    ];
    (ranges, "[0-9]{15}", 0..3usize).prop_map(|((range, length), digits, form)| {
        let mut number = format!("{range}{digits}");
        number.truncate(length);
        number.push(luhn_digit(&number));
        let groups = if length == 14 { [4, 10, 15] } else { [4, 8, 12] };
        let sign = ["", " ", "-"][form];
        let mut out = String::new();
        for (at, digit) in number.chars().enumerate() {
            if groups.contains(&at) && at < number.len() {
                out.push_str(sign);
            }
            out.push(digit);
        }
        out
    })
}

fn iban() -> impl Strategy<Value = String> {
    ("[0-9]{18}", any::<bool>()).prop_map(|(digits, is_grouped)| {
        // D is 13 and E is 14.
        let number: u128 = format!("{digits}131400").parse().expect("a number");
        let iban = format!("DE{:02}{digits}", 98 - number % 97);
        if !is_grouped {
            return iban;
        }
        iban.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect::<Vec<_>>().join(" ")
    })
}

/// A value, with what stands around it.
fn planted() -> impl Strategy<Value = (String, String)> {
    let bare = |value: String| (value.clone(), value);
    prop_oneof![
        card().prop_map(bare),
        iban().prop_map(bare),
        "[a-z][a-z0-9._+]{0,12}[a-z0-9]@[a-z][a-z0-9-]{0,10}[a-z]\\.(com|org|co\\.uk|berlin)".prop_map(bare),
        "[A-Za-z0-9]{35}[0-9]".prop_map(|token| (format!("ghp_{token}"), format!("ghp_{token}"))),
        "[A-Z0-9]{15}[0-9]".prop_map(|key| (format!("AKIA{key}"), format!("AKIA{key}"))),
        ("[A-Za-z0-9_-]{20}", "[A-Za-z0-9_-]{40}").prop_map(|(claims, mac)| {
            let token = format!("eyJhbGciOiJIUzI1NiJ9.eyJ{claims}.{mac}");
            (token.clone(), token)
        }),
        "[A-Za-z0-9!#^*_~.+/-]{6,20}[0-9a-z]".prop_map(|value| (value.clone(), format!("password={value}"))),
        "[A-Za-z0-9]{8,20}[0-9]".prop_map(|value| (value.clone(), format!("{{\"api_key\": \"{value}\"}}"))),
        "[A-Za-z0-9%_.-]{5,16}7".prop_map(|value| (value.clone(), format!("postgres://app:{value}@db:5432/shop"))),
        "[A-Za-z0-9._-]{24,40}[0-9]".prop_map(|value| (value.clone(), format!("Authorization: Bearer {value}"))),
    ]
}

fn harmless() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{32}",
        "[0-9a-f]{40}",
        "[0-9a-f]{64}",
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
        "(trace_id|span_id|order_id|request-id)=[0-9]{12,19}",
        "(orderId|offset|timeUnixNano): \"?[0-9]{12,19}",
        "1[67][0-9]{8}(\\.[0-9]{3,9})?",
        "1[67][0-9]{11}",
        "1[67][0-9]{17}",
        "20[0-9]{2}-0[1-9]-1[0-9]T1[0-9]:[0-5][0-9]:[0-5][0-9]\\.[0-9]{3,9}Z",
        "0\\.[0-9]{16,18}",
        "ORD-[0-9]{4}-[0-9]{6}",
        "v?[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}",
        "10\\.[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}:[0-9]{4}",
        // Padded behind a letter that ends no name of a secret: `…aPw= text` reads as one, and is masked rather than let through.
        "[A-Za-z0-9+/]{19,59}([A-Za-z0-9+/]|[AIMQU]==?)",
        "/api/v[0-9]/[a-z]{3,8}/[0-9]{1,6}\\?page=[0-9]{1,3}",
        "(tokens|token_count|max_tokens|monkey|author|next_page_token)=[0-9a-z]{1,6}",
        "(password|token)=(%s|\\{\\}|\\*\\*\\*|true|None)",
        "[a-z]{2,8}@[0-9a-z]{2,8} ",
        "[A-Za-z]{2,12}[,.]?",
        "(größe|naïve|日本|😀)",
    ]
}

fn document() -> impl Strategy<Value = (Vec<String>, String)> {
    let part =
        prop_oneof![2 => harmless().prop_map(|text| (None, text)), 1 => planted().prop_map(|(value, text)| (Some(value), text))];
    prop::collection::vec(part, 1..12).prop_map(|parts| {
        let values = parts.iter().filter_map(|(value, _)| value.clone()).collect();
        (values, parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" | "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_planted_is_found((values, text) in document()) {
        let redactor = Redactor::default();
        let masked = redactor.redact(text.as_bytes(), Shape::Text);
        let masked = String::from_utf8(masked.body.unwrap_or_else(|| text.clone().into_bytes())).expect("UTF-8");
        prop_assert_eq!(masked.len(), text.len());
        for value in &values {
            prop_assert!(!masked.contains(value.as_str()), "{} in {}", value, masked);
        }
        // In JSON, with every letter escaped that may be.
        let escaped: String = text.chars().map(|letter| match letter {
            '@' | '/' | ':' | '=' => format!("\\u{:04x}", letter as u32),
            '"' => "\\\"".to_owned(),
            other => other.to_string(),
        }).collect();
        let body = format!("{{\"a\":[\"{escaped}\",1]}}");
        let masked = redactor.redact(body.as_bytes(), Shape::Json).body.unwrap_or_else(|| body.clone().into_bytes());
        let value: serde_json::Value = serde_json::from_slice(&masked).expect("still JSON");
        let text = value["a"][0].as_str().expect("a text");
        for value in &values {
            prop_assert!(!text.contains(value.as_str()), "{} in {}", value, text);
        }
    }

    #[test]
    fn what_is_harmless_is_left(parts in prop::collection::vec(harmless(), 1..20)) {
        let text = parts.join(" ");
        let redacted = Redactor::default().redact(text.as_bytes(), Shape::Text);
        prop_assert_eq!(redacted.body.map(|body| String::from_utf8_lossy(&body).into_owned()), None, "{:?}", redacted.counts);
    }

    /// Whatever comes: no panic, no other length, UTF-8 stays UTF-8, and a second look finds nothing new.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"0123456789abc@.:=\"\\{}[],\n-+ password"[..])], 0..400)) {
        let redactor = Redactor::default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(masked) = redactor.redact(text.as_bytes(), Shape::Text).body {
            prop_assert_eq!(masked.len(), text.len());
            prop_assert!(String::from_utf8(masked).is_ok());
        }
        for shape in [Shape::OtlpLogs, Shape::OtlpMetrics, Shape::RemoteWrite2, Shape::JaegerThrift, Shape::Json, Shape::SentryEnvelope, Shape::ZipkinProtobuf] {
            if let Some(masked) = redactor.redact(&bytes, shape).body {
                prop_assert_eq!(masked.len(), bytes.len());
            }
        }
    }
}
