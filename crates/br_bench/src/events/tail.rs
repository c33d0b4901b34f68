//! The live tail at a steady rate: how late lines come to those who follow, whether each is accounted for, and what it costs those
//! who send.

use super::socket::Socket;
use crate::load::{now_ms, url_encoded};
use crate::peer::{Kind, Server};
use crate::row::{Row, quantile};
use anyhow::{Result, bail};
use br_model::{Attributes, LogBatch, LogRecord, Resource, ResourceLogs, Scope};
use br_std::Nanos;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::LocalSet;
use tokio::time::{Instant, interval, timeout};

const LINES_PER_REQUEST: u64 = 500;
/// Senders of one request.
const GROUPS: u64 = 5;
const SERVICES: u64 = 10;
/// 20,000 lines a second.
const REQUEST_EVERY: Duration = Duration::from_millis(25);
const LAG_MS_MAX: f64 = 200.0;
/// Without followers first.
const ALONE: Duration = Duration::from_secs(15);
/// What still comes when nothing is sent any more.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What a line is about, by its number.
#[derive(Clone, Copy)]
struct Line {
    service: u64,
    number: u64,
}

impl Line {
    fn level(self) -> &'static str {
        match self.number % 20 {
            0 => "error",
            3 | 13 => "warn",
            _ => "info",
        }
    }

    fn status(self) -> u64 {
        if self.number.is_multiple_of(50) { 503 } else { 200 }
    }

    fn user(self) -> u64 {
        self.number * 7919 % 1000
    }

    /// Every other service writes JSON.
    fn text(self) -> String {
        let (level, status, user, number) = (self.level(), self.status(), self.user(), self.number);
        let route = number % 30;
        if self.service.is_multiple_of(2) {
            format!(
                r#"{{"level":"{level}","logger":"shop.orders","message":"order {number} was paid","status":{status},"user":"u-{user}","route":"/api/v1/orders/{route}","took_ms":{}}}"#,
                number % 250
            )
        } else {
            format!(
                r#"level={level} logger=shop.orders msg="order {number} was paid" status={status} user=u-{user} route=/api/v1/orders/{route} took_ms={}"#,
                number % 250
            )
        }
    }
}

