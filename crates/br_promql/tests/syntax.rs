//! Texts to trees and back, and what is said of wrong ones.

use br_promql::{Expr, Pretty, parse};
use proptest::prelude::*;
use std::time::Instant;

/// A query and how it is printed.
fn check(query: &str, printed: &str) {
    let expr = parse(query).unwrap_or_else(|errors| panic!("{query}: {errors}"));
    assert_eq!(expr.to_string(), printed);
    let again = parse(printed).unwrap_or_else(|errors| panic!("{printed}: {errors}"));
    assert_eq!(again.to_string(), printed, "printed text must read back the same");
}

fn pretty(expr: &Expr) -> String {
    Pretty(expr).to_string()
}

#[test]
fn prints_what_it_reads() {
    check("SUM BY(job)(rate(x_total{a=~'b|c',}[5m]))", r#"sum by (job) (rate(x_total{a=~"b|c"}[5m]))"#);
    check("topk(3,x) without (a, \"b.c\")", r#"topk without (a, "b.c") (3, x)"#);
    check(r#"{"http.total", a="1"} offset -5m @ 12.5"#, r#"{"http.total",a="1"} @ 12.500 offset -5m"#);
    check("x[1h:] @ end()", "x[1h:] @ end()");
    check("x[2*step():1m+30s]", "x[2s * step():1m + 30s]");
    check("a + on() group_left(b) fill(0) c", "a + on () group_left (b) fill (0) c");
    check("a > bool 1_000", "a > bool 1000");
    check("-1^2", "-1 ^ 2");
    check("(a</1)>/x", "(a </ 1) >/ x");
    check("rate(x[5m] anchored)", "rate(x[5m] anchored)");
    check("'a\\'\\x41\\u00e9'", "\"a'Aé\"");
    check("nan + Inf", "NaN + +Inf");
}

/// A query and a part of what is said of it, position included.
fn refuse(query: &str, message: &str) {
    let errors = parse(query).expect_err(query).to_string();
    assert!(errors.contains(message), "{query}: {errors}");
}

#[test]
fn says_what_and_where() {
    refuse("", "1:1: parse error: no expression found in input");
    refuse("a +", "1:4: parse error: unexpected end of input");
    refuse("a\n+ rate(b)", "2:8: parse error: expected type range vector in call to function \"rate\", got instant vector");
    refuse("sum(a", "1:6: parse error: unexpected end of input in aggregation, expected \")\"");
    refuse("foo(a)", "1:1: parse error: unknown function with name \"foo\"");
    refuse("{a=\"\"}", "vector selector must contain at least one non-empty matcher");
    refuse("a{b=~\"(\"}", "1:6: parse error: error parsing regexp: missing closing ): `(`");
    refuse("a and on(x) group_left b", "no grouping allowed for \"and\" operation");
    refuse("a + on(x) group_left(x) b", "label \"x\" must not occur in ON and GROUP clause at once");
    refuse("rate(a[0s])", "duration must be greater than 0");
    refuse("a offset 5m offset 5m", "offset may not be set multiple times");
    refuse("a[5m] + 1", "binary expression must contain only scalar and instant vector types");
    refuse("clamp(a, 1)", "expected 3 argument(s) in call to \"clamp\", got 2");
    refuse(
        "histogram_quantiles(a, \"q\", 0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1)",
        "expected at most 12 argument(s) in call to \"histogram_quantiles\", got 13",
    );
    refuse("a $ b", "1:3: parse error: unexpected character: '$'");
    refuse("\"open", "unterminated quoted string");
    refuse("rate(a) + irate(b)", "irate");
    refuse(&"(".repeat(100_000), "nested too deeply");
    refuse(&"-".repeat(100_000), "nested too deeply");
    refuse(&format!("a[{}", "(".repeat(100_000)), "nested too deeply");
    refuse(&format!("a{}", " ^ a".repeat(100_000)), "nested too deeply");
    refuse(&format!("a{}", " + a".repeat(100_000)), "the expression has more than 20000 operators");
    refuse(&format!("{}1{}", "(1+".repeat(101), ")".repeat(101)), "calls and parentheses within one another may be 200");
    refuse(&format!("a offset ({})", multiplied("1", "+1")), "the duration has too many operators");
    refuse(&format!("a[{}:1m]", multiplied("1", "^1")), "the duration has too many operators");
}

/// Prometheus reads thousands, and generators of rules write them. They are read, printed, compared, copied and dropped on the stack
/// of a test's thread.
#[test]
fn rows_of_operators_may_be_long() {
    for op in ["+", "or", "* on (job) group_left ()", "unless"] {
        let query = vec![r#"a{b="c"}"#; 6000].join(&format!(" {op} "));
        check(&query, &query);
        let expr = parse(&query).expect("valid");
        let lines = pretty(&expr);
        assert_eq!(parse(&lines).expect("reads back").to_string(), query);
        assert!(lines.lines().all(|line| line.len() <= 100) && expr == expr.clone());
    }
    check(&multiplied("vector(1)", " + 1"), &multiplied("vector(1)", " + 1"));
    let errors = parse(&format!("1{} and a", " + a".repeat(5000))).map(|expr| expr.value_type());
    assert_eq!(errors, Ok(br_promql::Type::Vector));
    refuse(&format!("1{} and a", " + 1".repeat(5000)), "set operator \"and\" not allowed in binary scalar expression");
}

#[test]
fn rows_of_operators_are_split_as_their_tree_is() {
    let long = |name: &str| name.repeat(30);
    let (a, b, c, d) = (long("a"), long("b"), long("c"), long("d"));
    let printed = pretty(&parse(&format!("{a} + {b} > bool {c} and {d}")).expect("valid"));
    assert_eq!(printed, format!("    {a} + {b}\n  > bool\n    {c}\nand\n  {d}"));
    let printed = pretty(&parse(&format!("sum({a}) + sum({b}) * sum({c}) - sum({d})")).expect("valid"));
    let expected = format!("    sum({a})\n  +\n    sum({b}) * sum({c})\n-\n  sum({d})");
    assert_eq!(printed, expected);
}

/// Parentheses around chains of operators around parentheses: each is within its bound, the tree is the product.
fn multiplied(leaf: &str, operator: &str) -> String {
    (1..=20).rev().fold(leaf.to_owned(), |inner, depth| format!("({inner}{})", operator.repeat(199 - depth)))
}

#[test]
fn long_queries_get_lines() {
    let query = format!("sum by (job) (rate({}_total[5m])) / sum by (job) (rate({}_total[5m]))", "a".repeat(40), "b".repeat(40));
    let expr = parse(&query).expect("valid");
    let lines = pretty(&expr);
    assert!(lines.lines().count() > 1 && lines.lines().all(|line| line.len() <= 100), "{lines}");
    assert_eq!(parse(&lines).expect("reads back").to_string(), expr.to_string());
}

/// Each level looks at as much of what is inside as fits on a line, not at all of it.
#[test]
#[allow(clippy::disallowed_methods, reason = "how long it takes is the point")]
fn levels_around_a_long_row_do_not_write_it_again() {
    let row = vec!["a"; 20_000].join(" + ");
    let expr = parse(&format!("{}{row}{}", "(".repeat(190), ")".repeat(190))).expect("valid");
    let timed = |write: &dyn Fn() -> String| {
        let start = Instant::now();
        let text = write();
        (start.elapsed(), text)
    };
    let (once, _) = timed(&|| expr.to_string());
    let (split, lines) = timed(&|| pretty(&expr));
    assert!(split < once * 60, "{split:?} where one line takes {once:?}");
    assert_eq!(lines.lines().count(), 2 * 190 + 2 * 20_000 - 1 - 2 * 24);
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,40}") {
        let _ = parse(&text);
    }

    #[test]
    fn never_panics_on_words_of_the_language(
        words in proptest::collection::vec(
            prop::sample::select(vec![
                "sum", "by", "(", ")", "[", "]", "{", "}", ",", ":", "5m", "1", "x", "\"s\"", "+", "-", "^", "@", "offset",
                "rate", "==", "bool", "on", "group_left", "=", "=~", "start", "step", "</", "smoothed", "#", "\n", "and",
            ]),
            0..25,
        )
    ) {
        let text = words.join(" ");
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).expect("printed text reads back");
            prop_assert_eq!(again.to_string(), printed);
            parse(&pretty(&expr)).expect("pretty text reads back");
        }
    }
}
