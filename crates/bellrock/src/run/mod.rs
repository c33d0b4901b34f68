//! `bellrock run -- CMD`: an unchanged program, observed.

mod lines;
mod output;
mod queue;
mod sampling;
pub(crate) mod send;
mod server;
mod signals;
mod tree;

use crate::tether::tether;
use anyhow::{Context as _, Result};
use br_env::Clock;
use br_env::real::SystemClock;
use br_ingest::scrape::{GlobalConfig, Job, PromDuration, ReadLimits, ScrapeManager};
use br_ingest::sink::SampleSink;
use br_model::{Attributes, Labels, Resource};
use output::{Context, Stream};
use queue::QueueLimits;
use sampling::Sampling;
use send::{LogSender, Upstream};
use signals::{Group, Signals};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(clap::Args, Debug)]
pub(crate) struct RunArguments {
    /// The server to send to; without it one is started when none answers on the default address.
    #[arg(long, env = "BELLROCK_SERVER", value_name = "URL")]
    server: Option<String>,
    /// The token for that server.
    #[arg(long, env = "BELLROCK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The service's name; by default that of the program.
    #[arg(long, env = "OTEL_SERVICE_NAME")]
    service: Option<String>,
    /// The program serves Prometheus metrics on this port of the loopback address.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    #[arg(long, default_value = "/metrics")]
    metrics_path: String,
    /// How often the processes are looked at, and metrics scraped.
    #[arg(long, default_value = "5s", value_parser = br_std::duration::parse)]
    sample_interval: Duration,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// How long a grandchild may hold the pipes open after the program has ended: what it still says within a moment is taken.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the last samples may take.
const LAST_SAMPLES: Duration = Duration::from_secs(5);
/// A program that has not begun to serve its metrics by then probably serves them elsewhere.
const METRICS_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the program and returns its exit code.
pub(crate) async fn run(arguments: RunArguments) -> Result<i32> {
    let upstream = server::find_or_start(arguments.server.as_deref(), arguments.token.clone()).await?;
    let service = arguments.service.clone().unwrap_or_else(|| service_name(&arguments.command));
    eprintln!("bellrock: {service} is observed at {}{}", upstream.url, upstream.note);
    let upstream = upstream.upstream;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());

    let group = Group::choose();
    let mut child = match command(&arguments, &upstream, &service, group).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("bellrock: cannot start {}: {error}", arguments.command[0]);
            return Ok(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let mut signals = Signals::listen(group)?;
    let pid = child.id().context("the program has no process id")?;
    let sender = Arc::new(LogSender::start(upstream.clone(), Arc::new(resource(&service, pid)), QueueLimits::default()));
    let (ended, has_ended) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let mut streams = follow(&mut child, Context { clock: clock.clone(), sender: sender.clone() }, &stopped)?;
    let sampling = Sampling {
        interval: arguments.sample_interval,
        upstream: upstream.clone(),
        labels: labels(&service, pid),
        clock: clock.clone(),
    };
    let sampler = tokio::spawn(sampling.run(pid, has_ended));
    let scraper = scrape(&arguments, &service, &upstream, &clock).await?.map(Arc::new);
    if let Some(scraper) = &scraper {
        tokio::spawn(tell_of_missing_metrics(scraper.clone()));
    }

    let status = signals.wait_and_forward(&mut child, pid).await?;

    let _ = ended.send(true);
    if tokio::time::timeout(LAST_WORDS, &mut streams).await.is_err() {
        let _ = stop.send(true);
        let _ = tokio::time::timeout(LAST_WORDS, streams).await;
    }
    let last_samples = async {
        let _ = sampler.await;
        if let Some(scraper) = scraper {
            scraper.stop().await;
        }
    };
    let (lost, _) = tokio::join!(sender.finish(signals.interrupted()), tokio::time::timeout(LAST_SAMPLES, last_samples));
    if let Some(lost) = lost {
        eprintln!("bellrock: {lost}");
    }
    Ok(signals::exit_code(status))
}

/// Copies both streams and gathers their lines, until they end or are told to stop.
fn follow(child: &mut Child, context: Context, stopped: &watch::Receiver<bool>) -> Result<JoinHandle<()>> {
    let context = Arc::new(context);
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let out = tokio::spawn(output::follow(Stream::Out, stdout, tokio::io::stdout(), context.clone(), stopped.clone()));
    let err = tokio::spawn(output::follow(Stream::Err, stderr, tokio::io::stderr(), context, stopped.clone()));
    Ok(tokio::spawn(async move {
        let _ = tokio::join!(out, err);
    }))
}

/// Says once that the program's metrics do not come.
async fn tell_of_missing_metrics(scraper: Arc<ScrapeManager>) {
    let told_at = tokio::time::Instant::now() + METRICS_PATIENCE;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let targets = scraper.active();
        let Some(target) = targets.first() else { continue };
        if target.health.is_up == Some(true) {
            return;
        }
        if tokio::time::Instant::now() >= told_at && target.health.is_up == Some(false) {
            eprintln!(
                "bellrock: no metrics from {}: {}; they are asked for again and again",
                target.url, target.health.last_error
            );
            return;
        }
    }
}

