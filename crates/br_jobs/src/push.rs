//! Pushes of short jobs, as Prometheus' Pushgateway takes them.
//!
//! Nobody scrapes a gateway here. The last push of each group stands in the catalog; it is written to the store when it comes and
//! again at every beat, so that queries see it as they would see a gateway that is scraped, until the group is deleted.

use br_catalog::Catalog;
use br_env::Clock;
use br_ingest::Intake;
use br_ingest::intake::Receipt;
use br_model::labels::METRIC_NAME;
use br_model::{Labels, Metadata, MetricBatch, MetricType, Sample, SeriesSamples, TenantId, stale_nan};
use br_std::hash::hash128;
use br_std::{Error, Nanos, Result};
use br_wire::exposition::{NO_TIMESTAMP, check_labels};
use br_wire::{Limits, remote_write};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, watch};

/// Whether a push replaces the whole group or only the families that it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushMode {
    Group,
    Families,
}

/// Groups that are kept of one tenant.
const GROUPS_MAX: usize = 10_000;
/// What one group may take, and all of one tenant.
const GROUP_BYTES_MAX: usize = 4 << 20;
const TENANT_BYTES_MAX: usize = 128 << 20;
/// Groups of a part that are looked at; there are 256 parts.
const PART_MAX: u32 = 100_000;
/// Groups whose keys have the same remainder share a turn.
const TURNS: usize = 64;
const PREFIX: &str = "push/";

pub struct PushGroups {
    catalog: Arc<Catalog>,
    intake: Arc<Intake>,
    clock: Arc<dyn Clock>,
    /// Held while a group changes or is written: a push must not be overtaken by what was before it. A push waits for the
    /// groups that share its turn, one by one, and not for all.
    turns: Vec<Mutex<()>>,
    /// Read from the catalog when it is first asked.
    usage: Mutex<Option<Usage>>,
}

/// What the groups take.
#[derive(Default)]
struct Usage {
    by_key: BTreeMap<String, (TenantId, usize)>,
    /// Count and bytes.
    by_tenant: BTreeMap<TenantId, (usize, usize)>,
}

impl Usage {
    /// Notes a group as large as this, or gone. An error, and no change, where its tenant then has too much.
    fn set(&mut self, key: &str, tenant: TenantId, bytes: Option<usize>) -> Result<()> {
        let before = self.by_key.get(key).map(|(_, bytes)| *bytes);
        let (mut count, mut total) = self.by_tenant.get(&tenant).copied().unwrap_or_default();
        count = (count + usize::from(bytes.is_some())).saturating_sub(usize::from(before.is_some()));
        total = (total + bytes.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
        let is_growing = bytes > before;
        if is_growing && count > GROUPS_MAX {
            return Err(Error::over_limit(format!("{GROUPS_MAX} groups were pushed already: delete those that are not needed")));
        }
        if is_growing && total > TENANT_BYTES_MAX {
            let mib = TENANT_BYTES_MAX >> 20;
            return Err(Error::over_limit(format!("the groups take more than {mib} MiB: delete those that are not needed")));
        }
        self.by_tenant.insert(tenant, (count, total));
        match bytes {
            Some(bytes) => drop(self.by_key.insert(key.to_owned(), (tenant, bytes))),
            None => drop(self.by_key.remove(key)),
        }
        Ok(())
    }
}

/// What stands in front of the samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct GroupHead {
    tenant: u32,
    labels: Vec<(String, String)>,
    push_time: f64,
    failure_time: f64,
}

struct Group {
    head: GroupHead,
    batch: MetricBatch,
}

impl PushGroups {
    pub fn new(catalog: Arc<Catalog>, intake: Arc<Intake>, clock: Arc<dyn Clock>) -> Self {
        let turns = (0..TURNS).map(|_| Mutex::new(())).collect();
        Self { catalog, intake, clock, turns, usage: Mutex::new(None) }
    }

