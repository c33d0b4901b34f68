//! Log queries, live tail and hints through the public API.

use br_logql::script::MemoryLogs;
use br_logql::{Expr, LogExpr, LogOptions, Pipeline, log_hints, parse, query_log};
use br_model::{Labels, LogKind, Severity, SpanId, TraceId};
use br_std::Nanos;
use br_storage::{Budget, Direction, LogHint, LogRow, TimeRange};

fn row(seconds: i64, app: &str, line: &str) -> LogRow {
    LogRow {
        timestamp: Nanos::from_secs(seconds),
        stream: Labels::from_pairs([("app", app)]),
        line: line.to_owned(),
        kind: LogKind::Log,
        severity: Severity::ERROR,
        trace_id: TraceId::default(),
        span_id: SpanId::default(),
        metadata: vec![("region".to_owned(), "eu".to_owned())],
    }
}

fn logs() -> MemoryLogs {
    let mut logs = MemoryLogs::default();
    logs.extend([
        row(1, "web", "a=1 took=20ms"),
        row(2, "web", "a=2 took=3s"),
        row(3, "pay", "a=3"),
        row(4, "web", "{\"broken\""),
    ]);
    logs
}

fn log(text: &str) -> LogExpr {
    match parse(text).unwrap_or_else(|error| panic!("{text}: {error}")) {
        Expr::Log(log) => log,
        Expr::Metric(_) => panic!("{text} is no log query"),
    }
}

fn lines(text: &str, limit: usize, direction: Direction) -> Vec<String> {
    let options = LogOptions { range: TimeRange::new(Nanos(0), Nanos::from_secs(10)), direction, limit, categorize: false };
    let result = query_log(&logs(), &log(text), &options, &Budget::unlimited()).expect("answers");
    let lines = result.streams.iter().flat_map(|stream| stream.entries.iter().map(|entry| entry.line.clone()));
    lines.collect()
}

