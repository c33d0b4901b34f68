//! How many series a target, a job and a metric have, and what was refused because one had enough.
//!
//! A series that is known is never asked here: a cap keeps new ones out, and the others go on.

use crate::index::LabelIndex;
use crate::options::TsdbOptions;
use crate::outcome::RejectReason;
use br_model::Labels;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// Series by the symbols of their texts in the index of the head. What has come to nothing is not kept.
#[derive(Default)]
pub(crate) struct SeriesCounts {
    metrics: HashMap<u32, u32, FixedState>,
    jobs: HashMap<u32, u32, FixedState>,
    /// By job and instance; a job that has no instance is no target.
    targets: HashMap<(u32, u32), u32, FixedState>,
}

impl SeriesCounts {
    /// Counts a series that was put into the index.
    pub(crate) fn add(&mut self, index: &mut LabelIndex, labels: &Labels) {
        let metric = index.intern(labels.metric_name());
        *self.metrics.entry(metric).or_insert(0) += 1;
        if let Some(job) = labels.get(JOB) {
            *self.jobs.entry(index.intern(job)).or_insert(0) += 1;
        }
        if let Some(instance) = labels.get(INSTANCE) {
            let target = (index.intern(labels.get(JOB).unwrap_or("")), index.intern(instance));
            *self.targets.entry(target).or_insert(0) += 1;
        }
    }

    /// A series leaves; its texts are still in the index.
    pub(crate) fn take_away(&mut self, index: &LabelIndex, pairs: &[(u32, u32)]) {
        let value = |name: &str| {
            let name = index.symbol(name)?;
            pairs.iter().find(|(label, _)| *label == name).map(|(_, value)| *value)
        };
        if let Some(metric) = value(br_model::labels::METRIC_NAME).or_else(|| index.symbol("")) {
            lower(&mut self.metrics, metric);
        }
        let job = value(JOB);
        if let Some(job) = job {
            lower(&mut self.jobs, job);
        }
        if let (Some(instance), Some(job)) = (value(INSTANCE), job.or_else(|| index.symbol(""))) {
            lower(&mut self.targets, (job, instance));
        }
    }

    fn of_metric(&self, index: &LabelIndex, labels: &Labels) -> usize {
        count(&self.metrics, index.symbol(labels.metric_name()))
    }

    fn of_job(&self, index: &LabelIndex, labels: &Labels) -> usize {
        count(&self.jobs, labels.get(JOB).and_then(|job| index.symbol(job)))
    }

    fn of_target(&self, index: &LabelIndex, labels: &Labels) -> usize {
        let Some(instance) = labels.get(INSTANCE) else { return 0 };
        let target = index.symbol(labels.get(JOB).unwrap_or("")).zip(index.symbol(instance));
        count(&self.targets, target)
    }

    /// How many series count against a cap for a series with these labels, and how many may.
    pub(crate) fn against(
        &self,
        cap: Cap,
        index: &LabelIndex,
        labels: &Labels,
        in_all: usize,
        options: &TsdbOptions,
    ) -> (usize, usize) {
        match cap {
            Cap::Target => (self.of_target(index, labels), options.series_per_target_max),
            Cap::Job => (self.of_job(index, labels), options.series_per_job_max),
            Cap::Metric => (self.of_metric(index, labels), options.series_per_metric_max),
            Cap::Tenant => (in_all, options.series_max),
        }
    }

    /// The narrowest cap that is reached already.
    pub(crate) fn reached(&self, index: &LabelIndex, labels: &Labels, in_all: usize, options: &TsdbOptions) -> Option<Cap> {
        Cap::ALL.into_iter().find(|cap| {
            let (count, max) = self.against(*cap, index, labels, in_all, options);
            count >= max
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.metrics.capacity() + self.jobs.capacity()) * 9 + self.targets.capacity() * 13
    }
}

fn count<K: std::hash::Hash + Eq>(counts: &HashMap<K, u32, FixedState>, key: Option<K>) -> usize {
    key.and_then(|key| counts.get(&key)).map_or(0, |count| *count as usize)
}

fn lower<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32, FixedState>, key: K) {
    let Some(count) = counts.get_mut(&key) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(&key);
    }
}

/// A limit on the number of series, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cap {
    /// Series with the same `job` and `instance`.
    Target,
    /// Series with the same `job`.
    Job,
    /// Series of one metric name.
    Metric,
    /// All series of a tenant.
    Tenant,
}

impl Cap {
    pub const ALL: [Self; 4] = [Self::Target, Self::Job, Self::Metric, Self::Tenant];

