//! Keeps one loop for each target, follows discovery, and changes over to another configuration.

use super::discovery::{self, Board, DiscoveryStatus};
use super::job::Job;
use super::room::{Patience, Room};
use super::scraper::{Fetched, ReadLimits, Scraper, TargetHealth, fetch};
use super::targets::{Target, TargetGroup, over_target_limit, steps, targets, without_password, without_passwords};
use crate::sink::SampleSink;
use br_env::Clock;
use br_model::{Labels, MetricBatch};
use br_std::{Error, Nanos, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// A target as the targets page shows it.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    pub job: String,
    pub url: String,
    pub labels: Labels,
    pub discovered: Labels,
    pub interval: Duration,
    pub timeout: Duration,
    pub health: TargetHealth,
}

/// Targets of a job that relabelling dropped.
#[derive(Clone, Debug, Default)]
pub struct DroppedTargets {
    pub job: String,
    /// Discovered labels, of as many as `keep_dropped_targets` lets be kept.
    pub kept: Vec<Labels>,
    pub count: usize,
}

/// What one relabelling rule makes of a label set.
#[derive(Clone, Debug)]
pub struct RelabelStep {
    pub rule: super::RelabelConfig,
    pub output: Labels,
    pub keeps: bool,
}

/// All scraping of one configuration.
pub struct ScrapeManager {
    shared: Arc<Shared>,
    /// By name. Held for the whole of a change of configuration.
    running: tokio::sync::Mutex<BTreeMap<String, Running>>,
}

struct Running {
    job: Arc<Job>,
    end: watch::Sender<Ending>,
    follower: JoinHandle<Vec<Scraper>>,
}

/// How a loop is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    NotYet,
    /// The target is gone: its series are marked stale.
    Gone,
    /// Its job goes on under another configuration: what it knows is handed over.
    HandOver,
}

/// What tells two targets of a job apart.
type TargetKey = (String, String, Labels);

/// A job with what its discoveries found.
type RunningJob = (Arc<Job>, Arc<Board>);

struct Shared {
    sink: Arc<dyn SampleSink>,
    clock: Arc<dyn Clock>,
    limits: ReadLimits,
    room: Room,
    jobs: Mutex<BTreeMap<String, RunningJob>>,
    status: Mutex<BTreeMap<TargetKey, TargetStatus>>,
    dropped: Mutex<BTreeMap<String, DroppedTargets>>,
}

impl ScrapeManager {
    /// Starts to scrape. Must be called inside the runtime.
    pub async fn start(jobs: Vec<Job>, sink: Arc<dyn SampleSink>, clock: Arc<dyn Clock>, limits: ReadLimits) -> Result<Self> {
        let (jobs_now, status, dropped) = (Mutex::default(), Mutex::default(), Mutex::default());
        let room = Room::default();
        let shared = Arc::new(Shared { sink, clock, limits, room, jobs: jobs_now, status, dropped });
        let manager = Self { shared, running: tokio::sync::Mutex::default() };
        manager.apply(jobs).await?;
        Ok(manager)
    }

    /// Changes over to other jobs. One that stays as it was is not touched; one that changes keeps the targets that it had and
    /// still has, without a gap in their series.
    pub async fn apply(&self, jobs: Vec<Job>) -> Result<()> {
        let mut running = self.running.lock().await;
        let mut wanted: BTreeMap<String, Job> = BTreeMap::new();
        for job in jobs {
            if let Some(twice) = wanted.insert(job.name().to_owned(), job) {
                return Err(Error::fix_request(format!("scrape_configs: more than one job is called {:?}", twice.name())));
            }
        }
        let names: Vec<String> = running.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        let gone = names.iter().filter_map(|name| running.remove(name)).collect::<Vec<_>>();
        futures::future::join_all(gone.into_iter().map(|one| end(one, Ending::Gone))).await;
        for name in names {
            self.shared.jobs.lock().remove(&name);
            self.shared.dropped.lock().remove(&name);
        }
        for (name, job) in wanted {
            if running.get(&name).is_some_and(|one| one.job.is_same(&job)) {
                continue;
            }
            let inherited = match running.remove(&name) {
                Some(one) => end(one, Ending::HandOver).await,
                None => Vec::new(),
            };
            let started = self.run_job(job, inherited)?;
            running.insert(name, started);
        }
        Ok(())
    }

