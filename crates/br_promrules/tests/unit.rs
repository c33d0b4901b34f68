//! Unit tests of rules: verdicts, and what is said of a test that fails.

use br_promrules::unit::{self, FileReport, Options};
use std::path::PathBuf;

const RULES: &str = r"
groups:
- name: late
  rules:
  - record: twice
    expr: 2 * once
- name: early
  rules:
  - record: once
    expr: m
  - alert: High
    expr: m > 5
    for: 2m
    labels: {sev: page}
    annotations:
      text: '{{ $value }} on {{ $labels.job }} of {{ $externalLabels.cluster }} at {{ $externalURL }}'
      empty: '{{ $labels.nothing }}'
";

/// Runs `body` under `tests:`, with [`RULES`] in a file beside it.
fn run_with(head: &str, body: &str, options: Options<'_>) -> FileReport {
    let folder = tempfile::tempdir().expect("a folder");
    #[allow(clippy::disallowed_methods, reason = "a test makes its files on the real disk")]
    std::fs::write(folder.path().join("rules.yml"), RULES).expect("written");
    unit::run(&format!("rule_files: ['r*[l]es.yml']\n{head}\ntests:\n{body}"), folder.path(), options)
}

/// `failures`: parts of the messages, in order.
fn check(head: &str, body: &str, failures: &[&str]) {
    let report = run_with(head, body, Options::default());
    let complaints = report.complaints.iter().map(ToString::to_string);
    let said: Vec<String> = complaints
        .chain(report.tests.iter().flat_map(|test| test.failures.iter().map(|failure| format!("{failure:?}"))))
        .collect();
    assert_eq!(said.len(), failures.len(), "{body}\n{said:#?}");
    for (said, part) in said.iter().zip(failures) {
        assert!(said.contains(part), "{body}\nfound    {said}\nexpected {part}");
    }
}

const INPUT: &str = "input_series: [{series: 'm{job=\"a\"}', values: '4+1x9'}]";

#[test]
fn alerts() {
    let fires = "exp_alerts: [{exp_labels: {job: a, sev: page}, exp_annotations: {text: '9 on a of c at http://b/', empty: ''}}]";
    let around = format!("{INPUT}\n  external_labels: {{cluster: c}}\n  external_url: http://b/");
    let case =
        |time: &str, alerts: &str| format!("- {around}\n  alert_rule_test: [{{eval_time: {time}, alertname: High, {alerts}}}]");
    check("", &case("3m", "exp_alerts: []"), &[]);
    check("", &case("5m", fires), &[]);
    // Between two evaluations the one before counts.
    check("", &case("5m30s", fires), &[]);
    check("", &case("5m", "exp_alerts: []"), &["alerts \\\"High\\\" at 5m"]);
    check("", &case("6m", fires), &["10 on a"]);
    check("", &case("5m", &fires.replace(", empty: ''", "")), &["empty"]);
    check("", &case("5m", &fires.replace("sev: page", "sev: page, other: ''")), &["other"]);
    check("", &format!("- {INPUT}\n  alert_rule_test: [{{eval_time: 1m, exp_alerts: []}}]"), &["needs an alertname"]);
}

#[test]
fn groups_go_in_the_order_that_is_asked_for() {
    let body = |value: f64| {
        format!(
            "- {INPUT}\n  promql_expr_test: [{{expr: twice, eval_time: 3m, exp_samples: [{{labels: 'twice{{job=\"a\"}}', value: {value}}}]}}]"
        )
    };
    check("", &body(12.0), &[]);
    check("group_eval_order: [early, late]", &body(14.0), &[]);
    check("group_eval_order: [early, early]", &body(14.0), &["repeated in evaluation order: early"]);
}