    /// Takes a push. A batch that cannot be kept is refused, and the group notes the time.
    pub async fn push(&self, tenant: TenantId, grouping: &Labels, mode: PushMode, batch: Result<MetricBatch>) -> Result<()> {
        // The catalog keeps a group before the store has it.
        let grouping = &self.intake.redact_labels(grouping);
        let batch = batch.map(|mut batch| {
            self.intake.redact_batch(&mut batch);
            batch
        });
        let key = key(tenant, grouping);
        let _turn = self.turn(&key).await;
        let now = self.clock.now();
        let mut group = self.load(&key).await?.unwrap_or_else(|| Group::new(tenant, grouping));
        let old = group.series_labels();
        let encoded = batch.and_then(|batch| group.replace(mode, batch, now).map(|()| &group)).and_then(encode);
        let bytes = match encoded {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(&key, tenant, grouping, BTreeSet::new(), error).await,
        };
        let new = group.series_labels();
        let gone = old.difference(&new).cloned().collect();
        self.note(&key, tenant, Some(bytes.len())).await?;
        let receipt = self.write(&group, &gone, now).await?;
        if receipt.rejected_count > 0 {
            let (count, why) = (receipt.rejected_count, receipt.complaint());
            let error = Error::fix_request(format!("{count} samples were refused, and the group is as it was: {why}"));
            let added = new.difference(&old).cloned().collect();
            return self.refuse(&key, tenant, grouping, added, error).await;
        }
        self.catalog.put_state(&key, &bytes).await
    }

    /// What was there stays as it was, and what has been `added` goes again; only the failure is noted.
    async fn refuse(&self, key: &str, tenant: TenantId, grouping: &Labels, added: BTreeSet<Labels>, error: Error) -> Result<()> {
        let now = self.clock.now();
        let mut group = self.load(key).await?.unwrap_or_else(|| Group::new(tenant, grouping));
        group.head.failure_time = seconds(now);
        let bytes = encode(&group)?;
        self.note(key, tenant, Some(bytes.len())).await?;
        self.catalog.put_state(key, &bytes).await?;
        // A series has one value for each time.
        let now = now + Duration::from_millis(1);
        self.write(&group, &added.difference(&group.series_labels()).cloned().collect(), now).await?;
        Err(error)
    }

    async fn turn(&self, key: &str) -> MutexGuard<'_, ()> {
        let at = hash128(key.as_bytes()) % TURNS as u128;
        self.turns[at as usize].lock().await
    }

    /// Notes what a group takes, and refuses what is too much for its tenant.
    async fn note(&self, key: &str, tenant: TenantId, bytes: Option<usize>) -> Result<()> {
        let mut usage = self.usage.lock().await;
        let known = match &mut *usage {
            Some(known) => known,
            None => usage.insert(self.read_usage().await?),
        };
        known.set(key, tenant, bytes)
    }

    async fn read_usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for part in 0..256 {
            for (key, bytes) in self.catalog.states(&format!("{PREFIX}{part:02x}"), PART_MAX).await? {
                if let Ok(group) = decode(&bytes) {
                    // What is there is there.
                    let _ = usage.set(&key, TenantId(group.head.tenant), Some(bytes.len()));
                }
            }
        }
        Ok(usage)
    }

    /// Forgets a group. That there was none is no error.
    pub async fn delete(&self, tenant: TenantId, grouping: &Labels) -> Result<()> {
        let grouping = &self.intake.redact_labels(grouping);
        let key = key(tenant, grouping);
        let _turn = self.turn(&key).await;
        let Some(group) = self.load(&key).await? else { return Ok(()) };
        self.catalog.remove_state(&key).await?;
        self.note(&key, tenant, None).await?;
        let now_ms = self.clock.now().as_millis();
        let series = group.series_labels().into_iter().map(|labels| stamped(labels, stale_nan(), now_ms)).collect();
        let batch = MetricBatch { series, ..MetricBatch::default() };
        self.intake.accept_samples(tenant, batch).await.map(drop)
    }

    /// Writes every group at each beat, until told to stop.
    pub async fn run(self: Arc<Self>, interval: Duration, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            if let Err(error) = self.write_all().await {
                tracing::warn!(event = "PushGroupsError", "{error}");
            }
        }
    }

    async fn write_all(&self) -> Result<()> {
        // A part at a time: together the groups may take more memory than they should.
        for part in 0..256 {
            for (key, _) in self.catalog.states(&format!("{PREFIX}{part:02x}"), PART_MAX).await? {
                let _turn = self.turn(&key).await;
                // It may have changed by now, or gone.
                let Some(group) = self.load(&key).await? else { continue };
                self.write(&group, &BTreeSet::new(), self.clock.now()).await?;
            }
        }
        Ok(())
    }

    async fn load(&self, key: &str) -> Result<Option<Group>> {
        let bytes = self.catalog.state(key).await?;
        bytes.map(|bytes| decode(&bytes)).transpose().map_err(|error| error.context(key))
    }

    /// The samples of a group at this time, and markers for series that have left it.
    async fn write(&self, group: &Group, gone: &BTreeSet<Labels>, now: Nanos) -> Result<Receipt> {
        let now_ms = now.as_millis();
        let mut batch = group.batch.clone();
        for series in &mut batch.series {
            series.samples.truncate(1);
            for sample in &mut series.samples {
                sample.timestamp_ms = now_ms;
            }
            series.exemplars.clear();
        }
        for (name, value) in [(PUSH_TIME, group.head.push_time), (FAILURE_TIME, group.head.failure_time)] {
            batch.series.push(stamped(group.labels(name), value, now_ms));
        }
        batch.metadata.extend(own_metadata());
        batch.series.extend(gone.iter().map(|labels| stamped(labels.clone(), stale_nan(), now_ms)));
        self.intake.accept_samples(TenantId(group.head.tenant), batch).await
    }
}

