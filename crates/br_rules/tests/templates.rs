//! Templates: what goes in, what comes out.

use br_model::Labels;
use br_rules::template::AlertData;
use br_rules::{Environment, ResultSample, Template};
use br_std::Nanos;

fn render(template: &str, value: f64) -> String {
    let labels = Labels::from_pairs([("__name__", "up"), ("instance", "db1.example.com:9100"), ("job", "node"), ("n", "1234.5")]);
    let external = Labels::from_pairs([("cluster", "eu")]);
    let query = |expression: &str, _at: Nanos| match expression {
        "none" => Ok(Vec::new()),
        "wrong" => Err("parse error".to_owned()),
        _ => Ok([("b", 2.0), ("a", 1.0)]
            .map(|(host, value)| ResultSample::float(Labels::from_pairs([("host", host)]), value))
            .to_vec()),
    };
    let environment = Environment { external_labels: &external, external_url: "https://host/bell/", query: &query };
    let data = AlertData { labels: &labels, value, at: Nanos::from_millis(1_435_065_584_128), environment: &environment };
    data.expand("A", &Template::new(template))
}

fn check(template: &str, expected: &str) {
    assert_eq!(render(template, 0.2512), expected, "{template}");
}

#[test]
fn variables_and_data() {
    check("plain }} text", "plain }} text");
    check("{{ $labels.job }} at {{ $value }}", "node at 0.2512");
    check("{{ .Labels.instance }}/{{ .Value }}/{{ .ExternalLabels.cluster }}", "db1.example.com:9100/0.2512/eu");
    check("[{{ $labels.missing }}]", "[]");
    check(
        "{{ $externalLabels.cluster }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
        "eu https://host/bell/ https://host/bell/ /bell/",
    );
    check("{{ $x := 5 }}{{ $x = 6 }}{{ $x }}", "6");
    check("{{/* nothing */}}a {{- /* trims */ -}} b", "ab");
    check("a\n  {{- $labels.job -}}  \n b", "anodeb");
    check("{{ \"a\\tb\\u00e9\" }}{{ `raw\\n` }}{{ 'a' }}{{ 0x10 }}{{ 1.5 }}{{ true }}", "a\tbéraw\\n97161.5true");
    check("{{ $labels }}", "map[__name__:up instance:db1.example.com:9100 job:node n:1234.5]");
}

#[test]
fn control() {
    check("{{ if gt $value 0.5 }}high{{ else if gt $value 0.2 }}mid{{ else }}low{{ end }}", "mid");
    check("{{ with $labels.job }}{{ . }}{{ end }}{{ with $labels.none }}x{{ else }}y{{ end }}", "nodey");
    check("{{ range query \"up\" }}{{ .Labels.host }}={{ .Value }} {{ end }}", "b=2 a=1 ");
    check("{{ range $i, $s := query \"up\" | sortByLabel \"host\" }}{{ $i }}{{ label \"host\" $s }}{{ end }}", "0a1b");
    check("{{ range query \"none\" }}x{{ else }}empty{{ end }}", "empty");
    check("{{ range $k, $v := $labels }}{{ $k }},{{ end }}", "__name__,instance,job,n,");
    check("{{ range 3 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ . }}{{ end }}", "02");
    check("{{ range 9 }}{{ if eq . 2 }}{{ break }}{{ end }}{{ . }}{{ end }}", "01");
    check("{{ define \"t\" }}<{{ .arg0 }}|{{ .arg1 }}>{{ end }}{{ template \"t\" (args 1 $value) }}", "<1|0.2512>");
    check("{{ define \"t\" }}{{ . }}!{{ end }}{{ tmpl \"t\" \"hi\" | toUpper }}", "HI!");
    check("{{ block \"b\" $labels.job }}[{{ . }}]{{ end }}", "[node]");
    check("{{ (query \"up\" | first).Value }}{{ (index (query \"up\") 1).Labels.host }}", "2a");
    check("{{ with query \"up\" }}{{ . | first | value | humanizePercentage }}{{ end }}", "200%");
    check("{{ if and (eq $labels.job \"node\" \"x\") (not false) (or 0 1) }}yes{{ end }}", "yes");
    check("{{ if or true (first (query \"none\")) }}short{{ end }}", "short");
}