/// `uvicorn app:app` is named after the program; an interpreter after its script or module.
fn service_name(command: &[String]) -> String {
    let stem = |text: &str| Path::new(text).file_stem().and_then(|stem| stem.to_str()).unwrap_or(text).to_owned();
    let program = stem(&command[0]);
    if !program.starts_with("python") {
        return program;
    }
    let mut rest = command[1..].iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-m" => return rest.next().cloned().unwrap_or(program),
            "-c" => return program,
            "-W" | "-X" => {
                rest.next();
            }
            flag if flag.starts_with('-') => {}
            script => return stem(script),
        }
    }
    program
}

/// What the program's own SDKs need to find the server. What the user has set stays.
fn command(arguments: &RunArguments, upstream: &Upstream, service: &str, group: Group) -> Command {
    let mut command = Command::new(&arguments.command[0]);
    command.args(&arguments.command[1..]).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let host = upstream.url.split_once("://").map_or(upstream.url.as_str(), |(_, host)| host);
    let scheme = if upstream.url.starts_with("https") { "https" } else { "http" };
    let key = upstream.token.as_deref().unwrap_or("public");
    let mut defaults = vec![
        ("OTEL_SERVICE_NAME", service.to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url.clone()),
        ("SENTRY_DSN", format!("{scheme}://{key}@{host}/1")),
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    if let Some(token) = &upstream.token {
        defaults.push(("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{token}")));
    }
    for (name, value) in defaults {
        if name == "OTEL_SERVICE_NAME" || std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    if group == Group::Own {
        command.process_group(0);
    }
    tether(&mut command);
    command
}

fn resource(service: &str, pid: u32) -> Resource {
    let mut attributes = Attributes::default();
    attributes.push("service.name", service);
    attributes.push("service.instance.id", instance(pid));
    Resource { attributes }
}

fn instance(pid: u32) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{pid}")
}

fn labels(service: &str, pid: u32) -> Labels {
    Labels::from_pairs([("job", service), ("service_name", service), ("instance", &instance(pid))])
}

async fn scrape(
    arguments: &RunArguments,
    service: &str,
    upstream: &Upstream,
    clock: &Arc<dyn Clock>,
) -> Result<Option<ScrapeManager>> {
    let Some(port) = arguments.metrics_port else { return Ok(None) };
    let config = serde_json::json!({
        "job_name": service,
        "metrics_path": arguments.metrics_path,
        "static_configs": [{ "targets": [format!("127.0.0.1:{port}")], "labels": { "service_name": service } }],
    });
    let interval = PromDuration(arguments.sample_interval.max(Duration::from_millis(100)));
    let global = GlobalConfig { scrape_interval: interval, ..GlobalConfig::default() };
    let job = Job::new(serde_json::from_value(config)?, &global)?;
    let sink: Arc<dyn SampleSink> = Arc::new(upstream.clone());
    Ok(Some(ScrapeManager::start(vec![job], sink, clock.clone(), ReadLimits::default()).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_after_what_runs() {
        let name = |command: &[&str]| service_name(&command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(name(&["uvicorn", "app:app"]), "uvicorn");
        assert_eq!(name(&["python3", "-u", "/srv/shop/worker.py", "x"]), "worker");
        assert_eq!(name(&["/usr/bin/python3.12", "-m", "flask", "run"]), "flask");
        assert_eq!(name(&["python", "-c", "print()"]), "python");
    }
}
