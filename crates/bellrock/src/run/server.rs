//! The server that `run` sends to: the one that is named, the one that answers, or a new one.

use super::send::{Upstream, innermost};
use crate::ask::{NoAnswer, server_url};
use crate::serve::DEFAULT_LISTEN;
use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
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
const MOVE_IT: &str = "BELLROCK_LISTEN, BELLROCK_OTLP_GRPC_LISTEN, BELLROCK_OTLP_HTTP_LISTEN and BELLROCK_DATA_DIR let it use other ports and folders";
/// Of what a server that ended wrote to stderr, so many lines are shown.
const SHOWN_LINES: usize = 8;

pub(super) async fn find_or_start(server: Option<&str>, token: Option<String>) -> Result<Found> {
    let listen = std::env::var("BELLROCK_LISTEN").unwrap_or_else(|_| DEFAULT_LISTEN.to_owned());
    let url = server_url(server.map_or_else(|| format!("http://{listen}"), ToOwned::to_owned).as_str())?;
    let upstream = Upstream { client: reqwest::Client::new(), url, token };
    let url = &upstream.url;
    match probe(&upstream).await {
        Probe::Ready => return Ok(Found { upstream, note: String::new() }),
        Probe::TakesNothing(reason) => {
            let note = format!(", which takes no data just now: {reason}");
            return Ok(Found { upstream, note });
        }
        Probe::SomethingElse(what) if server.is_some() => bail!("what answers at {url} is no Bellrock server: {what}"),
        Probe::SomethingElse(what) => {
            bail!(
                "another program has the address {url}: {what}; set BELLROCK_LISTEN to a free address, or name a server with --server"
            )
        }
        Probe::Nothing(reason) if server.is_some() => {
            let advice = "start a server with `bellrock serve`, or leave --server out";
            return Err(NoAnswer::new(format!("no answer from {url}: {reason}; {advice}")).into());
        }
        Probe::Nothing(_) => {}
    }
    let mut started = Started::start().context("cannot start a server")?;
    let pid = started.child.id();
    let waited = tokio::time::timeout(START_PATIENCE, async {
        loop {
            match probe(&upstream).await {
                Probe::Ready => return Ok(format!(" (a server was started: pid {pid}, it goes on running)")),
                Probe::TakesNothing(reason) => {
                    return Ok(format!(" (a server was started: pid {pid}, but it takes no data just now: {reason})"));
                }
                Probe::SomethingElse(_) | Probe::Nothing(_) => {}
            }
            if let Some(end) = started.ended()? {
                // Two that start at once: the other's server has the ports, and is as good.
                if matches!(probe(&upstream).await, Probe::Ready) {
                    return Ok(String::new());
                }
                bail!("the server that was to be started ended at once: {end}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    match waited.await {
        Ok(note) => Ok(Found { note: note?, upstream }),
        Err(_) => {
            bail!("the server that was started (pid {pid}) does not answer at {url}: see bellrock.log in its data directory")
        }
    }
}

/// What is at an address.
enum Probe {
    Ready,
    /// A server that has no room, or stops.
    TakesNothing(String),
    SomethingElse(String),
    Nothing(String),
}

async fn probe(upstream: &Upstream) -> Probe {
    let get = |path| upstream.request(reqwest::Method::GET, path).timeout(Duration::from_secs(2)).send();
    let healthy = match get("/-/healthy").await {
        Ok(answer) => answer,
        Err(error) => return Probe::Nothing(innermost(&error)),
    };
    let status = healthy.status();
    let said = first_line(&healthy.text().await.unwrap_or_default());
    if !said.starts_with("Bellrock") {
        return Probe::SomethingElse(if said.is_empty() { format!("it answers {status}") } else { format!("it says {said:?}") });
    }
    match get("/-/ready").await {
        Ok(answer) if answer.status().is_success() => Probe::Ready,
        Ok(answer) => Probe::TakesNothing(first_line(&answer.text().await.unwrap_or_default())),
        Err(error) => Probe::Nothing(innermost(&error)),
    }
}

/// Short, and without what could steer a terminal.
fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|character| !character.is_control()).take(120).collect()
}

/// This same binary as a server of its own, which outlives us.
struct Started {
    child: Child,
    /// In memory, and gone with the last who holds it: a pipe would break with our end.
    stderr: File,
}

impl Started {
    fn start() -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let stderr = File::from(memfd_create("bellrock-server-stderr", MemfdFlags::CLOEXEC)?);
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--log-file").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone()?);
        // A group of its own: Ctrl-C at the program's terminal must not end it.
        command.process_group(0);
        Ok(Self { child: command.spawn()?, stderr })
    }

    /// How it ended, with the last that it said.
    fn ended(&mut self) -> Result<Option<String>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let mut said = vec![0; 64 << 10];
        let length = self.stderr.read_at(&mut said, 0).unwrap_or(0);
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
        Ok(Some(format!("{status}\n  {last}\n{MOVE_IT}")))
    }
}
