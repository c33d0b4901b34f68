//! All signals and questions at steady rates against one server that flushes, merges and forgets as fast as it may: whether memory and
//! files stay as they are, and whether answers stay quick.

use super::load::post;
use super::log_records::{LATEST_OF, LogRecords, NEEDLE};
use super::span_records::{KEY, SERVICE, SpanRecords, VALUE};
use super::{HOUR, Period};
use crate::input::Metrics;
use crate::load::{now_ms, remote_write, url_encoded};
use crate::peer::{Kind, Server};
use crate::row::{Row, quantile};
use anyhow::{Result, bail};
use br_model::TraceId;
use br_std::Nanos;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep, sleep_until};

/// Between two requests of logs, of 500 records, and of spans, of 40 traces: about 3 MB and 2,400 rows a second.
const LOGS_EVERY: Duration = Duration::from_millis(250);
const RECORDS_PER_REQUEST: u32 = 500;
const SPANS_EVERY: Duration = Duration::from_secs(1);
const TRACES_PER_REQUEST: u32 = 40;
const SERIES: usize = 5000;
const METRICS_EVERY: Duration = Duration::from_secs(15);
const QUESTION_EVERY: Duration = Duration::from_millis(250);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const FLUSH_INTERVAL_SECONDS: u64 = 10;
/// Long enough for flushes, merges and files that are past their time to come often.
const RETENTION_MAX: Duration = Duration::from_mins(15);
const RETENTION_MIN: Duration = Duration::from_mins(4);
/// How often each question is asked before the load.
const QUIET_ROUNDS: usize = 40;

struct Soak {
    server: Server,
    retention: Duration,
    logs: RefCell<LogRecords>,
    spans: RefCell<SpanRecords>,
    refused: Cell<usize>,
    /// One that is acknowledged.
    trace: Cell<TraceId>,
}

/// Milliseconds of each question, in the order of [`Soak::questions`].
type Times = Vec<Vec<f64>>;

#[derive(Default)]
struct Seen {
    times: Times,
    failed: Vec<String>,
    rss: Vec<f64>,
    disk: Vec<f64>,
}

/// What was measured before an error is among the rows.
pub(crate) async fn run(minutes: u32, rows: &mut Vec<Row>) -> Result<()> {
    let length = Duration::from_mins(u64::from(minutes));
    let retention = (length / 4).clamp(RETENTION_MIN, RETENTION_MAX);
    let soak = Soak::start(retention).await?;
    let quiet = soak.quiet().await?;
    let files = event_files(&soak.server.data_folder().join("files/events"));
    let cpu = soak.server.cpu_seconds();
    let seen = RefCell::new(Seen { times: vec![Vec::new(); quiet.len()], ..Seen::default() });
    let end = Instant::now() + length;
    tokio::try_join!(
        soak.send_logs(end),
        soak.send_spans(end),
        soak.send_metrics(end),
        soak.ask(end, &seen),
        soak.watch(end, &seen)
    )?;
    let seen = seen.into_inner();
    rows.extend(memory_rows(&seen));
    rows.push(Row::new("CPU at these rates", "cores", (soak.server.cpu_seconds() - cpu) / length.as_secs_f64()));
    rows.push(Row::new("requests told to come again", "requests", soak.refused.get() as f64).at_most(0.0));
    let files_now = event_files(&soak.server.data_folder().join("files/events"));
    rows.push(Row::new("event files on the disk", "files", files_now as f64).against("before", files as f64));
    for (at, (name, _)) in soak.questions(Nanos::from_millis(now_ms())).iter().enumerate() {
        let [p50, p99] = [0.5, 0.99].map(|part| quantile(seen.times[at].clone(), part));
        rows.push(Row::new(format!("{name}, p50"), "ms", p50).against("quiet", quantile(quiet[at].clone(), 0.5)));
        rows.push(
            Row::new(format!("{name}, p99"), "ms", p99).against("quiet", quantile(quiet[at].clone(), 0.99)).ratio_at_most(3.0),
        );
    }
    rows.push(Row::new("questions that failed", "questions", seen.failed.len() as f64).at_most(0.0));
    let missed: Vec<&str> = rows.iter().filter(|row| row.met == Some(false)).map(|row| row.name.as_str()).collect();
    if !missed.is_empty() {
        bail!("it does not hold: {}\n{}", missed.join("; "), seen.failed.join("\n"));
    }
    Ok(())
}

