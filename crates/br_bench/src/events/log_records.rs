//! Logs as Python services write them: half of the services in JSON, half as text, 1,000 records a request from some pods each.
//!
//! Everything follows from a seed. Words and ids that are asked for later are planted at known places, and what can be counted is.

use super::known::{Counted, Lines};
use super::{HOUR, Period};
use crate::input::Seeded;
use br_model::{Attributes, LogBatch, LogRecord, Resource, ResourceLogs, Scope, Severity, SpanId, TraceId};
use br_std::Nanos;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

const RECORDS_PER_REQUEST: u64 = 1000;
/// Streams of one request: what a collector gathers in a moment.
const STREAMS_PER_REQUEST: usize = 8;
/// About what a record takes in a request.
const RECORD_BYTES: f64 = 640.0;
/// Traces that the records of one request belong to.
const TRACES_PER_REQUEST: usize = 150;

const SERVICES: [&str; 20] = [
    "gateway",
    "checkout",
    "catalogue",
    "cart",
    "users",
    "payments",
    "search",
    "shipping",
    "inventory",
    "pricing",
    "mailer",
    "reviews",
    "recommender",
    "sessions",
    "invoices",
    "images",
    "webhooks",
    "reports",
    "scheduler",
    "audit",
];
const PODS: u64 = 5;

/// Each with its number and how many of a thousand records have it.
const LEVELS: [(&str, Severity, u64); 5] = [
    ("INFO", Severity::INFO, 650),
    ("DEBUG", Severity::DEBUG, 200),
    ("WARNING", Severity::WARN, 100),
    ("ERROR", Severity::ERROR, 45),
    ("CRITICAL", Severity::FATAL, 5),
];

const RESOURCES: [&str; 10] =
    ["orders", "items", "baskets", "accounts", "tokens", "parcels", "prices", "messages", "ratings", "invoices"];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const STATUSES: [i64; 8] = [200, 200, 200, 200, 201, 302, 404, 500];
pub(super) const ROUTES: usize = 30;

/// What records speak of. The words of [`PHRASE`] occur in them, never in a row.
const MESSAGES: [&str; 16] = [
    "request handled by upstream",
    "cache miss, falling back to database",
    "card accepted by issuer",
    "issuer did not answer, tried twice",
    "payment declined by policy",
    "session refreshed for returning user",
    "query planned with two joins and one subquery",
    "worker picked job from queue",
    "retry scheduled after upstream timeout",
    "response streamed to client in chunks",
    "feature flag evaluated for cohort",
    "connection returned to pool after use",
    "template rendered with partial context",
    "stock reserved until checkout completes",
    "webhook delivered to subscriber endpoint",
    "rate limiter let the request pass",
];

/// A word that few lines have.
pub(super) const NEEDLE: &str = "quixotically";
const NEEDLES: u64 = 3;
/// Words that many lines have, in an order that few have.
pub(super) const PHRASE: &str = "card issuer declined twice";
const PHRASES: u64 = 4;
/// The service whose latest lines are asked for.
pub(super) const LATEST_OF: &str = SERVICES[5];
pub(super) const LATEST: usize = 50;
/// Lines that match it are in every page, and no word of theirs tells them from others that do not.
pub(super) const REGEX: &str = "lock wait [5-9][0-9]{3} ms";
pub(super) const REGEX_LINES: usize = 100;
/// One line of so many speaks of waiting for a lock.
const RECORDS_PER_WAIT: u64 = 2000;
const WAIT_MS_BELOW: u64 = 10_000;
pub(super) const DURATION_MS_BELOW: usize = 10_000;

const RARE_KEYS: usize = 34;
const RARE_PER_RECORD: usize = 6;

