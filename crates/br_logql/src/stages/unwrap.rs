//! `| unwrap duration(took)`: the number that a range aggregation works on.

use crate::ast::{Conversion, Unwrap};
use crate::pipeline::Line;
use crate::units;

pub(crate) struct UnwrapStage(Unwrap);

impl UnwrapStage {
    pub(crate) fn new(unwrap: &Unwrap) -> Self {
        Self(unwrap.clone())
    }

    /// The value, and takes the label away; `None` drops the line, which has no such label.
    /// A value that cannot be read marks the line and counts as 0.
    pub(crate) fn take(&self, line: &mut Line<'_>) -> Option<f64> {
        let text = line.labels.get(&self.0.label).filter(|text| !text.is_empty())?;
        let value = match self.0.conversion {
            Conversion::Number => go_float(text),
            Conversion::Duration => units::go_duration_nanos(text).map(|nanos| nanos as f64 / 1e9),
            Conversion::Bytes => units::bytes(text),
        };
        if value.is_none() {
            let details = format!("cannot convert {text:?} of label {} to a number", self.0.label);
            line.labels.set_error("SampleExtractionErr", details);
        }
        line.labels.remove(&self.0.label);
        Some(value.unwrap_or(0.0))
    }
}

/// Numbers as Go reads them; what Rust reads beyond that is no harm.
fn go_float(text: &str) -> Option<f64> {
    text.parse().ok()
}
