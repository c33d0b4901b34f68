//! Keeps one loop for each target, and follows discovery.

use super::config::{Job, TargetGroup};
use super::discovery::{Target, read_files, targets};
use super::target::{Scraper, TargetHealth, fetch};
use crate::sink::SampleSink;
use br_env::Clock;
use br_model::Labels;
use br_std::{Error, Nanos, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

/// All scraping of one configuration.
pub struct ScrapeManager {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    jobs: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    sink: Arc<dyn SampleSink>,
    clock: Arc<dyn Clock>,
    /// By job and URL.
    status: Mutex<BTreeMap<(String, String), TargetStatus>>,
    dropped: Mutex<BTreeMap<String, Vec<Labels>>>,
}

impl ScrapeManager {
    /// Starts to scrape. Must be called inside the runtime.
    pub fn start(jobs: Vec<Job>, sink: Arc<dyn SampleSink>, clock: Arc<dyn Clock>) -> Result<Self> {
        let shared = Arc::new(Shared { sink, clock, status: Mutex::default(), dropped: Mutex::default() });
        let (stop, stopped) = watch::channel(false);
        let mut handles = Vec::new();
        for job in jobs {
            let client = client(&job)?;
            let follower =
                Follower { shared: shared.clone(), job: Arc::new(job), client, stopped: stopped.clone(), loops: BTreeMap::new() };
            handles.push(tokio::spawn(follower.run()));
        }
        Ok(Self { shared, stop, jobs: Mutex::new(handles) })
    }

    /// Ends all loops and marks their series stale.
    pub async fn stop(&self) {
        let _ = self.stop.send(true);
        let handles = std::mem::take(&mut *self.jobs.lock());
        for handle in handles {
            let _ = handle.await;
        }
    }

    pub fn active(&self) -> Vec<TargetStatus> {
        self.shared.status.lock().values().cloned().collect()
    }

    /// Discovered labels of the targets that relabelling dropped.
    pub fn dropped(&self) -> Vec<Labels> {
        self.shared.dropped.lock().values().flatten().cloned().collect()
    }
}

fn client(job: &Job) -> Result<reqwest::Client> {
    let tls = &job.config.tls_config;
    let redirects =
        if job.config.follow_redirects { reqwest::redirect::Policy::limited(10) } else { reqwest::redirect::Policy::none() };
    let mut builder = reqwest::Client::builder()
        .redirect(redirects)
        .user_agent(concat!("Bellrock/", env!("CARGO_PKG_VERSION")))
        .danger_accept_invalid_certs(tls.insecure_skip_verify)
        .no_proxy();
    let wrong = |error: reqwest::Error| Error::fix_request(format!("scrape job {:?}: {error}", job.config.job_name));
    if let Some(proxy) = &job.config.proxy_url {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(wrong)?);
    }
    if let Some(file) = &tls.ca_file {
        #[allow(clippy::disallowed_methods, reason = "certificates lie outside the data directory")]
        let pem = std::fs::read(file).map_err(|error| Error::from(error).context(format!("tls_config.ca_file {file}")))?;
        builder = builder.add_root_certificate(reqwest::Certificate::from_pem(&pem).map_err(wrong)?);
    }
    builder.build().map_err(wrong)
}

/// Follows the discovery of one job.
struct Follower {
    shared: Arc<Shared>,
    job: Arc<Job>,
    client: reqwest::Client,
    stopped: watch::Receiver<bool>,
    /// By URL and labels: a target whose labels change is another one.
    loops: BTreeMap<String, (watch::Sender<bool>, JoinHandle<()>)>,
}

impl Follower {
    async fn run(mut self) {
        let mut files: Vec<BTreeMap<_, _>> = self.job.config.file_sd_configs.iter().map(|_| BTreeMap::new()).collect();
        let refresh = self.job.config.file_sd_configs.iter().map(|discovery| discovery.refresh_interval.0).min();
        // Files are small: looking every few seconds is cheaper than missing a change for five minutes.
        let refresh = refresh.map(|interval| interval.min(Duration::from_secs(5)));
        loop {
            let mut groups: Vec<TargetGroup> = self.job.config.static_configs.clone();
            for (discovery, known) in self.job.config.file_sd_configs.iter().zip(&mut files) {
                for error in read_files(discovery, known) {
                    tracing::warn!(event = "DiscoveryError", job = self.job.config.job_name, "{error}");
                }
                groups.extend(known.values().flatten().cloned());
            }
            self.follow(&groups).await;
            let wait = async {
                match refresh {
                    Some(interval) => tokio::time::sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        self.follow(&[]).await;
    }

    /// Starts loops for new targets and ends those whose targets are gone.
    async fn follow(&mut self, groups: &[TargetGroup]) {
        let (found, complaints) = targets(&self.job, groups);
        for error in complaints {
            tracing::warn!(event = "TargetError", job = self.job.config.job_name, "{error}");
        }
        self.shared.dropped.lock().insert(self.job.config.job_name.clone(), found.dropped);
        let wanted: BTreeMap<String, Target> =
            found.active.into_iter().map(|target| (format!("{} {}", target.url, target.labels), target)).collect();
        let gone: Vec<String> = self.loops.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some((stop, handle)) = self.loops.remove(&key) {
                let _ = stop.send(true);
                let _ = handle.await;
            }
        }
        for (key, target) in wanted {
            if !self.loops.contains_key(&key) {
                let (stop, stopped) = watch::channel(false);
                let task = scrape_loop(self.shared.clone(), self.job.clone(), self.client.clone(), target, stopped);
                self.loops.insert(key, (stop, tokio::spawn(task)));
            }
        }
    }
}

/// Scrapes one target on its own beat: the offset into the interval follows from the target, so that load is spread and stays put
/// over restarts.
async fn scrape_loop(
    shared: Arc<Shared>,
    job: Arc<Job>,
    client: reqwest::Client,
    target: Target,
    mut stopped: watch::Receiver<bool>,
) {
    let key = (job.config.job_name.clone(), target.url.clone());
    let offset =
        br_std::hash::hash64(format!("{}{}", target.url, target.labels).as_bytes()) % (job.interval.as_nanos().max(1) as u64);
    let status = |health: TargetHealth, target: &Target| TargetStatus {
        job: job.config.job_name.clone(),
        url: target.url.clone(),
        labels: target.labels.clone(),
        discovered: target.discovered.clone(),
        interval: job.interval,
        timeout: job.timeout,
        health,
    };
    shared.status.lock().insert(key.clone(), status(TargetHealth::default(), &target));
    let mut scraper = Scraper::new(target);
    loop {
        let wait = until_next(shared.clock.now(), job.interval, offset);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        let (at, started) = (shared.clock.now(), shared.clock.monotonic());
        let fetched = fetch(&client, &job, scraper.target()).await;
        let took = shared.clock.monotonic().saturating_sub(started);
        let (batch, mut health) = scraper.batch(&job, fetched, at, took);
        if let Err(error) = shared.sink.write(batch).await {
            health.last_error = format!("scraped, but not stored: {error}");
            tracing::error!(event = "ScrapeStoreError", target = scraper.target().url, "{error}");
        }
        shared.status.lock().insert(key.clone(), status(health, scraper.target()));
    }
    if let Err(error) = shared.sink.write(scraper.end(shared.clock.now())).await {
        tracing::error!(event = "ScrapeStoreError", target = scraper.target().url, "{error}");
    }
    shared.status.lock().remove(&key);
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