/// What is known of all records made so far.
pub(super) struct KnownLogs {
    pub(super) records: u64,
    pub(super) needles: Lines,
    pub(super) phrases: Lines,
    pub(super) latest: Lines,
    pub(super) waits: Lines,
    /// The request id of one record, and its time.
    pub(super) id: Option<(String, Nanos)>,
    /// By hour since the start and by level.
    pub(super) levels: BTreeMap<(u32, &'static str), u64>,
    /// By route: `duration_ms`.
    pub(super) durations: Vec<Counted>,
    /// The trace of the record with the id, and the times of its lines.
    pub(super) trace: Option<(TraceId, Lines)>,
}

pub(super) struct LogRecords {
    period: Period,
    /// How many there will be in all.
    count: u64,
    seeded: Seeded,
    streams: Vec<(usize, Arc<Resource>)>,
    scope: Arc<Scope>,
    rare: Vec<RareKey>,
    pub(super) known: KnownLogs,
}

struct RareKey {
    name: String,
    kind: RareKind,
}

#[derive(Clone, Copy)]
enum RareKind {
    Text(u64),
    Number,
    Flag,
}

impl LogRecords {
    /// As many as take about `bytes` in requests.
    pub(super) fn new(bytes: f64, period: Period) -> Self {
        let requests = (bytes / RECORD_BYTES / RECORDS_PER_REQUEST as f64).round().max(1.0) as u64;
        let pods = (0..SERVICES.len()).flat_map(|service| (0..PODS).map(move |pod| (service, pod)));
        let known = KnownLogs {
            records: 0,
            needles: Lines::new(usize::MAX),
            phrases: Lines::new(usize::MAX),
            latest: Lines::new(LATEST),
            waits: Lines::new(REGEX_LINES),
            id: None,
            levels: BTreeMap::new(),
            durations: vec![Counted::below(DURATION_MS_BELOW); ROUTES],
            trace: None,
        };
        Self {
            period,
            count: requests * RECORDS_PER_REQUEST,
            seeded: Seeded(11),
            streams: pods.map(|(service, pod)| (service, resource(service, pod))).collect(),
            scope: Arc::new(Scope { name: "app.logging".into(), version: "3.1".into(), ..Scope::default() }),
            rare: (0..RARE_KEYS).map(RareKey::new).collect(),
            known,
        }
    }

    /// The next request, until all are made.
    pub(super) fn request(&mut self) -> Option<Vec<u8>> {
        let first = self.known.records;
        (first < self.count).then(|| {
            let times: Vec<Nanos> = (first..first + RECORDS_PER_REQUEST).map(|number| self.time(number)).collect();
            self.request_at(&times)
        })
    }

    /// A request with a record at each of these times, which go up.
    pub(super) fn request_at(&mut self, times: &[Nanos]) -> Vec<u8> {
        let streams: Vec<usize> = (0..STREAMS_PER_REQUEST).map(|_| self.stream()).collect();
        let traces: Vec<TraceId> = (0..TRACES_PER_REQUEST).map(|_| TraceId(self.seeded.bytes())).collect();
        let mut groups: Vec<ResourceLogs> = streams
            .iter()
            .map(|stream| ResourceLogs {
                resource: self.streams[*stream].1.clone(),
                scope: self.scope.clone(),
                records: Vec::with_capacity(2 * times.len() / STREAMS_PER_REQUEST),
            })
            .collect();
        for time in times {
            let at = self.seeded.below(STREAMS_PER_REQUEST as u64) as usize;
            let service = self.streams[streams[at]].0;
            let trace = if self.seeded.percent(60) { *self.seeded.pick(&traces) } else { TraceId::default() };
            let record = self.record(*time, service, trace);
            groups[at].records.push(record);
        }
        br_wire::otlp::encode_logs(&LogBatch { groups })
    }

    /// No two records have the same, and none lies on the edge of an hour.
    fn time(&mut self, number: u64) -> Nanos {
        let (at, next) = (self.period.place(number, self.count), self.period.place(number + 1, self.count));
        let time = at.0 + 1 + self.seeded.below((next.0 - at.0 - 2).max(1) as u64) as i64;
        let is_edge = Nanos(time).window(HOUR).0 == time;
        Nanos(time + i64::from(is_edge))
    }