    fn run_job(&self, job: Job, inherited: Vec<Scraper>) -> Result<Running> {
        let board = Board::new(job.name());
        let job = Arc::new(job);
        let (end, ending) = watch::channel(Ending::NotYet);
        let follower = Follower {
            shared: self.shared.clone(),
            discoveries: discovery::start(&job.config, &board)?,
            job: job.clone(),
            board: board.clone(),
            over_limit: watch::channel(None).0,
            ending,
            inherited: inherited.into_iter().map(|scraper| (scraper.target().labels.clone(), scraper)).collect(),
            loops: BTreeMap::new(),
        };
        self.shared.jobs.lock().insert(job.name().to_owned(), (job.clone(), board));
        Ok(Running { job, end, follower: tokio::spawn(follower.run()) })
    }

    /// Ends all loops and marks their series stale.
    pub async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock().await);
        futures::future::join_all(running.into_values().map(|one| end(one, Ending::Gone))).await;
    }

    pub fn active(&self) -> Vec<TargetStatus> {
        self.shared.status.lock().values().cloned().collect()
    }

    pub fn dropped(&self) -> Vec<DroppedTargets> {
        self.shared.dropped.lock().values().cloned().collect()
    }

    /// Names of the jobs.
    pub fn pools(&self) -> Vec<String> {
        self.shared.jobs.lock().keys().cloned().collect()
    }

    pub fn discoveries(&self) -> Vec<DiscoveryStatus> {
        self.shared.jobs.lock().values().flat_map(|(_, board)| board.status()).collect()
    }

    /// What each rule of a job makes of discovered labels. `None` for a job that there is not.
    pub fn relabel_steps(&self, job: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let job = self.shared.jobs.lock().get(job)?.0.clone();
        let step = |(rule, (labels, keeps)): (&super::RelabelConfig, (br_model::LabelsBuilder, bool))| RelabelStep {
            rule: rule.clone(),
            output: labels.build(),
            keeps,
        };
        Some(job.config.relabel_configs.iter().zip(steps(&job, labels)).map(step).collect())
    }
}

async fn end(running: Running, how: Ending) -> Vec<Scraper> {
    let _ = running.end.send(how);
    running.follower.await.unwrap_or_default()
}

/// Follows the discoveries of one job.
struct Follower {
    shared: Arc<Shared>,
    job: Arc<Job>,
    board: Arc<Board>,
    /// They end with it.
    discoveries: JoinSet<()>,
    /// The error of all targets while there are too many.
    over_limit: watch::Sender<Option<String>>,
    ending: watch::Receiver<Ending>,
    /// What the job knew of its targets before its configuration changed.
    inherited: BTreeMap<Labels, Scraper>,
    loops: BTreeMap<(String, Labels), Loop>,
}

struct Loop {
    target: Target,
    end: watch::Sender<Ending>,
    task: JoinHandle<Scraper>,
}

/// Changes of discoveries that come within this time are followed together.
const SETTLE: Duration = Duration::from_millis(50);

impl Follower {
    async fn run(mut self) -> Vec<Scraper> {
        let fixed = self.job.config.static_configs.iter();
        let fixed: Vec<Arc<TargetGroup>> =
            fixed.map(|group| Arc::new(TargetGroup::of_addresses(&group.targets, &group.labels))).collect();
        // By then a discovery has found again what it had found before.
        let forget = tokio::time::sleep(self.job.settings.interval * 2);
        tokio::pin!(forget);
        let mut ending = self.ending.clone();
        let how = loop {
            let groups = [fixed.clone(), self.board.groups()].concat();
            self.follow(&groups).await;
            tokio::select! {
                () = self.board.changed() => tokio::time::sleep(SETTLE).await,
                () = &mut forget, if !self.inherited.is_empty() => self.forget().await,
                how = asked_to_end(&mut ending) => break how,
            }
        };
        self.discoveries.abort_all();
        let keys: Vec<_> = self.loops.keys().cloned().collect();
        let mut left = self.end_loops(keys, how).await;
        match how {
            Ending::HandOver => left.extend(std::mem::take(&mut self.inherited).into_values()),
            _ => self.forget().await,
        }
        left
    }