fn memory_rows(seen: &Seen) -> Vec<Row> {
    let peak = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max) / 1e6;
    let halves = |figures: &[f64]| {
        let (first, second) = figures.split_at(figures.len() / 2);
        (peak(first), peak(second))
    };
    let ((first, second), (disk_first, disk_second)) = (halves(&seen.rss), halves(&seen.disk));
    vec![
        Row::new("RSS, peak", "MB", first.max(second)).at_most(1000.0),
        Row::new("RSS, peak of the second half", "MB", second).against("first half", first).ratio_at_most(1.05),
        Row::new("data on the disk, peak of the second half", "MB", disk_second).against("first half", disk_first),
    ]
}

/// Those that wait for their deletion included.
fn event_files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { event_files(&entry.path()) } else { 1 }).sum()
}

impl Soak {
    async fn start(retention: Duration) -> Result<Self> {
        let seconds = retention.as_secs();
        let config = format!(
            "bellrock:\n  flush_interval: {FLUSH_INTERVAL_SECONDS}s\n  rollups: []\n  retention:\n    logs: {seconds}s\n    spans: {seconds}s\n    metrics: {seconds}s\n"
        );
        let server = Server::start_with(Kind::Bellrock, &config, &[]).await?;
        let period = Period { start: Nanos::from_millis(now_ms()).window(HOUR) - HOUR, hours: 24 };
        println!("everything is kept for {seconds} s");
        Ok(Self {
            server,
            retention,
            logs: RefCell::new(LogRecords::new(1e9, period)),
            spans: RefCell::new(SpanRecords::new(1 << 40, period)),
            refused: Cell::new(0),
            trace: Cell::new(TraceId::default()),
        })
    }

    /// Sends what would have come in most of the time that is kept, and asks about its end before there is any load.
    async fn quiet(&self) -> Result<Times> {
        let span = self.retention * 4 / 5;
        let end = Nanos::from_millis(now_ms());
        let first = end - span;
        for step in 0..(span.as_millis() / LOGS_EVERY.as_millis()) as u32 {
            self.logs_at(first + LOGS_EVERY * step).await?;
        }
        for step in 0..span.as_secs() as u32 {
            self.spans_at(first + SPANS_EVERY * step).await?;
        }
        self.send_scrape(&mut Metrics::new(SERIES)).await?;
        self.server.post("/bellrock/v1/admin/flush", &[], Vec::new()).await?;
        sleep(Duration::from_secs(FLUSH_INTERVAL_SECONDS + 2)).await;
        let mut times = Times::new();
        for at in 0..self.questions(Nanos::default()).len() {
            let mut of_one = Vec::new();
            for _ in 0..QUIET_ROUNDS {
                of_one.push(self.ask_one(at, end).await?);
            }
            times.push(of_one);
        }
        Ok(times)
    }

    /// Records of the time from this until the next request.
    async fn logs_at(&self, from: Nanos) -> Result<()> {
        let step = LOGS_EVERY / RECORDS_PER_REQUEST;
        let times: Vec<Nanos> = (0..RECORDS_PER_REQUEST).map(|number| from + step * number).collect();
        let request = self.logs.borrow_mut().request_at(&times);
        post(&self.server, "/v1/logs", &request, &self.refused).await
    }

    async fn spans_at(&self, from: Nanos) -> Result<()> {
        let step = SPANS_EVERY / TRACES_PER_REQUEST;
        let starts: Vec<Nanos> = (0..TRACES_PER_REQUEST).map(|number| from + step * number).collect();
        let request = self.spans.borrow_mut().request_at(&starts);
        post(&self.server, "/v1/traces", &request, &self.refused).await?;
        let newest = self.spans.borrow().known.all.iter().next().map(|(_, id)| *id);
        self.trace.set(newest.unwrap_or_default());
        Ok(())
    }

    async fn send_scrape(&self, metrics: &mut Metrics) -> Result<()> {
        remote_write(&self.server, &metrics.scrape(now_ms())).await
    }

    async fn send_logs(&self, end: Instant) -> Result<()> {
        let mut beat = interval(LOGS_EVERY);
        while beat.tick().await < end {
            self.logs_at(Nanos::from_millis(now_ms()) - LOGS_EVERY).await?;
        }
        Ok(())
    }

