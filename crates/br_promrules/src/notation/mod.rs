//! How scripts and unit tests write series: `up{job="a"} 0+1x5 _ stale {{count:1 sum:2}}`.
//!
//! Source: Prometheus' documentation of promqltest and of unit tests for rules.

mod items;
mod series;

pub use items::{Item, offsets, parse as items};
pub use series::split as series;

use br_model::{Labels, Sample};

/// Reads lines of a `load`: a series with its values, one every step.
#[derive(Debug)]
pub struct Loader {
    /// Of the first value.
    pub start_ms: i64,
    pub step_ms: i64,
    /// Of an `@st` line, for the line behind it.
    offsets: Option<(Labels, Vec<Option<i64>>)>,
}

impl Loader {
    pub fn new(start_ms: i64, step_ms: i64) -> Self {
        Self { start_ms, step_ms, offsets: None }
    }

    /// `None` for an `@st` line, which says when the counter behind each value of the next line began.
    pub fn line(&mut self, line: &str) -> Result<Option<(Labels, Vec<Sample>)>, String> {
        let Some((labels, rest)) = series(line)? else { return Err(format!("no series in {line:?}")) };
        if let Some(words) = rest.trim_start().strip_prefix("@st") {
            self.offsets = Some((labels, offsets(words)?));
            return Ok(None);
        }
        let offsets = self.offsets.take().filter(|(known, _)| *known == labels).map(|(_, offsets)| offsets).unwrap_or_default();
        let mut samples = Vec::new();
        for (at, item) in items(rest).map_err(|reason| format!("{line}: {reason}"))?.into_iter().enumerate() {
            let Some(item) = item else { continue };
            let timestamp_ms = self.step_ms.saturating_mul(at as i64).saturating_add(self.start_ms);
            let start_ms = offsets.get(at).copied().flatten().map(|offset_ms| timestamp_ms.saturating_add(offset_ms));
            samples.push(Sample { timestamp_ms, value: item.value, start_ms });
        }
        Ok(Some((labels, samples)))
    }
}

/// A time or a duration in milliseconds: `5m`, `-30s`, `1.5`, `0`.
pub fn millis(text: &str) -> Result<i64, String> {
    let (sign, plain) = match text.strip_prefix('-') {
        Some(plain) => (-1, plain),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Ok(secs) = plain.parse::<f64>() {
        return Ok(sign * (secs * 1000.0).round() as i64);
    }
    let duration = br_std::duration::parse(plain).map_err(|error| error.to_string())?;
    Ok(sign * duration.as_millis() as i64)
}
