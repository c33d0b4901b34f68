//! Scraping one target: fetch, parse, label, and say which series have gone.

use super::config::Job;
use super::discovery::Target;
use super::relabel::relabel;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, Value, labels::METRIC_NAME, stale_nan};
use br_std::{Error, Nanos, Result};
use br_wire::exposition;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a person sees of a target on the targets page.
#[derive(Clone, Debug, Default)]
pub struct TargetHealth {
    /// `None` before the first scrape.
    pub is_up: Option<bool>,
    pub last_error: String,
    pub last_scrape: Nanos,
    pub last_duration: Duration,
    pub samples: usize,
}

/// A target with what it brought last time.
pub(super) struct Scraper {
    target: Target,
    /// The series of the last good scrape, by hash, so that those that go can be marked stale.
    known: BTreeMap<u128, Labels>,
}

/// What a target answered.
pub(super) struct Fetched {
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

/// Gets the exposition of a target, within the job's limits of time and size.
pub(super) async fn fetch(client: &reqwest::Client, job: &Job, target: &Target) -> Result<Fetched> {
    let mut request = client
        .get(&target.url)
        .timeout(job.timeout)
        .header("accept", exposition::ACCEPT)
        .header("x-prometheus-scrape-timeout-seconds", job.timeout.as_secs_f64().to_string());
    if let Some(basic) = &job.config.basic_auth {
        request = request.basic_auth(&basic.username, secret(basic.password.as_deref(), basic.password_file.as_deref())?);
    }
    if let Some(authorization) = &job.config.authorization {
        let credentials =
            secret(authorization.credentials.as_deref(), authorization.credentials_file.as_deref())?.unwrap_or_default();
        request = request.header("authorization", format!("{} {credentials}", authorization.kind));
    } else if let Some(token) = &job.config.bearer_token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.map_err(|error| fetch_error(&error, job))?;
    if !response.status().is_success() {
        return Err(Error::retry(format!("server returned HTTP status {}", response.status())));
    }
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fetch_error(&error, job))? {
        if body.len() + chunk.len() > job.body_bytes_max {
            return Err(Error::over_limit(format!("body is larger than body_size_limit, {} bytes", job.body_bytes_max)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched { content_type, body })
}

fn fetch_error(error: &reqwest::Error, job: &Job) -> Error {
    if error.is_timeout() {
        return Error::retry(format!("no answer within the scrape timeout of {}", br_std::duration::format(job.timeout)));
    }
    // The innermost cause says what a person can act on: "connection refused", "certificate has expired".
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Error::retry(cause.to_string())
}

#[allow(clippy::disallowed_methods, reason = "secrets lie outside the data directory")]
fn secret(inline: Option<&str>, file: Option<&str>) -> Result<Option<String>> {
    match (inline, file) {
        (Some(text), _) => Ok(Some(text.to_owned())),
        (None, Some(path)) => Ok(Some(String::from_utf8_lossy(&std::fs::read(path)?).trim().to_owned())),
        (None, None) => Ok(None),
    }
}

impl Scraper {
    pub(super) fn new(target: Target) -> Self {
        Self { target, known: BTreeMap::new() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Makes the batch of one scrape: the target's samples or, after a failure, staleness markers; and the report on the scrape.
    pub(super) fn batch(
        &mut self,
        job: &Job,
        fetched: Result<Fetched>,
        at: Nanos,
        took: Duration,
    ) -> (MetricBatch, TargetHealth) {
        let at_ms = at.as_millis();
        let mut health = TargetHealth { last_scrape: at, last_duration: took, ..TargetHealth::default() };
        let mut batch = MetricBatch::default();
        let (mut scraped, mut kept, mut added) = (0, 0, 0);
        let outcome = fetched.and_then(|fetched| self.read(job, &fetched, at_ms));
        match outcome {
            Ok(read) => {
                (scraped, kept) = (read.scraped, read.batch.series.len());
                added = self.mark_gone(&read.batch, at_ms, &mut batch);
                batch.metadata = read.batch.metadata;
                batch.series.extend(read.batch.series);
                health.is_up = Some(true);
                health.samples = kept;
            }
            Err(error) => {
                self.mark_gone(&MetricBatch::default(), at_ms, &mut batch);
                health.is_up = Some(false);
                health.last_error = error.to_string();
            }
        }
        self.report(&mut batch, at_ms, health.is_up == Some(true), took, [scraped, kept, added]);
        (batch, health)
    }

    /// The markers for a target that is no longer scraped.
    pub(super) fn end(&mut self, at: Nanos) -> MetricBatch {
        let mut batch = MetricBatch::default();
        self.mark_gone(&MetricBatch::default(), at.as_millis(), &mut batch);
        for name in REPORT {
            batch.series.push(marker(self.report_labels(name), at.as_millis()));
        }
        batch
    }

    fn read(&self, job: &Job, fetched: &Fetched, at_ms: i64) -> Result<Read> {
        let fallback = job.config.fallback_scrape_protocol.is_some();
        let parsed = exposition::parse(&fetched.body, &fetched.content_type, fallback)?;
        let mut read = Read {
            scraped: 0,
            batch: MetricBatch { series: Vec::with_capacity(parsed.series.len()), metadata: parsed.metadata },
        };
        for mut series in parsed.series {
            read.scraped += series.samples.len();
            check_label_limits(job, &series.labels)?;
            let labels = with_target_labels(&series.labels, &self.target.labels, job.config.honor_labels);
            let Some(labels) = relabel(&job.metric_relabel, labels) else { continue };
            series.labels = labels;
            for sample in &mut series.samples {
                if sample.timestamp_ms == exposition::NO_TIMESTAMP || !job.config.honor_timestamps {
                    sample.timestamp_ms = at_ms;
                }
            }
            for exemplar in &mut series.exemplars {
                if exemplar.timestamp_ms == exposition::NO_TIMESTAMP {
                    exemplar.timestamp_ms = at_ms;
                }
            }
            read.batch.series.push(series);
        }
        if job.sample_limit > 0 && read.batch.sample_count() as u64 > job.sample_limit {
            return Err(Error::over_limit(format!(
                "{} samples, sample_limit is {}",
                read.batch.sample_count(),
                job.sample_limit
            )));
        }
        Ok(read)
    }

    /// Adds a staleness marker for each series that was there last time and is not now. Returns how many are new.
    fn mark_gone(&mut self, now: &MetricBatch, at_ms: i64, out: &mut MetricBatch) -> usize {
        // A series that carries its own timestamps says itself when it ends, as in Prometheus.
        let own_time = |series: &SeriesSamples| series.samples.iter().any(|sample| sample.timestamp_ms != at_ms);
        let current: BTreeMap<u128, Labels> = now
            .series
            .iter()
            .filter(|series| !own_time(series))
            .map(|series| (series.labels.hash128(), series.labels.clone()))
            .collect();
        let added = current.keys().filter(|hash| !self.known.contains_key(hash)).count();
        let gone = self.known.iter().filter(|(hash, _)| !current.contains_key(hash));
        out.series.extend(gone.map(|(_, labels)| marker(labels.clone(), at_ms)));
        self.known = current;
        added
    }

    fn report(&self, batch: &mut MetricBatch, at_ms: i64, is_up: bool, took: Duration, counts: [usize; 3]) {
        let values = [f64::from(u8::from(is_up)), took.as_secs_f64(), counts[0] as f64, counts[1] as f64, counts[2] as f64];
        for (name, value) in REPORT.into_iter().zip(values) {
            let samples = vec![Sample::float(at_ms, value)];
            batch.series.push(SeriesSamples { labels: self.report_labels(name), samples, exemplars: Vec::new() });
        }
    }

    fn report_labels(&self, name: &str) -> Labels {
        let mut builder = self.target.labels.to_builder();
        builder.set(METRIC_NAME, name);
        builder.build()
    }
}

/// What every scrape says about itself.
const REPORT: [&str; 5] =
    ["up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"];

struct Read {
    /// Before metric relabelling.
    scraped: usize,
    batch: MetricBatch,
}

fn marker(labels: Labels, at_ms: i64) -> SeriesSamples {
    let sample = Sample { timestamp_ms: at_ms, value: Value::Float(stale_nan()), start_ms: None };
    SeriesSamples { labels, samples: vec![sample], exemplars: Vec::new() }
}

/// Puts the target's labels on a series. On a clash the target wins and the series' own becomes `exported_…`; with
/// `honor_labels` the series wins.
fn with_target_labels(own: &Labels, target: &Labels, honor_labels: bool) -> Labels {
    let mut builder = own.to_builder();
    for (name, value) in target.iter() {
        match own.get(name) {
            None => {
                builder.set(name, value);
            }
            Some(_) if honor_labels => {}
            Some(theirs) => {
                let mut exported = format!("exported_{name}");
                while own.get(&exported).is_some() || target.get(&exported).is_some() {
                    exported.insert_str(0, "exported_");
                }
                builder.set(&exported, theirs);
                builder.set(name, value);
            }
        }
    }
    builder.build()
}

fn check_label_limits(job: &Job, labels: &Labels) -> Result<()> {
    if job.label_limit > 0 && labels.len() as u64 > job.label_limit {
        return Err(Error::over_limit(format!("{labels} has {} labels, label_limit is {}", labels.len(), job.label_limit)));
    }
    let too_long = |limit: u64, text: &str| limit > 0 && text.len() as u64 > limit;
    for (name, value) in labels.iter() {
        if too_long(job.label_name_length_limit, name) {
            return Err(Error::over_limit(format!("label name {name:.100} is longer than label_name_length_limit")));
        }
        if too_long(job.label_value_length_limit, value) {
            return Err(Error::over_limit(format!("value of label {name} is longer than label_value_length_limit")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::{GlobalConfig, ScrapeConfig};
    use super::*;

    fn job(yaml: &str) -> Job {
        Job::new(serde_norway::from_str::<ScrapeConfig>(yaml).expect("yaml"), &GlobalConfig::default()).expect("valid")
    }

    fn scraper() -> Scraper {
        let labels = Labels::from_pairs([("job", "a"), ("instance", "h:1")]);
        Scraper::new(Target { url: String::new(), labels, discovered: Labels::empty() })
    }

    fn scrape(scraper: &mut Scraper, job: &Job, text: &str, at_ms: i64) -> Vec<String> {
        let fetched = Fetched { content_type: "text/plain; version=0.0.4".into(), body: text.as_bytes().to_vec() };
        let (batch, _) = scraper.batch(job, Ok(fetched), Nanos::from_millis(at_ms), Duration::from_millis(1));
        show(&batch)
    }

    fn show(batch: &MetricBatch) -> Vec<String> {
        let shown = batch.series.iter().map(|series| {
            let sample = &series.samples[0];
            let value = if sample.value.is_stale() { "stale".into() } else { format!("{:?}", sample.value) };
            format!("{} {value} @{}", series.labels, sample.timestamp_ms)
        });
        shown.filter(|line| !line.contains("scrape_")).collect()
    }

    #[test]
    fn a_series_that_goes_is_marked_stale_once() {
        let (mut scraper, job) = (scraper(), job("job_name: a"));
        let first = scrape(&mut scraper, &job, "x 1\ny{job=\"z\"} 2\n", 1000);
        assert_eq!(
            first,
            [
                r#"x{instance="h:1", job="a"} Float(1.0) @1000"#,
                r#"y{exported_job="z", instance="h:1", job="a"} Float(2.0) @1000"#,
                r#"up{instance="h:1", job="a"} Float(1.0) @1000"#,
            ]
        );
        let second = scrape(&mut scraper, &job, "x 1\n", 2000);
        assert_eq!(second[0], r#"y{exported_job="z", instance="h:1", job="a"} stale @2000"#);
        assert_eq!(scrape(&mut scraper, &job, "x 1\n", 3000).len(), 2);
    }

    #[test]
    fn a_failed_scrape_is_down_and_stale() {
        let (mut scraper, job) = (scraper(), job("job_name: a"));
        scrape(&mut scraper, &job, "x 1\n", 1000);
        let (batch, health) =
            scraper.batch(&job, Err(Error::retry("connection refused")), Nanos::from_millis(2000), Duration::ZERO);
        assert_eq!(
            show(&batch),
            [r#"x{instance="h:1", job="a"} stale @2000"#, r#"up{instance="h:1", job="a"} Float(0.0) @2000"#]
        );
        assert_eq!(health.last_error, "connection refused");
    }

    #[test]
    fn limits_fail_the_scrape() {
        for (yaml, text) in
            [("{job_name: a, sample_limit: 1}", "x 1\ny 2\n"), ("{job_name: a, label_limit: 1}", "x{a=\"b\"} 1\n")]
        {
            let (mut scraper, job) = (scraper(), job(yaml));
            let lines = scrape(&mut scraper, &job, text, 1000);
            assert_eq!(lines, [r#"up{instance="h:1", job="a"} Float(0.0) @1000"#], "{yaml}");
        }
    }

    #[test]
    fn honored_labels_and_timestamps() {
        let (mut scraper, job) = (scraper(), job("{job_name: a, honor_labels: true}"));
        assert_eq!(scrape(&mut scraper, &job, "y{job=\"z\"} 2 500\n", 1000)[0], r#"y{instance="h:1", job="z"} Float(2.0) @500"#);
    }
}
