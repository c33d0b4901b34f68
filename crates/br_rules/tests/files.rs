//! Rule files: what is right comes out, what is wrong is named with its place.

use br_rules::{NameValidation, ParseOptions, RuleKind, parse, parse_with};

fn check(text: &str, rules: usize, complaints: &[&str]) {
    let parsed = parse("rules.yml", text, &|expression| {
        if expression.contains("bad") { Err("unexpected bad".to_owned()) } else { Ok(()) }
    });
    let found: Vec<String> = parsed.complaints.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), complaints.len(), "{text}\n{found:#?}");
    for (found, expected) in found.iter().zip(complaints) {
        assert!(found.starts_with(expected), "{text}\nfound    {found}\nexpected {expected}");
    }
    assert_eq!(parsed.file.groups.iter().map(|group| group.rules.len()).sum::<usize>(), rules, "{text}");
}

#[test]
fn good_files() {
    check("", 0, &[]);
    check("# nothing\n", 0, &[]);
    check("groups:\n", 0, &[]);
    check("groups:\n- name: a\n  rules:\n", 0, &[]);
    check(
        "groups:\n- name: a\n  limit: 5\n  interval: 1m30s\n  rules:\n  - record: x\n    expr: 1\n    labels: {a: 1}\n",
        1,
        &[],
    );
    check(
        "groups:\n- &g\n  name: a\n  rules: &r\n  - {alert: A, expr: up}\n- name: b\n  rules: *r\n",
        2,
        &["5:5: warning: rule \"A\""],
    );
}

#[test]
fn mistakes_have_a_place() {
    let rule = |body: &str| format!("groups:\n- name: g\n  rules:\n  - alert: Good\n    expr: up\n{body}");
    check("groups: 5", 0, &["1:9: 'groups' must be a sequence"]);
    check("group: []", 0, &["1:1: unknown field \"group\""]);
    check("groups:\n- rules: []\n", 0, &["2:3: a group must have a name"]);
    check("groups:\n- name: a\n- name: a\n", 0, &["3:3: group name \"a\" is already taken at line 2"]);
    check(&rule("  - alert: A\n    exprs: up\n"), 1, &["6:5: field 'expr' must be set", "7:5: unknown field \"exprs\""]);
    check(&rule("  - alert: A\n    record: b\n    expr: up\n"), 1, &["6:5: only one of"]);
    check(&rule("  - expr: up\n"), 1, &["6:5: one of"]);
    check(&rule("  - record: a\n    expr: up\n    for: 1m\n"), 1, &["8:10: invalid field 'for'"]);
    check(&rule("  - record: a{b=\"c\"}\n    expr: up\n"), 1, &["6:13: braces present"]);
    check(&rule("  - alert: A\n    expr: bad(\n"), 1, &["7:11: could not parse expression: unexpected bad"]);
    check(&rule("  - alert: A\n    expr: up\n    for: 5 minutes\n"), 1, &["8:10: 'for': not a valid duration string"]);
    check(&rule("  - alert: A\n    expr: up\n    for: 1m\n    for: 2m\n"), 0, &["9:5: key \"for\" is already there at line 8"]);
    check(&rule("  - alert: A\n    expr: up\n    labels:\n      __name__: x\n"), 1, &["9:7: invalid label name"]);
    check(&rule("  - alert: A\n    expr: up\n    labels: [a]\n"), 1, &["8:13: 'labels' must be a mapping"]);
    check(
        &rule("  - alert: A\n    expr: up\n    annotations:\n      s: '{{ $lable }}'\n"),
        1,
        &["9:10: annotation \"s\": line 1: undefined"],
    );
    check("groups:\n- name: [\n", 0, &["3:1: not valid YAML"]);
}

#[test]
fn a_second_document_is_told_and_skipped() {
    let first = "groups:\n- name: a\n  rules: [{record: x, expr: up}]\n";
    check(&format!("---\n{first}---\ngroups: 5\n"), 1, &["5:1: warning: a second document"]);
}

#[test]
fn merged_mappings() {
    let text = "groups:\n- name: a\n  rules:\n  - &r {alert: A, expr: up, for: 1m}\n  - <<: *r\n    alert: B\n  - <<: [{labels: {x: y}}, *r]\n";
    check(text, 3, &[]);
    let parsed = parse("f", text, &|_| Ok(()));
    let rules = &parsed.file.groups[0].rules;
    assert_eq!((rules[1].name(), rules[1].expression.as_str()), ("B", "up"));
    assert_eq!((rules[2].name(), rules[2].label("x")), ("A", Some("y")));
    check("groups:\n- <<: 5\n  name: a\n", 0, &["2:7: << takes mappings"]);
}

#[test]
fn options_of_strictness() {
    let check = |text: &str, name_validation: NameValidation, ignore_unknown_fields: bool, errors: usize| {
        let parsed = parse_with("f", text, &|_| Ok(()), ParseOptions { name_validation, ignore_unknown_fields });
        assert_eq!(parsed.errors().count(), errors, "{text}: {:?}", parsed.complaints);
    };
    let text = "groups: [{name: g, owner: me, rules: [{alert: A, expr: up, labels: {a-b: c}, annotations: {d.e: f}}]}]";
    check(text, NameValidation::Utf8, false, 1);
    check(text, NameValidation::Utf8, true, 0);
    check(text, NameValidation::Legacy, true, 2);
    let record = "groups: [{name: g, rules: [{record: a b, expr: up, for: 0s, annotations: {}}]}]";
    check(record, NameValidation::Utf8, false, 0);
    check(record, NameValidation::Legacy, false, 1);
}

#[test]
fn an_alias_bomb_ends() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, inner) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        text.push_str(
            &[&name.to_string(), ": &", &name.to_string(), " [", &vec![format!("*{inner}"); 10].join(","), "]\n"].concat(),
        );
    }
    let parsed = parse("bomb.yml", &text, &|_| Ok(()));
    assert!(parsed.complaints[0].message.contains("nodes in one file"), "{:?}", parsed.complaints);
    let deep = parse("deep.yml", &"[".repeat(100_000), &|_| Ok(()));
    assert_eq!(deep.complaints.len(), 1);
}

#[test]
fn labels_of_group_and_rule_are_merged() {
    let text = "groups:\n- name: g\n  labels: {team: a, severity: low}\n  rules:\n  - alert: A\n    expr: up\n    for: 5m\n    labels: {severity: page}\n";
    let parsed = parse("f", text, &|_| Ok(()));
    let rule = &parsed.file.groups[0].rules[0];
    assert_eq!((rule.label("team"), rule.label("severity")), (Some("a"), Some("page")));
    assert!(matches!(&rule.kind, RuleKind::Alerting { hold, .. } if hold.as_secs() == 300));
    assert_eq!(rule.position.line, 5);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z{}:\\[\\]\\-\"' \n&*|>#,!?%@`0-9$.]{0,200}") {
        let _ = parse("f", &text, &|_| Ok(()));
        let _ = parse("f", &format!("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    annotations:\n      s: |\n        {}", text.replace('\n', " ")), &|_| Ok(()));
    }
}
