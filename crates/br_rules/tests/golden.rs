//! Timelines that promtool proved, and the rule files of a public collection.

#![allow(clippy::print_stdout, reason = "a test says what it skips and what it covered")]

use br_model::{Labels, Value, is_stale};
use br_rules::{Alerting, Effect, Environment, ResultSample, RuleKind, parse};
use br_std::Nanos;
use std::path::PathBuf;
use std::time::Duration;

/// A folder of the shared data, or `None` where there is none.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("BELLROCK_SHARED_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no shared data at {}", path.display());
    None
}

#[allow(clippy::disallowed_methods, reason = "a test reads its data from the real disk")]
fn read(path: &std::path::Path) -> String {
    String::from_utf8(std::fs::read(path).expect("readable")).expect("UTF-8")
}

fn group_of(hold_s: u64, keep_s: u64) -> Alerting {
    let text = format!(
        "groups: [{{name: g, rules: [{{alert: A, expr: m > 5, for: {hold_s}s, keep_firing_for: {keep_s}s, labels: {{severity: page}}}}]}}]"
    );
    let parsed = parse("f", &text, &|_| Ok(()));
    assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
    let group = &parsed.file.groups[0];
    Alerting::new("f", group, &group.rules[0]).expect("an alerting rule")
}

/// State and active time as the written series tell them.
fn written(effects: &[Effect]) -> (Option<String>, Option<f64>) {
    let mut seen = (None, None);
    for effect in effects {
        let Effect::Write(sample) = effect else { continue };
        let Value::Float(value) = sample.value else { panic!("alert series are floats") };
        match sample.labels.metric_name() {
            _ if is_stale(value) => {}
            "ALERTS" => {
                assert_eq!(sample.labels.get("severity"), Some("page"));
                seen.0 = sample.labels.get("alertstate").map(str::to_owned);
            }
            "ALERTS_FOR_STATE" => seen.1 = Some(value),
            other => panic!("unexpected series {other}"),
        }
    }
    seen
}

#[test]
fn timelines_equal_promtool() {
    let Some(path) = shared("alerting/alert-state-golden/cases.json") else { return };
    let data: serde_json::Value = serde_json::from_str(&read(&path)).expect("JSON");
    let cases = data["cases"].as_array().expect("cases");
    println!("{} timelines", cases.len());
    assert!(!cases.is_empty());
    let none = Labels::empty();
    let environment = Environment { external_labels: &none, external_url: "", query: &|_, _| Ok(Vec::new()) };
    for case in cases {
        let mut rule = group_of(case["for_s"].as_u64().expect("for"), case["keep_firing_for_s"].as_u64().expect("keep"));
        // Every second case goes through a restart at each step: nothing may be lost.
        let restarts = case["id"].as_u64().is_some_and(|id| id % 2 == 0);
        let interval = case["interval_s"].as_i64().expect("interval");
        for (at, (value, expected)) in
            case["values"].as_array().expect("values").iter().zip(case["timeline"].as_array().expect("timeline")).enumerate()
        {
            let labels = Labels::from_pairs([("__name__", "m")]);
            let samples: Vec<ResultSample> =
                value.as_f64().filter(|value| *value > 5.0).map(|value| ResultSample::float(labels, value)).into_iter().collect();
            if restarts {
                let snapshot = serde_json::to_string(&rule.snapshot()).expect("JSON");
                rule = group_of(case["for_s"].as_u64().expect("for"), case["keep_firing_for_s"].as_u64().expect("keep"));
                assert!(rule.restore(&serde_json::from_str::<Vec<_>>(&snapshot).expect("JSON")).is_empty());
            }
            let outcome = rule.step(Nanos::from_secs(at as i64 * interval), &samples, &environment);
            assert_eq!(outcome.error, None);
            let expected = (expected["state"].as_str().map(str::to_owned), expected["active_at"].as_f64());
            assert_eq!(written(&outcome.effects), expected, "case {} step {at}", case["id"]);
        }
    }
}

#[test]
fn public_rules_are_read_whole() {
    let Some(folder) = shared("alerting/awesome-prometheus-alerts/dist") else { return };
    let (mut files, mut rules) = (0, 0);
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "yml") {
                continue;
            }
            let parsed = parse(&path.display().to_string(), &read(&path), &|_| Ok(()));
            let errors: Vec<String> = parsed.errors().map(ToString::to_string).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            files += 1;
            rules += parsed.file.groups.iter().map(|group| group.rules.len()).sum::<usize>();
            render_all(&parsed.file);
        }
    }
    println!("{rules} rules in {files} files");
    assert!(rules >= 954, "{rules} rules in {files} files");
}