    /// Marks stale what no target has taken over.
    async fn forget(&mut self) {
        for (_, mut scraper) in std::mem::take(&mut self.inherited) {
            write_end(&self.shared, &self.job, &mut scraper).await;
        }
    }

    /// Starts loops for new targets and ends those whose targets are gone or are scraped otherwise.
    async fn follow(&mut self, groups: &[Arc<TargetGroup>]) {
        let (found, complaints) = targets(&self.job, groups);
        for error in complaints {
            tracing::warn!(event = "TargetError", job = self.job.name(), "{error}");
        }
        let name = self.job.name().to_owned();
        let dropped = DroppedTargets {
            job: name.clone(),
            kept: found.dropped.iter().map(without_passwords).collect(),
            count: found.dropped_count,
        };
        self.shared.dropped.lock().insert(name, dropped);
        self.over_limit.send_replace(over_target_limit(&self.job, found.active.len()));
        let wanted: BTreeMap<(String, Labels), Target> =
            found.active.into_iter().map(|target| ((target.url.clone(), target.labels.clone()), target)).collect();
        let gone = self.loops.iter().filter(|(key, one)| wanted.get(*key) != Some(&one.target));
        let gone = gone.map(|(key, _)| key.clone()).collect();
        self.end_loops(gone, Ending::Gone).await;
        for (key, target) in wanted {
            if self.loops.contains_key(&key) {
                continue;
            }
            let (end, ending) = watch::channel(Ending::NotYet);
            let scraper = match self.inherited.remove(&target.labels) {
                Some(known) => known.moved_to(target.clone()),
                None => Scraper::new(target.clone()),
            };
            let over_limit = self.over_limit.subscribe();
            let task = tokio::spawn(scrape_loop(self.shared.clone(), self.job.clone(), scraper, over_limit, ending));
            self.loops.insert(key, Loop { target, end, task });
        }
    }

    /// All at once: each may be in the middle of a scrape.
    async fn end_loops(&mut self, keys: Vec<(String, Labels)>, how: Ending) -> Vec<Scraper> {
        let loops: Vec<Loop> = keys.iter().filter_map(|key| self.loops.remove(key)).collect();
        for one in &loops {
            let _ = one.end.send(how);
        }
        let ended = futures::future::join_all(loops.into_iter().map(|one| one.task)).await;
        ended.into_iter().filter_map(Result::ok).collect()
    }
}

/// Scrapes one target on its own beat: the offset into the interval follows from the target, so that load is spread and stays put
/// over restarts.
async fn scrape_loop(
    shared: Arc<Shared>,
    job: Arc<Job>,
    mut scraper: Scraper,
    over_limit: watch::Receiver<Option<String>>,
    mut ending: watch::Receiver<Ending>,
) -> Scraper {
    let target = scraper.target().clone();
    let key = (job.name().to_owned(), target.url.clone(), target.labels.clone());
    let offset =
        br_std::hash::hash64(format!("{}{}", target.url, target.labels).as_bytes()) % (target.interval.as_nanos().max(1) as u64);
    let status = |health: TargetHealth| TargetStatus {
        job: job.name().to_owned(),
        url: without_password(&target.url).into_owned(),
        labels: target.labels.clone(),
        discovered: without_passwords(&target.discovered),
        interval: target.interval,
        timeout: target.timeout,
        health,
    };
    let before = shared.status.lock().remove(&key).map(|status| status.health).unwrap_or_default();
    shared.status.lock().insert(key.clone(), status(before));
    let how = loop {
        let wait = until_next(shared.clock.now(), target.interval, offset);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            how = asked_to_end(&mut ending) => break how,
        }
        let started = Started { at: shared.clock.now(), beat: shared.clock.monotonic(), late: Instant::now() + target.timeout };
        let too_many = over_limit.borrow().clone();
        let fetched = if let Some(error) = too_many {
            Err(Error::fix_request(error))
        } else {
            tokio::select! {
                fetched = fetch(&job.client, &job, &target, &shared.limits, &shared.room) => fetched,
                how = asked_to_end(&mut ending) => break how,
            }
        };
        let (back, outcome) = read(&shared, &job, scraper, fetched, started, &mut ending).await;
        scraper = back;
        let (batch, mut health) = match outcome {
            Ok(read) => read,
            Err(how) => break how,
        };
        match shared.sink.write(batch).await {
            Ok(None) => {}
            Ok(Some(refused)) => health.note(&refused),
            Err(error) => {
                health.note(&format!("scraped, but not stored: {error}"));
                tracing::error!(event = "ScrapeStoreError", target = &*without_password(&target.url), "{error}");
            }
        }
        shared.status.lock().insert(key.clone(), status(health));
    };
    if how == Ending::Gone {
        write_end(&shared, &job, &mut scraper).await;
    }
    scraper
}

