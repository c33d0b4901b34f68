//! Grouping, retries and bodies.

use br_model::Labels;
use br_route::delivery::{Attempt, Decision, RetryPolicy, decide, retry_after};
use br_route::group::{ALERTS_PER_GROUP_MAX, GroupKey, GroupTimes, Groups};
use br_route::webhook::{Message, MessageAlert, fingerprint, payload};
use br_route::{Channel, ChannelKind};
use br_std::Nanos;
use std::time::Duration;

const START: Nanos = Nanos::from_secs(1_800_000_000);

fn seconds(seconds: i64) -> Nanos {
    START + Duration::from_secs(seconds as u64)
}

fn key() -> GroupKey {
    GroupKey { rule_file: "f".to_owned(), rule_group: "g".to_owned(), alertname: "Down".to_owned() }
}

fn answered(status: u16) -> Attempt {
    Attempt::Answered { status, retry_after: None }
}

#[test]
fn what_is_tried_again() {
    let decided = |attempt: &Attempt, failed, now| decide(RetryPolicy::default(), attempt, failed, START, now, u64::MAX);
    for status in [200, 204, 299] {
        assert_eq!(decided(&answered(status), 0, START), Decision::Delivered);
    }
    for status in [301, 400, 401, 404, 413] {
        assert!(matches!(decided(&answered(status), 0, START), Decision::Dead { .. }), "{status}");
    }
    for (attempt, failed, wait) in [
        (answered(500), 0, 1),
        (answered(503), 3, 8),
        (answered(429), 60, 300),
        (Attempt::NoAnswer { reason: "timed out".into() }, 1, 2),
    ] {
        let Decision::Retry { at, .. } = decided(&attempt, failed, START) else { panic!("{attempt:?} is tried again") };
        assert_eq!(at, seconds(wait), "{attempt:?}");
    }
    let asked = Attempt::Answered { status: 429, retry_after: Some(Duration::from_secs(42)) };
    assert!(matches!(decided(&asked, 0, START), Decision::Retry { at, .. } if at == seconds(42)), "Retry-After is kept to");
    let far = Attempt::Answered { status: 503, retry_after: Some(Duration::MAX) };
    assert!(matches!(decided(&far, 0, START), Decision::Retry { at, .. } if at == seconds(3600)));
    let short = RetryPolicy { give_up_after: Duration::from_secs(1), ..RetryPolicy::default() };
    assert!(matches!(decide(short, &answered(500), 99, START, seconds(86_399), 0), Decision::Retry { .. }), "a day at least");
    assert!(
        matches!(decide(short, &answered(500), 99, START, seconds(86_400), 0), Decision::Dead { reason } if reason.contains("500"))
    );
}

