//! `bellrock demo`: a shop of three services under load, broken on purpose, observed by a server in this process.

use crate::lock::{DataLock, try_lock};
use crate::serve::{DEFAULT_LISTEN, ServeArguments, Server};
use crate::tether::tether;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

#[derive(clap::Args, Debug)]
pub(crate) struct DemoArguments {
    /// Where the demo keeps its Python environment and its data.
    #[arg(long, default_value = ".bellrock/demo")]
    folder: PathBuf,
    /// The interpreter to make the environment with; 3.10 or newer.
    #[arg(long, default_value = "python3")]
    python: String,
    #[arg(long, default_value = DEFAULT_LISTEN)]
    listen: String,
    #[arg(long, default_value = "127.0.0.1:4317")]
    otlp_grpc_listen: String,
    #[arg(long, default_value = "127.0.0.1:4318")]
    otlp_http_listen: String,
    /// Requests per second on the shop.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// The load stops by itself after this time; the server goes on until Ctrl-C.
    #[arg(long, default_value = "30m", value_parser = br_std::duration::parse)]
    duration: Duration,
    /// End after the load, instead of waiting for Ctrl-C.
    #[arg(long)]
    exit: bool,
    /// The shop listens here and at the ports 1, 11 and 12 above.
    #[arg(long, default_value_t = 8101, value_parser = clap::value_parser!(u16).range(1..=65523))]
    shop_port: u16,
    /// What is broken when, instead of the demo's own script (examples/shop/script.json).
    #[arg(long)]
    script: Option<PathBuf>,
}

/// One entry of the script.
#[derive(serde::Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
struct Scene {
    /// Counted from the start of the load.
    at_seconds: u64,
    /// What the shop reads at every request: `slow_query_ms`, `provider_down`. Empty mends all.
    faults: serde_json::Map<String, Value>,
    say: String,
}

/// Where the shop listens.
#[derive(Clone, Copy)]
struct ShopPorts {
    front: u16,
    payments: u16,
    payments_metrics: u16,
    worker_metrics: u16,
}

impl ShopPorts {
    /// The offsets of examples/shop/bellrock.yml; `first` is at most 65523.
    fn from_first(first: u16) -> Self {
        Self { front: first, payments: first + 1, payments_metrics: first + 11, worker_metrics: first + 12 }
    }

    /// The configuration with these ports as targets, in place of those that it names.
    fn configuration(self, text: &str) -> String {
        let named = Self::from_first(8101);
        let pairs = [
            (named.front, self.front),
            (named.payments_metrics, self.payments_metrics),
            (named.worker_metrics, self.worker_metrics),
        ];
        // Through marks: a new port may be equal to one that is still to be replaced.
        let marked =
            pairs.iter().fold(text.to_owned(), |text, (old, _)| text.replace(&format!(":{old}\""), &format!(":<{old}>\"")));
        pairs.iter().fold(marked, |text, (old, new)| text.replace(&format!(":<{old}>\""), &format!(":{new}\"")))
    }
}

/// The shop, as it stands in examples/shop: written out, so that the binary alone is enough.
const FILES: [(&str, &str); 8] = [
    ("requirements.txt", include_str!("../../../examples/shop/requirements.txt")),
    ("front/app.py", include_str!("../../../examples/shop/front/app.py")),
    ("payments/app.py", include_str!("../../../examples/shop/payments/app.py")),
    ("worker/worker.py", include_str!("../../../examples/shop/worker/worker.py")),
    ("load.py", include_str!("../../../examples/shop/load.py")),
    ("bellrock.yml", include_str!("../../../examples/shop/bellrock.yml")),
    ("rules.yml", include_str!("../../../examples/shop/rules.yml")),
    ("faults.json", "{}"),
];

const SCRIPT: &str = include_str!("../../../examples/shop/script.json");

pub(crate) async fn demo(arguments: DemoArguments) -> Result<()> {
    let started = Instant::now();
    let say = |text: &str| println!("[{:>4} s] {text}", started.elapsed().as_secs());
    let ports = ShopPorts::from_first(arguments.shop_port);
    let script = script(arguments.script.as_deref())?;
    let folder = std::path::absolute(&arguments.folder)?;
    let shop = folder.join("shop");
    // Before the minute that the environment takes.
    let _lock = only_one_on(&folder)?;
    check_ports(&arguments, ports)?;
    write_files(&shop, ports)?;
    let python = environment(&arguments.python, &folder, &shop, say).await?;

    say("starting the server");
    let server = Server::start(ServeArguments {
        enable_feature: vec!["all".to_owned()],
        data_dir: folder.join("data"),
        listen: arguments.listen.clone(),
        otlp_grpc_listen: arguments.otlp_grpc_listen.clone(),
        otlp_http_listen: arguments.otlp_http_listen.clone(),
        postgres_listen: None,
        config: Some(shop.join("bellrock.yml")),
        log_file: true,
    })
    .await?;
    let url = server.url();
    say(&format!("the server is up: {url}"));

    let front = format!("http://127.0.0.1:{}", ports.front);
    // What answers there from now on is ours.
    check_ports_of_shop(ports)?;
    say("starting the shop: front (FastAPI), payments (Flask), worker");
    let mut services = start_services(&python, &shop, &url, ports)?;
    let stage = Stage { python, shop, url, front, script, say: &say };
    let played = tokio::select! {
        outcome = open_and_play(&mut services, &stage, &arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = terminated() => Ok(()),
    };
    say("stopping");
    stop(services).await;
    server.stop().await?;
    played
}

/// What the play needs.
struct Stage<'a> {
    python: PathBuf,
    shop: PathBuf,
    /// The server's.
    url: String,
    front: String,
    script: Vec<Scene>,
    say: &'a (dyn Fn(&str) + Sync),
}

