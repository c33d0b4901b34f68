//! The stores as the HTTP face and the rules see them, and what they say of themselves.

use br_events::EventStore;
use br_http::app::{ErrorEvents, FoundDamage, LimitHit, MetricFile, MetricStats, Stats};
use br_jobs::flush::Flusher;
use br_model::{LogKind, LogRecord, TenantId};
use br_query::door::Sources;
use br_std::{Nanos, Result};
use br_storage::{Budget, FileEntry, LogHint, LogQuery, LogSource, MetricSource, SpanSource, TimeRange};
use br_tsdb::{BlockStats, CapHit, Tsdb};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The stores, by tenant.
pub(crate) struct StoreSources {
    pub(crate) metrics: Arc<Tsdb>,
    pub(crate) events: Arc<EventStore>,
}

impl Sources for StoreSources {
    fn metrics(&self, tenant: TenantId) -> Arc<dyn MetricSource> {
        self.metrics.source(tenant)
    }

    fn logs(&self, tenant: TenantId) -> Arc<dyn LogSource> {
        self.events.logs(tenant)
    }

    fn spans(&self, tenant: TenantId) -> Arc<dyn SpanSource> {
        self.events.spans(tenant)
    }
}

impl ErrorEvents for StoreSources {
    fn events(&self, tenant: TenantId, issue: u64, range: TimeRange, limit: usize, budget: &Budget) -> Result<Vec<LogRecord>> {
        // From the newest back, in growing steps: an issue of a million events must not be read to show twenty.
        let mut found = Vec::new();
        let mut to = range.to;
        let mut step = Duration::from_mins(10);
        while found.len() < limit && to > range.from {
            let from = (to - step).max(range.from);
            found.extend(self.errors(tenant, issue, TimeRange::new(from, to), budget)?);
            (to, step) = (from, step * 4);
        }
        found.truncate(limit);
        Ok(found)
    }

    fn counts(
        &self,
        tenant: TenantId,
        issue: u64,
        from: Nanos,
        step: Duration,
        steps: usize,
        budget: &Budget,
    ) -> Result<Vec<u64>> {
        let mut counts = vec![0; steps];
        for (at, count) in counts.iter_mut().enumerate() {
            let start = from + step * at as u32;
            *count = self.errors(tenant, issue, TimeRange::new(start, start + step), budget)?.len() as u64;
        }
        Ok(counts)
    }
}

/// Error events of one step that are looked at.
const ERRORS_MAX: usize = 100_000;

impl StoreSources {
    /// The events of an issue in a range, newest first.
    fn errors(&self, tenant: TenantId, issue: u64, range: TimeRange, budget: &Budget) -> Result<Vec<LogRecord>> {
        let hints = vec![LogHint::AttributeEquals { name: "error_group".into(), value: format!("{issue:016x}") }];
        let query = LogQuery { kind: Some(LogKind::Error), hints, ..LogQuery::new(range) };
        let records = self.events.records(tenant, &query, ERRORS_MAX, budget)?.into_iter().map(|stored| stored.record);
        let is_of_issue = |record: &LogRecord| record.error.as_ref().is_some_and(|error| error.grouping_hash() == issue);
        Ok(records.filter(is_of_issue).collect())
    }
}

/// Figures of the stores, for `/metrics` and the status pages.
pub(crate) struct StoreStats {
    metrics: Arc<Tsdb>,
    events: Arc<EventStore>,
    flusher: Arc<Flusher>,
}

impl StoreStats {
    pub(crate) fn new(metrics: &Arc<Tsdb>, events: &Arc<EventStore>, flusher: &Arc<Flusher>) -> Self {
        Self { metrics: metrics.clone(), events: events.clone(), flusher: flusher.clone() }
    }
}

fn limit_hit(hit: CapHit) -> LimitHit {
    let CapHit { cap, labels, series, series_max, refused_samples } = hit;
    LimitHit { limit: cap.as_str(), labels, series, series_max, refused_samples }
}

fn metric_file(file: FileEntry) -> MetricFile {
    let (series, samples) = BlockStats::of(&file).map_or((0, 0), |stats| (stats.series, stats.samples));
    MetricFile {
        min_time_ms: file.min_time.as_millis(),
        max_time_ms: file.max_time.as_millis(),
        series,
        samples,
        level: file.level,
        bytes: file.size_bytes,
        name: file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".parquet").to_owned(),
    }
}

/// The families of the event store; `family` takes name, kind, help and values by labels.
fn event_families(events: &EventStore, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let counters = events.counters();
    let counts = [
        ("bellrock_log_records_stored_total", "Log records that were stored.", &counters.logs_appended),
        ("bellrock_spans_stored_total", "Spans that were stored.", &counters.spans_appended),
        ("bellrock_log_bodies_cut_total", "Lines that were cut for their length when they were stored.", &counters.bodies_cut),
        (
            "bellrock_event_attributes_cut_total",
            "Attributes of log records and spans that were cut for their length.",
            &counters.attributes_cut,
        ),
        (
            "bellrock_event_attributes_dropped_total",
            "Attributes that were left out because their log record or span had too many.",
            &counters.attributes_dropped,
        ),
        (
            "bellrock_span_children_dropped_total",
            "Events and links that were left out because their span had too many.",
            &counters.span_children_dropped,
        ),
        (
            "bellrock_event_windows_joined_total",
            "Log records and spans that were stored with those of another hour because too many hours were open.",
            &counters.windows_joined,
        ),
        ("bellrock_event_files_written_total", "Event files that were written.", &counters.files_written),
        ("bellrock_event_page_reads_total", "Reads of pages of event files.", &counters.pages_read),
        (
            "bellrock_event_pages_pruned_total",
            "Pages of event files that a query had no need to read, by summary or filter.",
            &counters.pages_pruned,
        ),
    ];
    for (name, help, count) in counts {
        family(name, "counter", help, &[(String::new(), count.load(Ordering::Relaxed))]);
    }
    let damaged = counters.damages().len() as u64;
    family("bellrock_event_files_damaged", "gauge", "Event files that could not be read.", &[(String::new(), damaged)]);
    let head = events.head_bytes() as u64;
    family("bellrock_event_head_bytes", "gauge", "Bytes of events in memory.", &[(String::new(), head)]);
}

