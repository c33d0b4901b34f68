//! Which version of a service was deployed when: what its resources say becomes deploys in the catalog.

use crate::decoded::Decoded;
use br_catalog::deploys::{RUNS_MAX, TEXT_BYTES_MAX};
use br_catalog::{Catalog, Deploy, DeployPlace};
use br_model::{Resource, TenantId};
use br_std::hash::hash64;
use br_std::{Nanos, Result};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A version that was silent for so long, while a newer one ran, is deployed anew when it is heard of again. In a rollout both run.
const SILENCE: Duration = Duration::from_mins(10);
/// How far the end of a run may be ahead of what the catalog has.
const UNSAVED_MAX: Duration = Duration::from_mins(1);
/// Places whose runs are kept in memory; those of others are read again.
const PLACES_MAX: usize = 20_000;
/// Versions that wait to be written: while the catalog takes nothing, no more are remembered.
const HEARD_MAX: usize = 10_000;

/// The same version is told to the watch again after so long.
const TOLD_AGAIN: Duration = Duration::from_secs(30);
/// Versions that are remembered as told; then all are forgotten.
const TOLD_MAX: usize = 100_000;

/// Which versions the watch was told of: nearly every request brings the same ones.
#[derive(Default)]
pub(crate) struct ToldVersions(Mutex<HashMap<(TenantId, u64), Nanos>>);

impl ToldVersions {
    /// Whether the watch should see this request.
    pub(crate) fn is_news(&self, tenant: TenantId, decoded: &Decoded, at: Nanos) -> bool {
        let mut told = self.0.lock();
        let mut is_news = false;
        let mut before = None;
        for resource in resources(decoded) {
            // Groups of one resource follow each other.
            if before.is_some_and(|before| Arc::ptr_eq(before, resource)) {
                continue;
            }
            before = Some(resource);
            let Some(version) = version(resource) else { continue };
            let mut key = resource.service_name().as_bytes().to_vec();
            for text in [environment(resource), version] {
                key.push(0);
                key.extend_from_slice(text.as_bytes());
            }
            if told.len() >= TOLD_MAX {
                told.clear();
            }
            let last = told.entry((tenant, hash64(&key))).or_insert(Nanos::MIN);
            if at.since(*last) >= TOLD_AGAIN {
                *last = at;
                is_news = true;
            }
        }
        is_news
    }
}

pub(crate) fn resources(decoded: &Decoded) -> impl Iterator<Item = &Arc<Resource>> {
    let of_logs = decoded.logs.groups.iter().map(|group| &group.resource);
    of_logs.chain(decoded.spans.groups.iter().map(|group| &group.resource))
}

fn version(resource: &Resource) -> Option<&str> {
    resource.attributes.get_str("service.version").filter(|version| !version.is_empty())
}

fn environment(resource: &Resource) -> &str {
    let names = ["deployment.environment.name", "deployment.environment"];
    names.iter().find_map(|name| resource.attributes.get_str(name)).unwrap_or_default()
}

#[derive(Default)]
pub(crate) struct DeployWatch {
    known: HashMap<DeployPlace, Vec<Run>>,
    /// The first and the last time of what was heard since the last write.
    heard: BTreeMap<(DeployPlace, String), (Nanos, Nanos)>,
}

struct Run {
    deploy: Deploy,
    /// The end that the catalog has.
    saved: Option<Nanos>,
}

impl DeployWatch {
    pub(crate) fn hear(&mut self, tenant: TenantId, resource: &Resource, at: Nanos) {
        let Some(version) = version(resource) else { return };
        let place =
            DeployPlace { tenant, service: shortened(resource.service_name()), environment: shortened(environment(resource)) };
        let key = (place, shortened(version));
        if self.heard.len() >= HEARD_MAX && !self.heard.contains_key(&key) {
            return;
        }
        let (first, last) = self.heard.entry(key).or_insert((at, at));
        (*first, *last) = ((*first).min(at), (*last).max(at));
    }

