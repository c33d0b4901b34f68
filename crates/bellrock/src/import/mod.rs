//! `bellrock import`: moves in what another store has kept.

mod block;
mod destination;
mod files;
mod find;
mod log;
mod windows;

use crate::ask::{Format, Rows, ServerArguments, WrongUsage};
use anyhow::{Context, Result, bail};
use block::BlockOptions;
use br_wire::prometheus_tsdb::aggregate::Aggregate;
use destination::Destination;
use find::Found;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use windows::Counts;

#[derive(clap::Args, Debug)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    source: Source,
}

#[derive(clap::Subcommand, Debug)]
enum Source {
    /// A Prometheus data directory or snapshot, or a folder of Thanos or Mimir blocks.
    Prometheus(PrometheusArguments),
}

#[derive(clap::Args, Debug)]
struct PrometheusArguments {
    /// A data directory, a snapshot, a folder of blocks, or one block.
    directory: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
    /// Write into this data directory instead, which no server may have open.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// With --data-dir: the server's configuration, for the retention.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    config: Option<PathBuf>,
    /// With --data-dir: whose metrics these are.
    #[arg(long, default_value_t = 1, requires = "data_dir")]
    tenant: u32,
    /// Of Thanos' downsampled blocks: which aggregates become series, named like `up:5m:max`; `none` leaves such blocks out.
    #[arg(long, value_delimiter = ',', default_value = "count,sum,min,max,counter")]
    aggregates: Vec<String>,
    /// Add the external labels that Thanos' blocks name to their series.
    #[arg(long)]
    external_labels: bool,
    /// Leave out what is older than the server keeps metrics, instead of refusing all.
    #[arg(long)]
    drop_old: bool,
    /// Do not read the write-ahead log: the last hours, which are in no block yet.
    #[arg(long)]
    skip_wal: bool,
    /// Take in again what was taken in before.
    #[arg(long)]
    again: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn import(arguments: ImportArguments) -> Result<()> {
    let Source::Prometheus(arguments) = arguments.source;
    let aggregates = aggregates(&arguments.aggregates)?;
    let found = find::find(&arguments.directory)?;
    for line in &found.notes {
        eprintln!("bellrock: {line}");
    }
    let destination = match &arguments.data_dir {
        Some(data_dir) => Destination::directory(data_dir, arguments.config.as_deref(), arguments.tenant).await?,
        None => Destination::server(&arguments.server)?,
    };
    let runtime = tokio::runtime::Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        let outcome = Import { arguments, aggregates, destination: &destination, runtime: &runtime }.run(&found);
        (outcome, destination)
    });
    let (outcome, destination) = work.await.context("the import failed inside")?;
    destination.close().await?;
    outcome
}

fn aggregates(names: &[String]) -> Result<Vec<Aggregate>, WrongUsage> {
    if names == ["none"] {
        return Ok(Vec::new());
    }
    let by_name = |name: &String| {
        let known = Aggregate::ALL.into_iter().find(|aggregate| aggregate.as_str() == name);
        known.ok_or_else(|| WrongUsage::new(format!("--aggregates: {name:?} is none of count, sum, min, max, counter, none")))
    };
    names.iter().map(by_name).collect()
}

/// What was read of a source.
struct Read {
    paths: Vec<String>,
    counts: Counts,
    /// How much of it this version does not read, and what the user has to know of that.
    unread: Option<(usize, String)>,
}

struct Import<'a> {
    arguments: PrometheusArguments,
    aggregates: Vec<Aggregate>,
    destination: &'a Destination,
    runtime: &'a tokio::runtime::Handle,
}

/// What became of a block or of the log.
enum Outcome {
    Imported(Counts),
    /// Without what this version does not read.
    InPart(Counts, String),
    Repeated,
    LeftOut(String),
}