impl Stats for StoreStats {
    fn metrics(&self, tenant: TenantId, top: usize) -> MetricStats {
        let stats = self.metrics.tenant_stats(tenant, top);
        let pairs = |counts: Vec<br_tsdb::NameCount>| counts.into_iter().map(|one| (one.name, one.count)).collect();
        MetricStats {
            series: stats.series,
            samples: stats.unflushed_samples + stats.file_samples,
            min_time_ms: stats.min_time_ms,
            max_time_ms: stats.max_time_ms,
            label_pairs: stats.label_pairs,
            chunks: stats.series + stats.sealed_parts as u64,
            top_metrics: pairs(stats.series_by_metric),
            top_labels: pairs(stats.values_by_label),
            top_label_bytes: pairs(stats.bytes_by_label),
            top_pairs: pairs(stats.series_by_pair),
            limits_hit: stats.cap_hits.into_iter().map(limit_hit).collect(),
        }
    }

    fn metric_files(&self, tenant: TenantId) -> Vec<MetricFile> {
        let mine = self.metrics.expired(Nanos::MAX).into_iter().filter(|file| file.tenant == tenant);
        let mut files: Vec<MetricFile> = mine.map(metric_file).collect();
        files.sort_by(|one, other| (one.min_time_ms, &one.name).cmp(&(other.min_time_ms, &other.name)));
        files
    }

    fn exposition(&self) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let tenants: Vec<_> =
            self.metrics.tenants().into_iter().map(|tenant| (tenant.0, self.metrics.tenant_stats(tenant, 0))).collect();
        let by_tenant = |value: fn(&br_tsdb::TenantStats) -> u64| -> Vec<(String, u64)> {
            tenants.iter().map(|(tenant, stats)| (format!("{{tenant=\"{tenant}\"}}"), value(stats))).collect()
        };
        family("bellrock_active_series", "gauge", "Series in the head.", &by_tenant(|stats| stats.series));
        family("bellrock_series_created_total", "counter", "Series that were new.", &by_tenant(|stats| stats.series_created));
        family("bellrock_samples_stored_total", "counter", "Samples that were stored.", &by_tenant(|stats| stats.accepted));
        family(
            "bellrock_samples_out_of_order_total",
            "counter",
            "Samples that came out of order.",
            &by_tenant(|stats| stats.out_of_order),
        );
        let help = "Samples that a merge left out: another value of the same time was stored before.";
        family("bellrock_samples_contradicted_total", "counter", help, &by_tenant(|stats| stats.contradicted));
        let rejected: Vec<_> = tenants
            .iter()
            .flat_map(|(tenant, stats)| {
                stats
                    .rejected
                    .iter()
                    .map(move |(reason, count)| (format!("{{tenant=\"{tenant}\",reason=\"{}\"}}", reason.as_str()), *count))
            })
            .collect();
        family("bellrock_samples_rejected_total", "counter", "Samples that were refused, by reason.", &rejected);
        let hits = |(tenant, stats): &(u32, br_tsdb::TenantStats)| {
            let labels = |cap: br_tsdb::Cap| format!("{{tenant=\"{tenant}\",limit=\"{}\"}}", cap.as_str());
            stats.cap_hit_counts.iter().map(|(cap, count)| (labels(*cap), *count)).collect::<Vec<_>>()
        };
        let hits: Vec<_> = tenants.iter().flat_map(hits).collect();
        let help = "Targets, jobs and metrics that came to their limit of series since the start, by limit.";
        family("bellrock_series_limits_hit", "gauge", help, &hits);
        let store = self.metrics.stats();
        let memory = |(tenant, stats): &(u32, br_tsdb::TenantStats)| {
            let parts = [("registry", stats.registry_bytes), ("open", stats.unflushed_bytes), ("retained", stats.retained_bytes)];
            parts.map(|(part, bytes)| (format!("{{tenant=\"{tenant}\",part=\"{part}\"}}"), bytes))
        };
        let mut memory: Vec<_> = tenants.iter().flat_map(memory).collect();
        memory.push(("{tenant=\"\",part=\"index_cache\"}".to_owned(), store.index_cache_bytes));
        let help = "About what metrics take in memory: labels and index, samples that no file holds, samples kept from files, file indexes.";
        family("bellrock_metric_memory_bytes", "gauge", help, &memory);
        let plain = |value: u64| vec![(String::new(), value)];
        family("bellrock_metric_files_damaged", "gauge", "Metric files that could not be read.", &plain(store.damaged_files));
        let help = "Chunks of metric files that were found damaged and are left out of answers.";
        family("bellrock_metric_chunks_damaged_total", "counter", help, &plain(store.damaged_chunks));
        let help = "Exemplars that merges of files had no room for.";
        family("bellrock_exemplars_dropped_total", "counter", help, &plain(store.exemplars_dropped));
        event_families(&self.events, &mut family);
        text
    }

    fn storage(&self) -> (u64, u64) {
        self.flusher.storage()
    }

    fn damage(&self) -> FoundDamage {
        let metrics = self.metrics.stats();
        let event_files = self.events.counters().damages().len() as u64;
        FoundDamage { metric_files: metrics.damaged_files, metric_chunks: metrics.damaged_chunks, event_files }
    }
}
