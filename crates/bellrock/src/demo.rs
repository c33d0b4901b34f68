//! `bellrock demo`: a shop of three services under load, broken on purpose, observed by a server in this process.

use crate::serve::{DEFAULT_LISTEN, ServeArguments, Server};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
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

/// What is broken when, counted from the start of the load.
const SCRIPT: [(u64, &str, &str); 4] = [
    (25, r#"{"slow_query_ms": 700}"#, "fault: a query of the catalogue has lost its index, /products takes 700 ms"),
    (75, "{}", "the query is fast again"),
    (80, r#"{"provider_down": true}"#, "fault: the payment provider fails, every checkout answers 500"),
    (320, "{}", "the payment provider is back"),
];

const FRONT: &str = "127.0.0.1:8101";

pub(crate) async fn demo(arguments: DemoArguments) -> Result<()> {
    let started = Instant::now();
    let say = |text: &str| println!("[{:>4} s] {text}", started.elapsed().as_secs());
    let folder = std::path::absolute(&arguments.folder)?;
    let shop = folder.join("shop");
    write_files(&shop)?;
    let python = environment(&arguments.python, &folder, &shop, say).await?;

    say("starting the server");
    let server = Server::start(ServeArguments {
        data_dir: folder.join("data"),
        listen: arguments.listen.clone(),
        otlp_grpc_listen: arguments.otlp_grpc_listen.clone(),
        otlp_http_listen: arguments.otlp_http_listen.clone(),
        config: Some(shop.join("bellrock.yml")),
        log_file: true,
    })
    .await?;
    let url = server.url();
    say(&format!("the server is up: {url}"));

    let mut services = start_services(&python, &shop, &url)?;
    say("starting the shop: front (FastAPI), payments (Flask), worker");
    wait_for_front(&mut services).await?;
    say(&format!("the shop is up and under a load of {} requests/s: open {url}", arguments.rate));

    let load = Command::new(&python)
        .arg(shop.join("load.py"))
        .args([format!("http://{FRONT}"), arguments.duration.as_secs().to_string(), arguments.rate.to_string()])
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the load")?;
    tokio::select! {
        outcome = play(&shop, &url, load, &arguments, say) => outcome?,
        _ = tokio::signal::ctrl_c() => say("stopping"),
        _ = terminated() => say("stopping"),
    }
    stop(services).await;
    server.stop().await
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
fn write_files(shop: &Path) -> Result<()> {
    for (name, text) in FILES {
        let path = shop.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(shop)).with_context(|| format!("cannot make {}", shop.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
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
    let status = command.kill_on_drop(true).status().await.with_context(|| format!("{what}: cannot start it"))?;
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    Ok(())
}

/// Each service under `bellrock run`, as a user would start it; their output goes to a file beside them.
#[allow(clippy::disallowed_methods, reason = "the demo's own folder, outside the data directory")]
fn start_services(python: &Path, shop: &Path, url: &str) -> Result<Vec<(&'static str, Child)>> {
    let commands: [(&str, &str, &[&str]); 3] = [
        ("shop-front", "front", &["-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "8101", "--no-access-log"]),
        ("shop-payments", "payments", &["app.py"]),
        ("shop-worker", "worker", &["worker.py"]),
    ];
    let mut services = Vec::new();
    for (name, folder, arguments) in commands {
        let output = std::fs::File::create(shop.join(format!("{name}.log")))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "--server", url, "--service", name, "--"])
            .arg(python)
            .args(arguments)
            .current_dir(shop.join(folder))
            .env("SHOP_DATABASE", shop.join("shop.db"))
            .env("SHOP_FAULTS", shop.join("faults.json"))
            .env("OTEL_METRIC_EXPORT_INTERVAL", "5000")
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

async fn wait_for_front(services: &mut [(&'static str, Child)]) -> Result<()> {
    let client = reqwest::Client::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        for (name, child) in services.iter_mut() {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended at once ({status}): see its log in the demo's folder, shop/{name}.log");
            }
        }
        if client.get(format!("http://{FRONT}/products")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    bail!("the shop's front did not answer within a minute: is another program on port 8101?")
}

/// Plays the faults and tells of alerts until the load ends, and then waits for Ctrl-C unless told to exit.
async fn play(shop: &Path, url: &str, mut load: Child, arguments: &DemoArguments, say: impl Fn(&str)) -> Result<()> {
    let started = Instant::now();
    let mut script = SCRIPT.iter().peekable();
    let mut told = Vec::new();
    let client = reqwest::Client::new();
    loop {
        while let Some((_, faults, text)) = script.next_if(|(at, ..)| started.elapsed().as_secs() >= *at) {
            set_faults(shop, faults)?;
            say(text);
        }
        tell_of_alerts(&client, url, &mut told, &say).await;
        if load.try_wait()?.is_some() {
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

async fn tell_of_alerts(client: &reqwest::Client, url: &str, told: &mut Vec<Value>, say: impl Fn(&str)) {
    let Ok(answer) = client.get(format!("{url}/bellrock/v1/alerts")).send().await else { return };
    let Ok(text) = answer.text().await else { return };
    let Ok(answer) = serde_json::from_str::<Value>(&text) else { return };
    for alert in answer["alerts"].as_array().into_iter().flatten() {
        let key = json!([alert["id"], alert["state"]]);
        if told.contains(&key) || alert["state"] == "pending" {
            continue;
        }
        let (state, name, id) = (alert["state"].as_str(), alert["name"].as_str(), alert["id"].as_str());
        let summary = alert["annotations"]["summary"].as_str().unwrap_or_default();
        say(&format!(
            "ALERT {}: {} — {summary}\n         what, where, why and what to do: {url}/alerts/{}",
            state.unwrap_or_default(),
            name.unwrap_or_default(),
            id.unwrap_or_default()
        ));
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