impl Import<'_> {
    fn run(&self, found: &Found) -> Result<()> {
        let retention = self.runtime.block_on(self.destination.retention())?;
        let now_ms = destination::now_ms();
        let cutoff_ms = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        self.check_age(found, cutoff_ms, retention)?;
        let mut rows = Rows::new(&["source", "from", "to", "series", "samples", "outcome"]);
        let (mut failed, mut in_part) = (0, 0);
        let mut count = |outcome: &Result<Outcome>| {
            failed += usize::from(outcome.is_err());
            in_part += usize::from(matches!(outcome, Ok(Outcome::InPart(..))));
        };
        for (at, block) in found.blocks.iter().enumerate() {
            eprintln!("bellrock: block {} of {}: {}", at + 1, found.blocks.len(), block.path.display());
            let outcome = self.block(block, cutoff_ms);
            count(&outcome);
            let times = (block.meta.min_time, block.meta.max_time);
            rows.rows.push(row(&block.meta.ulid, Some(times), outcome));
        }
        if let Some(log) = found.log.as_ref().filter(|_| !self.arguments.skip_wal) {
            eprintln!("bellrock: the write-ahead log: {}", log.display());
            let outcome = self.log(log, cutoff_ms);
            count(&outcome);
            rows.rows.push(row("wal", None, outcome));
        }
        for broken in &found.broken {
            let outcome = Err(anyhow::anyhow!("{}", broken.reason));
            count(&outcome);
            rows.rows.push(row(&broken.name, None, outcome));
        }
        rows.print(self.arguments.output)?;
        let all = rows.rows.len();
        let newer = "a version that reads the rest brings it in with the same command";
        match (failed, in_part) {
            (0, 0) => Ok(()),
            (0, _) => bail!("{in_part} of {all} could be imported in part only: {newer}"),
            (_, 0) => bail!("{failed} of {all} could not be imported{}", if failed < all { "; the others are in" } else { "" }),
            _ => bail!("{failed} of {all} could not be imported, and {in_part} in part only: {newer}"),
        }
    }

    /// Whoever moves a year in and keeps 15 days would lose it within a minute.
    fn check_age(&self, found: &Found, cutoff_ms: i64, retention: Duration) -> Result<()> {
        let oldest = found.blocks.iter().map(|block| block.meta.min_time).min();
        let Some(oldest) = oldest.filter(|oldest| *oldest < cutoff_ms && !self.arguments.drop_old) else { return Ok(()) };
        bail!(
            "the oldest block begins at {}, and the server keeps metrics for {}: what is older would be dropped at once. \
             Set bellrock.retention.metrics (docs/configuration.md) and start the server anew, or leave the old part out with --drop-old",
            time_text(oldest),
            br_std::duration::format(retention)
        )
    }

    fn block(&self, block: &find::Block, cutoff_ms: i64) -> Result<Outcome> {
        let is_downsampled = block.meta.thanos.downsample.resolution > 0;
        if let Some(reason) = &block.left_out {
            return Ok(Outcome::LeftOut(reason.clone()));
        }
        if is_downsampled && self.aggregates.is_empty() {
            return Ok(Outcome::LeftOut("downsampled, and --aggregates none".into()));
        }
        if block.meta.max_time <= cutoff_ms {
            return Ok(Outcome::LeftOut("older than the retention".into()));
        }
        let mut source = block.meta.ulid.clone();
        if is_downsampled {
            source += &self.aggregates.iter().fold(String::new(), |names, aggregate| names + ":" + aggregate.as_str());
        }
        if self.arguments.external_labels {
            source += "+labels";
        }
        if block.meta.min_time < cutoff_ms {
            let _ = write!(source, "@{}", br_tsdb::import_window_ms(cutoff_ms, br_tsdb::WINDOW_SECS));
        }
        self.once(&source, || {
            let options = BlockOptions { aggregates: &self.aggregates, external_labels: self.arguments.external_labels };
            let reader = block::BlockReader::open(block, options)?;
            let mut sink = windows::Sink::new(self.destination, self.runtime);
            for window in windows::of_range(block.meta.min_time, block.meta.max_time - 1, cutoff_ms) {
                sink.begin(window)?;
                reader.series_of(window, &mut |labels, parts| sink.push(labels, parts, &[]))?;
                sink.end(&BTreeMap::new())?;
            }
            let illegible = reader.illegible_count();
            if illegible > 0 {
                eprintln!("bellrock: {illegible} series of {} are left out: their labels are not UTF-8", block.meta.ulid);
            }
            let (paths, counts) = sink.finish();
            Ok(Read { paths, counts, unread: reader.unread() })
        })
    }

    fn log(&self, folder: &std::path::Path, cutoff_ms: i64) -> Result<Outcome> {
        let log = log::Log::open(folder)?;
        self.once(&log.source(), || {
            let mut sink = windows::Sink::new(self.destination, self.runtime);
            let notes = log.read(cutoff_ms, &mut sink)?;
            for note in &notes.told {
                eprintln!("bellrock: {note}");
            }
            let (paths, counts) = sink.finish();
            Ok(Read { paths, counts, unread: notes.unread() })
        })
    }

    /// Reads a source and commits what came of it, unless that was done before. Of which a part is not read, that is remembered under
    /// another name: the source itself is not done with.
    fn once(&self, source: &str, read: impl FnOnce() -> Result<Read>) -> Result<Outcome> {
        let mut source = source.to_owned();
        if self.arguments.again {
            let _ = write!(source, "!{}", destination::now_ms());
        } else if self.runtime.block_on(self.destination.is_known(&source))? {
            return Ok(Outcome::Repeated);
        }
        let Read { paths, counts, unread } = read()?;
        if let Some((count, _)) = &unread {
            let _ = write!(source, "~unread:{count}");
        }
        let is_repeated = self.runtime.block_on(self.destination.commit(&source, &paths))?;
        Ok(match unread {
            Some((_, note)) => Outcome::InPart(counts, note),
            None if is_repeated => Outcome::Repeated,
            None => Outcome::Imported(counts),
        })
    }
}

fn time_text(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| format!("{time_ms} ms"), |time| time.to_string())
}

fn row(name: &str, times: Option<(i64, i64)>, outcome: Result<Outcome>) -> Vec<Value> {
    let (counts, text) = match outcome {
        Ok(Outcome::Imported(counts)) => (Some(counts), "imported".to_owned()),
        Ok(Outcome::InPart(counts, note)) => (Some(counts), format!("imported in part: {note}")),
        Ok(Outcome::Repeated) => (None, "imported before".to_owned()),
        Ok(Outcome::LeftOut(reason)) => (None, format!("left out: {reason}")),
        Err(error) => (None, format!("failed: {error:#}")),
    };
    let times = times.or(counts.as_ref().and_then(|counts| counts.times_ms));
    let time = |time: Option<i64>| time.map_or(Value::Null, |time| json!(time_text(time)));
    let count = |of: fn(&Counts) -> u64| counts.as_ref().map_or(Value::Null, |counts| json!(of(counts)));
    vec![
        json!(name),
        time(times.map(|times| times.0)),
        time(times.map(|times| times.1)),
        count(|counts| counts.series),
        count(|counts| counts.samples),
        json!(text),
    ]
}
