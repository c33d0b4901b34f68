//! Expositions: what is read from them, what is refused and where, and the public OpenMetrics cases.
#![allow(clippy::disallowed_methods, reason = "tests read shared data from the disk")]

mod shared;

use br_model::{MetricBatch, MetricType, Value};
use br_wire::Limits;
use br_wire::exposition::{self, Bounds, Format, HistogramForms, NO_TIMESTAMP};
use std::fmt::Write;

fn show(batch: &MetricBatch) -> String {
    let mut text = String::new();
    for series in &batch.series {
        for sample in &series.samples {
            let Value::Float(value) = sample.value else { panic!("a float: {:?}", sample.value) };
            let _ = write!(text, "{} {value}", series.labels);
            if sample.timestamp_ms != NO_TIMESTAMP {
                let _ = write!(text, " @{}", sample.timestamp_ms);
            }
            if let Some(start) = sample.start_ms {
                let _ = write!(text, " from {start}");
            }
            text.push('\n');
        }
        for exemplar in &series.exemplars {
            let _ = writeln!(text, "  exemplar {} {}", exemplar.labels, exemplar.value);
        }
    }
    text
}

fn check(format: Format, body: &str, expect: &str) {
    let batch = exposition::parse_format(body.as_bytes(), format).unwrap_or_else(|error| panic!("{error}\n{body}"));
    assert_eq!(show(&batch), expect, "{body}");
}

fn check_fault(format: Format, body: &str, expect: &str) {
    let error = exposition::parse_format(body.as_bytes(), format).expect_err(body);
    assert_eq!(error.to_string(), expect, "{body}");
    assert_eq!(error.http_status(), 400);
}

#[test]
fn text_as_prometheus_reads_it() {
    check(
        Format::Text,
        "# a comment\n\n# HELP up Is \\\\ it\\nup?\n# TYPE up gauge\nup 1\n  spaced { a = \"b\\\"c\" , d=\"\" , } +Inf 1700000000000\nnan{x=\"}\"} NaN\r\n",
        "up 1\nspaced{a=\"b\\\"c\"} inf @1700000000000\nnan{x=\"}\"} NaN\n",
    );
    check(
        Format::Text,
        "{\"http.ok\",\"a.b\"=\"c\"} 2\n",
        "{\"http.ok\"} 2\n".replace("{\"http.ok\"}", "{__name__=\"http.ok\", \"a.b\"=\"c\"}").as_str(),
    );
    let batch = exposition::parse_format(b"# HELP up Is \\\\ it\\nup?\n# TYPE up gauge\n", Format::Text).expect("valid");
    assert_eq!(batch.metadata[0].1.help, "Is \\ it\nup?");
    assert_eq!(batch.metadata[0].1.metric_type, MetricType::Gauge);
}

#[test]
fn faults_have_line_and_column() {
    check_fault(Format::Text, "up 1\nup{a=\"b} 1\n", "2:6: a label value in double quotes is expected");
    check_fault(Format::Text, "up one\n", "1:4: \"one\" is not a value");
    check_fault(Format::Text, "up 1 2 3\n", "1:8: the line should end here");
    check_fault(Format::Text, "é 1\n", "1:1: a metric name is expected");
    check_fault(Format::Text, "# TYPE up strange\n", "1:11: \"strange\" is not a metric type");
    check_fault(Format::Text, "a{b=\"1\",b=\"2\"} 1\n", "1:9: label \"b\" stands twice");
    check_fault(Format::OpenMetrics, "up 1\n", "2:1: the body does not end with # EOF");
    let error = exposition::parse_format(b"up 1\nx\xff 1\n", Format::Text).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "2:2: invalid UTF-8");
}

#[test]
fn openmetrics_with_exemplars_and_starts() {
    check(
        Format::OpenMetrics,
        "# TYPE req counter\n# UNIT req_x \nreq_total{a=\"1\"} 5 1.5 # {trace_id=\"abc\"} 0.25 1.25\nreq_created{a=\"1\"} 1000\nother_total 3 2.0 st@1.5\n# EOF\n",
        "req_total{a=\"1\"} 5 @1500 from 1000000\n  exemplar {trace_id=\"abc\"} 0.25\nreq_created{a=\"1\"} 1000\nother_total 3 @2000 from 1500\n",
    );
}

