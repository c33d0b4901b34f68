//! Incidents from facts.

use br_incident::fact::TEXT_BYTES_MAX;
use br_incident::{Fact, FactKind, Incident, IncidentState, correlation_key};
use br_model::Labels;
use br_std::Nanos;
use proptest::prelude::*;

fn opened() -> FactKind {
    FactKind::Opened {
        title: "Down on shop".into(),
        severity: "page".into(),
        service: "shop".into(),
        correlation_key: "k".into(),
    }
}

fn linked(id: &str) -> FactKind {
    FactKind::AlertLinked { alert_id: id.into(), name: "Down".into() }
}

fn ended(id: &str) -> FactKind {
    FactKind::AlertResolved { alert_id: id.into(), name: "Down".into() }
}

fn incident(facts: &[(i64, FactKind)]) -> Incident {
    let mut incident = Incident::new("i");
    for (at, kind) in facts {
        assert!(incident.apply(Fact::new("i", Nanos::from_secs(*at), kind.clone())));
    }
    incident
}

#[test]
fn a_life() {
    let by = |kind: fn(String, String) -> FactKind| FactKind::by_person(kind, "ada", "seen").expect("valid");
    let mut facts = vec![(1, opened()), (1, linked("a")), (3, linked("b")), (9, ended("a"))];
    let open = incident(&facts);
    assert_eq!((open.state(), open.firing(), open.stable_since()), (IncidentState::Open, 1, None));
    facts.extend([(10, by(FactKind::acknowledged)), (12, ended("b"))]);
    let stable = incident(&facts);
    assert_eq!(stable.state(), IncidentState::Acknowledged, "nothing closes by itself");
    assert_eq!(stable.stable_since(), Some(Nanos::from_secs(12)));
    facts.extend([(13, by(FactKind::noted)), (20, by(FactKind::resolved))]);
    let closed = incident(&facts);
    assert_eq!((closed.state(), closed.resolved()), (IncidentState::Resolved, Some((Nanos::from_secs(20), "ada"))));
    assert_eq!((closed.title(), closed.service(), closed.opened_at()), ("Down on shop", "shop", Nanos::from_secs(1)));
    let kinds: Vec<&str> = closed.timeline().iter().map(|entry| entry.kind).collect();
    assert_eq!(
        kinds,
        ["opened", "alert", "alert", "alert_resolved", "acknowledged", "alert_resolved", "stable", "note", "resolved"]
    );
}

#[test]
fn people_say_who_they_are() {
    assert!(FactKind::by_person(FactKind::noted, " ", "x").is_err());
    assert!(FactKind::by_person(FactKind::noted, "ada", &"x".repeat(TEXT_BYTES_MAX + 1)).is_err());
    assert!(Fact::from_json("{}").is_err());
    let newer = r#"{"at":1,"fact":"noted","by":"a","text":"","incident_id":"i","version":99}"#;
    assert!(Fact::from_json(newer).is_err_and(|error| error.message().contains("newer")));
}

#[test]
fn what_belongs_together() {
    let key = |pairs: &[(&str, &str)]| correlation_key(&Labels::from_pairs(pairs.iter().copied()));
    let latency = key(&[("alertname", "Latency"), ("service", "shop"), ("severity", "page")]);
    assert_eq!(latency, key(&[("alertname", "Errors"), ("job", "shop"), ("severity", "page")]));
    assert_ne!(latency, key(&[("alertname", "Latency"), ("service", "shop"), ("severity", "ticket")]));
    assert_ne!(key(&[("alertname", "A")]), key(&[("alertname", "B")]));
}

fn any_kind() -> impl Strategy<Value = FactKind> {
    prop_oneof![
        Just(opened()),
        "[ab]".prop_map(|id| linked(&id)),
        "[ab]".prop_map(|id| ended(&id)),
        "[xy]".prop_map(|by| FactKind::acknowledged(by, String::new())),
        "[xy]".prop_map(|by| FactKind::noted(by, "text".into())),
        "[xy]".prop_map(|by| FactKind::resolved(by, String::new())),
    ]
}

proptest! {
    /// Order and repetition do not matter, and a fact survives its JSON.
    #[test]
    fn the_fold_is_tolerant(facts in proptest::collection::vec((0i64..20, any_kind()), 0..30), seed in any::<u64>()) {
        let facts: Vec<Fact> = facts.into_iter().map(|(at, kind)| Fact::new("i", Nanos::from_secs(at), kind)).collect();
        let mut straight = Incident::new("i");
        for fact in &facts {
            straight.apply(Fact::from_json(&fact.to_json().expect("JSON")).expect("a fact"));
        }
        let mut shuffled: Vec<Fact> = facts.iter().chain(&facts).cloned().collect();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let mut other = Incident::new("i");
        for fact in shuffled {
            other.apply(fact);
        }
        prop_assert_eq!(&straight, &other);
        prop_assert_eq!(straight.timeline(), other.timeline());
        prop_assert_eq!(straight.state(), other.state());
        let is_closed = facts.iter().any(|fact| matches!(fact.kind, FactKind::Resolved { .. }));
        prop_assert_eq!(straight.state() == IncidentState::Resolved, is_closed);
    }
}
