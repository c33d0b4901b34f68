//! Answers that are kept are those that would be found anew, whatever is stored in between.

use br_env::sim::Sim;
use br_model::{Labels, MetricBatch, Sample, SeriesSamples, TenantId};
use br_promql::{Engine, Point, QueryOutput, Value, parse};
use br_query::range_cache::{RangeCache, Steps};
use br_std::Nanos;
use br_storage::{Budget, FileEntry, JournalPosition, Matcher, Points, Values};
use br_tsdb::{
    CompactionJob, Deletion, Foreseen, ImportSpec, ImportWriter, SealedHead, Tsdb, TsdbOptions, WINDOW_SECS, import_window_ms,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const TENANT: TenantId = TenantId(1);
const T0: i64 = 1_700_006_400_000;
const QUERIES: [&str; 12] = [
    "m_total",
    "sum by (i) (rate(m_total[2m]))",
    "max_over_time(sum(m_total)[3m:30s])",
    "m_total offset 1m > 3",
    "absent(m_total{i=\"2\"})",
    "other",
    "sum(rate(m_total[2m])) - sum(other)",
    "{i=\"1\"} > -1",
    // Not kept, and answered all the same.
    "m_total offset -1m",
    "sum(m_total @ end())",
    "m_total + time() - end()",
    "rate(m_total[1m] smoothed)",
];

const METRICS: [&str; 2] = ["m_total", "other"];

#[derive(Clone, Debug)]
enum Step {
    /// The time goes on, and all series get a sample.
    Scrape,
    /// A sample of one series that comes so many seconds late.
    Late(&'static str, i64, i64),
    Flush,
    /// Files are merged, as often as is worth it.
    Compact,
    /// The oldest file goes, as by retention.
    Forget,
    /// Samples of one series, so many seconds back and for so long, are deleted.
    Delete(i64, i64, i64),
    /// Files are written anew without what was deleted.
    Rewrite,
    /// A file from elsewhere with a sample of one series, so many seconds back.
    Import(i64, i64),
    /// A query by number, over so many steps up to now, and so many back.
    Ask(usize, i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Scrape),
        3 => (prop::sample::select(METRICS.to_vec()), 1i64..900, 0i64..3).prop_map(|(metric, secs, series)| Step::Late(metric, secs, series)),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Forget),
        1 => (1i64..900, 1i64..300, 0i64..3).prop_map(|(secs, length, series)| Step::Delete(secs, length, series)),
        1 => Just(Step::Rewrite),
        1 => (1i64..900, 0i64..4).prop_map(|(secs, series)| Step::Import(secs, series)),
        8 => (0..QUERIES.len(), 1i64..4, 0i64..3).prop_map(|(query, tens, back)| Step::Ask(query, tens * 10, back)),
    ]
}

struct World {
    tsdb: Tsdb,
    objects: Arc<dyn ObjectStore>,
    files: Vec<FileEntry>,
    position: u64,
    now_ms: i64,
    imports: u128,
    cache: RangeCache,
    engine: Engine,
}