    async fn send_spans(&self, end: Instant) -> Result<()> {
        let mut beat = interval(SPANS_EVERY);
        while beat.tick().await < end {
            self.spans_at(Nanos::from_millis(now_ms()) - SPANS_EVERY).await?;
        }
        Ok(())
    }

    async fn send_metrics(&self, end: Instant) -> Result<()> {
        let (mut beat, mut metrics) = (interval(METRICS_EVERY), Metrics::new(SERIES));
        while beat.tick().await < end {
            self.send_scrape(&mut metrics).await?;
        }
        Ok(())
    }

    /// One question after the other, over and over.
    async fn ask(&self, end: Instant, seen: &RefCell<Seen>) -> Result<()> {
        let mut beat = interval(QUESTION_EVERY);
        let mut at = 0;
        while beat.tick().await < end {
            match self.ask_one(at, Nanos::from_millis(now_ms())).await {
                Ok(milliseconds) => seen.borrow_mut().times[at].push(milliseconds),
                Err(error) => seen.borrow_mut().failed.push(format!("{error:.300}")),
            }
            at = (at + 1) % seen.borrow().times.len();
        }
        Ok(())
    }

    async fn watch(&self, end: Instant, seen: &RefCell<Seen>) -> Result<()> {
        let started = Instant::now();
        for sample in 1.. {
            sleep_until(started + SAMPLE_EVERY * sample).await;
            if Instant::now() >= end {
                break;
            }
            let (rss, disk) = (self.server.rss_bytes(), self.server.disk_bytes());
            let mut seen = seen.borrow_mut();
            seen.rss.push(rss);
            seen.disk.push(disk);
            if sample.is_multiple_of(12) {
                let failed = seen.failed.len();
                println!("minute {}: RSS {:.0} MB, data {:.0} MB, {failed} questions failed", sample / 12, rss / 1e6, disk / 1e6);
            }
        }
        Ok(())
    }

    /// Milliseconds of a question about what came until now.
    async fn ask_one(&self, at: usize, now: Nanos) -> Result<f64> {
        let mut questions = self.questions(now);
        let (name, question) = questions.swap_remove(at);
        let started = Instant::now();
        let answer = match question {
            Question::Get(path) => self.server.get(&path).await.map(drop),
            Question::Sql(query) => {
                let body = serde_json::json!({ "query": query }).to_string().into_bytes();
                self.server.post("/bellrock/v1/sql", &[("content-type", "application/json")], body).await
            }
        };
        answer.map_err(|error| error.context(name))?;
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    }

    /// Over half of what is kept, up to now.
    fn questions(&self, now: Nanos) -> Vec<(&'static str, Question)> {
        let from = now - self.retention / 2;
        let logs = |query: &str, more: &str| {
            Question::Get(format!("/loki/api/v1/query_range?query={}&start={}&end={}{more}", url_encoded(query), from.0, now.0))
        };
        let traces = |query: &str| {
            Question::Get(format!(
                "/tempo/api/search?q={}&limit=20&start={}&end={}",
                url_encoded(query),
                from.as_secs(),
                now.as_secs() + 1
            ))
        };
        let step = (self.retention.as_secs() / 60).max(1);
        vec![
            ("needle word", logs(&format!("{{service_name=~\".+\"}} |= \"{NEEDLE}\""), "&limit=100")),
            ("latest 50 of a service", logs(&format!("{{service_name=\"{LATEST_OF}\"}}"), "&limit=50")),
            (
                "count by level over time",
                logs(
                    &format!("sum by (detected_level) (count_over_time({{service_name=~\".+\"}} [{step}s]))"),
                    &format!("&step={step}"),
                ),
            ),
            ("trace by id", Question::Get(format!("/tempo/api/traces/{}", self.trace.get()))),
            ("traces of a service", traces(&format!("{{ resource.service.name = \"{SERVICE}\" }}"))),
            ("attribute search", traces(&format!("{{ span.{KEY} = \"{VALUE}\" }}"))),
            (
                "rate of a metric",
                Question::Get(format!(
                    "/api/v1/query?query={}&time={}",
                    url_encoded("sum by (job) (rate(app_metric_1_total[1m]))"),
                    now.as_secs()
                )),
            ),
            ("SQL over spans", Question::Sql("select service, count(*), max(duration) from spans group by service".to_owned())),
        ]
    }
}

enum Question {
    Get(String),
    Sql(String),
}