    /// Of a service: the first has twenty times as much to say as the last.
    fn stream(&mut self) -> usize {
        let weight = |service: usize| 1.0 / (service + 1) as f64;
        let whole: f64 = (0..SERVICES.len()).map(weight).sum();
        let mut left = self.seeded.unit() * whole;
        let service = (0..SERVICES.len()).find(|service| {
            left -= weight(*service);
            left < 0.0
        });
        service.unwrap_or(0) * PODS as usize + self.seeded.below(PODS) as usize
    }

    fn record(&mut self, time: Nanos, service: usize, trace_id: TraceId) -> LogRecord {
        let number = self.known.records;
        self.known.records += 1;
        let mut share = self.seeded.below(1000);
        let level = LEVELS.iter().find(|(_, _, of_thousand)| {
            let is_it = share < *of_thousand;
            share = share.saturating_sub(*of_thousand);
            is_it
        });
        let (word, severity, _) = *level.unwrap_or(&LEVELS[0]);
        let facts = Facts::draw(&mut self.seeded);
        let message = self.message(number, time);
        let body = if service.is_multiple_of(2) {
            json_body(&mut self.seeded, time, service, word, &message, &facts)
        } else {
            text_body(&mut self.seeded, time, service, word, &message, &facts)
        };
        self.note(number, time, service, severity, &facts, trace_id);
        LogRecord {
            timestamp: time,
            observed: Nanos(time.0 + 1_000_000),
            severity,
            severity_text: word.to_owned(),
            body,
            attributes: self.attributes(&facts),
            trace_id,
            span_id: if trace_id.is_none() { SpanId::default() } else { SpanId(self.seeded.bytes()) },
            ..LogRecord::default()
        }
    }

    fn message(&mut self, number: u64, time: Nanos) -> String {
        let planted = |number: u64, of: u64| (0..of).any(|at| number == self.count * (2 * at + 1) / (2 * of));
        if planted(number, NEEDLES) {
            self.known.needles.offer(time);
            return format!("client acted {NEEDLE}");
        }
        if planted(number, PHRASES) {
            self.known.phrases.offer(time);
            return format!("giving up: {PHRASE}");
        }
        if self.seeded.below(RECORDS_PER_WAIT) == 0 {
            let wait = self.seeded.below(WAIT_MS_BELOW);
            if (5000..WAIT_MS_BELOW).contains(&wait) {
                self.known.waits.offer(time);
            }
            return format!("lock wait {wait} ms on row");
        }
        (*self.seeded.pick(&MESSAGES)).to_owned()
    }

    fn note(&mut self, number: u64, time: Nanos, service: usize, severity: Severity, facts: &Facts, trace_id: TraceId) {
        let known = &mut self.known;
        let hour = (time.0 - self.period.start.0).div_euclid(HOUR.as_nanos() as i64) as u32;
        *known.levels.entry((hour, severity.as_str())).or_default() += 1;
        known.durations[facts.route].add(facts.duration_ms as usize);
        if SERVICES[service] == LATEST_OF {
            known.latest.offer(time);
        }
        // The first record with a trace in the request after a third of all: no other request has that trace.
        let from = self.count / 3 / RECORDS_PER_REQUEST * RECORDS_PER_REQUEST;
        if known.id.is_none() && number >= from && !trace_id.is_none() {
            known.id = Some((facts.request_id.clone(), time));
            known.trace = Some((trace_id, Lines::new(usize::MAX)));
        }
        if let Some((id, lines)) = &mut known.trace
            && *id == trace_id
        {
            lines.offer(time);
        }
    }

    fn attributes(&mut self, facts: &Facts) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.push("http.request.method", facts.method);
        attributes.push("http.route", route(facts.route));
        attributes.push("http.response.status_code", facts.status);
        attributes.push("duration_ms", facts.duration_ms as i64);
        attributes.push("user.id", format!("user-{}", facts.user));
        attributes.push("thread.name", format!("worker-{}", self.seeded.below(8)));
        let mut taken = 0u64;
        while taken.count_ones() < RARE_PER_RECORD as u32 {
            // The first keys are the more frequent ones.
            let part = self.seeded.unit();
            let at = (part * part * RARE_KEYS as f64) as usize;
            if taken & (1 << at) == 0 {
                taken |= 1 << at;
                self.rare[at].push(&mut attributes, &mut self.seeded);
            }
        }
        attributes
    }
}

