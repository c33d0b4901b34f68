//! Scraping one target: fetch, parse, label, and say which series have gone.

use super::client::{HttpClient, body_noting};
use super::histograms;
use super::job::Job;
use super::known::KnownSeries;
use super::relabel::relabel;
use super::room::{Patience, Place, Room};
use super::targets::Target;
use br_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, Value, stale_nan};
use br_std::error::Kind;
use br_std::{Error, Nanos, Result};
use br_wire::Limits;
use br_wire::decompress::decompress_header;
use br_wire::exposition::{self, Bounds, Exposed, Format, HistogramForms, TextKey};
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

impl TargetHealth {
    /// Adds to what is shown as the error.
    pub(super) fn note(&mut self, what: &str) {
        let before = if self.last_error.is_empty() { String::new() } else { format!("{}; ", self.last_error) };
        self.last_error = shown(&format!("{before}{what}"), ERROR_CHARACTERS_MAX);
    }
}

/// A target with what it brought last time.
pub(super) struct Scraper {
    target: Target,
    known: KnownSeries,
}

/// What a target answered, as it came.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) content_type: String,
    pub(super) content_encoding: String,
    pub(super) body: Vec<u8>,
    /// In the room of all scrapes, for the body in the clear.
    pub(super) _place: Place,
}

/// What is read of a scrape at the most.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Of labels, and of how much larger a packed body may become.
    pub wire: Limits,
    /// Of one scrape, before relabelling drops some. What the store takes of one target is less.
    pub series_max: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { wire: Limits::default(), series_max: SERIES_MAX }
    }
}

/// Series of a scrape that are read where nothing else is said.
const SERIES_MAX: usize = 1_000_000;

impl ReadLimits {
    /// With so many series to a target in the store. A scrape may bring more: relabelling may drop them.
    pub fn new(wire: Limits, series_per_target_max: usize) -> Self {
        Self { wire, series_max: SERIES_MAX.max(series_per_target_max.saturating_mul(2)) }
    }

    /// Of a job.
    fn of(&self, job: &Job) -> Limits {
        let bytes_max = job.settings.body_bytes_max;
        Limits { body_bytes_max: bytes_max, decoded_bytes_max: bytes_max, ..self.wire }
    }
}

/// Gets the exposition of a target, within its limits of time and size.
pub(super) async fn fetch(client: &HttpClient, job: &Job, target: &Target, limits: &ReadLimits, room: &Room) -> Result<Fetched> {
    let within = async {
        let mut request = client
            .get(&target.url)
            .await?
            .header("accept", &job.settings.accept)
            .header("x-prometheus-scrape-timeout-seconds", target.timeout.as_secs_f64().to_string());
        let encoding = if job.config.enable_compression { "gzip" } else { "identity" };
        request = request.header("accept-encoding", encoding);
        let response = request.send().await.map_err(|error| Error::retry(client.reason(&error, &target.url)))?;
        if response.status() != 200 {
            if response.status() == 401 {
                client.refused();
            }
            return Err(Error::retry(format!("server returned HTTP status {}", response.status())));
        }
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let (content_type, content_encoding) = (text("content-type"), text("content-encoding"));
        let mut place = Place::default();
        let body = body_noting(response, job.settings.body_bytes_max, |bytes| place.take(room, bytes)).await?;
        let body = body.ok_or_else(|| body_too_large(job))?;
        if !matches!(content_encoding.as_str(), "" | "identity") {
            let limits = limits.of(job);
            let unpacked_max = body.len().saturating_mul(limits.ratio_max).max(limits.ratio_free_bytes);
            place.grow(room, unpacked_max.min(limits.decoded_bytes_max)).await?;
        }
        Ok(Fetched { content_type, content_encoding, body, _place: place })
    };
    let late = |_| Error::retry(format!("no answer within the scrape timeout of {}", br_std::duration::format(target.timeout)));
    tokio::time::timeout(target.timeout, within).await.map_err(late)?
}

fn body_too_large(job: &Job) -> Error {
    Error::over_limit(format!("body size limit exceeded: more than {} bytes", job.settings.body_bytes_max))
}

impl Scraper {
    pub(super) fn new(target: Target) -> Self {
        Self { target, known: KnownSeries::default() }
    }