    /// What could not be written is tried again the next time.
    pub(crate) async fn write(&mut self, catalog: &Catalog) -> Result<()> {
        if self.heard.is_empty() {
            return Ok(());
        }
        let mut heard: Vec<_> = self.heard.iter().collect();
        heard.sort_by_key(|(_, (first, _))| *first);
        if self.known.len() + heard.len() > PLACES_MAX {
            self.known.clear();
        }
        for ((place, version), times) in &heard {
            if !self.known.contains_key(place) {
                let of_catalog = |deploy: Deploy| Run { saved: Some(deploy.last_seen), deploy };
                let runs = catalog.deploys_of(place).await?.into_iter().map(of_catalog).collect();
                self.known.insert(place.clone(), runs);
            }
            if let Some(runs) = self.known.get_mut(place) {
                add(runs, place, version, **times);
            }
        }
        let is_ahead = |run: &Run| run.saved.is_none_or(|saved| run.deploy.last_seen.since(saved) >= UNSAVED_MAX);
        let mut places: Vec<&DeployPlace> = heard.iter().map(|((place, _), _)| place).collect();
        places.sort();
        places.dedup();
        let unsaved = places.iter().filter_map(|place| self.known.get(*place)).flatten().filter(|run| is_ahead(run));
        let unsaved: Vec<Deploy> = unsaved.map(|run| run.deploy.clone()).collect();
        if !unsaved.is_empty() {
            catalog.record_deploys(&unsaved).await?;
            for place in places {
                for run in self.known.get_mut(place).into_iter().flatten().filter(|run| is_ahead(run)) {
                    run.saved = Some(run.deploy.last_seen);
                }
            }
        }
        self.heard.clear();
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// A version was heard of from the first of these times to the last.
fn add(runs: &mut Vec<Run>, place: &DeployPlace, version: &str, (first, last): (Nanos, Nanos)) {
    let newest = runs.len().checked_sub(1);
    if let Some(at) = runs.iter().rposition(|run| run.deploy.version == version) {
        let deploy = &mut runs[at].deploy;
        // Nothing newer came in between, or it never fell silent.
        if Some(at) == newest || first.0.saturating_sub(deploy.last_seen.0) <= SILENCE.as_nanos() as i64 {
            deploy.last_seen = deploy.last_seen.max(last);
            return;
        }
    }
    if runs.len() >= RUNS_MAX {
        let Some(idle) = (0..runs.len()).min_by_key(|at| runs[*at].deploy.last_seen) else { return };
        // So many at once are no deploys, such as an id for each process: those that are known go on.
        if first.0.saturating_sub(runs[idle].deploy.last_seen.0) <= SILENCE.as_nanos() as i64 {
            return;
        }
        runs.remove(idle);
    }
    let previous = runs.last().map(|run| run.deploy.version.clone()).unwrap_or_default();
    tracing::info!(event = "DeploySeen", tenant = place.tenant.0, service = place.service, version, previous);
    let deploy = Deploy { place: place.clone(), version: version.to_owned(), previous, at: first, last_seen: last };
    runs.push(Run { deploy, saved: None });
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_catalog::DeployFilter;
    use br_model::{LogBatch, ResourceLogs};

    const TENANT: TenantId = TenantId(3);

    fn resource(version: &str, environment: &str) -> Resource {
        let attributes = [("service.name", "shop"), ("service.version", version), ("deployment.environment.name", environment)];
        Resource { attributes: attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect() }
    }

    fn minute(minute: i64) -> Nanos {
        Nanos(minute * 60_000_000_000)
    }

    async fn deploys(catalog: &Catalog) -> Vec<(String, String, i64, i64)> {
        let of_shop = DeployFilter { service: Some("shop".to_owned()), ..DeployFilter::default() };
        let mut found = catalog.deploys(TENANT, &of_shop, 100).await.expect("read");
        found.reverse();
        let minutes = |time: Nanos| time.0 / 60_000_000_000;
        let shown = |one: Deploy| {
            (format!("{}/{}", one.place.environment, one.version), one.previous, minutes(one.at), minutes(one.last_seen))
        };
        found.into_iter().map(shown).collect()
    }

    fn run(version: &str, previous: &str, at: i64, last_seen: i64) -> (String, String, i64, i64) {
        (version.to_owned(), previous.to_owned(), at, last_seen)
    }

    async fn hear(watch: &mut DeployWatch, catalog: &Catalog, all: &[(i64, &str)]) {
        for (at, version) in all {
            watch.hear(TENANT, &resource(version, ""), minute(*at));
            watch.write(catalog).await.expect("written");
        }
    }

    #[tokio::test]
    async fn a_rollout_is_one_deploy_and_a_rollback_another() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let catalog = Arc::new(Catalog::open(folder.path().join("catalog.db")).await.expect("opened"));
        let mut watch = DeployWatch::default();
        hear(&mut watch, &catalog, &[(1, "1.0"), (2, ""), (60, "1.0"), (61, "1.1"), (62, "1.0"), (63, "1.1"), (69, "1.0")]).await;
        assert_eq!(deploys(&catalog).await, [run("/1.0", "", 1, 69), run("/1.1", "1.0", 61, 63)]);
        // After a restart, as well as without one.
        for restarts in [true, false] {
            if restarts {
                watch = DeployWatch::default();
            }
            hear(&mut watch, &catalog, &[(100, "1.1")]).await;
            assert_eq!(deploys(&catalog).await.len(), 2);
        }
        hear(&mut watch, &catalog, &[(101, "1.0"), (102, "1.1")]).await;
        let expect = [run("/1.0", "", 1, 69), run("/1.1", "1.0", 61, 102), run("/1.0", "1.1", 101, 101)];
        assert_eq!(deploys(&catalog).await, expect);
        // What is told again after a crash tells nothing new.
        let mut again = DeployWatch::default();
        hear(&mut again, &catalog, &[(61, "1.1"), (69, "1.0"), (101, "1.0"), (102, "1.1")]).await;
        assert_eq!(deploys(&catalog).await, expect);
    }

    #[test]
    fn the_same_version_is_told_now_and_then() {
        let of = |version: &str| {
            let group = |resource| ResourceLogs { resource, scope: Arc::default(), records: Vec::new() };
            let groups = vec![group(Arc::new(resource("1", "live"))), group(Arc::new(resource(version, "test")))];
            Decoded { logs: LogBatch { groups }, ..Decoded::default() }
        };
        let told = ToldVersions::default();
        let news = |version: &str, second: i64| told.is_news(TENANT, &of(version), Nanos(second * 1_000_000_000));
        assert_eq!([news("1", 0), news("1", 29), news("2", 29), news("2", 29)], [true, false, true, false]);
        assert_eq!([news("", 30), news("", 30), news("1", 31)], [true, false, true]);
        assert!(!told.is_news(TENANT, &Decoded::default(), Nanos(0)));
    }

    #[tokio::test]
    async fn environments_are_apart_and_runs_are_bounded() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let catalog = Catalog::open(folder.path().join("catalog.db")).await.expect("opened");
        let mut watch = DeployWatch::default();
        watch.hear(TENANT, &resource("2", "live"), minute(2));
        watch.hear(TENANT, &resource("1", "test"), minute(1));
        watch.write(&catalog).await.expect("written");
        assert_eq!(deploys(&catalog).await, [run("test/1", "", 1, 1), run("live/2", "", 2, 2)]);
        for at in 0..200 {
            watch.hear(TENANT, &resource(&format!("{}{at}", "é".repeat(200)), "live"), minute(20 * at + 3));
        }
        watch.write(&catalog).await.expect("written");
        // The names are too long to be told apart.
        assert_eq!(deploys(&catalog).await.len(), 3);
        for at in 0..200 {
            watch.hear(TENANT, &resource(&format!("v{at}"), "live"), minute(20 * at + 3));
        }
        watch.write(&catalog).await.expect("written");
        let found = deploys(&catalog).await;
        assert_eq!(found.len(), RUNS_MAX + 1);
        assert_eq!(found.last().expect("one").0, "live/v199");
        assert_eq!(catalog.expire_deploys(minute(20 * 199)).await.expect("expired"), RUNS_MAX as u64 - 1);
        // More that run at once than are told apart: none of them takes the place of another.
        let before = deploys(&catalog).await;
        for round in 0..3 {
            for at in 0..80 {
                watch.hear(TENANT, &resource(&format!("at-once-{at}"), "many"), minute(4000 + round));
            }
            watch.write(&catalog).await.expect("written");
        }
        let many = deploys(&catalog).await.len() - before.len();
        assert_eq!(many, RUNS_MAX);
        assert!(catalog.deploys(TenantId(4), &DeployFilter::default(), 10).await.expect("read").is_empty());
    }
}