#[test]
fn the_header_is_read() {
    let now = Nanos::from_secs(1_445_412_480); // 2015-10-21 07:28:00
    assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
    assert_eq!(retry_after("Wed, 21 Oct 2015 07:29:00 GMT", now), Some(Duration::from_mins(1)));
    assert_eq!(retry_after("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(Duration::ZERO));
    assert_eq!(retry_after("soon", now), None);
}

#[test]
fn twenty_series_make_one_message() {
    let times = GroupTimes::default();
    let mut groups = Groups::default();
    for series in 0..20 {
        groups.observe(seconds(series / 10), &key(), &format!("{series:02}"), true);
    }
    assert_eq!(groups.step(seconds(4), times), []);
    assert_eq!(groups.next_at(times), Some(seconds(5)));
    let first = groups.step(seconds(5), times).pop().expect("due");
    assert_eq!((first.firing.len(), first.resolved.len()), (20, 0));
    groups.observe(seconds(10), &key(), "03", false);
    groups.observe(seconds(12), &key(), "20", true);
    assert_eq!(groups.step(seconds(30), times), [], "not more often than the interval");
    let mut restarted: Groups = serde_json::from_str(&serde_json::to_string(&groups).expect("JSON")).expect("JSON");
    let second = groups.step(seconds(65), times).pop().expect("due");
    assert_eq!(
        restarted.step(seconds(70), times).pop().expect("due").dedup_key,
        second.dedup_key,
        "a restart repeats the same message"
    );
    assert_eq!((second.firing.len(), second.resolved.as_slice()), (20, ["03".to_owned()].as_slice()));
    assert_ne!(first.dedup_key, second.dedup_key);
    assert_eq!(groups.next_at(times), Some(seconds(65 + 4 * 3600)), "then only a reminder");
    for series in 0..21 {
        groups.observe(seconds(200), &key(), &format!("{series:02}"), false);
    }
    assert_eq!(groups.step(seconds(300), times).pop().expect("due").resolved.len(), 20);
    assert_eq!(groups, Groups::default(), "nothing is kept of what has ended");
}

#[test]
fn a_short_alert_is_told() {
    let mut groups = Groups::default();
    groups.observe(seconds(0), &key(), "a", true);
    groups.observe(seconds(1), &key(), "a", false);
    let flush = groups.step(seconds(5), GroupTimes::default()).pop().expect("due");
    assert_eq!(flush.resolved, ["a"]);
    groups.observe(seconds(9), &key(), "never fired", false);
    assert_eq!(groups.next_at(GroupTimes::default()), None);
}

#[test]
fn a_group_is_bounded() {
    let mut groups = Groups::default();
    for series in 0..ALERTS_PER_GROUP_MAX + 5 {
        groups.observe(START, &key(), &series.to_string(), true);
    }
    let flush = groups.step(seconds(5), GroupTimes::default()).pop().expect("due");
    assert_eq!((flush.firing.len(), flush.left_out), (ALERTS_PER_GROUP_MAX, 5));
}

fn message(count: usize) -> Message {
    let alert = |at: usize| MessageAlert {
        id: format!("{at:032x}"),
        labels: Labels::from_pairs([("alertname", "Down"), ("instance", &format!("host-{at}"))]),
        annotations: Labels::from_pairs([("summary", "it is down")]),
        starts_at: Nanos::from_millis(1_800_000_000_250),
        ends_at: (at == 1).then_some(Nanos::from_secs(1_800_000_060)),
        generator_url: String::new(),
        evidence: Some(serde_json::json!({"traces": ["x".repeat(500)]})),
        incident_id: None,
    };
    Message {
        receiver: "team".to_owned(),
        external_url: "http://b:1811".to_owned(),
        group_labels: Labels::from_pairs([("alertname", "Down")]),
        group_key: "{}:{alertname=\"Down\"}".to_owned(),
        alerts: (0..count).map(alert).collect(),
        left_out: 0,
    }
}

#[test]
fn the_body_is_version_four() {
    let body: serde_json::Value = serde_json::from_str(&payload(&message(2), 1 << 20).expect("fits")).expect("JSON");
    assert_eq!(body["version"], "4");
    assert_eq!(body["status"], "firing");
    assert_eq!(body["commonLabels"], serde_json::json!({"alertname": "Down"}));
    assert_eq!(body["commonAnnotations"], serde_json::json!({"summary": "it is down"}));
    assert_eq!(body["alerts"][0]["startsAt"], "2027-01-15T08:00:00.25Z");
    assert_eq!(body["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(body["alerts"][1]["status"], "resolved");
    assert!(body["alerts"][0]["bellrock"]["evidence"].is_object());
    assert_eq!(fingerprint(&Labels::empty()), "cbf29ce484222325");
}

#[test]
fn a_large_body_is_cut() {
    let text = payload(&message(1000), 20_000).expect("fits");
    assert!(text.len() <= 20_000);
    let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let kept = body["alerts"].as_array().expect("alerts").len();
    assert!(kept > 10);
    assert_eq!(body["truncatedAlerts"], 1000 - kept as u64);
    assert!(body["alerts"][0]["bellrock"]["evidence"].is_null(), "evidence goes first");
    assert!(payload(&message(1), 100).is_err());
}

#[test]
fn channels_are_read_and_checked() {
    let check = |text: &str, is_right: bool| {
        let channel = serde_norway::from_str::<Channel>(text).map_err(|error| error.to_string());
        let checked = channel.and_then(|channel| channel.check().map(|()| channel).map_err(|error| error.to_string()));
        assert_eq!(checked.is_ok(), is_right, "{text}: {checked:?}");
        checked.ok()
    };
    let channel =
        check("name: team\nwebhook:\n  url: http://localhost:9/x\n  headers: {Authorization: Bearer a}\n", true).expect("right");
    let ChannelKind::Webhook(webhook) = channel.kind;
    assert_eq!((webhook.timeout_ms, channel.send_resolved, webhook.headers.len()), (10_000, true, 1));
    check("name: team\nwebhook: {url: 'ftp://x'}\n", false);
    check("name: team\nwebhook: {url: 'http://'}\n", false);
    check("name: ''\nwebhook: {url: 'http://x'}\n", false);
    check("name: team\nwebhook: {url: 'http://x', retries: 3}\n", false);
    check("name: team\npager: {}\n", false);
}

proptest::proptest! {
    /// Whatever order the news comes in: every alert that fired is told, and told to have ended when it has.
    #[test]
    fn nothing_is_left_untold(news in proptest::collection::vec((0u8..6, proptest::bool::ANY, 0u64..90), 1..60)) {
        let times = GroupTimes::default();
        let mut groups = Groups::default();
        let (mut now, mut fires, mut told) = (START, std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        let mut keys = std::collections::BTreeSet::new();
        let mut hear = |groups: &mut Groups, now, told: &mut std::collections::BTreeMap<String, bool>| {
            for flush in groups.step(now, times) {
                proptest::prop_assert!(keys.insert(flush.dedup_key.clone()), "keys differ");
                told.extend(flush.firing.into_iter().map(|id| (id, true)));
                told.extend(flush.resolved.into_iter().map(|id| (id, false)));
            }
            Ok(())
        };
        for (alert, is_firing, wait) in news {
            now = now + Duration::from_secs(wait);
            hear(&mut groups, now, &mut told)?;
            let id = alert.to_string();
            if is_firing || fires.contains_key(&id) {
                fires.insert(id.clone(), is_firing);
            }
            groups.observe(now, &key(), &id, is_firing);
        }
        now = now + Duration::from_mins(10);
        hear(&mut groups, now, &mut told)?;
        proptest::prop_assert_eq!(fires, told);
    }
}