const PUSH_TIME: &str = "push_time_seconds";
const FAILURE_TIME: &str = "push_failure_time_seconds";

fn own_metadata() -> [(String, Metadata); 2] {
    let gauge = |help: &str| Metadata { metric_type: MetricType::Gauge, help: help.to_owned(), unit: String::new() };
    [
        (PUSH_TIME.to_owned(), gauge("When this group was last changed, in Unix seconds.")),
        (FAILURE_TIME.to_owned(), gauge("When a push to this group was last refused, in Unix seconds.")),
    ]
}

fn seconds(at: Nanos) -> f64 {
    at.as_millis() as f64 / 1000.0
}

fn stamped(labels: Labels, value: f64, at_ms: i64) -> SeriesSamples {
    SeriesSamples { labels, samples: vec![Sample::float(at_ms, value)], exemplars: Vec::new() }
}

fn key(tenant: TenantId, grouping: &Labels) -> String {
    let mut bytes = tenant.0.to_le_bytes().to_vec();
    bytes.extend(grouping.hash128().to_le_bytes());
    format!("{PREFIX}{:032x}", hash128(&bytes))
}

impl Group {
    fn new(tenant: TenantId, grouping: &Labels) -> Self {
        let labels = grouping.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let head = GroupHead { tenant: tenant.0, labels, push_time: 0.0, failure_time: 0.0 };
        Self { head, batch: MetricBatch::default() }
    }

    fn labels(&self, name: &str) -> Labels {
        let own = [(METRIC_NAME, name)];
        Labels::from_pairs(self.head.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(own))
    }

    fn series_labels(&self) -> BTreeSet<Labels> {
        let own = [PUSH_TIME, FAILURE_TIME].map(|name| self.labels(name));
        let own = own.into_iter().filter(|_| self.head.push_time > 0.0 || self.head.failure_time > 0.0);
        self.batch.series.iter().map(|series| series.labels.clone()).chain(own).collect()
    }

    fn replace(&mut self, mode: PushMode, mut batch: MetricBatch, now: Nanos) -> Result<()> {
        for series in &mut batch.series {
            if series.samples.iter().any(|sample| sample.timestamp_ms != NO_TIMESTAMP) {
                let name = series.labels.metric_name();
                return Err(Error::fix_request(format!("pushed metrics must not have timestamps, {name} has one")));
            }
            if series.samples.len() > 1 {
                return Err(Error::fix_request(format!("{} comes twice", series.labels)));
            }
            for sample in &mut series.samples {
                sample.timestamp_ms = now.as_millis();
            }
            let mut labels = series.labels.to_builder();
            for (name, value) in &self.head.labels {
                labels.set(name, value);
            }
            series.labels = labels.build();
            let name = series.labels.metric_name();
            check_labels(&series.labels, &Limits::default()).map_err(|error| error.context(format!("metric {name:.50}")))?;
        }
        let own = [PUSH_TIME, FAILURE_TIME];
        batch.series.retain(|series| !own.contains(&series.labels.metric_name()));
        if mode == PushMode::Families {
            let pushed = families(&batch);
            self.batch.series.retain(|series| !pushed.contains(series.labels.metric_name()));
            let named: BTreeSet<String> = batch.metadata.iter().map(|(name, _)| name.clone()).collect();
            self.batch.metadata.retain(|(name, _)| !named.contains(name));
            batch.series.append(&mut self.batch.series);
            batch.metadata.append(&mut self.batch.metadata);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = batch.series.iter().find(|series| !seen.insert(&series.labels)) {
            return Err(Error::fix_request(format!("{} comes twice, once the group's labels are set", twice.labels)));
        }
        self.batch = batch;
        self.head.push_time = seconds(now);
        Ok(())
    }
}

/// The names of all series that the families of a push may have.
fn families(batch: &MetricBatch) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = batch.series.iter().map(|series| series.labels.metric_name().to_owned()).collect();
    for (family, metadata) in &batch.metadata {
        let suffixes: &[&str] = match metadata.metric_type {
            MetricType::Histogram => &["", "_bucket", "_sum", "_count", "_created"],
            MetricType::GaugeHistogram => &["", "_bucket", "_gsum", "_gcount"],
            MetricType::Summary => &["", "_sum", "_count", "_created"],
            MetricType::Counter => &["", "_total", "_created"],
            MetricType::Info => &["", "_info"],
            MetricType::Gauge | MetricType::StateSet | MetricType::Unknown => &[""],
        };
        names.extend(suffixes.iter().map(|suffix| format!("{family}{suffix}")));
    }
    names
}

