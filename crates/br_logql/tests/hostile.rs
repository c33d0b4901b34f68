//! Stages that would make much of little: each is told no while it makes it, and the line says so.

use br_logql::{Expr, Pipeline, Processed, parse};
use br_model::{Labels, LogKind, Severity, SpanId, TraceId};
use br_std::Nanos;
use br_storage::{Budget, CancelReason, LogRow};

fn row(line: String) -> LogRow {
    LogRow {
        timestamp: Nanos::from_secs(1),
        stream: Labels::from_pairs([("job", "flood")]),
        line,
        kind: LogKind::Log,
        severity: Severity::ERROR,
        trace_id: TraceId::default(),
        span_id: SpanId::default(),
        metadata: Vec::new(),
    }
}

fn numbered(count: usize, make: impl Fn(usize) -> String) -> String {
    (0..count).map(make).collect::<Vec<_>>().concat()
}

fn process(stages: &str, line: String, budget: &Budget) -> Processed {
    let Expr::Log(log) = parse(&format!(r#"{{job="flood"}} {stages}"#)).expect("valid") else { panic!("not a log query") };
    let pipeline = Pipeline::compile(&log).unwrap_or_else(|(_, message)| panic!("{message}"));
    pipeline.process(&row(line), budget).expect("kept")
}

#[test]
fn templates_stop_while_they_make_too_much() {
    let assign = numbered(200, |at| format!("{{{{ $v{at} := repeat 10000 __line__ }}}}"));
    let all = numbered(200, |at| format!(" $v{at}"));
    let many = " $x".repeat(2000);
    for template in [
        r#"{{ regexReplaceAll "" (repeat 10000 __line__) (repeat 100000 "yyyyyyyyyy") }}"#.to_owned(),
        r#"{{ regexReplaceAllLiteral "" (repeat 10000 __line__) (repeat 100000 "yyyyyyyyyy") }}"#.to_owned(),
        r#"{{ regexReplaceAll "(.*)" (repeat 10000 __line__) (repeat 300000 "$1") }}"#.to_owned(),
        r#"{{ len (indent 1000 (repeat 1000000 "\n")) }}"#.to_owned(),
        r#"{{ replace "" (repeat 3000 "y") (repeat 3000 "x") }}"#.to_owned(),
        r#"{{ $x := repeat 100000 "yyyyyyyyyy" }}{{ len (print"#.to_owned() + &many + ") }}",
        format!("{assign}{{{{ len (print{all}) }}}}"),
        r#"{{ printf "%q%q%q" (repeat 100000 "\x01") (repeat 1000000 "\x01") (repeat 1000000 "\x01") }}"#.to_owned(),
        format!(
            r"{{{{ range fromJson `[{0}]` }}}}{{{{ range fromJson `[{0}]` }}}}x{{{{ end }}}}{{{{ end }}}}",
            vec!["1"; 400].join(",")
        ),
    ] {
        let quoted = template.replace('`', "\\`");
        let stage = if template.contains('`') {
            format!("| line_format \"{}\"", template.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            format!("| line_format `{quoted}`")
        };
        let processed = process(&stage, "abc abc abc".to_owned(), &Budget::unlimited());
        assert_eq!(processed.labels.get("__error__"), Some("TemplateFormatErr"), "{}", &template[..60]);
        assert_eq!(processed.line, "abc abc abc");
    }
    let fine =
        process(r#"| line_format `{{ regexReplaceAll "(a)(b)" __line__ "${2}$1" }}`"#, "ab ab".to_owned(), &Budget::unlimited());
    assert_eq!(fine.line, "ba ba");
}

#[test]
fn labels_of_one_line_have_a_limit() {
    let doubling = r"| label_format a=`{{.a}}{{.a}}{{.a}}{{.a}}xx`".repeat(16);
    let long_name = format!("{{\"{}\":{{{}}}}}", "k".repeat(500_000), vec!["\"a\":1"; 10_000].join(","));
    let groups = format!("| regexp `{}.*{}`", numbered(200, |at| format!("(?P<g{at}>")), ")".repeat(200));
    for (stages, line) in [
        (doubling.as_str(), "x".to_owned()),
        ("| json", long_name),
        (groups.as_str(), "x".repeat(100_000)),
        ("| logfmt", numbered(200_000, |at| format!("a{at}=1 "))),
    ] {
        let processed = process(stages, line, &Budget::unlimited());
        let bytes: usize = processed.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes < 5 << 20, "{bytes} bytes by {}", &stages[..6]);
    }
}

/// Each of them is compiled while the query is read.
#[test]
fn a_query_has_so_many_regular_expressions() {
    for (start, one) in [("{a=\"b\"", ", a=~\"x.\""), ("{a=\"b\"}", " |~ \"x.\""), ("{a=\"b\"} |~ \"x.\"", " or \"x.\"")] {
        let query = |count: usize| format!("{start}{}{}", one.repeat(count), if one.starts_with(',') { "}" } else { "" });
        assert!(parse(&query(99)).is_ok(), "{one}");
        let error = parse(&query(101)).expect_err("too many");
        assert!(error.to_string().contains("more than 100 regular expressions"), "{error}");
    }
}

#[test]
fn a_stage_that_takes_long_looks_at_the_budget() {
    let budget = Budget::unlimited();
    budget.cancel(CancelReason::Deadline);
    for template in [r#"{{ count "a" (repeat 10 __line__) }}"#, "{{ range $i := fromJson `[1,2]` }}x{{ end }}"] {
        let quoted = template.replace('\\', "\\\\").replace('"', "\\\"");
        let processed = process(&format!("| line_format \"{quoted}\""), "aaa".to_owned(), &budget);
        assert!(processed.labels.get("__error_details__").is_some_and(|details| details.contains("time limit")), "{template}");
    }
}
