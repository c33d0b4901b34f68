//! The server that `run` sends to: the one that is named, the one that answers, or a new one.

use super::send::Upstream;
use crate::serve::DEFAULT_LISTEN;
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use std::time::Duration;

pub(super) struct Found {
    pub(super) upstream: Upstream,
    /// For the one line that is printed.
    pub(super) note: String,
}

impl std::ops::Deref for Found {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.upstream
    }
}

const START_PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn find_or_start(server: Option<&str>, token: Option<String>) -> Result<Found> {
    let listen = std::env::var("BELLROCK_LISTEN").unwrap_or_else(|_| DEFAULT_LISTEN.to_owned());
    let url = server.map_or_else(|| format!("http://{listen}"), |url| url.trim_end_matches('/').to_owned());
    let upstream = Upstream { client: reqwest::Client::new(), url, token };
    if answers(&upstream).await {
        return Ok(Found { upstream, note: String::new() });
    }
    if server.is_some() {
        bail!("no Bellrock server answers at {}: start one with `bellrock serve`, or leave --server out", upstream.url);
    }
    let pid = start().context("cannot start a server")?;
    let waited = tokio::time::timeout(START_PATIENCE, async {
        while !answers(&upstream).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    if waited.await.is_err() {
        bail!("the server that was started (pid {pid}) does not answer at {}: see its log in the data directory", upstream.url);
    }
    Ok(Found { upstream, note: format!(" (a server was started: pid {pid}, it goes on running)") })
}

async fn answers(upstream: &Upstream) -> bool {
    let request = upstream.request(reqwest::Method::GET, "/-/ready").timeout(Duration::from_secs(2));
    request.send().await.is_ok_and(|answer| answer.status().is_success())
}

/// Starts this same binary as a server of its own, which outlives us.
fn start() -> Result<u32> {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--log-file").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: Ctrl-C at the program's terminal must not end it.
    command.process_group(0);
    Ok(command.spawn()?.id())
}