async fn open_and_play(services: &mut [(&'static str, Child)], stage: &Stage<'_>, arguments: &DemoArguments) -> Result<()> {
    let Stage { python, shop, url, front, say, .. } = stage;
    wait_for_front(services, front).await?;
    say(&format!("the shop is up, under a load of {} requests/s; its output is in {}/*.log", arguments.rate, shop.display()));
    say(&format!("open {url}; the first fault comes soon, and an alert about 20 s after it"));
    let load = tether(&mut Command::new(python))
        .arg(shop.join("load.py"))
        .args([front.clone(), arguments.duration.as_secs().to_string(), arguments.rate.to_string()])
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the load")?;
    play(stage, load, arguments).await
}

/// A second demo on the same folder would share its services' files.
fn only_one_on(folder: &Path) -> Result<DataLock> {
    let told = || {
        format!(
            "a demo is running on {} already: open it, stop it, or give this one another --folder and other ports",
            folder.display()
        )
    };
    try_lock(folder)?.with_context(told)
}

fn check_ports(arguments: &DemoArguments, ports: ShopPorts) -> Result<()> {
    for (flag, address) in [
        ("--listen", &arguments.listen),
        ("--otlp-grpc-listen", &arguments.otlp_grpc_listen),
        ("--otlp-http-listen", &arguments.otlp_http_listen),
    ] {
        let advice = format!("cannot listen on {address}: {flag} moves it; is another demo or server running?");
        std::net::TcpListener::bind(address).context(advice)?;
    }
    check_ports_of_shop(ports)
}

/// Taken ports would have another program answer for the shop.
fn check_ports_of_shop(ports: ShopPorts) -> Result<()> {
    for port in [ports.front, ports.payments, ports.payments_metrics, ports.worker_metrics] {
        let advice = format!("the shop cannot listen on port {port}: --shop-port moves it; is another demo running?");
        std::net::TcpListener::bind(("127.0.0.1", port)).context(advice)?;
    }
    Ok(())
}

/// The scenes in the order of their times.
#[allow(clippy::disallowed_methods, reason = "a file that the user names, outside the data directory")]
fn script(path: Option<&Path>) -> Result<Vec<Scene>> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read the script {}", path.display()))?,
        None => SCRIPT.to_owned(),
    };
    let mut scenes: Vec<Scene> = serde_json::from_str(&text).context(
        "the script must be a JSON list of {\"at_seconds\": 5, \"faults\": {\"provider_down\": true}, \"say\": \"…\"}",
    )?;
    scenes.sort_by_key(|scene| scene.at_seconds);
    Ok(scenes)
}

async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[allow(clippy::disallowed_methods, reason = "the demo's own folder, outside the data directory")]
fn write_files(shop: &Path, ports: ShopPorts) -> Result<()> {
    for (name, text) in FILES {
        let text = if name == "bellrock.yml" { ports.configuration(text) } else { text.to_owned() };
        let path = shop.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(shop)).with_context(|| format!("cannot make {}", shop.display()))?;
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Makes the virtual environment once for each set of requirements.
#[allow(clippy::disallowed_methods, reason = "the demo's own folder, outside the data directory")]
async fn environment(python: &str, folder: &Path, shop: &Path, say: impl Fn(&str)) -> Result<PathBuf> {
    let requirements = FILES[0].1;
    let environment = folder.join("venv");
    let (inside, stamp) = (environment.join("bin/python"), environment.join("installed.txt"));
    if inside.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(inside);
    }
    let version = Command::new(python).args(["-c", "import sys; print(sys.version_info >= (3, 10))"]).output().await;
    match version {
        Ok(output) if output.stdout.starts_with(b"True") => {}
        Ok(_) => bail!("{python} is older than Python 3.10: name another with --python"),
        Err(error) => bail!("cannot start {python}: {error}; name an interpreter with --python"),
    }
    say(&format!("making a Python environment in {} (once, about a minute)", environment.display()));
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&environment), "making the environment").await?;
    let mut pip = Command::new(&inside);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(shop.join("requirements.txt"));
    run(&mut pip, "installing the shop's packages").await?;
    std::fs::write(&stamp, requirements)?;
    Ok(inside)
}

async fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = tether(command).kill_on_drop(true).status().await.with_context(|| format!("{what}: cannot start it"))?;
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    Ok(())
}

/// Each service under `bellrock run`, as a user would start it; their output goes to a file beside them.
#[allow(clippy::disallowed_methods, reason = "the demo's own folder, outside the data directory")]
fn start_services(python: &Path, shop: &Path, url: &str, ports: ShopPorts) -> Result<Vec<(&'static str, Child)>> {
    let front_port = ports.front.to_string();
    let front = ["-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", &front_port, "--no-access-log"];
    let commands: [(&str, &str, &[&str], u16); 3] = [
        ("shop-front", "front", &front, 0),
        ("shop-payments", "payments", &["app.py"], ports.payments_metrics),
        ("shop-worker", "worker", &["worker.py"], ports.worker_metrics),
    ];
    let mut services = Vec::new();
    for (name, folder, arguments, metrics_port) in commands {
        let output = std::fs::File::create(shop.join(format!("{name}.log")))?;
        let child = tether(&mut Command::new(std::env::current_exe()?))
            .args(["run", "--server", url, "--service", name, "--"])
            .arg(python)
            .args(arguments)
            .current_dir(shop.join(folder))
            .env("SHOP_DATABASE", shop.join("shop.db"))
            .env("SHOP_FAULTS", shop.join("faults.json"))
            .env("PAYMENTS_URL", format!("http://127.0.0.1:{}", ports.payments))
            .env("PORT", ports.payments.to_string())
            .env("METRICS_PORT", metrics_port.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        services.push((name, child));
    }
    Ok(services)
}

async fn wait_for_front(services: &mut [(&'static str, Child)], front: &str) -> Result<()> {
    let client = reqwest::Client::new();
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        for (name, child) in services.iter_mut() {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended at once ({status}): see its log in the demo's folder, shop/{name}.log");
            }
        }
        if client.get(format!("{front}/products")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    bail!("the shop's front did not answer at {front} within a minute: is another program on that port? --shop-port moves it")
}

/// Plays the faults and tells of alerts until the load ends, and then waits for Ctrl-C unless told to exit.
async fn play(stage: &Stage<'_>, mut load: Child, arguments: &DemoArguments) -> Result<()> {
    let Stage { shop, url, script, say, .. } = stage;
    let started = Instant::now();
    let mut script = script.iter().peekable();
    let mut told = Vec::new();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    loop {
        while let Some(scene) = script.next_if(|scene| started.elapsed().as_secs() >= scene.at_seconds) {
            set_faults(shop, &serde_json::to_string(&scene.faults)?)?;
            say(&scene.say);
        }
        tell_of_alerts(&client, url, &mut told, say).await;
        if let Some(status) = load.try_wait()? {
            if !status.success() {
                say(&format!("the load ended early ({status})"));
            }
            break;
        }
        sleep_until(Instant::now() + Duration::from_secs(1)).await;
    }
    set_faults(shop, "{}")?;
    if !arguments.exit {
        say("the load has ended; the server goes on until Ctrl-C");
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the demo's own folder, outside the data directory")]
fn set_faults(shop: &Path, faults: &str) -> Result<()> {
    // In one step: the services read it at every request.
    std::fs::write(shop.join("faults.json.new"), faults)?;
    Ok(std::fs::rename(shop.join("faults.json.new"), shop.join("faults.json"))?)
}

async fn tell_of_alerts(client: &reqwest::Client, url: &str, told: &mut Vec<(String, String)>, say: impl Fn(&str)) {
    let Ok(answer) = client.get(format!("{url}/bellrock/v1/alerts")).send().await else { return };
    let Ok(text) = answer.text().await else { return };
    let Ok(answer) = serde_json::from_str::<Value>(&text) else { return };
    for alert in answer["alerts"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, state, name) = (text(&alert["id"]), text(&alert["state"]), text(&alert["name"]));
        let key = (id, state);
        // What an earlier run left behind is no news.
        let was_told = told.iter().any(|(id, _)| *id == key.0);
        if told.contains(&key) || key.1 == "pending" || (key.1 == "resolved" && !was_told) {
            continue;
        }
        if key.1 == "firing" {
            let summary = text(&alert["annotations"]["summary"]);
            say(&format!("ALERT {name}: {summary}\n         what, where, why and what to do: {url}/alerts/{}", key.0));
        } else {
            say(&format!("{name} is {}", key.1));
        }
        told.push(key);
    }
}

/// Asks the services to end, and ends those that do not.
async fn stop(services: Vec<(&'static str, Child)>) {
    for (_, child) in &services {
        let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    for (_, mut child) in services {
        if timeout(Duration::from_secs(10), child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}
