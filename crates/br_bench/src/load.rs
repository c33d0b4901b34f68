//! Sending what was made, and small words that every benchmark needs.

use crate::peer::Server;
use anyhow::Result;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

pub(crate) fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"))
}

/// The requests of one scrape, from four senders, as a Prometheus server shards its queue.
pub(crate) async fn remote_write(server: &Server, requests: &[Vec<u8>]) -> Result<()> {
    let headers = [
        ("content-encoding", "snappy"),
        ("content-type", "application/x-protobuf"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ];
    for group in requests.chunks(4) {
        let posts = group.iter().map(|body| server.post("/api/v1/write", &headers, body.clone()));
        join(posts).await?;
    }
    Ok(())
}

/// Seconds that the requests took, four at a time.
pub(crate) async fn post_all(server: &Server, path: &str, requests: Vec<Vec<u8>>) -> Result<f64> {
    let started = Instant::now();
    for group in requests.chunks(4) {
        let posts = group.iter().map(|body| server.post(path, &[("content-type", "application/x-protobuf")], body.clone()));
        join(posts).await?;
    }
    Ok(started.elapsed().as_secs_f64())
}

async fn join(posts: impl IntoIterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    let mut running: Vec<_> = posts.into_iter().map(Box::pin).collect();
    // A small join: all are polled until all are done.
    std::future::poll_fn(|context| {
        let mut failed = None;
        running.retain_mut(|post| match post.as_mut().poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(outcome) => {
                failed = failed.take().or(outcome.err());
                false
            }
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if running.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

/// Waits until the servers have caught up with what they were sent: what they still do would be in the way of the next figure.
pub(crate) async fn settle(servers: &[Server]) {
    const STEP: Duration = Duration::from_secs(5);
    const STEPS_MAX: usize = 24;
    /// Of one processor, all servers together.
    const QUIET: f64 = 0.1;
    let cpu = || servers.iter().map(Server::cpu_seconds).sum::<f64>();
    for _ in 0..STEPS_MAX {
        let before = cpu();
        tokio::time::sleep(STEP).await;
        if cpu() - before < QUIET * STEP.as_secs_f64() {
            return;
        }
    }
}

/// Waits until a server has had nothing to do for longer than any beat of its background work, so that all of that is done.
pub(crate) async fn settle_until_quiet(server: &Server) {
    const STEP: Duration = Duration::from_secs(2);
    const STEPS_MAX: usize = 300;
    const QUIET_STEPS: usize = 13;
    /// Of one processor.
    const QUIET: f64 = 0.05;
    let mut quiet_steps = 0;
    for _ in 0..STEPS_MAX {
        let before = server.cpu_seconds();
        tokio::time::sleep(STEP).await;
        let is_quiet = server.cpu_seconds() - before <= QUIET * STEP.as_secs_f64();
        quiet_steps = if is_quiet { quiet_steps + 1 } else { 0 };
        if quiet_steps == QUIET_STEPS {
            return;
        }
    }
}
