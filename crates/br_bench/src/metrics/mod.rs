//! The metrics engine beside Prometheus and VictoriaMetrics: half a million series, an hour of scrapes.

mod ingest;
mod queries;
mod restart;
mod scraping;

use crate::fleet::Fleet;
use crate::load;
use crate::peer::{Kind, Server};
use crate::row::Row;
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two scrapes of the data.
const INTERVAL_MS: i64 = 15_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) series: usize,
    pub(crate) scrapes: usize,
    /// How often each query is asked.
    pub(crate) rounds: usize,
}

/// What was sent to all.
struct Sent {
    end_ms: i64,
    samples: f64,
    series: usize,
    done: Instant,
}

/// What the last merge has left lies on the disk until no query can read it any more.
const AT_REST_AFTER: Duration = Duration::from_mins(8);

/// What was measured before an error is among the rows. `rules` is the file whose expressions are the read load; without it there are only the queries of our own.
pub(crate) async fn run(kinds: &[Kind], size: Size, rules: Option<&Path>, rows: &mut Vec<Row>) -> Result<()> {
    let mut servers = Vec::new();
    for kind in kinds {
        servers.push(Server::start(*kind).await?);
    }
    let mut fleet = Fleet::new(size.series);
    let start_ms = (load::now_ms() / INTERVAL_MS - size.scrapes as i64) * INTERVAL_MS;
    println!("{} series, {} scrapes", fleet.series_count(), size.scrapes);
    rows.extend(ingest::run(&servers, &mut fleet, start_ms, size.scrapes).await?);
    let sent = Sent {
        end_ms: start_ms + size.scrapes as i64 * INTERVAL_MS,
        samples: (size.scrapes * fleet.series_count()) as f64,
        series: fleet.series_count(),
        done: Instant::now(),
    };
    drop(fleet);
    rows.extend(ingest::memory(&servers, &sent).await);
    load::settle(&servers).await;
    rows.extend(queries::run(&servers, &sent, size.rounds, rules).await?);
    tokio::time::sleep_until((sent.done + AT_REST_AFTER).into()).await;
    rows.extend(ingest::disk(&servers, &sent).await?);
    rows.extend(restart::run(&mut servers, &sent).await?);
    drop(servers);
    rows.extend(scraping::run(kinds, size.series).await?);
    Ok(())
}

/// One row for each peer, or one alone when there is none. The first figure is ours.
fn compared(name: &str, unit: &'static str, figures: &[(Kind, f64)], target: impl Fn(Row, Kind) -> Row) -> Vec<Row> {
    let Some(((_, ours), peers)) = figures.split_first() else { return Vec::new() };
    if peers.is_empty() {
        return vec![Row::new(name, unit, *ours)];
    }
    peers.iter().map(|(peer, theirs)| target(Row::new(name, unit, *ours).against(peer.name(), *theirs), *peer)).collect()
}