    /// The same series, scraped otherwise: their lines may have other labels now.
    pub(super) fn moved_to(self, target: Target) -> Self {
        Self { target, known: self.known.named_anew() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Makes the batch of one scrape: the target's samples or, after a failure, staleness markers; and the report on the scrape.
    /// Blocks for as long as the body is large; where `patience` ends before the body does, the scrape has failed, and `None` is
    /// for nobody.
    pub(super) fn batch(
        &mut self,
        job: &Job,
        fetched: Result<Fetched>,
        limits: &ReadLimits,
        patience: &Patience,
        at: Nanos,
        took: impl FnOnce() -> Duration,
    ) -> Option<(MetricBatch, TargetHealth)> {
        let at_ms = at.as_millis();
        let mut read = match fetched {
            Ok(fetched) => self.read(job, &fetched, limits, patience, at_ms),
            Err(error) => {
                let body_bytes = if error.kind() == Kind::OverLimit { -1.0 } else { 0.0 };
                Read { failed: Some(error), body_bytes, ..Read::default() }
            }
        };
        if patience.is_unwanted() {
            return None;
        }
        if patience.has_ended() && read.failed.is_some() {
            let timeout = br_std::duration::format(self.target.timeout);
            read.failed =
                Some(Error::retry(format!("the answer was too long to be read within the scrape timeout of {timeout}")));
        }
        Some(self.conclude(job, read, at, took()))
    }

    fn conclude(&mut self, job: &Job, read: Read, at: Nanos, took: Duration) -> (MetricBatch, TargetHealth) {
        let at_ms = at.as_millis();
        let mut health = TargetHealth { last_scrape: at, last_duration: took, ..TargetHealth::default() };
        let (mut batch, mut report) = (MetricBatch::default(), MetricBatch::default());
        let (scraped, kept, bytes) = (read.scraped, read.kept, read.body_bytes);
        let added;
        if let Some(error) = read.failed {
            // All or nothing: what was read up to the fault is counted, not kept.
            added = read.keys.iter().filter(|key| !key.is_known).count();
            self.mark_all_gone(at_ms, &mut batch);
            health.is_up = Some(false);
            health.last_error = shown(&error.to_string(), ERROR_CHARACTERS_MAX);
        } else {
            added = self.take_note(job, &read, at_ms, &mut batch);
            batch.metadata = read.batch.metadata;
            batch.series.extend(read.batch.series);
            health.is_up = Some(true);
            health.samples = kept;
        }
        let is_up = f64::from(u8::from(health.is_up == Some(true)));
        let values = [is_up, took.as_secs_f64(), scraped as f64, kept as f64, added as f64];
        self.report(&mut report, at_ms, &REPORT, &values);
        if job.settings.extra_metrics {
            let values = [self.target.timeout.as_secs_f64(), job.settings.sample_limit as f64, bytes];
            self.report(&mut report, at_ms, &EXTRA_REPORT, &values);
        }
        // In front: where there are too many series, those that tell of it are not the ones too many.
        report.series.append(&mut batch.series);
        report.metadata = batch.metadata;
        (report, health)
    }

    /// The markers for a target that is no longer scraped.
    pub(super) fn end(&mut self, job: &Job, at: Nanos) -> MetricBatch {
        let mut batch = MetricBatch::default();
        self.mark_all_gone(at.as_millis(), &mut batch);
        let extra: &[&str] = if job.settings.extra_metrics { &EXTRA_REPORT } else { &[] };
        for name in REPORT.iter().chain(extra) {
            batch.series.push(marker(self.report_labels(name), at.as_millis()));
        }
        batch
    }

    /// Reads and labels up to the first fault.
    fn read(&self, job: &Job, fetched: &Fetched, limits: &ReadLimits, patience: &Patience, at_ms: i64) -> Read {
        let mut read = Read::default();
        let body = match decompress_header(&fetched.body, &fetched.content_encoding, &limits.of(job)).map_err(Error::from) {
            Ok(body) => body,
            Err(error) if error.kind() == Kind::OverLimit => {
                return Read { failed: Some(error.context("body size limit exceeded")), body_bytes: -1.0, ..read };
            }
            Err(error) => return Read { failed: Some(error), ..read },
        };
        read.body_bytes = body.len() as f64;
        let parsed = match parse(job, &fetched.content_type, &body, &self.known, limits, patience) {
            Ok(parsed) => parsed,
            Err(error) => return Read { failed: Some(error), ..read },
        };
        let limit = job.settings.sample_limit;
        let mut keys = parsed.keys.into_iter();
        read.batch = MetricBatch { series: Vec::with_capacity(parsed.batch.series.len()), metadata: parsed.batch.metadata };
        for mut series in parsed.batch.series {
            read.scraped += series.samples.len();
            let named = keys.next();
            if !named.is_some_and(|key| key.is_known) {
                let labels = with_target_labels(&series.labels, &self.target.labels, job.config.honor_labels);
                series.labels = relabel(&job.metric_relabel, labels).unwrap_or_default();
            }
            // A format without lines names a series by its labels.
            let key = named.unwrap_or_else(|| self.known.key(&series.labels));
            if series.labels.is_empty() {
                read.dropped.push(key);
                continue;
            }
            let checked = if key.is_known { Ok(()) } else { check_labels(job, &series.labels, &limits.wire) };
            if let Err(error) = checked.and_then(|()| histograms::limit(&job.settings, &mut series.samples)) {
                read.failed = Some(error);
                break;
            }
            stamp(job, &mut series, at_ms);
            read.kept += series.samples.len();
            // Over the limit it goes on counting: a person wants to know by how much.
            if limit == 0 || read.kept as u64 <= limit {
                read.batch.series.push(series);
                read.keys.push(key);
            }
        }
        if read.failed.is_none() && limit > 0 && read.kept as u64 > limit {
            read.failed =
                Some(Error::over_limit(format!("sample limit exceeded: {} samples, sample_limit is {limit}", read.kept)));
        }
        read
    }

    /// Remembers the series of a good scrape, and adds a staleness marker for each that was there last time and is not now.
    /// Returns how many are new.
    fn take_note(&mut self, job: &Job, read: &Read, at_ms: i64, out: &mut MetricBatch) -> usize {
        // A series that carries its own timestamps says itself when it ends, unless the configuration says otherwise.
        let tracks_all = job.config.track_timestamps_staleness;
        let own_time = |series: &SeriesSamples| !tracks_all && series.samples.iter().any(|sample| sample.timestamp_ms != at_ms);
        let mut added = 0;
        self.known.begin();
        for (series, key) in read.batch.series.iter().zip(&read.keys) {
            let is_tracked = !own_time(series);
            let is_new = self.known.see(key.hash, &series.labels, is_tracked);
            added += usize::from(is_new && is_tracked);
        }
        for key in &read.dropped {
            self.known.see(key.hash, &Labels::empty(), false);
        }
        out.series.extend(self.known.take_gone().into_iter().map(|labels| marker(labels, at_ms)));
        added
    }

    /// After a scrape that failed, and at the end: nothing is there any more.
    fn mark_all_gone(&mut self, at_ms: i64, out: &mut MetricBatch) {
        self.known.begin();
        out.series.extend(self.known.take_gone().into_iter().map(|labels| marker(labels, at_ms)));
    }

    fn report(&self, batch: &mut MetricBatch, at_ms: i64, names: &[&str], values: &[f64]) {
        for (name, value) in names.iter().zip(values) {
            let samples = vec![Sample::float(at_ms, *value)];
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

/// What it says besides with `extra_scrape_metrics`.
const EXTRA_REPORT: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

#[derive(Default)]
struct Read {
    /// Samples before metric relabelling.
    scraped: usize,
    /// Samples after it.
    kept: usize,
    /// Of the body in the clear; -1 when it was too large.
    body_bytes: f64,
    batch: MetricBatch,
    /// Of the series that are kept, in their order; and of those that relabelling left out.
    keys: Vec<TextKey>,
    dropped: Vec<TextKey>,
    failed: Option<Error>,
}

fn parse(
    job: &Job,
    content_type: &str,
    body: &[u8],
    known: &KnownSeries,
    limits: &ReadLimits,
    patience: &Patience,
) -> Result<Exposed> {
    let settings = &job.settings;
    // Relabelling may bring more series below the limit.
    let is_limit_of_all = settings.sample_limit > 0 && job.metric_relabel.is_empty();
    let sample_limit = if is_limit_of_all { usize::try_from(settings.sample_limit).unwrap_or(usize::MAX) } else { usize::MAX };
    let bounds =
        Bounds { limits: &limits.wire, series_max: limits.series_max.min(sample_limit), is_stopped: &|| patience.has_ended() };
    let format = match (Format::from_content_type(content_type, false), settings.fallback) {
        (Ok(format), _) | (Err(_), Some(format)) => format,
        (Err(error), None) => return Err(error.into()),
    };
    let forms = HistogramForms {
        native: settings.native_histograms,
        // They are wanted for the conversion; what has a native form already keeps that.
        classic_too: settings.classic_histograms_too,
    };
    if settings.convert_classic_histograms {
        // Series are put together from several lines.
        let mut batch = exposition::parse_choosing(body, format, forms, &(), &bounds)?.batch;
        histograms::convert_classic(&mut batch, settings.classic_histograms_too);
        return Ok(Exposed { batch, keys: Vec::new() });
    }
    Ok(exposition::parse_choosing(body, format, forms, known, &bounds)?)
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

/// Samples and exemplars that carry no time of their own have that of the scrape.
fn stamp(job: &Job, series: &mut SeriesSamples, at_ms: i64) {
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
}

/// Names that are allowed, and the limits that the job has for labels.
fn check_labels(job: &Job, labels: &Labels, limits: &Limits) -> Result<()> {
    let settings = &job.settings;
    let metric = labels.metric_name();
    if metric.is_empty() {
        return Err(Error::fix_request(format!(
            "missing metric name (__name__ label): {}",
            shown(&labels.to_string(), LABELS_CHARACTERS_MAX)
        )));
    }
    let is_legacy = || is_legacy_metric_name(metric) && labels.iter().all(|(name, _)| is_legacy_label_name(name));
    if settings.is_legacy_names && !is_legacy() {
        return Err(Error::fix_request(format!(
            "invalid metric name or label names: {}",
            shown(&labels.to_string(), LABELS_CHARACTERS_MAX)
        )));
    }
    if settings.label_limit > 0 && labels.len() as u64 > settings.label_limit {
        let (count, limit) = (labels.len(), settings.label_limit);
        return Err(Error::over_limit(format!(
            "label_limit exceeded (metric: {metric:.50}, number of labels: {count}, limit: {limit})"
        )));
    }
    let is_long = |text: &str, limit: u64| limit > 0 && text.len() as u64 > limit;
    for (name, value) in labels.iter() {
        if is_long(name, settings.label_name_length_limit) {
            return Err(Error::over_limit(format!(
                "label_name_length_limit exceeded (metric: {metric:.50}, label name: {name:.50}, length: {}, limit: {})",
                name.len(),
                settings.label_name_length_limit
            )));
        }
        if is_long(value, settings.label_value_length_limit) {
            return Err(Error::over_limit(format!(
                "label_value_length_limit exceeded (metric: {metric:.50}, label name: {name:.50}, value: {value:.50?}, length: {}, limit: {})",
                value.len(),
                settings.label_value_length_limit
            )));
        }
    }
    let of_series = |error: br_wire::WireError| Error::from(error.context(format!("metric {metric:.50}")));
    exposition::check_labels(labels, limits).map_err(of_series)
}

/// What a page shows of a failure.
const ERROR_CHARACTERS_MAX: usize = 1000;
/// What an error shows of labels.
const LABELS_CHARACTERS_MAX: usize = 150;

/// A text that a target may have made as long as it likes, cut.
fn shown(text: &str, characters_max: usize) -> String {
    text.char_indices().nth(characters_max).map_or_else(|| text.to_owned(), |(at, _)| format!("{}…", &text[..at]))
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
        let (interval, timeout) = (Duration::from_mins(1), Duration::from_secs(10));
        Scraper::new(Target { url: String::new(), labels, discovered: Labels::empty(), interval, timeout })
    }

    fn scrape(scraper: &mut Scraper, job: &Job, text: &str, at_ms: i64) -> Vec<String> {
        let fetched =
            Fetched { content_type: "text/plain; version=0.0.4".into(), body: text.as_bytes().to_vec(), ..Fetched::default() };
        show(&scrape_once(scraper, job, Ok(fetched), at_ms).0)
    }

    fn scrape_once(scraper: &mut Scraper, job: &Job, fetched: Result<Fetched>, at_ms: i64) -> (MetricBatch, TargetHealth) {
        let (limits, patience) = (ReadLimits::default(), Patience::default());
        let at = Nanos::from_millis(at_ms);
        scraper.batch(job, fetched, &limits, &patience, at, || Duration::from_millis(1)).expect("wanted")
    }

    /// What the target brought, and then what the scrape says of itself.
    fn show(batch: &MetricBatch) -> Vec<String> {
        let (report, brought): (Vec<_>, Vec<_>) =
            batch.series.iter().partition(|series| REPORT.contains(&series.labels.metric_name()));
        let shown = brought.into_iter().chain(report).map(|series| {
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
        let fetched = Fetched { content_type: "text/plain".into(), body: b"z 1\n".to_vec(), ..Fetched::default() };
        let (batch, _) = scrape_once(&mut self::scraper(), &job, Ok(fetched), 1000);
        assert_eq!(batch.series[0].labels.metric_name(), "up", "a limit on series refuses what comes last");
        let second = scrape(&mut scraper, &job, "x 1\n", 2000);
        assert_eq!(second[0], r#"y{exported_job="z", instance="h:1", job="a"} stale @2000"#);
        assert_eq!(scrape(&mut scraper, &job, "x 1\n", 3000).len(), 2);
    }

    #[test]
    fn a_failed_scrape_is_down_and_stale() {
        let (mut scraper, job) = (scraper(), job("job_name: a"));
        scrape(&mut scraper, &job, "x 1\n", 1000);
        let (batch, health) = scrape_once(&mut scraper, &job, Err(Error::retry("connection refused")), 2000);
        assert_eq!(
            show(&batch),
            [r#"x{instance="h:1", job="a"} stale @2000"#, r#"up{instance="h:1", job="a"} Float(0.0) @2000"#]
        );
        assert_eq!(health.last_error, "connection refused");
    }

    #[test]
    fn limits_fail_the_scrape() {
        for (setting, text, error, counts) in [
            ("sample_limit: 1", "x 1\ny 2\n", "sample limit exceeded: 2 samples, sample_limit is 1", [2.0, 2.0, 1.0]),
            (
                "label_limit: 3",
                "x 1\ny{a=\"b\"} 1\n",
                "label_limit exceeded (metric: y, number of labels: 4, limit: 3)",
                [2.0, 1.0, 1.0],
            ),
            (
                "label_name_length_limit: 9",
                "x{abcdefghij=\"b\"} 1\n",
                "label name: abcdefghij, length: 10, limit: 9",
                [1.0, 0.0, 0.0],
            ),
            ("label_value_length_limit: 3", "x{a=\"bcde\"} 1\n", "value: \"bcde\", length: 4, limit: 3", [1.0, 0.0, 0.0]),
            ("metric_name_validation_scheme: legacy", "{\"é\"} 1\n", "invalid metric name or label names", [1.0, 0.0, 0.0]),
            ("metric_relabel_configs: [{regex: __name__, action: labeldrop}]", "x 1\n", "missing metric name", [1.0, 0.0, 0.0]),
        ] {
            let (mut scraper, job) = (scraper(), job(&format!("{{job_name: a, {setting}}}")));
            let fetched = Fetched { content_type: "text/plain".into(), body: text.as_bytes().to_vec(), ..Fetched::default() };
            let (batch, health) = scrape_once(&mut scraper, &job, Ok(fetched), 1000);
            assert_eq!(show(&batch), [r#"up{instance="h:1", job="a"} Float(0.0) @1000"#], "{setting}");
            assert!(health.last_error.contains(error), "{setting}: {}", health.last_error);
            let value = |name: &str| {
                batch
                    .series
                    .iter()
                    .find(|series| series.labels.metric_name() == name)
                    .map(|series| series.samples[0].value.clone())
            };
            for (name, count) in REPORT[2..].iter().zip(counts) {
                assert_eq!(value(name), Some(Value::Float(count)), "{setting}: {name}");
            }
        }
    }

    #[test]
    fn content_types_staleness_of_own_timestamps_and_extra_metrics() {
        let yaml = "{job_name: a, fallback_scrape_protocol: OpenMetricsText1.0.0, track_timestamps_staleness: true, extra_scrape_metrics: true}";
        let (mut scraper, job) = (scraper(), job(yaml));
        let mut one = |body: &str, at_ms| {
            let fetched = Fetched { content_type: "text/html".into(), body: body.as_bytes().to_vec(), ..Fetched::default() };
            scrape_once(&mut scraper, &job, Ok(fetched), at_ms).0
        };
        let first = one("x 1 0.5\n# EOF\n", 1000);
        assert_eq!(show(&first)[0], r#"x{instance="h:1", job="a"} Float(1.0) @500"#);
        assert!(first.series.iter().any(|series| series.labels.metric_name() == "scrape_body_size_bytes"));
        assert_eq!(show(&one("# EOF\n", 2000))[0], r#"x{instance="h:1", job="a"} stale @2000"#);
    }

    #[test]
    fn a_line_that_was_read_before_means_the_same_and_only_that() {
        let relabel = "metric_relabel_configs: [{source_labels: [__name__], regex: noise, action: drop}]";
        let (mut scraper, job) = (scraper(), job(&format!("{{job_name: a, {relabel}}}")));
        let body = "x{a=\"}\"} 1\nnoise 5\n{\"w\", b=\"c d\"} 2\n";
        let first = scrape(&mut scraper, &job, body, 1000);
        let again = scrape(&mut scraper, &job, body, 2000);
        assert_eq!(again, first.iter().map(|line| line.replace("@1000", "@2000")).collect::<Vec<_>>());
        assert_eq!(first.len(), 3);
        // Known names before what is unusual or wrong: blanks, times, a broken value.
        let third = scrape(&mut scraper, &job, "x{a=\"}\"}   3  7\nnoise NaN\n{\"w\", b=\"c d\"}\t4\n", 3000);
        assert_eq!(
            third[..2],
            [r#"x{a="}", instance="h:1", job="a"} Float(3.0) @7"#, r#"w{b="c d", instance="h:1", job="a"} Float(4.0) @3000"#]
        );
        let broken = scrape(&mut scraper, &job, "x{a=\"}\"} 1x\n", 4000);
        assert!(broken.contains(&r#"up{instance="h:1", job="a"} Float(0.0) @4000"#.to_owned()), "{broken:?}");
    }

    #[test]
    fn a_bomb_ends_where_nobody_waits_for_it_or_it_is_too_large() {
        let job = job("{job_name: a, body_size_limit: 2MB}");
        let bomb = |text: &str, patience: &Patience| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packed, text.as_bytes()).expect("in memory");
            let body = packed.finish().expect("in memory");
            let fetched =
                Fetched { content_type: "text/plain".into(), content_encoding: "gzip".into(), body, ..Fetched::default() };
            let limits = ReadLimits { series_max: 5000, ..ReadLimits::default() };
            let outcome = scraper().batch(&job, Ok(fetched), &limits, patience, Nanos(0), || Duration::ZERO);
            outcome.map(|(_, health)| health.last_error)
        };
        let waits = Patience::default();
        assert_eq!(bomb("x 1\n", &waits).as_deref(), Some(""));
        let error = bomb(&"# no\n".repeat(1 << 20), &waits).expect("wanted");
        assert!(error.contains("becomes larger than"), "{error}");
        let series = "x 1\ny 1\n".repeat(10_000);
        let error = bomb(&series, &waits).expect("wanted");
        assert!(error.contains("more than 5000 series"), "{error}");
        let late = Patience::default();
        late.run_out();
        let error = bomb(&series, &late).expect("wanted");
        assert!(error.contains("within the scrape timeout"), "{error}");
        late.give_up();
        assert_eq!(bomb(&series, &late), None);
        let long = format!("x{{a=\"{}\"}} 1\n", "é".repeat(3000));
        let error = bomb(&long, &waits).expect("wanted");
        assert!(error.contains("1:3: the value of label \"a\" has 6000 bytes, at most 4096 are taken"), "{error}");
    }

    #[test]
    fn honored_labels_and_timestamps() {
        let (mut scraper, job) = (scraper(), job("{job_name: a, honor_labels: true}"));
        assert_eq!(scrape(&mut scraper, &job, "y{job=\"z\"} 2 500\n", 1000)[0], r#"y{instance="h:1", job="z"} Float(2.0) @500"#);
    }
}
