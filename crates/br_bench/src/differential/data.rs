//! Seeded series: counters with resets, gauges, gaps, stale markers, NaN and infinities, classic histograms.

use crate::input::{Seeded, compress, put_series};
use std::collections::BTreeMap;

/// When the first scrape was: a whole second, and the same in each run, so that a failing case can be repeated.
pub(super) const START_MS: i64 = 1_700_000_000_000;
const SCRAPES: i64 = 480;
/// No counter falls back before this scrape.
const FIRST_RESET: i64 = 40;
const INTERVAL_MS: i64 = 15_000;
pub(super) const SPAN_SECS: i64 = SCRAPES * INTERVAL_MS / 1000;
/// Scrapes in one request.
const CHUNK: usize = 24;
/// The bits by which Prometheus says that a series ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

const BOUNDS: [&str; 7] = ["0.005", "0.025", "0.1", "0.5", "1", "2.5", "+Inf"];

struct Series {
    labels: Vec<(String, String)>,
    samples: Vec<(i64, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Many digits, never two alike, always there.
    Smooth,
    /// Small integers with repetitions, gaps, stale markers, NaN and infinities.
    Rough,
    /// Grows and falls back to nothing, never missing.
    Counter,
    /// Grows, far from nothing, with gaps and stale markers.
    GappyCounter,
    /// 0 or 1.
    Flag,
}

/// The remote-write 1.0 requests, in the order of time.
pub(super) fn requests(seed: u64) -> Vec<Vec<u8>> {
    let mut seeded = Seeded(seed);
    let mut all = Vec::new();
    for (job, instance, zone) in targets() {
        // Milliseconds that no border of a range can have: see `grammar::Phase`.
        let offset_ms = seeded.below(14) as i64 * 1000 + 1 + seeded.below(499) as i64;
        let common = [("job", job), ("instance", instance), ("zone", zone)];
        target(&mut seeded, offset_ms, &common, &mut all);
    }
    for job in ["api", "db", "web"] {
        let labels = labels("owner_info", &[("job", job), ("owner", if job == "db" { "ops" } else { "dev" })]);
        all.push(Series { labels, samples: samples(&mut seeded, Shape::Flag, 250) });
    }
    (0..SCRAPES as usize).step_by(CHUNK).map(|from| request(&all, from, from + CHUNK)).collect()
}

fn targets() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut all = Vec::new();
    for (job, count) in [("api", 4), ("db", 2), ("web", 3)] {
        for instance in &["i0", "i1", "i2", "i3"][..count] {
            // Some targets have no zone: an empty label is a missing label.
            let zone = match *instance {
                "i0" => "a",
                "i1" => "b",
                _ => "",
            };
            all.push((job, *instance, zone));
        }
    }
    all
}

fn target(seeded: &mut Seeded, offset_ms: i64, common: &[(&str, &str)], all: &mut Vec<Series>) {
    let mut push = |seeded: &mut Seeded, name: &str, more: &[(&str, &str)], shape: Shape| {
        let labels = labels(name, &[common, more].concat());
        all.push(Series { labels, samples: samples(seeded, shape, offset_ms) });
    };
    push(seeded, "load", &[], Shape::Smooth);
    push(seeded, "up_flag", &[], Shape::Flag);
    for color in ["red", "green"] {
        push(seeded, "level", &[("color", color)], Shape::Rough);
        push(seeded, "jobs_total", &[("color", color)], Shape::GappyCounter);
    }
    for code in ["200", "404", "500"] {
        push(seeded, "requests_total", &[("code", code)], Shape::Counter);
    }
    if common[0].1 != "db" {
        histogram(seeded, offset_ms, common, all);
    }
}

fn histogram(seeded: &mut Seeded, offset_ms: i64, common: &[(&str, &str)], all: &mut Vec<Series>) {
    let mut family: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
    let (mut counts, mut sum) = ([1e5; BOUNDS.len()], 1e5);
    let mut sums = Vec::new();
    for scrape in 0..SCRAPES {
        let at_ms = START_MS + scrape * INTERVAL_MS + offset_ms;
        for (bound, count) in counts.iter_mut().enumerate() {
            *count += seeded.below(5) as f64;
            sum += seeded.unit() * (bound + 1) as f64;
        }
        let mut cumulative = 0.0;
        for (bound, count) in BOUNDS.iter().zip(&counts) {
            cumulative += count;
            family.entry(bound).or_default().push((at_ms, cumulative));
        }
        sums.push((at_ms, sum));
    }
    all.push(Series { labels: labels("latency_count", common), samples: family["+Inf"].clone() });
    all.push(Series { labels: labels("latency_sum", common), samples: sums });
    for (bound, samples) in family {
        all.push(Series { labels: labels("latency_bucket", &[common, &[("le", bound)]].concat()), samples });
    }
}

fn labels(name: &str, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let named = [("__name__", name)];
    let all = named.iter().chain(pairs).filter(|(_, value)| !value.is_empty());
    let mut labels: Vec<_> = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.sort();
    labels
}

fn samples(seeded: &mut Seeded, shape: Shape, offset_ms: i64) -> Vec<(i64, f64)> {
    let mut out = Vec::new();
    let mut value = first_value(seeded, shape);
    let mut missing = 0;
    for scrape in 0..SCRAPES {
        let at_ms = START_MS + scrape * INTERVAL_MS + offset_ms;
        let before = value;
        value = next_value(seeded, shape, before);
        // Far from nothing where it begins: see `grammar` on the extrapolation towards zero.
        if shape == Shape::Counter && scrape < FIRST_RESET {
            value = value.max(before);
        }
        if missing > 0 {
            missing -= 1;
            continue;
        }
        let has_gaps = matches!(shape, Shape::Rough | Shape::GappyCounter);
        if has_gaps && seeded.percent(2) {
            missing = 1 + seeded.below(40);
            if seeded.percent(50) {
                out.push((at_ms, f64::from_bits(STALE)));
            }
            continue;
        }
        let special = shape == Shape::Rough && seeded.percent(2);
        out.push((at_ms, if special { *seeded.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]) } else { value }));
    }
    out
}

fn first_value(seeded: &mut Seeded, shape: Shape) -> f64 {
    match shape {
        Shape::Smooth => seeded.unit() * 100.0,
        Shape::Rough => seeded.below(7) as f64,
        Shape::Counter | Shape::GappyCounter => 1e7 + seeded.below(1000) as f64,
        Shape::Flag => 1.0,
    }
}

fn next_value(seeded: &mut Seeded, shape: Shape, value: f64) -> f64 {
    match shape {
        Shape::Smooth => value + seeded.unit() * 3.0 - 1.4,
        Shape::Rough => (value + seeded.below(5) as f64 - 2.0).clamp(-5.0, 12.0),
        Shape::Counter if seeded.percent(1) => seeded.below(20) as f64,
        Shape::Counter | Shape::GappyCounter => value + seeded.below(30) as f64,
        Shape::Flag => f64::from(u8::from(seeded.percent(90))),
    }
}

fn request(all: &[Series], from: usize, to: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let bounds_ms = START_MS + from as i64 * INTERVAL_MS..START_MS + to as i64 * INTERVAL_MS;
    for series in all {
        let within: Vec<(i64, f64)> = series.samples.iter().copied().filter(|(at_ms, _)| bounds_ms.contains(at_ms)).collect();
        if !within.is_empty() {
            put_series(&mut message, &series.labels, &within);
        }
    }
    compress(&message)
}