/// What a line and its attributes tell alike.
struct Facts {
    method: &'static str,
    route: usize,
    status: i64,
    duration_ms: u64,
    user: u64,
    request_id: String,
}

impl Facts {
    fn draw(seeded: &mut Seeded) -> Self {
        let part = seeded.unit();
        // Between 1 and 10,000, as many below 10 as above 1,000.
        let duration_ms = (10f64.powf(4.0 * seeded.unit()) as u64).min(DURATION_MS_BELOW as u64 - 1);
        Self {
            method: *seeded.pick::<&str>(&METHODS),
            route: (part * part * ROUTES as f64) as usize,
            status: *seeded.pick(&STATUSES),
            duration_ms,
            user: seeded.below(5000),
            request_id: TraceId(seeded.bytes()).to_string(),
        }
    }
}

pub(super) fn route(number: usize) -> String {
    format!("/api/v{}/{}/{{id}}", number / RESOURCES.len() + 1, RESOURCES[number % RESOURCES.len()])
}

fn json_body(seeded: &mut Seeded, time: Nanos, service: usize, level: &str, message: &str, facts: &Facts) -> String {
    let mut body = String::with_capacity(300);
    let _ = write!(
        body,
        r#"{{"ts":"{}","level":"{}","logger":"{}.{}.views","event":"{message}","request_id":"{}","path":"/api/{}/{}","user":"user-{}","remote":"10.{}.{}.{}","took_ms":{},"status":{}}}"#,
        time,
        level.to_ascii_lowercase(),
        SERVICES[service],
        RESOURCES[facts.route % RESOURCES.len()],
        facts.request_id,
        RESOURCES[facts.route % RESOURCES.len()],
        seeded.below(1_000_000),
        facts.user,
        seeded.below(256),
        seeded.below(256),
        seeded.below(256),
        facts.duration_ms,
        facts.status,
    );
    body
}

fn text_body(seeded: &mut Seeded, time: Nanos, service: usize, level: &str, message: &str, facts: &Facts) -> String {
    let mut body = String::with_capacity(300);
    let _ = write!(
        body,
        "{time} {level:<8} [{}.{}:{}] {} /api/{}/{} -> {} in {} ms: {message} (request {}, user-{}, 10.{}.{}.{}, attempt {})",
        SERVICES[service],
        RESOURCES[facts.route % RESOURCES.len()],
        seeded.below(900),
        facts.method,
        RESOURCES[facts.route % RESOURCES.len()],
        seeded.below(1_000_000),
        facts.status,
        facts.duration_ms,
        facts.request_id,
        facts.user,
        seeded.below(256),
        seeded.below(256),
        seeded.below(256),
        seeded.below(3) + 1,
    );
    body
}

fn resource(service: usize, pod: u64) -> Arc<Resource> {
    let name = SERVICES[service];
    let mut attributes = Attributes::default();
    attributes.push("service.name", name);
    attributes.push("service.version", format!("2.{service}.1"));
    attributes.push("service.instance.id", format!("{name}-{pod}"));
    attributes.push("deployment.environment.name", "production");
    attributes.push("k8s.namespace.name", "shop");
    attributes.push("k8s.pod.name", format!("{name}-6d4cf56db6-{pod:05}"));
    attributes.push("k8s.node.name", format!("node-{}", (service as u64 + pod) % 7));
    attributes.push("telemetry.sdk.language", "python");
    Arc::new(Resource { attributes })
}

