//! A server under test: ours or a peer's, started with its own folder on free ports, ended when dropped.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READY_TIME_MAX: Duration = Duration::from_mins(5);

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

    /// Ours, and the peers that can be measured here.
    pub(crate) fn all_installed() -> Vec<Self> {
        let mut kinds = vec![Self::Bellrock];
        for peer in [Self::Prometheus, Self::VictoriaMetrics] {
            if peer.is_installed() {
                kinds.push(peer);
            } else {
                println!("{} is not installed: measured without it", peer.name());
            }
        }
        kinds
    }

    pub(crate) fn is_installed(self) -> bool {
        Command::new(self.program()).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    arguments: Vec<String>,
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

    /// With a configuration in the format of Prometheus, which all of them read, and more arguments.
    pub(crate) async fn start_with(kind: Kind, config: &str, more: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config)?;
        let (port, data, file) = (free_port()?, folder.path().join("data"), file.display().to_string());
        let data = data.display();
        let mut arguments = match kind {
            Kind::Bellrock => vec![
                "serve".to_owned(),
                format!("--data-dir={data}"),
                format!("--config={file}"),
                format!("--listen=127.0.0.1:{port}"),
                format!("--otlp-grpc-listen=127.0.0.1:{}", free_port()?),
                format!("--otlp-http-listen=127.0.0.1:{}", free_port()?),
            ],
            Kind::Prometheus => vec![
                format!("--config.file={file}"),
                format!("--storage.tsdb.path={data}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--web.enable-admin-api".to_owned(),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ],
            // By default it hides the last 30 seconds; the bench asks for what was just sent.
            Kind::VictoriaMetrics => vec![
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr=127.0.0.1:{port}"),
                format!("-promscrape.config={file}"),
                "-retentionPeriod=1".to_owned(),
                "-search.latencyOffset=0s".to_owned(),
            ],
        };
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let child = spawn(kind, &arguments)?;
        let url = format!("http://127.0.0.1:{port}");
        let server = Self { kind, url, client: reqwest::Client::new(), arguments, child, folder };
        server.wait_ready().await?;
        Ok(server)
    }

    /// Ends the process as a power cut would, and starts it anew over the same data.
    pub(crate) fn kill_and_start(&mut self) -> Result<()> {
        self.kill_and_start_after(|_| Ok(()))
    }

    /// The same, with something to do to the data while nothing has it open.
    pub(crate) fn kill_and_start_after(&mut self, between: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        between(&self.data_folder())?;
        self.child = spawn(self.kind, &self.arguments)?;
        self.client = reqwest::Client::new();
        Ok(())
    }

    pub(crate) async fn wait_ready(&self) -> Result<()> {
        self.wait_for(if self.kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" }).await
    }

    /// Of Bellrock: until its answers are whole.
    pub(crate) async fn wait_ready_for_queries(&self) -> Result<()> {
        self.wait_for("/-/ready?query=1").await
    }

    async fn wait_for(&self, path: &str) -> Result<()> {
        // Prometheus reads an hour of its log back before it is.
        let started = Instant::now();
        while started.elapsed() < READY_TIME_MAX {
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
        let (status, text) = self.try_post(path, headers, body).await?;
        if !(200..300).contains(&status) {
            bail!("{} answered {status} on {path}: {text}", self.kind.name());
        }
        Ok(())
    }

    /// The status of the answer and what it says, whatever that is.
    pub(crate) async fn try_post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<(u16, String)> {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.unwrap_or_default()))
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
        self.status_bytes("VmRSS:")
    }

    /// The most that it was since the process was started.
    pub(crate) fn rss_peak_bytes(&self) -> f64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib: f64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(f64::NAN);
        kib * 1024.0
    }

    pub(crate) fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the data take for good. Of Bellrock without the journal, which is bounded and reused: [`Self::journal_bytes`].
    pub(crate) fn disk_bytes(&self) -> f64 {
        folder_bytes(&self.data_folder()) as f64 - self.journal_bytes()
    }

    /// Everything in files, as each keeps it for long: what is in memory is written, what was written piecemeal is merged.
    /// Prometheus writes a block when two hours are full; its snapshot of the head is such a block.
    pub(crate) async fn bytes_at_rest(&self) -> Result<f64> {
        match self.kind {
            Kind::Bellrock => {
                self.post("/bellrock/v1/admin/flush", &[], Vec::new()).await?;
                Ok(self.disk_bytes())
            }
            Kind::VictoriaMetrics => {
                self.get("/internal/force_flush").await?;
                self.get("/internal/force_merge").await?;
                Ok(self.disk_bytes())
            }
            Kind::Prometheus => {
                self.post("/api/v1/admin/tsdb/snapshot", &[], Vec::new()).await?;
                Ok(folder_bytes(&self.folder.path().join("data/snapshots")) as f64)
            }
        }
    }

    /// Zero for the peers: theirs counts as data, since it is all that they have on the disk in the first two hours.
    pub(crate) fn journal_bytes(&self) -> f64 {
        if self.kind == Kind::Bellrock { folder_bytes(&self.folder.path().join("data/journal")) as f64 } else { 0.0 }
    }
}

fn spawn(kind: Kind, arguments: &[String]) -> Result<Child> {
    let mut command = Command::new(kind.program());
    let started = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.with_context(|| format!("cannot start {}", kind.name()))
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
