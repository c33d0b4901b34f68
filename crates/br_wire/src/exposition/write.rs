//! Writes the Prometheus text format 0.0.4.

use super::NO_TIMESTAMP;
use br_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use br_model::{MetricBatch, MetricType, SeriesSamples, Value};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The last float sample of every series, families by name, with their metadata in front.
/// Native histograms have no text form and are left out.
pub fn write_text(batch: &MetricBatch) -> String {
    let metadata: BTreeMap<&str, _> = batch.metadata.iter().map(|(name, family)| (name.as_str(), family)).collect();
    let mut families: BTreeMap<&str, Vec<&SeriesSamples>> = BTreeMap::new();
    for series in &batch.series {
        let name = series.labels.metric_name();
        let family = family_of(name, &|base| metadata.get(base).map(|family| family.metric_type));
        families.entry(family).or_default().push(series);
    }
    let mut text = String::new();
    for (name, series) in families {
        if let Some(family) = metadata.get(name) {
            let shown = if is_legacy_metric_name(name) { name.to_owned() } else { quote(name) };
            if !family.help.is_empty() {
                push(&mut text, format_args!("# HELP {shown} {}\n", family.help.replace('\\', "\\\\").replace('\n', "\\n")));
            }
            push(&mut text, format_args!("# TYPE {shown} {}\n", type_word(family.metric_type)));
        }
        for series in series {
            write_series(&mut text, series);
        }
    }
    text
}

/// The family of a sample: its name, or what is left of it without the suffix that its type adds.
fn family_of<'a>(name: &'a str, type_of: &dyn Fn(&str) -> Option<MetricType>) -> &'a str {
    if type_of(name).is_some() {
        return name;
    }
    let bases = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
    let is_compound = |base: &&str| matches!(type_of(base), Some(MetricType::Histogram | MetricType::Summary));
    bases.into_iter().find(is_compound).unwrap_or(name)
}

/// The types that 0.0.4 does not know are written as what they are nearest to.
fn type_word(metric_type: MetricType) -> &'static str {
    match metric_type {
        MetricType::Unknown => "untyped",
        MetricType::Info | MetricType::StateSet => "gauge",
        MetricType::GaugeHistogram => "histogram",
        other => other.as_str(),
    }
}

fn write_series(text: &mut String, series: &SeriesSamples) {
    let Some((sample, value)) = series.samples.iter().rev().find_map(|sample| match &sample.value {
        Value::Float(value) => Some((sample, *value)),
        Value::Histogram(_) => None,
    }) else {
        return;
    };
    let name = series.labels.metric_name();
    let is_bare = is_legacy_metric_name(name);
    let mut parts: Vec<String> = if is_bare { Vec::new() } else { vec![quote(name)] };
    for (label, value) in series.labels.iter().filter(|(label, _)| *label != METRIC_NAME) {
        let label = if is_legacy_label_name(label) { label.to_owned() } else { quote(label) };
        parts.push(format!("{label}={}", quote(value)));
    }
    if is_bare {
        text.push_str(name);
    }
    if !parts.is_empty() {
        push(text, format_args!("{{{}}}", parts.join(",")));
    }
    push(text, format_args!(" {}", number(value)));
    if sample.timestamp_ms != NO_TIMESTAMP {
        push(text, format_args!(" {}", sample.timestamp_ms));
    }
    text.push('\n');
}

pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        format!("{value}")
    }
}

pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

pub(super) fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}
