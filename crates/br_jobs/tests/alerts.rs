//! Alerts end to end: from a rule to a message at a real listener, over a restart.

use br_catalog::{Catalog, OutboxState};
use br_env::{Clock, sim::SimClock};
use br_incident::IncidentState;
use br_jobs::alerts::{
    AlertEngine, Curve, CurveQuery, DeliveryWorker, EngineOptions, Evaluator, GroupEvaluator, RuleHealth, SampleWriter,
    deliver_due,
};
use br_model::{Labels, MetricBatch, TenantId};
use br_route::{Channel, GroupTimes, RetryPolicy};
use br_rules::{AlertState, ResultSample, Rule};
use br_std::{Error, Nanos, Result};
use br_storage::Budget;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Yields one sample for each instance that is down; `None` is a store that cannot be asked.
#[derive(Default)]
struct Down(Mutex<Option<Vec<&'static str>>>);

impl Evaluator for Down {
    fn check(&self, expression: &str) -> Result<(), String> {
        if expression.contains("((") { Err("unclosed".to_owned()) } else { Ok(()) }
    }

    fn instant(&self, _tenant: TenantId, _expression: &str, _at: Nanos, _budget: &Budget) -> Result<Vec<ResultSample>> {
        let down = self.0.lock().clone().ok_or_else(|| Error::retry("the store is away"))?;
        let labels = |instance: &str| Labels::from_pairs([("instance", instance), ("job", "shop")]);
        Ok(down.iter().map(|instance| ResultSample::float(labels(instance), 0.0)).collect())
    }

    fn group(self: Arc<Self>, tenant: TenantId, rules: &[&Rule]) -> Arc<dyn GroupEvaluator> {
        let expressions = rules.iter().map(|rule| rule.expression.clone()).collect();
        Arc::new(OneByOne { evaluator: self, tenant, expressions })
    }

    fn curve(&self, wanted: &CurveQuery<'_>, _budget: &Budget) -> Result<Curve> {
        assert!(wanted.labels.get("instance").is_some());
        Ok(Curve { query: "up".to_owned(), threshold: Some(0.0), points: vec![(wanted.from, 1.0), (wanted.to, 0.0)] })
    }
}

/// Rules that have nothing in common.
struct OneByOne<E> {
    evaluator: Arc<E>,
    tenant: TenantId,
    expressions: Vec<String>,
}

impl<E: Evaluator> GroupEvaluator for OneByOne<E> {
    fn begin(&self) {}

    fn instant(&self, rule: usize, at: Nanos, budget: &Budget) -> Result<Vec<ResultSample>> {
        self.evaluator.instant(self.tenant, &self.expressions[rule], at, budget)
    }
}

#[derive(Default)]
struct Written(Mutex<Vec<String>>);

#[async_trait::async_trait]
impl SampleWriter for Written {
    async fn write(&self, _tenant: TenantId, batch: MetricBatch) -> Result<()> {
        self.0.lock().extend(batch.series.iter().map(|series| series.labels.to_string()));
        Ok(())
    }
}

const RULES: &str = "groups:\n- name: g\n  interval: 30s\n  rules:\n  - alert: Down\n    expr: up == 0\n    for: 1m\n    labels: {severity: page}\n    annotations: {summary: '{{ $labels.instance }} is down', runbook_url: 'http://r/1', next_steps: \"1. Call ada.\"}\n";

struct World {
    clock: Arc<SimClock>,
    down: Arc<Down>,
    written: Arc<Written>,
    catalog: Catalog,
    channel: Channel,
    last: Nanos,
}

impl World {
    async fn engine(&self) -> Arc<AlertEngine> {
        let options = EngineOptions {
            tenant: TenantId(1),
            evaluation_interval: Duration::from_secs(30),
            query_offset: Duration::ZERO,
            external_labels: Labels::empty(),
            external_url: "http://b:1811".to_owned(),
            channels: vec![self.channel.clone()],
            group_times: GroupTimes::default(),
        };
        let engine =
            AlertEngine::open(options, self.catalog.clone(), self.down.clone(), self.written.clone(), None, self.clock.clone());
        let engine = engine.await.expect("opens");
        engine.load(&[("rules.yml".to_owned(), RULES.to_owned())]).await.expect("good rules");
        Arc::new(engine)
    }

    async fn pass(&mut self, engine: &Arc<AlertEngine>, duration: Duration) {
        self.clock.advance(duration);
        let now = self.clock.now();
        engine.evaluate_due(self.last, now).await;
        self.last = now;
    }
}

/// Answers each request with the next status and hands out the bodies.
async fn receive(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.expect("readable");
        request.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("writable");
            return body.to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_rule_to_message() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let clock = Arc::new(SimClock::at(Nanos::from_secs(1_800_000_000)));
    let mut world = World {
        last: clock.now(),
        clock: clock.clone(),
        down: Arc::new(Down(Mutex::new(Some(vec!["a", "b"])))),
        written: Arc::default(),
        catalog: Catalog::open(folder.path().join("catalog.db")).await.expect("a catalog"),
        channel: Channel::webhook("team", url),
    };
    let engine = world.engine().await;
    let half_minute = Duration::from_secs(30);
    world.pass(&engine, half_minute).await;
    assert_eq!(engine.alerts(Some(AlertState::Pending)).await.len(), 2);
    drop(engine);

    // A restart does not begin the `for` anew.
    let engine = world.engine().await;
    world.pass(&engine, half_minute).await;
    world.pass(&engine, half_minute).await;
    let firing = engine.alerts(Some(AlertState::Firing)).await;
    assert_eq!(firing.len(), 2);
    assert!(world.written.0.lock().iter().any(|series| series.contains("ALERTS{") && series.contains("firing")));
    let (_, incident_id, evidence) = engine.alert(&firing[0].alert.id).await.expect("known");
    let evidence = evidence.expect("frozen when it fired");
    assert_eq!((evidence.what.as_str(), evidence.runbook.as_str()), ("a is down", "http://r/1"));
    assert_eq!((evidence.place.as_str(), evidence.next_steps[0].as_str()), ("shop, instance=a", "Call ada."));
    assert_eq!((evidence.query.as_str(), evidence.threshold, evidence.points.len()), ("up", Some(0.0), 2));
    let incident_id = incident_id.expect("an incident");
    assert_eq!(engine.incidents(Some(IncidentState::Open)).await.len(), 1, "one for both alerts of the service");

    // A store that cannot be asked resolves nothing.
    *world.down.0.lock() = None;
    world.pass(&engine, half_minute).await;
    assert_eq!(engine.alerts(Some(AlertState::Firing)).await.len(), 2);
    assert!(engine.alerts(None).await.iter().all(|view| view.alert.unknown_since.is_some()));

    // One message for both; the first try is refused with 429, the second is delivered after a restart of the worker.
    assert_eq!(world.catalog.outbox(TenantId(1), OutboxState::Pending, 9).await.expect("readable").len(), 1);
    let worker = || {
        let rng = Arc::new(br_env::sim::SimRng::new(1));
        let channels = vec![world.channel.clone()];
        DeliveryWorker::new(world.catalog.clone(), channels, clock.clone(), rng, RetryPolicy::default()).expect("a client")
    };
    let first = worker();
    let (tried, body) = tokio::join!(deliver_due(&first), receive(&listener, "429 Too Many Requests\r\nretry-after: 7"));
    assert_eq!(tried.expect("tried"), 1);
    assert!(body.contains("\"version\":\"4\"") && body.contains("a is down") && body.contains("b is down"), "{body}");
    assert_eq!(deliver_due(&first).await.expect("readable"), 0, "not before the receiver allows it");
    clock.advance(Duration::from_secs(7));
    let second = worker();
    let (_, again) = tokio::join!(deliver_due(&second), receive(&listener, "200 OK"));
    assert_eq!(again, body);
    assert_eq!(world.catalog.outbox(TenantId(1), OutboxState::Delivered, 9).await.expect("readable").len(), 1);

    // The end: alerts resolve, the incident stays open until a person closes it, also after a restart.
    *world.down.0.lock() = Some(Vec::new());
    world.pass(&engine, half_minute).await;
    assert!(engine.alerts(Some(AlertState::Firing)).await.is_empty());
    let incident = engine.incident(&incident_id).await.expect("known");
    assert_eq!((incident.state(), incident.firing()), (IncidentState::Open, 0));
    assert!(incident.stable_since().is_some());
    engine.acknowledge(&incident_id, "ada", "").await.expect("done");
    drop(engine);
    let engine = world.engine().await;
    assert_eq!(engine.resolve(&incident_id, "ada", "fixed").await.expect("done").state(), IncidentState::Resolved);
    assert!(engine.note("none", "ada", "x").await.is_err());
    world.pass(&engine, Duration::from_secs(90)).await;
    let resolved = world.catalog.outbox(TenantId(1), OutboxState::Pending, 9).await.expect("readable");
    assert!(resolved.len() == 1 && resolved[0].payload.contains("\"status\":\"resolved\""), "{resolved:?}");
    assert!(world.catalog.verify_ledger().await.expect("whole") > 4);
    let wrong = engine.load(&[("bad.yml".to_owned(), RULES.replace("up ==", "(("))]).await;
    assert!(wrong.is_err_and(|complaints| complaints[0].1.message.contains("unclosed")));
    assert_eq!(engine.groups().len(), 1, "bad rules change nothing");

    // A rule that a reload takes away ends what it fired.
    *world.down.0.lock() = Some(vec!["c"]);
    world.pass(&engine, half_minute).await;
    world.pass(&engine, Duration::from_mins(2)).await;
    let firing = engine.alerts(Some(AlertState::Firing)).await.pop().expect("fires again");
    engine.load(&[]).await.expect("no rules are good rules");
    let (ended, incident_id, _) = engine.alert(&firing.alert.id).await.expect("known");
    assert!(ended.resolved_at.is_some());
    let incident = engine.incident(&incident_id.expect("an incident")).await.expect("known");
    assert_eq!((incident.state(), incident.firing()), (IncidentState::Open, 0));
}

/// Answers `quick` at once and `slow` when it is let go; breaks on `broken`.
struct Moody {
    let_go: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Evaluator for Moody {
    fn check(&self, _expression: &str) -> Result<(), String> {
        Ok(())
    }

    fn instant(&self, _tenant: TenantId, expression: &str, _at: Nanos, _budget: &Budget) -> Result<Vec<ResultSample>> {
        match expression {
            "slow" => self.let_go.lock().recv().map_err(|_| Error::closed("the test is over"))?,
            "broken" => panic!("on purpose"),
            _ => {}
        }
        Ok(vec![ResultSample::float(Labels::empty(), 1.0)])
    }

    fn group(self: Arc<Self>, tenant: TenantId, rules: &[&Rule]) -> Arc<dyn GroupEvaluator> {
        let expressions = rules.iter().map(|rule| rule.expression.clone()).collect();
        Arc::new(OneByOne { evaluator: self, tenant, expressions })
    }

    fn curve(&self, _wanted: &CurveQuery<'_>, _budget: &Budget) -> Result<Curve> {
        Ok(Curve::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_group_and_a_broken_rule_hold_up_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(SimClock::at(Nanos::from_secs(1_800_000_000)));
    let (go, let_go) = std::sync::mpsc::channel();
    let options = EngineOptions {
        tenant: TenantId(1),
        evaluation_interval: Duration::from_secs(30),
        query_offset: Duration::ZERO,
        external_labels: Labels::empty(),
        external_url: String::new(),
        channels: Vec::new(),
        group_times: GroupTimes::default(),
    };
    let catalog = Catalog::open(folder.path().join("catalog.db")).await.expect("a catalog");
    let evaluator = Arc::new(Moody { let_go: Mutex::new(let_go) });
    let engine = AlertEngine::open(options, catalog, evaluator, Arc::<Written>::default(), None, clock.clone());
    let engine = Arc::new(engine.await.expect("opens"));
    let rule = |expression: &str| format!("- name: {expression}\n  rules: [{{record: 'r:{expression}', expr: {expression}}}]\n");
    let text = format!("groups:\n{}{}{}", rule("slow"), rule("broken"), rule("quick"));
    engine.load(&[("rules.yml".to_owned(), text)]).await.expect("good rules");

    let start = clock.now();
    let first = tokio::spawn({
        let engine = engine.clone();
        async move { engine.evaluate_due(start, start + Duration::from_secs(30)).await }
    });
    let group = |name: &str| engine.groups().into_iter().find(|group| group.name == name).expect("loaded");
    while group("quick").last_evaluation.is_none() || group("broken").last_evaluation.is_none() {
        tokio::task::yield_now().await;
    }
    let before = group("quick").last_evaluation;
    engine.evaluate_due(start + Duration::from_secs(30), start + Duration::from_mins(1)).await;
    assert!(group("quick").last_evaluation > before, "the second beat is not held up");
    assert_eq!(group("slow").last_evaluation, None, "it still works on its first beat");
    assert!(matches!(&group("broken").rules[0].health, RuleHealth::Error(message) if message.contains("failed inside")));
    go.send(()).expect("the evaluator waits");
    first.await.expect("no panic");
    assert!(group("slow").last_evaluation.is_some());
}