/// Every annotation of every rule expands without an error text.
fn render_all(file: &br_rules::RuleFile) {
    let none = Labels::empty();
    let answer = ResultSample::float(Labels::from_pairs([("instance", "a:9")]), 3.0);
    let environment = Environment {
        external_labels: &none,
        external_url: "http://b/",
        query: &|_, _| Ok(vec![answer.clone(), answer.clone()]),
    };
    for group in &file.groups {
        for rule in group.rules.iter().filter(|rule| matches!(rule.kind, RuleKind::Alerting { .. })) {
            let mut alerting = Alerting::new(&file.name, group, rule).expect("an alerting rule");
            let sample = ResultSample::float(Labels::from_pairs([("instance", "a:9")]), 3.0);
            let outcome = alerting.step(Nanos::from_secs(0), &[sample], &environment);
            assert_eq!(outcome.error, None);
            let alert = alerting.alerts().next().expect("one alert");
            for (name, text) in alert.annotations.iter() {
                assert!(!text.contains("<error"), "{} {name}: {text}", rule.name());
            }
        }
    }
}

#[test]
fn rule_files_of_promtool() {
    for (name, is_right) in [
        ("rules.yml", true),
        ("rules-bad.yml", false),
        ("rules_extrafields.yml", false),
        ("rules_duplicates.yml", true),
        ("bad-rules-error.yml", true),
        ("prometheus-rules.lint.yml", true),
        ("at-modifier.yml", true),
    ] {
        let Some(path) = shared(&format!("alerting/promtool-testdata/{name}")) else { return };
        let parsed = parse(name, &read(&path), &|_| Ok(()));
        assert_eq!(parsed.errors().count() == 0, is_right, "{name}: {:?}", parsed.complaints);
    }
}

#[test]
fn steps_between_known_states() {
    let none = Labels::empty();
    let environment = Environment { external_labels: &none, external_url: "", query: &|_, _| Ok(Vec::new()) };
    let sample = ResultSample::float(Labels::from_pairs([("job", "a")]), 7.0);
    let mut rule = group_of(60, 0);
    let changes = |outcome: &br_rules::Outcome| {
        let changed = outcome.effects.iter().filter_map(|effect| match effect {
            Effect::Changed(change) => Some((change.from.as_str(), change.to.as_str())),
            Effect::Write(_) => None,
        });
        changed.collect::<Vec<_>>()
    };
    let at = Nanos::from_secs;
    assert_eq!(changes(&rule.step(at(0), std::slice::from_ref(&sample), &environment)), [("inactive", "pending")]);
    assert_eq!(changes(&rule.step(at(60), std::slice::from_ref(&sample), &environment)), [("pending", "firing")]);
    rule.step_unknown(at(120));
    assert_eq!(rule.alerts().next().and_then(|alert| alert.unknown_since), Some(at(120)), "missing data is not resolved");
    assert_eq!(changes(&rule.step(at(180), &[], &environment)), [("firing", "inactive")]);
    assert_eq!(rule.alerts().count(), 1, "kept so that the end can be told");
    rule.step(at(180 + 901), &[], &environment);
    assert_eq!(rule.alerts().count(), 0);
    let twins = [sample.clone(), ResultSample::float(Labels::from_pairs([("__name__", "x"), ("job", "a")]), 1.0)];
    let outcome = rule.step(at(2000), &twins, &environment);
    assert!(outcome.error.is_some_and(|error| error.to_string().contains("same labelset")), "twins are refused");
    assert!(outcome.effects.is_empty());
}

#[test]
fn series_that_end_are_marked() {
    let none = Labels::empty();
    let environment = Environment { external_labels: &none, external_url: "", query: &|_, _| Ok(Vec::new()) };
    let mut rule = group_of(60, 0);
    let sample = ResultSample::float(Labels::from_pairs([("job", "a")]), 7.0);
    rule.step(Nanos::from_secs(0), std::slice::from_ref(&sample), &environment);
    let outcome = rule.step(Nanos::from_secs(60), std::slice::from_ref(&sample), &environment);
    let stale: Vec<String> = outcome
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Write(sample) if sample.value.is_stale() => Some(sample.labels.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(stale, [r#"ALERTS{alertname="A", alertstate="pending", job="a", severity="page"}"#]);
    assert_eq!(rule.end().len(), 2, "both series of the firing alert end with the rule");
}

#[test]
fn restoration_as_prometheus_does_it() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let at = |minutes: i64| Nanos::from_secs(60 * minutes);
    let check = |now: i64, hold: u64, sample: (i64, i64), expected: Option<i64>| {
        let sample = (at(sample.0), at(sample.1).as_secs_f64());
        let restored = br_rules::restored_active_at(at(now), minutes(hold), sample, br_rules::RestoreOptions::default());
        assert_eq!(restored, expected.map(at), "now {now} hold {hold}");
    };
    check(100, 30, (95, 60), Some(60)); // had held long enough: fires next
    check(100, 30, (95, 70), Some(80)); // five left: waits the grace of ten
    check(100, 60, (90, 70), Some(80)); // forty left: the ten minutes of outage do not count
    check(200, 60, (90, 70), None); // out of the tolerance of an hour
}