#[test]
fn limit_counts_from_the_asked_end() {
    assert_eq!(lines(r#"{app="web"}"#, 2, Direction::Backward), ["{\"broken\"", "a=2 took=3s"]);
    assert_eq!(lines(r#"{app=~".+"} |= "a=""#, 1, Direction::Forward), ["a=1 took=20ms"]);
    assert_eq!(lines(r#"{app="web"}"#, 0, Direction::Forward), Vec::<String>::new());
}

#[test]
fn stages_change_lines() {
    assert_eq!(
        lines(r#"{app="web"} | logfmt | took > 1s | line_format "{{.a}} in {{.region}}""#, 9, Direction::Forward),
        ["2 in eu"]
    );
    assert_eq!(lines(r#"{app="pay"} | detected_level="error""#, 9, Direction::Forward), ["a=3"]);
    let alignment = r#"{app="pay"} | logfmt | line_format "{{ alignLeft 3 .a }}|{{ add .a 2 | printf `%03d` }}|{{ .a | default `x` }}{{- /* note */ -}} !""#;
    assert_eq!(lines(alignment, 9, Direction::Forward), ["3  |005|3!"]);
}

#[test]
fn errors_stay_on_their_line() {
    let options = LogOptions {
        range: TimeRange::new(Nanos(0), Nanos::from_secs(10)),
        direction: Direction::Forward,
        limit: 9,
        categorize: true,
    };
    let result = query_log(&logs(), &log(r#"{app="web"} |= "broken" | json"#), &options, &Budget::unlimited()).expect("answers");
    let [stream] = result.streams.as_slice() else { panic!("one stream: {result:?}") };
    let entry = &stream.entries[0];
    assert_eq!(stream.labels.to_string(), r#"{app="web"}"#);
    assert_eq!(entry.metadata.to_string(), r#"{region="eu"}"#);
    assert_eq!(entry.parsed.get("__error__"), Some("JSONParserErr"));
    assert_eq!((result.stats.lines_processed, result.stats.lines_kept), (3, 1), "what a filter drops was looked at");
}

#[test]
fn tail() {
    let pipeline = Pipeline::compile(&log(r#"{app="web"} |= "took" | logfmt | keep took"#))
        .unwrap_or_else(|(_, message)| panic!("{message}"));
    let row = row(1, "web", "a=1 took=20ms");
    assert!(pipeline.selects(&row.stream));
    let processed = pipeline.process(&row, &Budget::unlimited()).expect("kept");
    assert_eq!((processed.labels.to_string().as_str(), processed.line.as_str()), (r#"{took="20ms"}"#, "a=1 took=20ms"));
}

fn check_hints(text: &str, expect: &[LogHint]) {
    assert_eq!(log_hints(&log(text)), expect, "{text}");
}

#[test]
fn hints() {
    let contains = |text: &str| LogHint::LineContains(text.to_owned());
    let words = |text: &str| LogHint::LineHasWords(text.to_owned());
    let attribute = |name: &str, value: &str| LogHint::AttributeEquals { name: name.to_owned(), value: value.to_owned() };
    let any = |hints: &[LogHint]| LogHint::AnyOf(hints.to_vec());
    check_hints(
        r#"{app="a"} |= "needle" != "x" |~ "time.*out(s|ed)" |> "<_> took <_>""#,
        &[contains("needle"), contains("time"), contains("out"), any(&[contains("s"), contains("ed")]), contains(" took ")],
    );
    check_hints(
        r#"{app="a"} |= "one" or "two" |~ "(?i)error" |~ "x(new|old) y|zz" != "one" or "two""#,
        &[any(&[contains("one"), contains("two")]), any(&[contains("new"), contains("old"), contains("zz")])],
    );
    check_hints(r#"{app="a"} | line_format "x" |= "x" | json | status="500""#, &[]);
    let id = "0af7651916cd43dd8448eb211c80319c";
    let trace = LogHint::TraceId(TraceId::from_hex(id).expect("valid"));
    check_hints(&format!(r#"{{app="a"}} | trace_id="{id}""#), &[any(&[trace, attribute("trace_id", id)])]);
    check_hints(
        r#"{app="a"} | user="7" or user=~"8|9", zone="" | user="7""#,
        &[any(&[attribute("user", "7"), attribute("user", "8"), attribute("user", "9")]), attribute("user", "7")],
    );
    // What was parsed stands in the line, unless the record has it: whole where it is written between quotes or blanks.
    check_hints(r#"{app="a"} | json | drop user | status="500""#, &[any(&[words("500"), attribute("status", "500")])]);
    check_hints(r#"{app="a"} | regexp "(?P<ip>.*)" | ip="a\"b""#, &[any(&[contains("a\"b"), attribute("ip", "a\"b")])]);
    check_hints(r#"{app="a"} | pattern "<ip> <_>" | logfmt | ip="a/b""#, &[any(&[contains("a/b"), attribute("ip", "a/b")])]);
    for escaped in [r#"| json | msg="a\"b""#, r#"| logfmt | msg="a<b""#, r#"| json | msg="é€""#, r#"| json | msg="ab""#] {
        check_hints(&format!(r#"{{app="a"}} {escaped}"#), &[]);
    }
    check_hints(r#"{app="a"} | json | label_format status="{{.code}}" | status="500" | level_extracted="info""#, &[]);
}

#[test]
fn a_comparison_of_numbers_is_a_hint_unless_a_row_may_pass_it_otherwise() {
    let between = |name: &str, low, high| LogHint::NumberBetween { name: name.to_owned(), low, high };
    let from = |name: &str, low| between(name, low, f64::INFINITY);
    check_hints(r#"{app="a"} | status >= 500 and took < 3"#, &[from("status", 500.0)]);
    check_hints(r#"{app="a"} | zone != "x" | status == 500"#, &[between("status", 500.0, 500.0)]);
    // What is no number is marked and kept, and then passes whatever comes behind.
    check_hints(r#"{app="a"} | status > 1 | took < 3"#, &[from("status", 1.0)]);
    for other in ["| line_format \"x\" | status > 1", "| json | status > 1", "| status > 1s", "| status > 1 or took < 3"] {
        check_hints(&format!(r#"{{app="a"}} {other}"#), &[]);
    }
}

#[test]
fn mistakes_have_a_place() {
    for (text, line, column, part) in [
        ("", 1, 1, "unexpected $end"),
        ("{app=\"a\"}\n  |= \"x\" | |", 2, 12, "unexpected |"),
        ("{app=\"a\"} |= \"x", 1, 14, "not terminated"),
        ("{app=\"a\"} | line_format \"{{ .a | nope }}\"", 1, 11, "not defined"),
        ("{app=\"a\"} ; x", 1, 11, "unexpected character"),
        ("sum(rate({app=\"a\"}[5x]))", 1, 20, "not a valid duration"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in r#"[\{\}\(\)\[\]a-z0-9 .:"`=<>!~|+*/^,#\\µ-]{0,60}"#) {
        let _ = parse(&text);
    }

    #[test]
    fn templates_never_panic(text in r#"[\{\}\(\)a-z0-9 ."|$:=-]{0,40}"#) {
        let query = format!("{{app=\"a\"}} | line_format `{{{{{text}}}}}`");
        if let Ok(Expr::Log(log)) = parse(&query) {
            let pipeline = Pipeline::compile(&log).map_err(|(_, message)| message).expect("parse has compiled it");
            let _ = pipeline.process(&row(1, "a", "b=1"), &Budget::unlimited());
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_fatal(depth in 0usize..5000) {
        let text = format!("{}1", "(".repeat(depth));
        proptest::prop_assert_eq!(parse(&text).is_ok(), depth == 0);
        let sum = format!("1{}", "+1".repeat(depth));
        proptest::prop_assert_eq!(parse(&sum).is_ok(), depth <= 1000);
    }
}