/// When a scrape began, by the clocks that tell it, and when it is too late for it.
#[derive(Clone, Copy)]
struct Started {
    at: Nanos,
    beat: Duration,
    late: Instant,
}

/// Reads what a target answered, on the pool for blocking work: until the time of the scrape is over or the loop is to end.
async fn read(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    mut scraper: Scraper,
    fetched: Result<Fetched>,
    started: Started,
    ending: &mut watch::Receiver<Ending>,
) -> (Scraper, Result<(MetricBatch, TargetHealth), Ending>) {
    let patience = Arc::new(Patience::default());
    let target = scraper.target().clone();
    let mut reading = {
        let (shared, job, patience) = (shared.clone(), job.clone(), patience.clone());
        tokio::task::spawn_blocking(move || {
            let took = || shared.clock.monotonic().saturating_sub(started.beat);
            let outcome = scraper.batch(&job, fetched, &shared.limits, &patience, started.at, took);
            (scraper, outcome)
        })
    };
    let (read, how) = tokio::select! {
        read = &mut reading => (read, Ending::Gone),
        () = tokio::time::sleep_until(started.late) => {
            patience.run_out();
            tokio::select! {
                read = &mut reading => (read, Ending::Gone),
                how = asked_to_end(ending) => {
                    patience.give_up();
                    (reading.await, how)
                }
            }
        }
        how = asked_to_end(ending) => {
            patience.give_up();
            (reading.await, how)
        }
    };
    match read {
        Ok((scraper, outcome)) => (scraper, outcome.ok_or(how)),
        // What it knew of its series is lost with it.
        Err(panic) => {
            let last_error = format!("reading the answer failed inside: {panic}");
            let health = TargetHealth { is_up: Some(false), last_error, last_scrape: started.at, ..TargetHealth::default() };
            (Scraper::new(target), Ok((MetricBatch::default(), health)))
        }
    }
}

/// Returns when a loop is to end, and how.
async fn asked_to_end(ending: &mut watch::Receiver<Ending>) -> Ending {
    ending.wait_for(|how| *how != Ending::NotYet).await.map_or(Ending::Gone, |how| *how)
}

async fn write_end(shared: &Shared, job: &Job, scraper: &mut Scraper) {
    let batch = scraper.end(job, shared.clock.now());
    let target = scraper.target();
    shared.status.lock().remove(&(job.name().to_owned(), target.url.clone(), target.labels.clone()));
    if let Err(error) = shared.sink.write(batch).await {
        tracing::error!(event = "ScrapeStoreError", target = &*without_password(&target.url), "{error}");
    }
}

/// Time until the next point that lies `offset` into an interval.
fn until_next(now: Nanos, interval: Duration, offset: u64) -> Duration {
    let interval = (interval.as_nanos() as i64).max(1);
    let into = (now.0 - offset as i64).rem_euclid(interval);
    Duration::from_nanos((interval - into) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_stay_put() {
        let interval = Duration::from_secs(10);
        assert_eq!(until_next(Nanos::from_secs(100), interval, 3_000_000_000), Duration::from_secs(3));
        assert_eq!(until_next(Nanos::from_secs(103), interval, 3_000_000_000), Duration::from_secs(10));
        assert_eq!(until_next(Nanos::from_secs(104), interval, 3_000_000_000), Duration::from_secs(9));
    }
}
