//! What the tests share: a store over memory, batches in short, and answers as plain values.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use br_env::sim::Sim;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_std::Nanos;
use br_storage::{Budget, FileEntry, JournalPosition, MatchOp, Matcher, SeriesData, SeriesQuery, Values};
use br_tsdb::{AppendOutcome, CompactionJob, Deletion, SealedHead, Tsdb, TsdbOptions};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const TENANT: TenantId = TenantId(1);
/// Start of a window.
pub const T0: i64 = 1_700_006_400_000;

pub struct Store {
    pub tsdb: Tsdb,
    pub objects: Arc<dyn ObjectStore>,
    pub options: TsdbOptions,
    pub sim: Sim,
    /// What a catalog would list.
    pub files: Vec<FileEntry>,
    /// Sealed by deletions and not written yet.
    pub pending: Vec<SealedHead>,
    pub position: u64,
    pub now_ms: i64,
}

impl Store {
    pub fn new() -> Self {
        Self::with(TsdbOptions::default())
    }

    pub fn with(options: TsdbOptions) -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let sim = Sim::new(1);
        let tsdb = Tsdb::open(Vec::new(), objects.clone(), sim.rng.clone(), options.clone());
        Self { tsdb, objects, options, sim, files: Vec::new(), pending: Vec::new(), position: 0, now_ms: T0 }
    }

    pub fn append(&mut self, batch: &MetricBatch) -> AppendOutcome {
        self.position += 1;
        let now = Nanos::from_millis(self.now_ms);
        self.tsdb.append(TENANT, JournalPosition(self.position), batch, now).expect("sound store")
    }

    /// Appends floats of one series.
    pub fn floats(&mut self, series: &str, samples: &[(i64, f64)]) -> AppendOutcome {
        self.append(&batch(series, samples))
    }

    /// Deletes what was appended so far.
    pub fn delete(&mut self, matchers: Vec<Matcher>, from_ms: i64, to_ms: i64) {
        self.position += 1;
        let deletion = Deletion::new(vec![matchers], from_ms, to_ms).expect("a valid deletion");
        let deletion = Deletion::decode(&deletion.encode()).expect("as it was written");
        let foreseen = self.tsdb.foresee(TENANT, &deletion, &Budget::unlimited()).expect("no limit");
        let now = Nanos::from_millis(self.now_ms);
        self.pending.extend(self.tsdb.delete(TENANT, JournalPosition(self.position), deletion, foreseen, now));
    }

    pub fn flush(&mut self) {
        let mut sealed = std::mem::take(&mut self.pending);
        sealed.extend(self.tsdb.seal(JournalPosition(self.position)));
        for sealed in sealed {
            let files = sealed.write(&self.objects).expect("written");
            self.files.extend(files.iter().cloned());
            self.tsdb.publish(sealed, &files);
        }
    }

    pub fn compact_all(&mut self) -> usize {
        let mut jobs = 0;
        while let Some(job) = self.tsdb.plan_compaction(Nanos::MAX) {
            self.carry_out(&job);
            jobs += 1;
            assert!(jobs < 10_000, "planning must come to an end");
        }
        jobs
    }

    fn carry_out(&mut self, job: &CompactionJob) {
        let outputs = self.tsdb.compact(job).expect("compacted");
        self.tsdb.replace(&job.inputs, &outputs);
        self.files.retain(|file| !job.inputs.contains(file));
        self.files.extend(outputs);
    }

    /// Writes all files anew that hold what is hidden; says how many.
    pub fn rewrite_all(&mut self) -> usize {
        let mut jobs = 0;
        while let Some(job) = self.tsdb.plan_rewrite().expect("planned") {
            self.carry_out(&job);
            jobs += 1;
            assert!(jobs < 10_000, "planning must come to an end");
        }
        jobs
    }

    /// What all files hold, whether it is hidden or not.
    pub fn dump_files(&self) -> BTreeMap<String, Vec<(i64, u64)>> {
        let raw = Tsdb::open(self.files.clone(), self.objects.clone(), self.sim.rng.clone(), self.options.clone());
        let store = Self { tsdb: raw, files: Vec::new(), pending: Vec::new(), ..Self::with(self.options.clone()) };
        store.dump(i64::MIN, i64::MAX)
    }

    /// A new process over the files and the deletions that the catalog lists.
    pub fn reopen(&mut self) {
        let tombstones = self.tsdb.tombstones();
        self.tsdb = Tsdb::open(self.files.clone(), self.objects.clone(), self.sim.rng.clone(), self.options.clone());
        for tombstone in tombstones {
            self.tsdb.restore_tombstone((*tombstone).clone());
        }
    }

    pub fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Vec<SeriesData> {
        let source = self.tsdb.source(TENANT);
        let budget = Budget::unlimited();
        let query = SeriesQuery { matchers: matchers.to_vec(), from_ms, to_ms };
        let mut cursor = source.select(&query, &budget).expect("selected");
        let mut found = Vec::new();
        while let Some(batch) = cursor.next_batch().expect("read") {
            found.extend(batch);
        }
        drop(cursor);
        assert_eq!(budget.bytes_used(), 0, "what was charged is released");
        found.sort_by(|one, other| one.labels.cmp(&other.labels));
        found
    }

    /// Everything in a range, floats only, by series.
    pub fn dump(&self, from_ms: i64, to_ms: i64) -> BTreeMap<String, Vec<(i64, u64)>> {
        let series = self.select(&[], from_ms, to_ms);
        let count = series.len();
        let found: BTreeMap<_, _> = series.into_iter().map(|series| (series.labels.to_string(), bits(&series))).collect();
        assert_eq!(found.len(), count, "each series once");
        found
    }
}

pub fn bits(series: &SeriesData) -> Vec<(i64, u64)> {
    let Values::Floats(values) = &series.points.values else { panic!("floats expected in {}", series.labels) };
    series.points.timestamps_ms.iter().copied().zip(values.iter().map(|value| value.to_bits())).collect()
}

/// `up{job="a",instance="b"}` as labels.
pub fn labels(series: &str) -> Labels {
    let (name, rest) = series.split_once('{').unwrap_or((series, ""));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    for pair in rest.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').expect("name=value");
        pairs.push((name.trim().to_owned(), value.trim_matches('"').to_owned()));
    }
    Labels::from_pairs(pairs)
}

pub fn batch(series: &str, samples: &[(i64, f64)]) -> MetricBatch {
    let samples = samples.iter().map(|(time, value)| Sample::float(*time, *value)).collect();
    MetricBatch { series: vec![SeriesSamples { labels: labels(series), samples, exemplars: Vec::new() }], metadata: Vec::new() }
}

pub fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("valid matcher")
}
