//! What both versions ask of a series.

use crate::Limits;
use br_model::labels::METRIC_NAME;
use br_model::{Label, Labels};
use std::sync::Arc;

/// Labels of an exemplar; OpenMetrics allows 128 characters, and each needs two.
pub(super) const EXEMPLAR_LABELS_MAX: usize = 64;

/// Labels of one series that are read at all; those beyond the configured limit are refused one by one, with the series' name.
pub(super) const LABELS_READ_MAX: usize = 4096;

/// Checks the labels of a series and makes them a set: sorted by name, none twice, `__name__` present, within limits.
/// Labels that come out of order are sorted, as Prometheus' receiver does with 1.0; empty values are left out.
pub(super) fn series_labels(mut labels: Vec<Label>, limits: &Limits) -> Result<Labels, String> {
    check_limits(&labels, limits)?;
    if labels.iter().any(|label| label.name.is_empty()) {
        return Err("a label without a name".into());
    }
    if !labels.is_sorted_by(|one, two| one.name < two.name) {
        labels.sort_by(|one, two| one.name.cmp(&two.name));
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(format!("label {:?} stands twice in {}", pair[0].name, describe(&labels)));
        }
    }
    labels.retain(|label| !label.value.is_empty());
    if !labels.iter().any(|label| label.name.as_ref() == METRIC_NAME) {
        return Err(format!("no metric name (label __name__) in {}", describe(&labels)));
    }
    Ok(Labels::from_sorted(labels))
}

fn check_limits(labels: &[Label], limits: &Limits) -> Result<(), String> {
    if labels.len() > limits.labels_max {
        return Err(format!("{} labels, at most {} are taken, in {}", labels.len(), limits.labels_max, describe(labels)));
    }
    for label in labels {
        if label.name.len() > limits.label_name_bytes_max {
            return Err(format!("a label name of {} bytes, at most {} are taken", label.name.len(), limits.label_name_bytes_max));
        }
        if label.value.len() > limits.label_value_bytes_max {
            return Err(format!(
                "the value of label {:?} has {} bytes, at most {} are taken",
                label.name,
                label.value.len(),
                limits.label_value_bytes_max
            ));
        }
    }
    Ok(())
}

/// The labels for a complaint, cut to a readable length.
fn describe(labels: &[Label]) -> String {
    let shown = labels.iter().take(8).map(|label| format!("{}={:?}", cut(&label.name), cut(&label.value)));
    let more = if labels.len() > 8 { ", …" } else { "" };
    format!("{{{}{more}}}", shown.collect::<Vec<_>>().join(", "))
}

fn cut(text: &Arc<str>) -> String {
    text.chars().take(64).collect()
}
