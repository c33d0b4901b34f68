//! One measured figure, beside a peer's.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) area: String,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: Option<&'static str>,
    pub(crate) theirs: Option<f64>,
    /// Ours by theirs.
    pub(crate) ratio: Option<f64>,
    pub(crate) target: Option<String>,
    pub(crate) met: Option<bool>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self {
            area: String::new(),
            name: name.into(),
            unit,
            ours,
            peer: None,
            theirs: None,
            ratio: None,
            target: None,
            met: None,
        }
    }

    pub(crate) fn against(mut self, peer: &'static str, theirs: f64) -> Self {
        (self.peer, self.theirs, self.ratio) = (Some(peer), Some(theirs), (theirs != 0.0).then(|| self.ours / theirs));
        self
    }

    /// Of the ratio to the peer.
    pub(crate) fn ratio_at_least(mut self, bound: f64) -> Self {
        self.target = Some(format!("ratio >= {bound}"));
        self.met = Some(self.ratio.is_some_and(|ratio| ratio >= bound));
        self
    }

    pub(crate) fn ratio_at_most(mut self, bound: f64) -> Self {
        self.target = Some(format!("ratio <= {bound}"));
        self.met = Some(self.ratio.is_some_and(|ratio| ratio <= bound));
        self
    }

    /// The least that it can cost, reckoned from what it touches.
    pub(crate) fn beside_sketch(self, sketch: f64) -> Self {
        self.against("sketch", sketch)
    }

    pub(crate) fn at_least(mut self, bound: f64) -> Self {
        self.target = Some(format!(">= {bound}"));
        self.met = Some(self.ours >= bound);
        self
    }

    pub(crate) fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(format!("<= {bound}"));
        self.met = Some(self.ours <= bound);
        self
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("{:<46} {:>14} {:<18} {:<18} {:>14} {:>8}  target", "name", "ours", "unit", "peer", "theirs", "ratio");
    for row in rows {
        let theirs = row.theirs.map_or_else(String::new, number);
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let target = row
            .target
            .as_ref()
            .map_or_else(String::new, |target| format!("{target} {}", if row.met == Some(true) { "met" } else { "MISSED" }));
        println!(
            "{:<46} {:>14} {:<18} {:<18} {theirs:>14} {ratio:>8}  {target}",
            row.name,
            number(row.ours),
            row.unit,
            row.peer.unwrap_or("")
        );
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Of any number of figures; NaN of none.
pub(crate) fn median(figures: Vec<f64>) -> f64 {
    quantile(figures, 0.5)
}

/// The figure below which this part of them lies; NaN of none.
pub(crate) fn quantile(mut figures: Vec<f64>, part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let at = (figures.len() as f64 * part) as usize;
    figures.get(at.min(figures.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