/// The head as JSON with its length in front, and the samples as a remote-write message.
fn encode(group: &Group) -> Result<Vec<u8>> {
    let head = serde_json::to_vec(&group.head).map_err(|error| Error::corrupt(format!("a group of pushes: {error}")))?;
    let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
    bytes.extend(head);
    bytes.extend(remote_write::v2::encode_message(&group.batch));
    if bytes.len() > GROUP_BYTES_MAX {
        return Err(Error::over_limit(format!("the group takes {} bytes; at most {GROUP_BYTES_MAX} are kept", bytes.len())));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Group> {
    let damaged = || Error::corrupt("a group of pushes that is damaged");
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (head, message) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
    let head: GroupHead = serde_json::from_slice(head).map_err(|error| damaged().with_source(error))?;
    let limits = Limits { labels_max: 1000, label_value_bytes_max: 1 << 20, label_name_bytes_max: 1 << 20, ..Limits::default() };
    let batch = remote_write::v2::decode(message, &limits).map_err(Error::from)?.value;
    Ok(Group { head, batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::Value;
    use br_wire::exposition::{Format, parse_format};

    fn batch(text: &str) -> MetricBatch {
        parse_format(text.as_bytes(), Format::Text).expect("valid")
    }

    fn names(group: &Group) -> Vec<String> {
        let mut names: Vec<String> = group.batch.series.iter().map(|series| series.labels.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_tenant_has_its_own_room() {
        let mut usage = Usage::default();
        for at in 0..GROUPS_MAX {
            usage.set(&at.to_string(), TenantId(1), Some(10)).expect("room");
        }
        assert!(usage.set("more", TenantId(1), Some(10)).is_err_and(|error| error.message().contains("10000 groups")));
        usage.set("other", TenantId(2), Some(10)).expect("another tenant's");
        usage.set("7", TenantId(1), None).expect("gone");
        usage.set("more", TenantId(1), Some(10)).expect("room again");
        assert!(usage.set("more", TenantId(1), Some(TENANT_BYTES_MAX)).is_err_and(|error| error.message().contains("MiB")));
        usage.set("more", TenantId(1), Some(5)).expect("smaller");
    }

    #[test]
    fn a_post_replaces_families_and_a_put_the_group() {
        let mut group = Group::new(TenantId(1), &Labels::from_pairs([("job", "backup")]));
        let first = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# TYPE g gauge\ng{job=\"own\"} 1\n";
        group.replace(PushMode::Group, batch(first), Nanos::from_millis(1000)).expect("sound");
        assert_eq!(names(&group).len(), 5);
        let again = decode(&encode(&group).expect("small")).expect("just written");
        assert_eq!((names(&again), again.head.push_time), (names(&group), 1.0));
        assert!(matches!(again.batch.series[0].samples[0].value, Value::Float(1.0)));
        group
            .replace(PushMode::Families, batch("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n"), Nanos(0))
            .expect("sound");
        let series: Vec<&str> = group.batch.series.iter().map(|series| series.labels.metric_name()).collect();
        assert_eq!(series, ["h_bucket", "h_sum", "h_count", "g"]);
        assert!(group.batch.series.iter().all(|series| series.labels.get("job") == Some("backup")));
        assert!(
            group
                .replace(PushMode::Group, batch("x 1 1000\n"), Nanos(0))
                .is_err_and(|error| error.message().contains("timestamps"))
        );
        assert!(group.replace(PushMode::Group, batch("x{job=\"a\"} 1\nx{job=\"b\"} 1\n"), Nanos(0)).is_err());
    }
}
