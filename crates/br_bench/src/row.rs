//! One measured figure, beside a peer's.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) area: &'static str,
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
        Self { area: "smoke", name: name.into(), unit, ours, peer: None, theirs: None, ratio: None, target: None, met: None }
    }

    pub(crate) fn against(mut self, peer: &'static str, theirs: f64) -> Self {
        (self.peer, self.theirs, self.ratio) = (Some(peer), Some(theirs), (theirs != 0.0).then(|| self.ours / theirs));
        self
    }

    pub(crate) fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(format!("<= {bound}"));
        self.met = Some(self.ours <= bound);
        self
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("{:<34} {:>14} {:<18} {:<18} {:>14} {:>8}  target", "name", "ours", "unit", "peer", "theirs", "ratio");
    for row in rows {
        let theirs = row.theirs.map_or_else(String::new, number);
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let target = row
            .target
            .as_ref()
            .map_or_else(String::new, |target| format!("{target} {}", if row.met == Some(true) { "met" } else { "MISSED" }));
        println!(
            "{:<34} {:>14} {:<18} {:<18} {theirs:>14} {ratio:>8}  {target}",
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
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
