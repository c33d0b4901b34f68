//! Whole bodies: what is found in them, and that all around it stays as it was.

use br_redact::{Action, Exception, Pattern, Policy, Redacted, Redactor, Shape};
use serde_json::{Value, json};

fn redact(redactor: &Redactor, body: &[u8], shape: Shape) -> Redacted {
    let redacted = redactor.redact(body, shape);
    if let Some(masked) = &redacted.body {
        assert_eq!(masked.len(), body.len());
        let again = redactor.redact(masked, shape);
        assert_eq!(again.body, None, "what is masked stays as it is: {}", String::from_utf8_lossy(masked));
    }
    redacted
}

fn json(redactor: &Redactor, value: &Value) -> (Value, Vec<(String, u64)>) {
    let body = value.to_string();
    let redacted = redact(redactor, body.as_bytes(), Shape::Json);
    let masked = redacted.body.unwrap_or(body.into_bytes());
    (serde_json::from_slice(&masked).expect("still JSON"), redacted.counts)
}

fn names(counts: &[(String, u64)]) -> Vec<(&str, u64)> {
    counts.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

#[test]
fn json_stays_json_whatever_stands_in_it() {
    let redactor = Redactor::default();
    let event = json!({
        "event_id": "9ec79c33ec9942ab8353589fcb2e04dc",
        "message": "login of ann@example.com failed",
        "request": { "headers": [["Authorization", "Basic YW5uOnNlc2FtZQ=="], ["Host", "shop"]], "cookies": "sessionid=abc",
                     "query_string": "page=2&token=tok-4711-17" },
        "vars": { "password": "'hunter2'", "retries": 3, "dsn": "'postgres://app:pg-pw@db:5432/shop'", "user_id": 4111111111111111_u64 },
        "number": 4111111111111111_u64,
        "price": 19.99,
        "attributes": [{ "key": "api.key", "value": { "stringValue": "k-1" } }, { "value": { "stringValue": "k-2" }, "key": "x-api-key" },
                       { "key": "card", "value": { "intValue": "4111111111111111" } }],
    });
    let (masked, counts) = json(&redactor, &event);
    let expect = json!({
        "event_id": "9ec79c33ec9942ab8353589fcb2e04dc",
        "message": "login of [email********] failed",
        "request": { "headers": [["Authorization", "[authorization*******]"], ["Host", "shop"]], "cookies": "*************",
                     "query_string": "page=2&token=[key_name*]" },
        "vars": { "password": "*********", "retries": 3, "dsn": "'postgres://app:*****@db:5432/shop'", "user_id": 4111111111111111_u64 },
        "number": 1000000000000000_u64,
        "price": 19.99,
        "attributes": [{ "key": "api.key", "value": { "stringValue": "***" } }, { "value": { "stringValue": "***" }, "key": "x-api-key" },
                       { "key": "card", "value": { "intValue": "1000000000000000" } }],
    });
    assert_eq!(masked, expect);
    assert_eq!(names(&counts), [("card", 2), ("email", 1), ("authorization", 2), ("url_password", 1), ("key_name", 4)]);
}

#[test]
fn escapes_hide_nothing() {
    let redactor = Redactor::default();
    for body in [
        r#"{"m":"ann\u0040example.com"}"#,
        r#"{"m":"\u0061\u006e\u006e@example.com"}"#,
        r#"{"m":"{\"password\":\"hunter2\"}"}"#,
        r#"{"m":"4111\u00201111\u00201111\u00201111"}"#,
        r#"{"m":"-----BEGIN PRIVATE KEY-----\nMIIE\/vQ=\n-----END PRIVATE KEY-----"}"#,
        r#"{"m":"\ud83d\ude00 password=hunter2"}"#,
    ] {
        let masked = redact(&redactor, body.as_bytes(), Shape::Json).body.expect(body);
        let text = String::from_utf8(masked).expect("UTF-8");
        let value: Value = serde_json::from_str(&text).expect("still JSON");
        let message = value["m"].as_str().expect("a text");
        assert!(["ann", "hunter2", "1111", "MIIE"].iter().all(|secret| !message.contains(secret)), "{text}");
    }
}

#[test]
fn a_long_text_hides_nothing_where_it_is_taken_apart() {
    let redactor = Redactor::default();
    for before in [1_040_000, 1_048_560, 1_048_568, 1_048_576, 2_081_000] {
        let lead = "\\u0041.".repeat(before / 7);
        let body = format!("{{\"m\":\"{lead}\\n to ann@example.com\\n{}\"}}", "\\n".repeat(600_000));
        let masked = redact(&redactor, body.as_bytes(), Shape::Json).body.expect("found");
        assert!(!String::from_utf8_lossy(&masked).contains("ann@"), "{before}");
        assert!(serde_json::from_slice::<Value>(&masked).is_ok(), "{before}");
    }
}

#[test]
fn a_secret_that_was_seen_is_one_elsewhere() {
    let event = json!({ "message": "retry with password=%s", "params": ["hunter2-cn22"], "formatted": "retry with password=hunter2-cn22" });
    let (masked, _) = json(&Redactor::default(), &event);
    assert_eq!(masked["message"], "retry with password=%s");
    assert!(!masked.to_string().contains("hunter2"), "{masked}");
}

#[test]
fn what_is_no_json_is_read_as_text() {
    let redactor = Redactor::default();
    for body in ["{\"a\": \"b\", password=hunter2", "ann@example.com", "{\"a\":\"ann@example.com", "[[[[1, 2, ann@example.com"] {
        let redacted = redact(&redactor, body.as_bytes(), Shape::Json);
        assert!(redacted.body.is_some(), "{body}");
    }
    let deep = format!("{}\"ann@example.com\"{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(redact(&redactor, deep.as_bytes(), Shape::Json).body.is_some());
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    field(6, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn logs(service: &str, record: &[u8]) -> Vec<u8> {
    let name = [field(1, b"service.name"), field(2, &field(1, service.as_bytes()))].concat();
    let resource = field(1, &field(1, &name));
    field(1, &[resource, field(2, &field(2, record))].concat())
}

/// `4111111111111111` as a varint.
const CARD_VARINT: [u8; 8] = [0xc7, 0xe3, 0xa3, 0xab, 0x8a, 0xe1, 0xa6, 0x07];

#[test]
fn protobuf_texts_end_where_their_fields_do() {
    let redactor = Redactor::default();
    // The tag behind the body is the digit 2, and the length before it an A: glued to the text they would hide both.
    let body = field(5, &field(1, b"AKIAIOSFODNN7EXAMPLE and some more text up to 65 signs 4111111111111111"));
    let trace_id = field(9, b"4111111111111111");
    let attributes = [
        attribute("password", &field(1, b"hunter2")),
        attribute("http.request.header.cookie", &field(5, &field(1, &field(1, b"a=b; c=d")))),
        attribute("payload", &field(6, &field(1, &[field(1, b"token"), field(2, &field(1, b"abc"))].concat()))),
        attribute("number", &[&[3 << 3][..], &CARD_VARINT].concat()),
        attribute("order_id", &[&[3 << 3][..], &CARD_VARINT].concat()),
        attribute("blob", &field(7, b"ann@example.com")),
    ];
    let request = logs("shop", &[body, trace_id, attributes.concat()].concat());
    let redacted = redact(&redactor, &request, Shape::OtlpLogs);
    assert_eq!(names(&redacted.counts), [("card", 2), ("email", 1), ("authorization", 1), ("api_key", 1), ("key_name", 2)]);
    let masked = redacted.body.expect("found");
    let shown = String::from_utf8_lossy(&masked);
    for part in ["[api_key***********] and some", "signs [card**********]", "4111111111111111", "payload", "order_id"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for secret in ["hunter2", "a=b", "abc", "ann@"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    let zero = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0];
    assert_eq!(masked.windows(8).filter(|window| *window == zero).count(), 1);
    assert_eq!(masked.windows(8).filter(|window| *window == CARD_VARINT).count(), 1, "the order's number stays");
    // Of unknown fields the text is looked at as well.
    let unknown = [request.clone(), field(14, b"to ann@example.com")].concat();
    assert_eq!(names(&redactor.redact(&unknown, Shape::OtlpLogs).counts)[1], ("email", 2));
}

#[test]
fn labels_of_metrics_keep_their_names_of_things() {
    let redactor = Redactor::default();
    let label = |name: &str, value: &str| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let labels = [label("__name__", "kube_secret_info"), label("secret", "default-token-x7k2"), label("user", "ann@example.com")];
    let series = field(1, &[labels.concat(), field(2, b"\x09ann@e.co")].concat());
    let redacted = redact(&redactor, &series, Shape::RemoteWrite1);
    assert_eq!(names(&redacted.counts), [("email", 1)]);
    assert!(String::from_utf8_lossy(&redacted.body.expect("found")).contains("default-token-x7k2"));
    assert_eq!(redactor.redact_label("password", "hunter2").body, Some(b"*******".to_vec()));
    let symbols = [field(4, b""), field(4, b"user"), field(4, b"ann@example.com")].concat();
    assert_eq!(names(&redact(&redactor, &symbols, Shape::RemoteWrite2).counts), [("email", 1)]);
}

#[test]
fn thrift_tags_have_names() {
    let string = |id: u8, text: &[u8]| [&[11, 0, id][..], &(text.len() as u32).to_be_bytes(), text].concat();
    let tag = |key: &str, value: &str| {
        [string(1, key.as_bytes()), vec![8, 0, 2, 0, 0, 0, 0], string(3, value.as_bytes()), vec![0]].concat()
    };
    let tags = [&[15, 0, 10, 12, 0, 0, 0, 2][..], &tag("password", "hunter2"), &tag("user", "ann@example.com")].concat();
    let redacted = redact(&Redactor::default(), &[tags, vec![0]].concat(), Shape::JaegerThrift);
    assert_eq!(names(&redacted.counts), [("email", 1), ("key_name", 1)]);
}

#[test]
fn envelopes_keep_their_lengths() {
    let payload = r#"{"message":"ann@example.com"}"#;
    let text = "see ann@example.com\nand password=hunter2";
    let envelope = format!(
        "{{\"dsn\":\"http://key@sentry.example.com/1\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{payload}\n{{\"type\":\"attachment\",\"length\":{}}}\n{text}\n{{\"type\":\"event\"}}\n{payload}",
        payload.len(),
        text.len()
    );
    let redacted = redact(&Redactor::default(), envelope.as_bytes(), Shape::SentryEnvelope);
    assert_eq!(names(&redacted.counts), [("email", 3), ("key_name", 1)]);
    assert!(String::from_utf8(redacted.body.expect("found")).expect("UTF-8").contains("http://key@sentry.example.com/1"));
}

#[test]
fn a_policy_says_what() {
    let policy = Policy {
        rules: [("email".to_owned(), false), ("ipv4".to_owned(), true)].into(),
        keys: vec!["customer.no".to_owned()],
        patterns: vec![
            Pattern { name: "ticket".into(), regex: r"\bT-(?P<secret>\d{4})\b".into() },
            Pattern { name: "greek".into(), regex: ".beta".into() },
        ],
        exceptions: vec![
            Exception { service: Some("lab".into()), ..Exception::default() },
            Exception { key: Some("client.*".into()), rules: vec!["ipv4".into()], ..Exception::default() },
            Exception { service: Some("shop".into()), key: Some("peer".into()), ..Exception::default() },
        ],
        ..Policy::default()
    };
    let redactor = Redactor::new(&policy).expect("valid");
    let event =
        json!({ "m": "ann@example.com at 10.1.2.3 has T-1234 and αbeta", "customer.no": "7", "client.address": "10.1.2.3" });
    let (masked, counts) = json(&redactor, &event);
    assert_eq!(
        masked,
        json!({ "m": "ann@example.com at [ipv4**] has T-**** and ******", "customer.no": "*", "client.address": "10.1.2.3" })
    );
    assert_eq!(names(&counts), [("ipv4", 1), ("key_name", 1), ("ticket", 1), ("greek", 1)]);
    let record = field(5, &field(1, b"from 10.1.2.3"));
    assert!(redact(&redactor, &logs("shop", &record), Shape::OtlpLogs).body.is_some());
    assert!(redact(&redactor, &logs("lab", &record), Shape::OtlpLogs).body.is_none());
    let peer = attribute("peer", &field(1, b"10.1.2.3"));
    assert!(redact(&redactor, &logs("shop", &peer), Shape::OtlpLogs).body.is_none());
    assert!(redact(&redactor, &logs("till", &peer), Shape::OtlpLogs).body.is_some());
    let otlp = |service: &str| {
        json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{ "body": { "stringValue": "from 10.1.2.3" } }] }],
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": service } }] } }] })
    };
    assert_ne!(json(&redactor, &otlp("shop")).0, otlp("shop"));
    assert_eq!(json(&redactor, &otlp("lab")).0, otlp("lab"));
}

#[test]
fn hashes_join() {
    let policy = Policy { action: Action::Hash, hash_key: b"0123456789abcdef".to_vec(), ..Policy::default() };
    let redactor = Redactor::new(&policy).expect("valid");
    let (masked, _) = json(&redactor, &json!({ "a": "ann@example.com", "b": "to ann@example.com", "c": "eva@example.com" }));
    let text = |name: &str| masked[name].as_str().expect("a text").trim_start_matches("to ").to_owned();
    assert_eq!(text("a"), text("b"));
    assert_ne!(text("a"), text("c"));
}

#[test]
fn policies_that_cannot_be() {
    let refused = |policy: Policy| Redactor::new(&policy).expect_err("refused").message().to_owned();
    let pattern = |name: &str, regex: &str| Policy {
        patterns: vec![Pattern { name: name.into(), regex: regex.into() }],
        ..Policy::default()
    };
    assert!(
        refused(Policy { rules: [("mail".into(), true)].into(), ..Policy::default() })
            .contains("no rule \"mail\"; there are card")
    );
    assert!(refused(pattern("x", "(")).starts_with("pattern \"x\": "));
    assert!(refused(pattern("x", "a*")).contains("matches where there is nothing"));
    assert!(refused(pattern("x", "(a{1000}){1000}")).contains("more than"));
    assert!(refused(pattern("email", "a")).contains("nothing else has"));
    assert!(refused(Policy { action: Action::Hash, ..Policy::default() }).contains("16 bytes"));
    assert!(refused(Policy { exceptions: vec![Exception::default()], ..Policy::default() }).contains("names a service"));
}
