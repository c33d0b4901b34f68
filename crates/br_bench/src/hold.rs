//! Many series held in real time: whether memory stays flat, and whether a bomb of new series leaves the others whole.

use crate::fleet::Fleet;
use crate::input::{compress, field};
use crate::load;
use crate::peer::{Kind, Server};
use crate::row::Row;
use anyhow::Result;
use br_std::varint;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const INTERVAL: Duration = Duration::from_secs(15);
const BOMB_SERIES: usize = 2_000_000;
const BOMB_SERIES_PER_REQUEST: usize = 5000;

pub(crate) async fn run(series: usize, minutes: u32) -> Result<Vec<Row>> {
    let server = Server::start(Kind::Bellrock).await?;
    let mut fleet = Fleet::new(series);
    let count = fleet.series_count() as f64;
    let started = Instant::now();
    let cpu = server.cpu_seconds();
    let scrapes = minutes * 60 / INTERVAL.as_secs() as u32;
    let mut by_minute = Vec::new();
    for scrape in 1..=scrapes {
        let requests = fleet.scrape(load::now_ms());
        load::remote_write(&server, &requests).await?;
        sleep_until(started + INTERVAL * scrape).await;
        if scrape.is_multiple_of(4) {
            println!("minute {}: {:.0} B of RSS a series", scrape / 4, server.rss_bytes() / count);
            by_minute.push(server.rss_bytes());
        }
    }
    let per_sample = (server.cpu_seconds() - cpu) / (count * f64::from(scrapes));
    let half = by_minute.len() / 2;
    let (early, late) = by_minute.split_at(half);
    let peak = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    let mut rows = vec![
        Row::new(format!("RSS per series of {count:.0}, at the most"), "B/series", peak(&by_minute) / count).at_most(300.0),
        Row::new("peak RSS, second half against the first", "MB", peak(late) / 1e6).against("first half", peak(early) / 1e6),
        Row::new("CPU for a sample, flushes and all", "us", per_sample * 1e6),
        Row::new("CPU at this rate", "cores", per_sample * count / INTERVAL.as_secs_f64()),
    ];
    rows.extend(bomb(&server, &mut fleet).await?);
    Ok(rows)
}

/// New series from one target, far more than any has, and then what the others have.
async fn bomb(server: &Server, fleet: &mut Fleet) -> Result<Vec<Row>> {
    let before = server.rss_bytes();
    let at_ms = load::now_ms();
    let mut refused_requests = 0;
    for first in (0..BOMB_SERIES).step_by(BOMB_SERIES_PER_REQUEST) {
        let request = bomb_request(first..first + BOMB_SERIES_PER_REQUEST, at_ms);
        // What is over a limit is refused: that is what is looked for.
        refused_requests += usize::from(load::remote_write(server, &[request]).await.is_err());
    }
    let after = server.rss_bytes();
    let requests = fleet.scrape(load::now_ms());
    load::remote_write(server, &requests).await?;
    let count = |selector: &str| format!("/api/v1/query?query={}", load::url_encoded(&format!("count({selector})")));
    let answer: serde_json::Value = serde_json::from_str(&server.get(&count("{cluster=\"eu-west-1\"}")).await?)?;
    let whole = answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // Pods that a deploy replaced in the last five minutes are found as well.
    let missing = (fleet.series_count() as f64 - whole).max(0.0);
    Ok(vec![
        Row::new("bomb: requests refused in part", "requests", refused_requests as f64),
        Row::new("bomb: series that others lost", "series", missing).at_most(0.0),
        Row::new("bomb: RSS after it", "MB", after / 1e6).against("before", before / 1e6),
    ])
}

fn bomb_request(numbers: std::ops::Range<usize>, at_ms: i64) -> Vec<u8> {
    let mut message = Vec::new();
    for number in numbers {
        let id = format!("{number:012}");
        let mut series = Vec::new();
        for (name, value) in [("__name__", "bomb_total"), ("id", &id), ("instance", "10.9.9.9:8000"), ("job", "bomb")] {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&1f64.to_le_bytes());
        sample.push(2 << 3);
        varint::put_u64(&mut sample, at_ms as u64);
        field(&mut series, 2, &sample);
        field(&mut message, 1, &series);
    }
    compress(&message)
}