/// A query, and which lines it lets through.
type Follower = (&'static str, fn(Line) -> bool);

const FOLLOWERS: [Follower; 10] = [
    (r#"{service_name=~".+"}"#, |_| true),
    (r#"{service_name="svc-1"}"#, |line| line.service == 1),
    (r#"{service_name=~"svc-[1-5]"}"#, |line| (1..=5).contains(&line.service)),
    (r#"{service_name=~".+"} |= "u-77""#, |line| line.user() / 10 == 77 || line.user() == 77),
    (r#"{service_name=~".+"} |~ "order [0-9]*7 was""#, |line| line.number % 10 == 7),
    (r#"{service_name=~".+",service_name!="svc-1"} != "status=200" != "\"status\":200""#, |line| {
        line.service != 1 && line.status() != 200
    }),
    (r#"{service_name=~".+"} | json | level="error""#, |line| line.service.is_multiple_of(2) && line.level() == "error"),
    (r#"{service_name="svc-2"} | json | level="error""#, |line| line.service == 2 && line.level() == "error"),
    (r#"{env="prod"} | detected_level="warn""#, |line| line.level() == "warn"),
    (r#"{service_name=~"svc-.*"} | logfmt | status >= 500"#, |line| !line.service.is_multiple_of(2) && line.status() >= 500),
];

/// What came to one follower, by milliseconds of lag.
struct Received {
    by_lag_ms: Vec<u64>,
    lines: u64,
    dropped: u64,
}

const LAG_MS_COUNTED: usize = 10_000;

impl Received {
    fn new() -> Self {
        Self { by_lag_ms: vec![0; LAG_MS_COUNTED + 1], lines: 0, dropped: 0 }
    }

    /// A line's time is when it was sent: `["1767348000500000000","…"]`.
    fn take(&mut self, frame: &[u8]) {
        let now = now_ns();
        let mut rest = frame;
        while let Some(at) = find(rest, b"[\"1") {
            rest = &rest[at + 2..];
            let digits = std::str::from_utf8(&rest[..rest.len().min(19)]).ok().and_then(|digits| digits.parse::<i64>().ok());
            if let Some(sent) = digits {
                let lag_ms = usize::try_from((now - sent).max(0) / 1_000_000).unwrap_or(usize::MAX);
                self.by_lag_ms[lag_ms.min(LAG_MS_COUNTED)] += 1;
                self.lines += 1;
            }
        }
        const DROPPED: &[u8] = b"\"dropped_count\":";
        if let Some(at) = find(frame, DROPPED) {
            let digits = frame[at + DROPPED.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            self.dropped += digits.fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
        }
    }

    fn lag_ms(&self, part: f64) -> f64 {
        let (mut left, mut at) = ((self.lines as f64 * part) as u64, 0);
        while at < LAG_MS_COUNTED && self.by_lag_ms[at] <= left {
            left -= self.by_lag_ms[at];
            at += 1;
        }
        if self.lines == 0 { f64::NAN } else { at as f64 }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == what[0]) {
        if bytes[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// Makes requests, and counts what each follower is to get of them.
struct Sender {
    resources: Vec<Arc<Resource>>,
    scope: Arc<Scope>,
    next: Cell<u64>,
    expected: RefCell<[u64; FOLLOWERS.len()]>,
}

impl Sender {
    fn new() -> Self {
        let resource = |service: u64| {
            let pairs = [
                ("service.name", format!("svc-{service}")),
                ("env", "prod".to_owned()),
                ("host.name", format!("node-{}", service % 3)),
                ("k8s.pod.name", format!("svc-{service}-7d9c5b")),
            ];
            let mut attributes = Attributes::default();
            for (key, value) in pairs {
                attributes.push(key, value);
            }
            Arc::new(Resource { attributes })
        };
        let expected = RefCell::default();
        Self { resources: (0..SERVICES).map(resource).collect(), scope: Arc::default(), next: Cell::new(0), expected }
    }

    fn request(&self) -> Vec<u8> {
        let first = self.next.replace(self.next.get() + LINES_PER_REQUEST);
        let now = now_ns();
        let mut expected = self.expected.borrow_mut();
        let mut group = |at: u64| {
            let service = (first / LINES_PER_REQUEST * 3 + at) % SERVICES;
            let mut record = |number: u64| {
                let line = Line { service, number };
                for (count, (_, lets_through)) in expected.iter_mut().zip(FOLLOWERS) {
                    *count += u64::from(lets_through(line));
                }
                let timestamp = Nanos(now + (number - first) as i64);
                LogRecord { timestamp, observed: timestamp, body: line.text(), ..LogRecord::default() }
            };
            let numbers = (first..first + LINES_PER_REQUEST).filter(|number| number % GROUPS == at);
            let records = numbers.map(&mut record).collect();
            ResourceLogs { resource: self.resources[service as usize].clone(), scope: self.scope.clone(), records }
        };
        br_wire::otlp::encode_logs(&LogBatch { groups: (0..GROUPS).map(&mut group).collect() })
    }

    /// Sends at the rate for so long. Gives how long each request took, in milliseconds.
    async fn send(self: &Rc<Self>, server: &Rc<Server>, time: Duration) -> Result<Vec<f64>> {
        let mut beat = interval(REQUEST_EVERY);
        let end = Instant::now() + time;
        let times = Rc::new(RefCell::new(Vec::new()));
        let mut under_way = tokio::task::JoinSet::new();
        while Instant::now() < end {
            beat.tick().await;
            let (body, server, times) = (self.request(), server.clone(), times.clone());
            under_way.spawn_local(async move {
                let begin = Instant::now();
                let headers = [("content-type", "application/x-protobuf")];
                let posted = server.post("/v1/logs", &headers, body).await;
                times.borrow_mut().push(begin.elapsed().as_secs_f64() * 1e3);
                posted
            });
            while let Some(done) = under_way.try_join_next() {
                done??;
            }
        }
        while let Some(done) = under_way.join_next().await {
            done??;
        }
        Ok(times.take())
    }
}

pub(crate) async fn run(seconds: u64, rows: &mut Vec<Row>) -> Result<()> {
    LocalSet::new().run_until(measure(Duration::from_secs(seconds), rows)).await
}

async fn measure(time: Duration, rows: &mut Vec<Row>) -> Result<()> {
    let server = Rc::new(Server::start(Kind::Bellrock).await?);
    let sender = Rc::new(Sender::new());
    let cpu = server.cpu_seconds();
    let alone = sender.send(&server, ALONE).await?;
    let cpu_alone = (server.cpu_seconds() - cpu) / ALONE.as_secs_f64();
    *sender.expected.borrow_mut() = Default::default();

    let mut followers = Vec::new();
    for (query, _) in FOLLOWERS {
        let socket = Socket::open(&server.url, &format!("/loki/api/v1/tail?query={}", url_encoded(query))).await?;
        followers.push(tokio::task::spawn_local(follow(socket)));
    }
    let (cpu, begin) = (server.cpu_seconds(), now_ms());
    let with_them = sender.send(&server, time).await?;
    let cpu_with = (server.cpu_seconds() - cpu) / time.as_secs_f64();
    let sent = with_them.len() as f64 * LINES_PER_REQUEST as f64;
    let rate = sent / ((now_ms() - begin) as f64 / 1e3);
    let mut received = Vec::new();
    for follower in followers {
        received.push(follower.await??);
    }
    let expected = *sender.expected.borrow();
    rows.push(Row::new("lines sent", "lines/s", rate).at_least(19_500.0));
    for (at, (one, (query, _))) in received.iter().zip(FOLLOWERS).enumerate() {
        println!("{query}: {} of {} lines, {} dropped, p99 {} ms", one.lines, expected[at], one.dropped, one.lag_ms(0.99));
    }
    let worst = |part: f64| received.iter().map(|one| one.lag_ms(part)).fold(0.0, f64::max);
    let dropped: u64 = received.iter().map(|one| one.dropped).sum();
    let missing = received.iter().zip(expected).map(|(one, expected)| expected.abs_diff(one.lines + one.dropped)).sum::<u64>();
    let all: f64 = received.iter().map(|one| one.lines as f64).sum();
    rows.extend([
        Row::new("lines received by all followers", "lines/s", all / time.as_secs_f64()),
        Row::new("lag, p50 of the slowest follower", "ms", worst(0.5)),
        Row::new("lag, p99 of the slowest follower", "ms", worst(0.99)).at_most(LAG_MS_MAX),
        Row::new("lag, the most of all", "ms", worst(1.0)),
        Row::new("lines dropped and told", "lines", dropped as f64),
        Row::new("lines neither received nor told as dropped", "lines", missing as f64).at_most(0.0),
    ]);
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let ours = quantile(with_them.clone(), part);
        rows.push(Row::new(format!("request, {name}"), "ms", ours).against("alone", quantile(alone.clone(), part)));
    }
    rows.push(Row::new("CPU of the server", "cores", cpu_with).against("alone", cpu_alone));
    rows.push(Row::new("RSS, peak", "MB", server.rss_peak_bytes() / 1e6).at_most(1000.0));
    let missed: Vec<&str> = rows.iter().filter(|row| row.met == Some(false)).map(|row| row.name.as_str()).collect();
    if !missed.is_empty() {
        bail!("it does not hold: {}", missed.join("; "));
    }
    Ok(())
}

/// Until nothing has come for a while.
async fn follow(mut socket: Socket) -> Result<Received> {
    let mut received = Received::new();
    while let Ok(frame) = timeout(AFTERWARDS, socket.next()).await {
        let Some(frame) = frame? else { bail!("the server has closed a live tail") };
        received.take(frame);
    }
    Ok(received)
}