#[test]
fn numbers_for_people() {
    for (value, expected) in [
        (0.0, "0 0 0s 0% "),
        (1.0, "1 1 1s 100% "),
        (1_234_567.0, "1.235M 1.177Mi 14d 6h 56m 7s 1.235e+08% "),
        (0.000_012, "12u 1.2e-05 12us 0.0012% "),
        (-90.0, "-90 -90 -1m 30s -9000% "),
        (f64::NAN, "NaN NaN NaN NaN% "),
        (f64::INFINITY, "+Inf +Inf +Inf +Inf% "),
        (3600.5, "3.6k 3.516ki 1h 0m 0s 3.6e+05% "),
        (59.123, "59.12 59.12 59.12s 5912% "),
    ] {
        let text = render(
            "{{ humanize $value }} {{ humanize1024 $value }} {{ humanizeDuration $value }} {{ humanizePercentage $value }} ",
            value,
        );
        assert_eq!(text, expected, "{value}");
    }
    for (value, expected) in [
        (1e6, "1e+06"),
        (123_456.0, "123456"),
        (1_073_741_824.0, "1.073741824e+09"),
        (0.00001, "1e-05"),
        (-0.5, "-0.5"),
        (100.0, "100"),
    ] {
        assert_eq!(render("{{ $value }}", value), expected);
    }
    check("{{ 1435065584.128 | humanizeTimestamp }}", "2015-06-23 13:19:44.128 +0000 UTC");
    check("{{ (toTime 1435065584).Format \"2006-01-02T15:04:05Z07:00\" }}", "2015-06-23T13:19:44Z");
    check("{{ toDuration 3661.5 }} {{ (toDuration 90).Minutes }}", "1h1m1.5s 1.5");
    check("{{ humanize $labels.n }} {{ humanize \"1e3\" }} {{ parseDuration \"1h30m\" }}", "1.234k 1k 5400");
    check("{{ now }}", "1.435065584128e+09");
}

#[test]
fn text_functions() {
    check("{{ \"hello big world\" | title }} {{ toLower \"ABC\" }}", "Hello Big World abc");
    check("{{ stripPort $labels.instance }} {{ stripPort \"[::1]:80\" }} {{ stripPort \"x\" }}", "db1.example.com ::1 x");
    check(
        "{{ stripDomain $labels.instance }} {{ stripDomain \"10.0.0.1:80\" }} {{ stripDomain \"a.b\" }}",
        "db1:9100 10.0.0.1:80 a",
    );
    check(
        "{{ match \"d.*1\" $labels.instance }} {{ reReplaceAll \"(.*):.*\" \"<$1>\" $labels.instance }}",
        "true <db1.example.com>",
    );
    check("{{ graphLink \"up == 1\" }} {{ tableLink \"a\" }}", "/graph?g0.expr=up+%3D%3D+1&g0.tab=0 /graph?g0.expr=a&g0.tab=1");
    check("{{ \"a b&c\" | urlQueryEscape }} {{ html \"<a>\" }} {{ safeHtml \"<a>\" }}", "a+b%26c &lt;a&gt; <a>");
    check(
        "{{ $labels.SortedPairs | len }} {{ join \",\" ($labels.Remove (stringSlice \"n\" \"job\")).Names }}",
        "4 __name__,instance",
    );
    check("{{ len $labels.job }} {{ slice $labels.job 1 3 }} {{ index $labels \"job\" }}", "4 od node");
}

#[test]
fn printf() {
    check(
        "{{ printf \"%.2f|%5.1f|%-6s|%06.2f|%+d|%x|%q|%v|%%|%t\" $value $value \"ab\" $value 5 255 \"q\" $value true }}",
        "0.25|  0.3|ab    |000.25|+5|ff|\"q\"|0.2512|%|true",
    );
    check("{{ printf \"%d %s\" $value 5 }}", "%!d(float64=0.2512) %!s(int=5)");
    check("{{ printf \"%s\" }}{{ printf \"x\" 1 }}", "%!s(MISSING)x%!(EXTRA int=1)");
    check("{{ printf \"%e %g %.3g %6d|%*d\" 1234.5 1e21 1234.5 42 4 7 }}", "1.234500e+03 1e+21 1.23e+03     42|   7");
    check("{{ print 1 2 \"a\" 3 }}", "1 2a3");
}

#[test]
fn mistakes_become_text() {
    let failed = |template: &str, part: &str| {
        let text = render(template, 1.0);
        assert!(text.starts_with("<error expanding template: ") && text.contains(part), "{template}: {text}");
        assert!(text.ends_with('>'));
    };
    failed("{{ query \"wrong\" }}", "parse error");
    failed("{{ first (query \"none\") }}", "first() called on vector with no elements");
    failed("{{ .Nope }}", "can't evaluate field Nope");
    failed("{{ eq 1 1.0 }}", "incompatible types");
    failed("{{ nosuch 1 }}", "function \"nosuch\" not defined");
    failed("{{ $nope }}", "undefined variable");
    failed("{{ if true }}", "without {{end}}");
    failed("{{ end }}", "unexpected {{end}}");
    failed("{{ \"a }}", "unterminated");
    failed("{{ 1 | 2 }}", "non executable command");
    failed("{{ template \"none\" }}", "not defined");
    failed("{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}", "maximum template depth");
    failed("{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}", "steps");
    failed("{{ range 10000 }}0123456789{{ end }}", "longer than 65536 bytes");
    failed(&"{{ if true }}".repeat(5000), "nested too deep");
    failed(&format!("{{{{ {}1 }}}}", "(".repeat(5000)), "nested too deep");
    failed("line\n{{ humanize \"x\" }}", "line 2");
    failed("{{ reReplaceAll \"(\" \"\" \"a\" }}", "error parsing regexp");
}

proptest::proptest! {
    #[test]
    fn no_template_panics(text in "([{]{2}|[}]{2}|-| |if|range|end|else|with|define|printf|\\$labels|\\$x|:=|=|\\.|\\(|\\)|\\||\"|`|'|[0-9]|%|é|\n|index|slice|query|,){0,40}") {
        let _ = render(&text, 1.0);
    }
}
