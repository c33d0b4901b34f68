//! PostgreSQL's protocol: SQL for psql, SQLAlchemy, pandas, Grafana and whatever else has a driver for it. Read-only.
//!
//! A module here and no crate of its own: it stands on the same door, the same tokens and the same limits as the rest of the face.
//! The protocol's bytes are `br_wire`'s, the statements and the rows in its formats are `br_query`'s.

mod commands;
mod opening;
mod running;
mod session;
mod wire;

use crate::app::App;
use br_env::Rng;
use br_wire::postgres::{Fault, Severity};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// For `/metrics`.
#[derive(Debug, Default)]
pub struct PostgresCounters {
    /// Connections that are open now.
    pub open: AtomicU64,
    pub connections: AtomicU64,
    /// Connections that found no place.
    pub refused: AtomicU64,
    /// Wrong passwords.
    pub unauthorized: AtomicU64,
    /// Statements that were run.
    pub statements: AtomicU64,
    pub failed: AtomicU64,
    pub cancelled: AtomicU64,
}

/// Connections at once. More are told so.
const CONNECTIONS_MAX: usize = 256;
/// How long the words of a refusal may take.
const REFUSAL_WITHIN: Duration = Duration::from_secs(1);
/// After a failed accept, which is mostly for want of descriptors.
const ACCEPT_PATIENCE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Shared {
    app: Arc<App>,
    rng: Arc<dyn Rng>,
    next_process: AtomicI32,
    /// By process: its secret, and what tells it that somebody has cancelled.
    cancels: Mutex<BTreeMap<i32, (i32, watch::Sender<u64>)>>,
}

impl Shared {
    /// Stops what a connection computes, when the secret is its own. Nobody is told whether it was.
    fn cancel(&self, process: i32, secret: i32) {
        if let Some((known, cancel)) = self.cancels.lock().get(&process)
            && *known == secret
        {
            cancel.send_modify(|count| *count += 1);
        }
    }

    fn register(self: &Arc<Self>) -> Registration {
        let process = self.next_process.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let secret = self.rng.next_u64() as i32;
        let (cancel, cancelled) = watch::channel(0);
        self.cancels.lock().insert(process, (secret, cancel));
        Registration { shared: self.clone(), process, secret, cancelled }
    }
}

/// A connection that can be cancelled, for as long as this is held.
struct Registration {
    shared: Arc<Shared>,
    process: i32,
    secret: i32,
    cancelled: watch::Receiver<u64>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.cancels.lock().remove(&self.process);
    }
}

/// Serves until told to stop, then lets the statements under way end.
pub async fn serve(listener: TcpListener, app: Arc<App>, rng: Arc<dyn Rng>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shared = Arc::new(Shared { app, rng, next_process: AtomicI32::new(1), cancels: Mutex::default() });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(event = "AcceptError", "{error}");
                tokio::time::sleep(ACCEPT_PATIENCE).await;
                continue;
            }
        };
        let counters = &shared.app.postgres;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let Ok(place) = places.clone().try_acquire_owned() else {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            refuse(stream).await;
            continue;
        };
        let (shared, stopped) = (shared.clone(), stopped.clone());
        connections.spawn(async move {
            let _place = place;
            shared.app.postgres.open.fetch_add(1, Ordering::Relaxed);
            let _open = OpenConnection(shared.app.clone());
            opening::connection(stream, shared, stopped).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Counted down however the connection ends.
struct OpenConnection(Arc<App>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.postgres.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In the hope that the few bytes find room: nobody waits for a client that has no place.
async fn refuse(mut stream: TcpStream) {
    let mut out = Vec::new();
    let fault = Fault::new("53300", format!("all {CONNECTIONS_MAX} connections are taken"));
    br_wire::postgres::error(&mut out, Severity::Fatal, &fault);
    let _ = tokio::time::timeout(REFUSAL_WITHIN, stream.write_all(&out)).await;
}