impl RareKey {
    fn new(number: usize) -> Self {
        let group = ["db", "cache", "queue", "feature", "order", "tenant"][number % 6];
        let (word, kind) = match number % 5 {
            0 => ("count", RareKind::Number),
            1 => ("hit", RareKind::Flag),
            2 => ("name", RareKind::Text(20)),
            3 => ("key", RareKind::Text(2000)),
            _ => ("id", RareKind::Text(100_000)),
        };
        Self { name: format!("{group}.{word}.{number}"), kind }
    }

    fn push(&self, attributes: &mut Attributes, seeded: &mut Seeded) {
        match self.kind {
            RareKind::Text(values) => attributes.push(&self.name, format!("value-{}", seeded.below(values))),
            RareKind::Number => attributes.push(&self.name, seeded.below(1000) as i64),
            RareKind::Flag => attributes.push(&self.name, seeded.percent(80)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_wire::otlp::{Encoding, decode_logs};

    /// Everything that was made, read back from the requests.
    fn made() -> (LogRecords, Vec<(String, LogRecord)>, usize) {
        let period = Period::until(Nanos::from_secs(1_700_000_000), 3);
        let mut records = LogRecords::new(5e6, period);
        let (mut all, mut bytes) = (Vec::new(), 0);
        while let Some(request) = records.request() {
            bytes += request.len();
            let limits = br_wire::Limits::default();
            let read = decode_logs(&request, Encoding::Protobuf, Nanos(0), &limits).expect("what was encoded");
            for group in read.value.groups {
                all.extend(group.records.into_iter().map(|record| (group.resource.service_name().to_owned(), record)));
            }
        }
        (records, all, bytes)
    }

    #[test]
    fn the_generator_knows_what_it_made() {
        let (records, mut all, bytes) = made();
        assert!((4.5e6..5.5e6).contains(&(bytes as f64)), "{bytes} bytes");
        all.sort_by_key(|(_, record)| record.timestamp);
        let known = &records.known;
        assert_eq!(known.records, all.len() as u64);
        let times = |is_it: &dyn Fn(&LogRecord) -> bool| -> Vec<Nanos> {
            all.iter().filter(|(_, record)| is_it(record)).map(|(_, record)| record.timestamp).collect()
        };
        let lines = |lines: &Lines| -> Vec<Nanos> { lines.iter().copied().collect() };
        assert_eq!(lines(&known.needles), times(&|record| record.body.contains(NEEDLE)));
        assert_eq!(known.needles.count, NEEDLES);
        assert_eq!(lines(&known.phrases), times(&|record| record.body.contains(PHRASE)));
        assert_eq!(known.phrases.count, PHRASES);
        let (id, at) = known.id.as_ref().expect("planted");
        assert_eq!(times(&|record| record.body.contains(id)), [*at]);
        let (trace, of_trace) = known.trace.as_ref().expect("of the same record");
        assert_eq!(lines(of_trace), times(&|record| record.trace_id == *trace));
        let latest: Vec<Nanos> =
            all.iter().filter(|(service, _)| service == LATEST_OF).map(|(_, record)| record.timestamp).collect();
        assert_eq!(lines(&known.latest), latest[latest.len() - LATEST..]);
        assert_eq!(known.levels.values().sum::<u64>(), all.len() as u64);
        let period = records.period;
        assert!(all.iter().all(|(_, record)| period.start < record.timestamp && record.timestamp < period.end()));
        assert!(all.windows(2).all(|two| two[0].1.timestamp < two[1].1.timestamp), "no two at the same time");
    }

    #[test]
    fn records_are_as_they_were_measured_with() {
        let (_, all, bytes) = made();
        let with_trace = all.iter().filter(|(_, record)| !record.trace_id.is_none()).count() as f64 / all.len() as f64;
        assert!((0.55..0.65).contains(&with_trace), "{with_trace}");
        assert!(all.iter().all(|(_, record)| record.attributes.len() == 12));
        let per_record = bytes as f64 / all.len() as f64;
        assert!((560.0..720.0).contains(&per_record), "{per_record} B a record");
        let waits = all.iter().filter(|(_, record)| record.body.contains("lock wait")).count();
        assert!(waits > 0);
    }
}
