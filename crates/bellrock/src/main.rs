//! The command line. It reads the configuration, wires the parts, and does nothing else.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks on stdout and stderr")]

mod alerting;
mod ask;
mod config;
mod demo;
mod evaluator;
mod export;
mod import;
mod lock;
mod memory;
mod redaction;
mod rules;
mod run;
mod serve;
mod sources;
mod stores;
mod syslog;
mod tether;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// glibc keeps an arena for each of many threads and hands little back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "bellrock", version, about = "The observability platform for Python services in one binary.", after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Queries, decoding and files run here; what waits for a thread waits in order.
const BLOCKING_THREADS_MAX: usize = 256;

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no answer from the server, or only lint under `rules lint --lint-fatal`, 70 broken inside; `run` passes the program's own code on.";

#[derive(Subcommand)]
enum Command {
    /// Serve: take telemetry, keep it, answer queries, alert.
    Serve(serve::ServeArguments),
    /// Start a shop of three services under load, break it, and show the alert.
    Demo(demo::DemoArguments),
    /// Run an unchanged program and observe it: logs, traces, metrics, errors.
    Run(run::RunArguments),
    /// Ask a server in PromQL, LogQL, TraceQL or SQL.
    Query(ask::QueryArguments),
    /// Show log lines, newest last; -f follows.
    Logs(ask::LogsArguments),
    /// Search traces, or show one by its id.
    Traces(ask::TracesArguments),
    /// List error issues.
    Issues(ask::IssuesArguments),
    /// Check rule files and run their unit tests; no server is needed.
    Rules(rules::RulesArguments),
    /// Show what the server would mask in a file or in what is piped in.
    Redact(redaction::RedactArguments),
    /// Move in what another store has kept.
    Import(import::ImportArguments),
    /// Write what is kept into open files.
    Export(export::ExportArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before there are other threads, and not for `run`: a program that is started inherits it.
    if matches!(arguments.command, Command::Serve(_)) {
        memory::hold_little();
    }
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("bellrock")
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime.block_on(dispatch(arguments.command));
            // What still computes or writes has nothing that a start would not find again, and must not hold up the end.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        Err(error) => {
            eprintln!("bellrock: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ask::NoAnswer>() {
        3
    } else if error.is::<ask::WrongUsage>() {
        2
    } else {
        1
    }
}

async fn dispatch(command: Command) -> anyhow::Result<i32> {
    // One TLS stack with one provider; a second call would only say that it is set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command {
        Command::Serve(arguments) => serve::serve(arguments).await.map(|()| 0),
        Command::Demo(arguments) => demo::demo(arguments).await.map(|()| 0),
        Command::Run(arguments) => run::run(arguments).await,
        Command::Query(arguments) => ask::query(arguments).await.map(|()| 0),
        Command::Logs(arguments) => ask::logs(arguments).await.map(|()| 0),
        Command::Traces(arguments) => ask::traces(arguments).await.map(|()| 0),
        Command::Issues(arguments) => ask::issues(arguments).await.map(|()| 0),
        Command::Rules(arguments) => rules::rules(arguments),
        Command::Redact(arguments) => redaction::redact(&arguments).map(|()| 0),
        Command::Import(arguments) => import::import(arguments).await.map(|()| 0),
        Command::Export(arguments) => export::export(arguments).await.map(|()| 0),
    }
}