#[test]
fn created_series_of_python_in_text() {
    check(
        Format::Text,
        "# TYPE jobs_total counter\njobs_total{q=\"a\"} 3\n# TYPE jobs_created gauge\njobs_created{q=\"a\"} 1.7e9\n# TYPE t summary\nt_count 2\nt_sum 5\n# TYPE t_created gauge\nt_created 1.6e9\n",
        "jobs_total{q=\"a\"} 3 from 1700000000000\njobs_created{q=\"a\"} 1700000000\nt_count 2 from 1600000000000\nt_sum 5 from 1600000000000\nt_created 1600000000\n",
    );
}

#[test]
fn content_types() {
    for (content_type, fallback, expect) in [
        ("text/plain; version=0.0.4; charset=utf-8", false, Some(Format::Text)),
        ("application/openmetrics-text; version=1.0.0", false, Some(Format::OpenMetrics)),
        (
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            false,
            Some(Format::Protobuf),
        ),
        ("text/html", true, Some(Format::Text)),
        ("text/html", false, None),
        ("", false, None),
    ] {
        assert_eq!(Format::from_content_type(content_type, fallback).ok(), expect, "{content_type}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let body = "# HELP a_total with \\\\ and\\nline\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\"} 5\n# TYPE b histogram\nb_bucket{le=\"+Inf\"} 2\nb_count 2\nb_sum 0.5\n";
    let batch = exposition::parse_format(body.as_bytes(), Format::Text).expect("valid");
    assert_eq!(exposition::write_text(&batch), body);
}

#[test]
fn protobuf_with_a_native_histogram() {
    // name "h", type 4, metric { label { a=b }, histogram { count 3, sum 1.5, schema 3, zero_threshold .5, positive span (1, 2), deltas 1, 1 } }
    let mut histogram = vec![0x08, 3, 0x11];
    histogram.extend(1.5f64.to_le_bytes());
    histogram.extend([0x28, 6, 0x31]);
    histogram.extend(0.5f64.to_le_bytes());
    histogram.extend([0x62, 4, 0x08, 2, 0x10, 2, 0x6a, 2, 2, 2]);
    let mut metric = vec![0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b', 0x3a, histogram.len() as u8];
    metric.extend(histogram);
    let mut family = vec![0x0a, 1, b'h', 0x18, 4, 0x22, metric.len() as u8];
    family.extend(metric);
    let mut body = vec![family.len() as u8];
    body.extend(family);
    let batch = exposition::parse_format(&body, Format::Protobuf).expect("valid");
    assert_eq!(batch.series.len(), 1);
    let Value::Histogram(histogram) = &batch.series[0].samples[0].value else { panic!("a histogram") };
    assert_eq!((histogram.schema, histogram.count, histogram.positive_buckets.as_slice()), (3, 3.0, &[1.0, 2.0][..]));
    assert!(exposition::parse_format(&body[..body.len() - 1], Format::Protobuf).is_err(), "cut");
}

#[test]
fn strict_openmetrics_beyond_the_public_cases() {
    for body in [
        "# TYPE a counter\n# TYPE b counter\n# TYPE a counter\n# EOF\n",
        "# TYPE a counter\na_total NaN\n# EOF\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum -1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"2\"} 3\na_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 3\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1\n# EOF\n",
        "# TYPE a summary\na{quantile=\"1.5\"} 1\n# EOF\n",
        "# TYPE a gaugehistogram\na_bucket{le=\"+Inf\"} 1\na_gcount 1\n# EOF\n",
        "a 1 NaN\n# EOF\n",
        "a{b=\"1\",} 1\n# EOF\n",
        "# TYPE a counter\na_total 1\na_total 1\n# EOF\n",
        "# TYPE a counter\na_total +NaN\n# EOF\n",
        "# TYPE a gauge\na +NaN\n# EOF\n",
        "# TYPE a gauge\na{b=\"1\"} 0\na{b=\"2\"} 0\na{b=\"1\"} 0\n# EOF\n",
        "# TYPE a_created gauge\n# TYPE a counter\n# EOF\n",
        "# TYPE a counter\na_total 1\n# TYPE a_total gauge\n# EOF\n",
        "# TYPE a info\n# UNIT a u\n# EOF\n",
        "# TYPE x_u info\n# UNIT x_u u\n# EOF\n",
        "# TYPE a stateset\na{a=\"b\"} 0.5\n# EOF\n",
        "# TYPE a info\na_info 0\n# EOF\n",
        "# TYPE a stateset\na{a=\"b\"} 1 # {c=\"d\"} 1\n# EOF\n",
        "# TYPE a gaugehistogram\na_gsum 1 # {c=\"d\"} 1\n# EOF\n",
        "# TYPE a gaugehistogram\na_gcount 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 0\na_count 0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"x\"} 0\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"-1\"} 0\na_bucket{le=\"+Inf\"} 0\na_count 0\na_sum 0\n# EOF\n",
        "# TYPE a summary\na{quantile=\"-1\"} 0\n# EOF\n",
        "# TYPE a gauge\na 0 1\na 0 0\n# EOF\n",
        "# TYPE a gauge\na 0 -1\na 0 -1.5\n# EOF\n",
        "a_total 1 # {b=\"c\"} 1 NaN\n# EOF\n",
        "# TYPE a counter\na_total 1# {b=\"c\"} 1\n# EOF\n",
        "# TYPE a counter\na_total 1 # {b=\"c\"}1\n# EOF\n",
        "# TYPE a counter\na_total 1 # {b=\"c\"} 1 1 \n# EOF\n",
        "# TYPE a counter\na_total 1 # {b=\"c\"\n# EOF\n",
        "# HELP a x\n# HELP b x\n# TYPE a gauge\n# EOF\n",
        "a{\n# EOF\n",
        "a{=\"x\"} 1\n# EOF\n",
        "a{,} 1\n# EOF\n",
        "a{b = \"x\"} 1\n# EOF\n",
        "a{\"b.c\"=\"x\"} 1\n# EOF\n",
        "{\"a.b\"} 1\n# EOF\n",
        "# TYPE \"a.b\" gauge\n# EOF\n",
        "a-b 1\n# EOF\n",
        "a 1\r\n# EOF\n",
        "a\n# EOF\n",
        "a \n# EOF\n",
        "a 1_2\n# EOF\n",
        "a 1 1.1.1\n# EOF\n",
        "#EOF\n",
        "# EOF \n",
        "# comment\n# EOF\n",
        "# EOF\n# EOF\n",
        "# EOF\na 1\n",
        "a 1\n# EOF\n\n",
    ] {
        assert!(exposition::parse_openmetrics_strict(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn strict_openmetrics_takes_what_is_allowed() {
    for body in [
        "# EOF",
        "a 1\na_total 2\n# EOF\n",
        "# TYPE a gauge\na NaN\n# EOF\n",
        "# TYPE a gauge\na{b=\"c\"} +Inf\na{b=\"d\"} -inf\n# EOF\n",
        "# HELP a \n# TYPE a unknown\na 0001.5e-1 000\n# EOF\n",
        "# TYPE a counter\na_total 1 12345678901234567890.5\n# EOF\n",
        "# TYPE a stateset\na{a=\"b\"} 0\na{a=\"c\"} 1\n# EOF\n",
        "# TYPE a info\na_info{b=\"c\"} 1\na_info{b=\"d\"} 1\n# EOF\n",
        "# TYPE a gaugehistogram\na_bucket{le=\"1\"} 4 # {b=\"c\"} 0.5\na_bucket{le=\"+Inf\"} 5\na_gcount 5\na_gsum 7\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1 1\na_count 1 1\na_sum 1 1\na_bucket{le=\"+Inf\"} 2 2\na_count 2 2\na_sum 2 2\n# EOF\n",
        "# TYPE a counter\na_total{} 0 123 # {} 0.5\n# EOF\n",
    ] {
        let outcome = exposition::parse_openmetrics_strict(body.as_bytes());
        assert!(outcome.is_ok(), "{body}: {outcome:?}");
    }
}

#[test]
fn public_openmetrics_cases() {
    let Some(folder) = shared::folder("metrics/openmetrics/tests/testdata/parsers") else { return };
    let mut seen = [0, 0];
    let mut wrong = Vec::new();
    for case in folder.read_dir().expect("a folder") {
        let path = case.expect("an entry").path();
        let description = std::fs::read_to_string(path.join("test.json")).expect("test.json");
        let should_parse = description.contains("\"shouldParse\": true");
        let body = std::fs::read(path.join("metrics")).expect("metrics");
        let outcome = exposition::parse_openmetrics_strict(&body);
        seen[usize::from(should_parse)] += 1;
        if outcome.is_ok() != should_parse {
            wrong.push(format!("{}: {:?}", path.display(), outcome.err()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen[0] > 50 && seen[1] > 10, "too few cases: {seen:?}");
}

#[test]
fn public_prometheus_bodies() {
    let Some(folder) = shared::folder("metrics/prometheus/model/textparse/testdata") else { return };
    for (name, format) in [
        ("alltypes.237mfs.prom.txt", Format::Text),
        ("alltypes.237mfs.nometa.prom.txt", Format::Text),
        ("alltypes.5mfs.om.txt", Format::OpenMetrics),
        ("1histogram.om.txt", Format::OpenMetrics),
    ] {
        let body = std::fs::read(folder.join(name)).expect(name);
        let batch = exposition::parse_format(&body, format).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")).count();
        assert_eq!(batch.sample_count(), lines, "{name}");
    }
}

/// The same limits as for every other way in, and no more than is waited for.
#[test]
fn bounds_hold_while_a_body_is_read() {
    let labels = |count: usize| (0..count).map(|at| format!("l{at}=\"v\",")).collect::<Vec<_>>().concat();
    check(Format::Text, "x{a=\"b\"} 1\n", "x{a=\"b\"} 1\n");
    assert!(exposition::parse_format(format!("x{{{}}} 1\n", labels(63)).as_bytes(), Format::Text).is_ok());
    let long = "é".repeat(2049);
    for (line, expect) in [
        (format!("x{{{}}} 1\n", labels(64)), "more than 64 labels, with the metric's name"),
        (format!("x{{a=\"{long}\"}} 1\n"), "1:3: the value of label \"a\" has 4098 bytes, at most 4096 are taken"),
        (format!("x{{{}=\"b\"}} 1\n", "n".repeat(513)), "1:3: a label name of 513 bytes, at most 512 are taken"),
        (format!("x {long}\n"), &*format!("1:3: {:?} is not a value", "é".repeat(100))),
    ] {
        let error = exposition::parse_format(line.as_bytes(), Format::Text).expect_err(expect).to_string();
        assert!(error.ends_with(expect), "{error}");
    }
    let (limits, forms) = (Limits::default(), HistogramForms { native: true, classic_too: true });
    let read = |line: &str, bounds: Bounds<'_>| {
        let body = line.repeat(3000);
        exposition::parse_choosing(body.as_bytes(), Format::Text, forms, &(), &bounds).map(|exposed| exposed.batch.series.len())
    };
    let two = "x{a=\"1\"} 1\ny 2\n";
    assert_eq!(read(two, Bounds::of(&limits)).ok(), Some(6000));
    let error = read(two, Bounds { series_max: 1000, ..Bounds::of(&limits) }).expect_err("too many");
    assert!(error.to_string().contains("more than 1000 series"), "{error}");
    assert!(read("# only comments\n", Bounds { is_stopped: &|| true, ..Bounds::of(&limits) }).is_err());
}