impl World {
    fn new(cache_bytes: u64) -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let tsdb = Tsdb::open(Vec::new(), objects.clone(), Sim::new(1).rng.clone(), TsdbOptions::default());
        let (cache, engine) = (RangeCache::new(cache_bytes), Engine::default());
        Self { tsdb, objects, files: Vec::new(), position: 0, now_ms: T0, imports: 0, cache, engine }
    }

    fn append(&mut self, metrics: &[&str], series: impl Iterator<Item = i64> + Clone, at_ms: i64) {
        let series = metrics.iter().flat_map(|metric| series.clone().map(move |number| (*metric, number)));
        let series = series.map(|(metric, number)| {
            let labels = Labels::from_pairs([("__name__", metric.to_owned()), ("i", number.to_string())]);
            let value = ((at_ms - T0) / 15_000 * (number + 1) % 97) as f64;
            SeriesSamples { labels, samples: vec![Sample::float(at_ms, value)], exemplars: Vec::new() }
        });
        let batch = MetricBatch { series: series.collect(), metadata: Vec::new() };
        self.position += 1;
        let position = JournalPosition(self.position);
        self.tsdb.append(TENANT, position, &batch, Nanos::from_millis(self.now_ms)).expect("sound store");
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Scrape => {
                self.now_ms += 15_000;
                self.append(&METRICS, 0..3, self.now_ms);
            }
            Step::Late(metric, secs, series) => self.append(&[metric], std::iter::once(*series), self.now_ms - secs * 1000),
            Step::Flush => {
                let sealed = self.tsdb.seal(JournalPosition(self.position));
                self.publish(sealed);
            }
            Step::Compact => {
                while let Some(job) = self.tsdb.plan_compaction(Nanos::MAX) {
                    self.carry_out(&job);
                }
            }
            Step::Rewrite => {
                while let Some(job) = self.tsdb.plan_rewrite().expect("planned") {
                    self.carry_out(&job);
                }
            }
            Step::Delete(secs, length, series) => {
                self.position += 1;
                let (from_ms, series) = (self.now_ms - secs * 1000, series.to_string());
                let matchers = vec![Matcher::equal("i", series)];
                let deletion = Deletion::new(vec![matchers], from_ms, from_ms + length * 1000).expect("valid");
                let now = Nanos::from_millis(self.now_ms);
                let sealed = self.tsdb.delete(TENANT, JournalPosition(self.position), deletion, Foreseen::default(), now);
                self.publish(sealed);
            }
            Step::Import(secs, series) => self.import(self.now_ms - secs * 1000, *series),
            Step::Forget if self.files.len() > 2 => self.tsdb.replace(&[self.files.remove(0)], &[]),
            Step::Forget => {}
            Step::Ask(query, steps, back) => self.ask(QUERIES[*query], *steps, *back),
        }
    }

    fn publish(&mut self, sealed: Option<SealedHead>) {
        let Some(sealed) = sealed else { return };
        let files = sealed.write(&self.objects).expect("written");
        self.files.extend(files.iter().cloned());
        self.tsdb.publish(sealed, &files);
    }

    fn carry_out(&mut self, job: &CompactionJob) {
        let outputs = self.tsdb.compact(job).expect("compacted");
        self.tsdb.replace(&job.inputs, &outputs);
        self.files.retain(|file| !job.inputs.contains(file));
        self.files.extend(outputs);
    }

    fn import(&mut self, at_ms: i64, number: i64) {
        self.imports += 1;
        let window_ms = import_window_ms(at_ms, WINDOW_SECS);
        let spec = ImportSpec { tenant: TENANT, window_ms, window_secs: WINDOW_SECS, nonce: self.imports };
        let mut writer = ImportWriter::new(self.objects.clone(), spec).expect("opened");
        let labels = Labels::from_pairs([("__name__", "m_total".to_owned()), ("i", number.to_string())]);
        let points = Points { timestamps_ms: [at_ms].into(), values: Values::Floats(vec![5.0]), starts_ms: None, weights: None };
        writer.push(&labels, vec![points], &[]).expect("written");
        let file = writer.finish(&BTreeMap::new()).expect("finished");
        self.tsdb.replace(&[], std::slice::from_ref(&file));
        self.files.push(file);
    }

    fn ask(&self, query: &str, steps: i64, back: i64) {
        let expr = parse(query).expect("valid");
        let end_ms = self.now_ms / 30_000 * 30_000 - back * 30_000;
        let steps = Steps { start_ms: end_ms - steps * 30_000, end_ms, step_ms: 30_000 };
        let source = self.tsdb.source(TENANT);
        let kept = self.cache.range(&self.engine, TENANT, &*source, &expr, steps, &Budget::unlimited()).expect("answered");
        let fresh = self.engine.range(&*source, &expr, steps.start_ms, steps.end_ms, 30_000, &Budget::unlimited());
        assert_same(query, &kept, &fresh.expect("answered"));
    }
}

