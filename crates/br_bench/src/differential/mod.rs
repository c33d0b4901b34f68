//! Random queries on random data, asked of Debian's Prometheus and of Bellrock: the answers must be the same.

mod compare;
mod data;
mod grammar;

use crate::input::Seeded;
use crate::peer::{Kind, Server};
use anyhow::{Result, bail};
use compare::Answer;
use grammar::{Case, Node};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Comparison {
    /// Queries to compare.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this one of the seed's queries.
    #[arg(long)]
    case: Option<u64>,
}

/// Queries on one set of data.
const ROUND: u64 = 2500;
const AT_ONCE: usize = 3;
/// Of the failures so many are made smaller and shown.
const SHOWN_MAX: usize = 25;
/// Attempts to make one smaller.
const TRIES_MAX: usize = 400;

#[derive(Default)]
struct Tally {
    compared: AtomicU64,
    /// Both sides failed.
    errors: AtomicU64,
    /// Both found nothing.
    empty: AtomicU64,
    failed: Mutex<Vec<u64>>,
}

pub(crate) async fn run(arguments: &Comparison) -> Result<()> {
    if !Kind::Prometheus.is_installed() {
        println!("promql-differential: skipped, prometheus is not installed");
        return Ok(());
    }
    let cases = arguments.case.map_or(0..arguments.count, |case| case..case + 1);
    let tally = Tally::default();
    let mut shown = 0;
    for round in cases.start / ROUND..cases.end.div_ceil(ROUND) {
        let both = Arc::new(Both::start(arguments.seed.wrapping_mul(1_000_003).wrapping_add(round)).await?);
        let (from, to) = (cases.start.max(round * ROUND), cases.end.min((round + 1) * ROUND));
        let failed = both.clone().compare(arguments.seed, from, to, &tally).await?;
        for case in failed {
            if shown < SHOWN_MAX {
                both.show(arguments.seed, case).await?;
            }
            shown += 1;
        }
    }
    let failed = tally.failed.lock().len();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "promql-differential: seed {}, {} queries compared ({} fail on both sides, {} find nothing), {failed} differ",
        arguments.seed,
        count(&tally.compared),
        count(&tally.errors),
        count(&tally.empty)
    );
    if failed > 0 {
        bail!("{failed} queries have different answers: repeat one with --seed {} --case N", arguments.seed);
    }
    Ok(())
}

/// The case of a number, always the same one.
fn case(seed: u64, number: u64) -> Case {
    let mut seeded = Seeded(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    seeded.next();
    grammar::case(&mut seeded)
}

/// The two servers with the same data.
struct Both {
    prometheus: Server,
    bellrock: Server,
}

impl Both {
    async fn start(seed: u64) -> Result<Self> {
        // The data are as old as their fixed times say. Names go at once, as in 2.42: `promql-delayed-name-removal` came in 3.0.
        let config = "bellrock:\n  retention:\n    metrics: 100y\n";
        let bellrock = Server::start_with(Kind::Bellrock, config, &["--enable-feature=none"]).await?;
        let enabled = "--enable-feature=promql-at-modifier,promql-negative-offset";
        let prometheus =
            Server::start_with(Kind::Prometheus, "global: {}\n", &[enabled, "--storage.tsdb.retention.time=100y"]).await?;
        for request in data::requests(seed) {
            for server in [&prometheus, &bellrock] {
                let headers = [
                    ("content-type", "application/x-protobuf"),
                    ("content-encoding", "snappy"),
                    ("x-prometheus-remote-write-version", "0.1.0"),
                ];
                server.post("/api/v1/write", &headers, request.clone()).await?;
            }
        }
        Ok(Self { prometheus, bellrock })
    }

    async fn compare(self: Arc<Self>, seed: u64, from: u64, to: u64, tally: &Tally) -> Result<Vec<u64>> {
        let next = AtomicU64::new(from);
        let failed = Mutex::new(Vec::new());
        let worker = async || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return Ok(());
                }
                let case = case(seed, number);
                let (theirs, ours) = self.ask(&case, &case.node.text()).await?;
                tally.compared.fetch_add(1, Ordering::Relaxed);
                match &theirs {
                    Answer::Error(_) => drop(tally.errors.fetch_add(1, Ordering::Relaxed)),
                    Answer::Found(_, series) if series.is_empty() => drop(tally.empty.fetch_add(1, Ordering::Relaxed)),
                    Answer::Found(..) => {}
                }
                if theirs.difference(&ours).is_some() {
                    failed.lock().push(number);
                }
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| worker()).collect();
        for outcome in futures::future::join_all(workers).await {
            outcome?;
        }
        let mut failed = failed.into_inner();
        failed.sort_unstable();
        tally.failed.lock().extend(&failed);
        Ok(failed)
    }

    async fn ask(&self, case: &Case, text: &str) -> Result<(Answer, Answer)> {
        let secs = |at_ms: i64| format!("{}.{:03}", at_ms / 1000, at_ms % 1000);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("query", text);
        let path = match case.range {
            None => {
                form.append_pair("time", &secs(case.start_ms));
                "/api/v1/query"
            }
            Some((end_ms, step_ms)) => {
                form.append_pair("start", &secs(case.start_ms)).append_pair("end", &secs(end_ms));
                form.append_pair("step", &(step_ms / 1000).to_string());
                "/api/v1/query_range"
            }
        };
        let form = form.finish();
        let (theirs, ours) = tokio::try_join!(self.prometheus.ask(path, &form), self.bellrock.ask(path, &form))?;
        Ok((Answer::read(&theirs), Answer::read(&ours)))
    }

    /// Prints a case that differs, made as small as it goes.
    async fn show(&self, seed: u64, number: u64) -> Result<()> {
        let case = case(seed, number);
        let (node, difference) = self.minimised(&case).await?;
        let (theirs, ours) = self.ask(&case, &node.text()).await?;
        println!("\n--seed {seed} --case {number}: {}", case.node.text());
        match case.range {
            None => println!("  at {}", case.start_ms),
            Some((end_ms, step_ms)) => println!("  from {} to {end_ms} in steps of {step_ms} ms", case.start_ms),
        }
        println!("  minimised: {}\n  {difference}", node.text());
        println!("  Prometheus: {}\n  Bellrock:   {}", shortened(&theirs), shortened(&ours));
        Ok(())
    }

    /// The smallest expression found that still differs, and how.
    async fn minimised(&self, case: &Case) -> Result<(Node, String)> {
        let mut node = case.node.clone();
        let (theirs, ours) = self.ask(case, &node.text()).await?;
        let mut difference = theirs.difference(&ours).unwrap_or_else(|| "the same when asked again".to_owned());
        let mut tries = 0;
        'smaller: loop {
            for smaller in node.smaller() {
                tries += 1;
                if tries > TRIES_MAX {
                    return Ok((node, difference));
                }
                let (theirs, ours) = self.ask(case, &smaller.text()).await?;
                if let Some(found) = theirs.difference(&ours) {
                    (node, difference) = (smaller, found);
                    continue 'smaller;
                }
            }
            return Ok((node, difference));
        }
    }
}

fn shortened(answer: &Answer) -> String {
    let text = format!("{answer:?}");
    text.chars().take(1500).collect()
}
