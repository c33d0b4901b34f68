//! What the store holds, for `/api/v1/status/tsdb` and for Bellrock's own metrics.

use crate::head::caps::{Cap, CapHit};
use crate::outcome::RejectReason;
use crate::store::Tsdb;
use br_model::TenantId;
use br_model::labels::METRIC_NAME;
use br_storage::JournalPosition;

/// A name and how often it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCount {
    pub name: String,
    pub count: u64,
}

/// What one tenant has.
#[derive(Clone, Debug, Default)]
pub struct TenantStats {
    /// Series in the head.
    pub series: u64,
    pub label_pairs: u64,
    /// Samples that no file holds yet, and about what they take in memory.
    pub unflushed_samples: u64,
    pub unflushed_bytes: u64,
    /// About what samples take in memory that are in files already.
    pub retained_bytes: u64,
    /// About what labels and index of the head take in memory.
    pub registry_bytes: u64,
    /// Parts that were sealed and wait for their files.
    pub sealed_parts: usize,
    /// Times of the oldest and of the newest sample that no file holds yet, in milliseconds.
    pub min_time_ms: Option<i64>,
    pub max_time_ms: Option<i64>,
    pub files: u64,
    pub file_bytes: u64,
    /// Samples in files; those that lie in two count twice until they are compacted.
    pub file_samples: u64,
    /// Since the start.
    pub accepted: u64,
    pub repeated: u64,
    pub out_of_order: u64,
    pub series_created: u64,
    pub series_dropped: u64,
    /// Found by merges since the start: another value of the same time was stored before.
    pub contradicted: u64,
    /// Since the start, each reason once.
    pub rejected: Vec<(RejectReason, u64)>,
    /// Targets, jobs and metrics that came to their cap, those that refused most first.
    pub cap_hits: Vec<CapHit>,
    /// How many came to it, of each kind.
    pub cap_hit_counts: Vec<(Cap, u64)>,
    /// The largest ones of each, largest first.
    pub series_by_metric: Vec<NameCount>,
    pub values_by_label: Vec<NameCount>,
    pub bytes_by_label: Vec<NameCount>,
    pub series_by_pair: Vec<NameCount>,
}

/// A file that is not read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    pub tenant: TenantId,
    pub path: String,
    pub reason: String,
}

/// Chunks of a file that were found damaged and are left out of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedChunks {
    pub tenant: TenantId,
    pub path: String,
    /// Their rows, ascending.
    pub rows: Vec<u32>,
}

/// What the store as a whole has.
#[derive(Clone, Debug, Default)]
pub struct TsdbStats {
    pub applied: JournalPosition,
    pub sealed: JournalPosition,
    pub index_cache_bytes: u64,
    /// Found since the start.
    pub damaged_files: u64,
    pub damaged_chunks: u64,
    /// By merges, which keep so many bytes of them for each series.
    pub exemplars_dropped: u64,
}

impl Tsdb {
    pub fn stats(&self) -> TsdbStats {
        let (applied, sealed) = self.shared.positions();
        let (damaged_files, damaged_chunks) = self.shared.files.damage_counts();
        let index_cache_bytes = self.shared.files.index_cache_bytes() as u64;
        let exemplars_dropped = self.shared.exemplars_dropped.load(std::sync::atomic::Ordering::Relaxed);
        TsdbStats { applied, sealed, index_cache_bytes, damaged_files, damaged_chunks, exemplars_dropped }
    }

    /// Tenants that have series or files, sorted.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.shared.tenants()
    }

    /// Files that were found damaged: they are left out of answers or, where only a merge has failed, of merges.
    pub fn damaged_files(&self) -> Vec<DamagedFile> {
        let files = self.shared.files.all();
        let damaged = files.iter().filter_map(|file| {
            Some(DamagedFile { tenant: file.entry.tenant, path: file.entry.path.clone(), reason: file.fault()? })
        });
        damaged.collect()
    }

    /// Damaged chunks of files that are read still.
    pub fn damaged_chunks(&self) -> Vec<DamagedChunks> {
        let files = self.shared.files.all();
        let rows = files.iter().map(|file| (file, file.damaged_rows())).filter(|(_, rows)| !rows.is_empty());
        rows.map(|(file, rows)| DamagedChunks { tenant: file.entry.tenant, path: file.entry.path.clone(), rows }).collect()
    }

    /// What a tenant has; of each of the rankings the first `top` entries.
    pub fn tenant_stats(&self, tenant: TenantId, top: usize) -> TenantStats {
        let contradicted = self.shared.contradictions.lock().get(&tenant).copied().unwrap_or(0);
        let mut stats = TenantStats { contradicted, ..TenantStats::default() };
        for file in self.shared.files.of_tenant(tenant) {
            stats.files += 1;
            stats.file_bytes += file.entry.size_bytes;
            stats.file_samples += crate::BlockStats::of(&file.entry).map_or(0, |stats| stats.samples);
        }
        let Some(head) = self.shared.head(tenant) else { return stats };
        let head = head.read();
        let counters = head.counters;
        (stats.unflushed_samples, stats.unflushed_bytes) = head.unflushed();
        stats.series = head.series_count() as u64;
        stats.registry_bytes = head.registry_bytes() as u64;
        stats.retained_bytes = head.retained_bytes() as u64;
        stats.sealed_parts = head.sealed_count();
        (stats.min_time_ms, stats.max_time_ms) = head.time_range().unzip();
        stats.accepted = counters.accepted;
        stats.repeated = counters.repeated;
        stats.out_of_order = counters.out_of_order;
        stats.series_created = counters.series_created;
        stats.series_dropped = counters.series_dropped;
        stats.rejected = RejectReason::ALL.into_iter().zip(counters.rejected).collect();
        stats.cap_hits = head.cap_hits(&self.shared.options, top);
        stats.cap_hit_counts = head.cap_hit_counts().into();
        for (name, values) in head.index().cardinality_unsorted() {
            let count = |name: String, count| NameCount { name, count };
            stats.label_pairs += values.len() as u64;
            stats.values_by_label.push(count(name.to_owned(), values.len() as u64));
            let bytes = values.iter().map(|(value, series)| value.len() as u64 * series).sum();
            stats.bytes_by_label.push(count(name.to_owned(), bytes));
            if name == METRIC_NAME {
                stats.series_by_metric = values.iter().map(|(value, series)| count((*value).to_owned(), *series)).collect();
            }
            stats.series_by_pair.extend(values.iter().map(|(value, series)| count(format!("{name}={value}"), *series)));
            keep_top(&mut stats.series_by_pair, top);
        }
        for ranking in [&mut stats.series_by_metric, &mut stats.values_by_label, &mut stats.bytes_by_label] {
            keep_top(ranking, top);
        }
        stats
    }
}

fn keep_top(ranking: &mut Vec<NameCount>, top: usize) {
    ranking.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
    ranking.truncate(top);
}