/// Up to the rounding of sums that begin elsewhere.
fn assert_same(query: &str, kept: &QueryOutput, fresh: &QueryOutput) {
    let (Value::Matrix(kept), Value::Matrix(fresh)) = (&kept.value, &fresh.value) else { panic!("matrices expected") };
    let labels = |all: &[br_promql::Series]| all.iter().map(|series| series.labels.to_string()).collect::<Vec<_>>();
    assert_eq!(labels(kept), labels(fresh), "{query}");
    for (kept, fresh) in kept.iter().zip(fresh) {
        assert_eq!(kept.points.len(), fresh.points.len(), "{query} {}", kept.labels);
        for ((at, kept), (fresh_at, fresh)) in kept.points.iter().zip(&fresh.points) {
            let (Point::Float(kept), Point::Float(fresh)) = (kept, fresh) else { panic!("floats expected") };
            assert!(at == fresh_at && (kept - fresh).abs() <= 1e-9 * fresh.abs(), "{query} at {at}: {kept} and {fresh}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn a_kept_answer_is_the_fresh_one(steps in proptest::collection::vec(step(), 1..120), small in any::<bool>()) {
        let mut world = World::new(if small { 64 << 10 } else { 64 << 20 });
        for step in &steps {
            world.take(step);
        }
    }
}

/// A dashboard of an hour that is refreshed with every second scrape asks for its new step only; a late sample costs what it touches.
#[test]
fn a_dashboard_asks_for_its_new_end() {
    let mut world = World::new(64 << 20);
    (0..240).for_each(|_| world.take(&Step::Scrape));
    world.ask(QUERIES[1], 120, 0);
    assert_eq!(world.cache.counters.steps_evaluated.load(Ordering::Relaxed), 121);
    let mut before = 121;
    let mut refresh = |world: &mut World, late: Option<Step>| {
        (0..2).for_each(|_| world.take(&Step::Scrape));
        if let Some(late) = late {
            world.take(&late);
        }
        world.ask(QUERIES[1], 120, 0);
        let now = world.cache.counters.steps_evaluated.load(Ordering::Relaxed);
        now - std::mem::replace(&mut before, now)
    };
    // The step at the last scrape is as new as the next: another sample might have come with its time.
    assert!((0..20).all(|_| refresh(&mut world, None) <= 2));
    let touched = refresh(&mut world, Some(Step::Late("m_total", 307, 1)));
    assert!((11..=13).contains(&touched), "{touched}");
    let touched = refresh(&mut world, Some(Step::Late("other", 900, 1)));
    assert!(touched <= 2, "what is late of another metric costs nothing: {touched}");
    assert!(world.cache.counters.bytes.load(Ordering::Relaxed) < 64 << 10);
}

/// Answers with nothing in them take room as well, and the ones that were asked for last stay.
#[test]
fn what_was_not_asked_for_longest_goes() {
    let mut world = World::new(64 << 10);
    (0..40).for_each(|_| world.take(&Step::Scrape));
    let reused = |world: &World| world.cache.counters.steps_reused.load(Ordering::Relaxed);
    let nothing = |number: i32| format!("nothing{{number=\"{number}\"}}");
    for number in 0..1000 {
        world.ask(&nothing(number), 5, 0);
        world.ask(QUERIES[0], 5, 0);
    }
    let before = reused(&world);
    assert!(before > 900, "what is asked again and again is kept: {before}");
    assert!(world.cache.counters.bytes.load(Ordering::Relaxed) <= 16 << 10, "a quarter is for one tenant");
    world.ask(&nothing(0), 5, 0);
    assert_eq!(reused(&world), before, "it was forgotten");
    world.ask(&nothing(999), 5, 0);
    assert!(reused(&world) > before, "it is kept");
}
