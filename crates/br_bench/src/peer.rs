//! A server under test: ours or a peer's, started with its own folder on free ports, ended when dropped.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bellrock,
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bellrock => "bellrock",
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            // Beside this program, so that both come from one build.
            Self::Bellrock => std::env::current_exe().unwrap_or_default().with_file_name("bellrock"),
            other => PathBuf::from(other.name()),
        }
    }

    /// Whether it can be measured here.
    pub(crate) fn is_installed(self) -> bool {
        Command::new(self.program()).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    child: Child,
    folder: TempDir,
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, "global: {}\n", &[]).await
    }

    /// With a configuration, where it reads one, and more arguments.
    pub(crate) async fn start_with(kind: Kind, config: &str, arguments: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let (port, data) = (free_port()?, folder.path().join("data"));
        let config_file = folder.path().join("config.yml");
        std::fs::write(&config_file, config)?;
        let mut command = Command::new(kind.program());
        match kind {
            Kind::Bellrock => {
                command.arg("serve").arg("--data-dir").arg(&data).args(["--listen", &format!("127.0.0.1:{port}")]);
                command.arg("--config").arg(&config_file);
                command.args(["--otlp-grpc-listen", &format!("127.0.0.1:{}", free_port()?)]);
                command.args(["--otlp-http-listen", &format!("127.0.0.1:{}", free_port()?)]);
            }
            Kind::Prometheus => {
                command
                    .arg(format!("--config.file={}", config_file.display()))
                    .arg(format!("--storage.tsdb.path={}", data.display()));
                command.arg("--web.enable-remote-write-receiver").arg(format!("--web.listen-address=127.0.0.1:{port}"));
            }
            Kind::VictoriaMetrics => {
                command.arg(format!("-storageDataPath={}", data.display())).arg(format!("-httpListenAddr=127.0.0.1:{port}"));
                // By default it hides the last 30 seconds; the bench asks for what was just sent.
                command.args(["-retentionPeriod=1", "-search.latencyOffset=0s"]);
            }
        }
        let child = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", kind.name()))?;
        let server = Self { kind, url: format!("http://127.0.0.1:{port}"), client: reqwest::Client::new(), child, folder };
        server.wait_ready().await?;
        Ok(server)
    }

    async fn wait_ready(&self) -> Result<()> {
        let path = if self.kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" };
        for _ in 0..400 {
            let answer = self.client.get(format!("{}{path}", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        bail!("{} did not become ready", self.kind.name())
    }

    /// Waits until what was sent can be asked for: VictoriaMetrics shows it only after its next flush of buffers.
    pub(crate) async fn settle(&self) -> Result<()> {
        if self.kind == Kind::VictoriaMetrics {
            self.get("/internal/force_flush").await?;
        }
        Ok(())
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<()> {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{} answered {status} on {path}: {}", self.kind.name(), answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    pub(crate) async fn get(&self, path_and_query: &str) -> Result<String> {
        let answer = self.client.get(format!("{}{path_and_query}", self.url)).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{} answered {status} on {path_and_query}: {text}", self.kind.name());
        }
        Ok(text)
    }

    /// The answer to a form, whatever its status says.
    pub(crate) async fn ask(&self, path: &str, form: &str) -> Result<String> {
        let request = self.client.post(format!("{}{path}", self.url)).body(form.to_owned());
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await?;
        Ok(answer.text().await?)
    }

    /// User and system time of the process, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // Linux counts in hundredths of a second on every architecture that Bellrock runs on.
        ticks as f64 / 100.0
    }

    pub(crate) fn rss_bytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(f64::NAN);
        kib * 1024.0
    }

    /// What the data take for good. Of Bellrock without the journal, which is bounded and reused: [`Self::journal_bytes`].
    pub(crate) fn disk_bytes(&self) -> f64 {
        folder_bytes(&self.folder.path().join("data")) as f64 - self.journal_bytes()
    }

    /// Zero for the peers: theirs counts as data, since it is all that they have on the disk in the first two hours.
    pub(crate) fn journal_bytes(&self) -> f64 {
        if self.kind == Kind::Bellrock { folder_bytes(&self.folder.path().join("data/journal")) as f64 } else { 0.0 }
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