    /// The word in Bellrock's own metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Job => "job",
            Self::Metric => "metric",
            Self::Tenant => "tenant",
        }
    }

    /// The key under `bellrock.limits` that sets it.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Target => "series_per_target",
            Self::Job => "series_per_job",
            Self::Metric => "series_per_metric",
            Self::Tenant => "series",
        }
    }

    pub(crate) fn reason(self) -> RejectReason {
        match self {
            Self::Target => RejectReason::TargetSeriesLimit,
            Self::Job => RejectReason::JobSeriesLimit,
            Self::Metric => RejectReason::MetricSeriesLimit,
            Self::Tenant => RejectReason::SeriesLimit,
        }
    }

    pub(crate) fn of(reason: RejectReason) -> Option<Self> {
        Self::ALL.into_iter().find(|cap| cap.reason() == reason)
    }

    /// The labels that count against it, of a series.
    fn labels_of(self, labels: &Labels) -> Labels {
        let names: &[&str] = match self {
            Self::Target => &[JOB, INSTANCE],
            Self::Job => &[JOB],
            Self::Metric => &[br_model::labels::METRIC_NAME],
            Self::Tenant => &[],
        };
        Labels::from_pairs(names.iter().filter_map(|name| Some((*name, labels.get(name)?))))
    }

    /// In words, for the sender.
    pub(crate) fn text(self, labels: &Labels, count: usize, max: usize) -> String {
        let of = match self {
            Self::Target => format!("target {}", super::append::short(&self.labels_of(labels))),
            Self::Job => format!("job {:?}", cut(labels.get(JOB).unwrap_or(""))),
            Self::Metric => format!("metric {:?}", cut(labels.metric_name())),
            Self::Tenant => "tenant".to_owned(),
        };
        let setting = self.setting();
        format!("the {of} has {count} active series, and {max} are allowed (limits.{setting}): a new one is refused")
    }
}

/// A target, job or metric that came to its cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapHit {
    pub cap: Cap,
    /// `job` and `instance`, `job`, or `__name__`; nothing for the tenant. Long values are cut.
    pub labels: Labels,
    /// Active series now, and how many are allowed.
    pub series: u64,
    pub series_max: u64,
    /// Samples of new series that were refused since the start.
    pub refused_samples: u64,
}

/// Targets, jobs and metrics that are told apart for each cap: beyond that they are counted together.
const NAMED_MAX: usize = 1000;
/// Characters of a label value that are kept.
const VALUE_CHARS_MAX: usize = 200;

/// What caps have refused since the start.
#[derive(Default)]
pub(crate) struct Refusals {
    by_cap: [BTreeMap<String, Refused>; Cap::ALL.len()],
    key: String,
}

struct Refused {
    labels: Labels,
    samples: u64,
}

impl Refusals {
    pub(crate) fn count(&mut self, cap: Cap, labels: &Labels, samples: u64) {
        self.key.clear();
        let of_key = match cap {
            Cap::Target => [labels.get(JOB), labels.get(INSTANCE)],
            Cap::Job => [labels.get(JOB), None],
            Cap::Metric => [Some(labels.metric_name()), None],
            Cap::Tenant => [None, None],
        };
        for value in of_key.into_iter().flatten() {
            let _ = write!(self.key, "{:?},", cut(value));
        }
        let refused = &mut self.by_cap[cap as usize];
        if let Some(known) = refused.get_mut(&self.key) {
            known.samples += samples;
            return;
        }
        let is_full = refused.len() >= NAMED_MAX;
        let key = if is_full { String::new() } else { self.key.clone() };
        let cut_labels = || Labels::from_pairs(cap.labels_of(labels).iter().map(|(name, value)| (name, cut(value))));
        let labels = if is_full { Labels::empty() } else { cut_labels() };
        refused.entry(key).or_insert(Refused { labels, samples: 0 }).samples += samples;
    }

    /// Those that refused most, of each cap.
    pub(crate) fn hits(
        &self,
        counts: &SeriesCounts,
        index: &LabelIndex,
        in_all: usize,
        options: &TsdbOptions,
        top: usize,
    ) -> Vec<CapHit> {
        let mut hits = Vec::new();
        for cap in Cap::ALL {
            let mut of_cap: Vec<&Refused> = self.by_cap[cap as usize].values().collect();
            of_cap.sort_by(|one, other| (other.samples, &one.labels).cmp(&(one.samples, &other.labels)));
            hits.extend(of_cap.into_iter().take(top).map(|refused| {
                let (series, max) = counts.against(cap, index, &refused.labels, in_all, options);
                let (series, series_max) = (series as u64, max as u64);
                CapHit { cap, labels: refused.labels.clone(), series, series_max, refused_samples: refused.samples }
            }));
        }
        hits
    }

    /// How many targets, jobs and metrics came to their cap.
    pub(crate) fn hit_counts(&self) -> [(Cap, u64); Cap::ALL.len()] {
        Cap::ALL.map(|cap| (cap, self.by_cap[cap as usize].len() as u64))
    }
}

fn cut(value: &str) -> &str {
    value.char_indices().nth(VALUE_CHARS_MAX).map_or(value, |(end, _)| &value[..end])
}
