//! One kind of objects kept as the API server has them: listed once, then watched.

use super::access::Access;
use super::objects::{Meta, Object};
use crate::scrape::client::{body, reason};
use crate::scrape::config::Selector;
use br_std::{Error, Result};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The objects of one kind, by namespace and name.
pub(super) struct Store<T>(Mutex<BTreeMap<String, Arc<T>>>);

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Object> Store<T> {
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.0.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.0.lock().get(&format!("{namespace}/{name}")).cloned()
    }
}

/// That something has changed, and what does not work, for all watches of one discovery.
#[derive(Default)]
pub(super) struct News {
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Paths that have not been listed yet.
    missing: BTreeSet<String>,
    /// By path.
    errors: BTreeMap<String, String>,
}

impl News {
    pub(super) fn expect(&self, path: &str) {
        self.state.lock().missing.insert(path.to_owned());
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether everything has been listed once.
    pub(super) fn is_complete(&self) -> bool {
        self.state.lock().missing.is_empty()
    }

    pub(super) fn complaints(&self) -> Vec<Error> {
        self.state.lock().errors.iter().map(|(path, error)| Error::retry(format!("{path}: {error}"))).collect()
    }

    fn good(&self, path: &str) {
        let mut state = self.state.lock();
        state.missing.remove(path);
        state.errors.remove(path);
        self.changed.notify_one();
    }

    fn bad(&self, path: &str, error: &Error) {
        self.state.lock().errors.insert(path.to_owned(), error.to_string());
        self.changed.notify_one();
    }
}

const LIST_TIMEOUT: Duration = Duration::from_mins(1);
const PAGE_OBJECTS: u32 = 500;
const PAGE_BYTES_MAX: usize = 256 << 20;
/// One event of a watch; objects have at most 1.5 MB in etcd.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// After this time the server ends a watch, and it is asked for the next one.
const WATCH_SECONDS: u64 = 300;
/// The status of a version that the server has forgotten.
const GONE: u16 = 410;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Keeps `store` as the API server has `path`, for ever.
pub(super) async fn follow<T: Object>(
    access: Arc<Access>,
    path: String,
    selector: Selector,
    store: Arc<Store<T>>,
    news: Arc<News>,
) {
    let mut watch = Watch { access, path, selector, store, news, version: String::new() };
    let mut backoff = BACKOFF_MIN;
    loop {
        match watch.step().await {
            Ok(()) => backoff = BACKOFF_MIN,
            Err(error) => {
                watch.version.clear();
                // That the server no longer has a version is usual after a pause: the next step lists anew.
                if error.kind() != br_std::error::Kind::NotFound {
                    watch.news.bad(&watch.path, &error);
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

struct Watch<T> {
    access: Arc<Access>,
    path: String,
    selector: Selector,
    store: Arc<Store<T>>,
    news: Arc<News>,
    /// From which to watch on; empty before the list.
    version: String,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

impl<T: Object> Watch<T> {
    async fn step(&mut self) -> Result<()> {
        if self.version.is_empty() {
            self.list().await?;
            self.news.good(&self.path);
        }
        self.watch().await
    }

    fn url(&self, parameters: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("labelSelector", &self.selector.label), ("fieldSelector", &self.selector.field)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        let query = query.extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty())).finish();
        format!("{}{}?{query}", self.access.base, self.path)
    }

    async fn request(&self, url: &str, timeout: Duration) -> Result<reqwest::Response> {
        let request = self.access.client.get(url).await?.timeout(timeout).header("accept", "application/json");
        let response = request.send().await.map_err(|error| Error::retry(self.access.client.reason(&error, url)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status() == 401 {
            self.access.client.refused();
        }
        let status = response.status();
        let body = body(response, 1 << 20).await?.unwrap_or_default();
        let message = serde_json::from_slice::<Status>(&body).unwrap_or_default().message;
        if status == GONE {
            return Err(Error::not_found(message));
        }
        Err(Error::retry(format!("server returned HTTP status {status}: {message}")))
    }

    async fn list(&mut self) -> Result<()> {
        let mut found = BTreeMap::new();
        let (limit, mut next) = (PAGE_OBJECTS.to_string(), String::new());
        loop {
            let url = self.url(&[("limit", &limit), ("continue", &next)]);
            let body = body(self.request(&url, LIST_TIMEOUT).await?, PAGE_BYTES_MAX).await?;
            let body = body.ok_or_else(|| Error::over_limit(format!("a page has more than {PAGE_BYTES_MAX} bytes")))?;
            let list: List<T> = serde_json::from_slice(&body).map_err(|error| Error::retry(format!("no list: {error}")))?;
            for object in list.items.unwrap_or_default() {
                found.insert(object.meta().key(), Arc::new(object));
            }
            if list.metadata.next.is_empty() {
                self.version = list.metadata.resource_version;
                break;
            }
            next = list.metadata.next;
        }
        // Other namespaces of the same kind are followed by other watches.
        let of_this = |key: &String| self.namespace().is_none_or(|namespace| key.split('/').next() == Some(namespace));
        let mut objects = self.store.0.lock();
        objects.retain(|key, _| !of_this(key));
        objects.extend(found);
        Ok(())
    }

    fn namespace(&self) -> Option<&str> {
        let (_, rest) = self.path.split_once("/namespaces/")?;
        rest.split('/').next()
    }

    /// Takes events until the server ends the watch, which it does now and then.
    async fn watch(&mut self) -> Result<()> {
        let seconds = WATCH_SECONDS.to_string();
        let version = self.version.clone();
        let parameters =
            [("watch", "1"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", &*seconds), ("resourceVersion", &*version)];
        let mut response = self.request(&self.url(&parameters), Duration::from_secs(WATCH_SECONDS + 30)).await?;
        self.news.good(&self.path);
        let mut buffer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Error::retry(reason(&error)))? {
            buffer.extend_from_slice(&chunk);
            let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
                if buffer.len() > EVENT_BYTES_MAX {
                    return Err(Error::over_limit(format!("an event has more than {EVENT_BYTES_MAX} bytes")));
                }
                continue;
            };
            let mut changed = false;
            for line in buffer[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                changed |= self.apply(line)?;
            }
            buffer.drain(..=end);
            if changed {
                self.news.good(&self.path);
            }
        }
        Ok(())
    }

    /// Whether the event changed an object.
    fn apply(&mut self, line: &[u8]) -> Result<bool> {
        let wrong = |error: serde_json::Error| Error::retry(format!("an event of the watch: {error}"));
        let event: Event<'_> = serde_json::from_slice(line).map_err(wrong)?;
        let object = event.object.get();
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_str(object).map_err(wrong)?;
            if status.code == GONE {
                return Err(Error::not_found(status.message));
            }
            return Err(Error::retry(format!("the watch ends with {}: {}", status.code, status.message)));
        }
        self.version = serde_json::from_str::<Versioned>(object).map_err(wrong)?.metadata.resource_version;
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let object: T = serde_json::from_str(object).map_err(wrong)?;
                self.store.0.lock().insert(object.meta().key(), Arc::new(object));
            }
            "DELETED" => {
                let object: Versioned = serde_json::from_str(object).map_err(wrong)?;
                self.store.0.lock().remove(&object.metadata.key());
            }
            // A bookmark says only how far the watch has come.
            _ => return Ok(false),
        }
        Ok(true)
    }
}