#[test]
fn samples() {
    let body = |input: &str, expr: &str, samples: &str| {
        format!("- input_series: [{input}]\n  promql_expr_test: [{{expr: '{expr}', eval_time: 2m, exp_samples: [{samples}]}}]")
    };
    let x = "{series: x, values: '0 .3 0.30000000000000004 9'}";
    check("", &body(x, "x", "{labels: x, value: 0.3}"), &["expression"]);
    check("fuzzy_compare: true", &body(x, "x", "{labels: x, value: 0.3}"), &[]);
    check("", &body(x, "x / 0 * 0", "{value: .nan}"), &["NaN"]);
    check("", &body(x, "x / 0", "{value: .inf}"), &[]);
    check("", &body(x, "scalar(x) * 0", "{value: 0}"), &[]);
    check("", &body(x, "count_over_time(x[30s] offset -1m)", ""), &[]);
    check("", &body(x, "x[5m]", ""), &["not a vector or scalar"]);
    check("", &body(x, "x +", ""), &["expression"]);
    check("", &body(x, "x", "{labels: 'x{', value: 1}"), &["labels"]);
    check("", &body(x, "x", "{labels: 'x{a=~\"b\"}', value: 1}"), &["labels with ="]);
    check("", &body("{series: 'x{', values: 1}", "x", ""), &["brace"]);
    check("", &body("{series: x, values: '1 a'}", "x", ""), &["number"]);
    let h = "{series: h, values: '{{schema:1 sum:3 count:4 buckets:[1 0 2] offset:-1}}x3'}";
    let histogram = |text: &str| format!("{{labels: h, histogram: '{text}'}}");
    check(
        "",
        &body(h, "h", &histogram("{{sum:3 schema:1 count:4 buckets:[0 1 0 2 0] offset:-2 counter_reset_hint:not_reset}}")),
        &[],
    );
    check(
        "",
        &body(h, "h", &histogram("{{schema:1 sum:3 count:4 buckets:[1 0 2] offset:-1}}")),
        &["counter_reset_hint:not_reset"],
    );
    check("", &body(h, "h", &histogram("5")), &["one histogram"]);
    // The name of a function is a name here.
    check("", &body("{series: 'sum{a=\"b\"}', values: 1x3}", "{__name__=\"sum\"}", "{labels: 'sum{a=\"b\"}', value: 1}"), &[]);
}

#[test]
fn time_begins_where_it_is_said_to() {
    let body = |start: &str, value: &str| {
        format!(
            "- start_timestamp: {start}\n  {INPUT}\n  promql_expr_test: [{{expr: timestamp(m), eval_time: 2m, exp_samples: [{{labels: '{{job=\"a\"}}', value: {value}}}]}}]"
        )
    };
    check("", &body("2024-01-01T00:00:00Z", "1704067320"), &[]);
    check("", &body("1609459200", "1609459320"), &[]);
    check("", &body("yesterday", "0"), &["yesterday"]);
    check("", &body("'9e12'", "0"), &["neither seconds"]);
    check("", "- promql_expr_test: [{expr: m, eval_time: 106751d}]\n  start_timestamp: 5000000", &["beyond the year 2262"]);
    let starts = "- input_series: [{series: c@st, values: '-30s -90s -150s'}, {series: c, values: 10 20 30}]\n  promql_expr_test: [{expr: start_timestamp(c), eval_time: 2m, exp_samples: [{value: -30}]}]";
    check("", starts, &[]);
}

#[test]
fn what_rules_record_twice_is_an_error() {
    let body = "- input_series: [{series: once, values: '1 1'}, {series: m, values: '1 2'}]\n  promql_expr_test: [{expr: '1', eval_time: 1m, exp_samples: [{value: 1}]}]";
    check("", body, &["rule \\\"once\\\" at 1m: once: duplicate sample for timestamp"]);
}

#[test]
fn mistakes_in_the_file() {
    check("colour: red", "", &["unknown field \"colour\""]);
    check("", "- {nam: x}", &["unknown field \"nam\""]);
    check("", "- promql_expr_test: [{expr: x, exp_samples: [{value: '1'}]}]", &["'value' must be a number"]);
    check("", "- promql_expr_test: [{expr: x, eval_time: 1}]", &["'eval_time'"]);
    check("", "- alert_rule_test: 5", &["must be a sequence"]);
    check("", "- {}", &[]);
    check("", "", &[]);
}

#[test]
fn names_and_dump() {
    let body = format!("- {INPUT}\n  name: one\n- {INPUT}\n  name: other\n- {{}}");
    let names = br_std::re2::Regex::new("^o.e$", br_std::re2::Mode::Part).expect("a pattern");
    let report = run_with("", &body, Options { names: Some(&names), dump: true, ..Options::default() });
    let tests: Vec<&str> = report.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(tests, ["one"]);
    assert_eq!(report.tests[0].dump, [r#"m{job="a"}: 4 @0s"#, r#"once{job="a"}: 4 @0s"#]);
    let report = unit::run("rule_files: [nowhere.yml]", &PathBuf::from("/nowhere"), Options::default());
    assert!(report.has_passed() && report.warnings[0].contains("nowhere.yml"), "{report:?}");
}
