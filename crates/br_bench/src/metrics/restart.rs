//! How long after a kill -9 a server answers again, with all that it had taken.

use super::{INTERVAL_MS, Sent, compared};
use crate::load;
use crate::peer::Server;
use crate::row::Row;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

const LAST_SAMPLES: &str = "count(node_load1)";

pub(super) async fn run(servers: &mut [Server], sent: &Sent) -> Result<Vec<Row>> {
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    for server in servers {
        let path = format!("/api/v1/query?query={}&time={}", load::url_encoded(LAST_SAMPLES), sent.end_ms / 1000);
        let before = value(&server.get(&path).await?);
        // A look-back would find older samples: only the last scrape counts.
        let newest = format!("max(timestamp(node_load1)) >= {}", (sent.end_ms - INTERVAL_MS / 2) / 1000);
        let newest = format!("/api/v1/query?query={}&time={}", load::url_encoded(&newest), sent.end_ms / 1000);
        let started = Instant::now();
        server.kill_and_start()?;
        server.wait_ready().await?;
        ready.push((server.kind, started.elapsed().as_secs_f64()));
        loop {
            if value(&server.get(&path).await?) == before && value(&server.get(&newest).await?).is_some() {
                break;
            }
            if started.elapsed() > Duration::from_mins(3) {
                bail!("{} does not have its last samples again", server.kind.name());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answered.push((server.kind, started.elapsed().as_secs_f64()));
    }
    let mut rows = compared("restart after kill -9: ready", "s", &ready, |row, _| row.at_most(2.0));
    rows.extend(compared("restart after kill -9: all samples back", "s", &answered, |row, _| row));
    Ok(rows)
}

/// The value of the only sample of an answer.
fn value(answer: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(answer).ok()?;
    answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
}
