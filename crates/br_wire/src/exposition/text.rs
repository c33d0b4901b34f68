//! Both text formats, line by line.

use super::bounds::{BETWEEN_CHECKS, Bounds};
use super::line::{self, Fault, LabelPairs, Rules, SampleLine, quoted, unescape};
use super::{Exposed, KnownTexts, NO_TIMESTAMP, TextKey, created, strict};
use crate::{Limits, Result, WireError};
use br_model::labels::METRIC_NAME;
use br_model::{Exemplar, Labels, Metadata, MetricBatch, MetricType, Sample, SeriesSamples, Value};
use br_std::hash::hash128;
use std::borrow::Cow;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    OpenMetrics,
    StrictOpenMetrics,
}

/// A line that says something about a metric family.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Descriptor<'a> {
    Type(MetricType),
    Help(Cow<'a, str>),
    Unit(&'a str),
}

pub(super) fn parse(body: &str, dialect: Dialect, known: &dyn KnownTexts, bounds: &Bounds<'_>) -> Result<Exposed> {
    let mut reader = Reader::new(dialect, known, bounds.limits);
    for (index, line) in body.split_terminator('\n').enumerate() {
        if index % BETWEEN_CHECKS == BETWEEN_CHECKS - 1 {
            bounds.check(&reader.batch)?;
        }
        let line = if dialect == Dialect::Prometheus { line.strip_suffix('\r').unwrap_or(line) } else { line };
        reader.line(line).map_err(|fault| {
            let column = line.get(..fault.at).map_or(fault.at, |before| before.chars().count()) + 1;
            WireError::Malformed(format!("{}:{column}: {}", index + 1, fault.message))
        })?;
    }
    reader.finish().map_err(|message| WireError::Malformed(format!("{}:1: {message}", body.lines().count() + 1)))
}

struct Reader<'a> {
    dialect: Dialect,
    known: &'a dyn KnownTexts,
    limits: &'a Limits,
    batch: MetricBatch,
    /// Of the series of the batch.
    keys: Vec<TextKey>,
    /// Where a family's metadata stands in the batch.
    families: HashMap<Cow<'a, str>, usize>,
    /// Name and labels of the last line, as written.
    last_series: &'a str,
    rules: strict::Families,
    has_ended: bool,
}

impl<'a> Reader<'a> {
    fn new(dialect: Dialect, known: &'a dyn KnownTexts, limits: &'a Limits) -> Self {
        Self {
            dialect,
            known,
            limits,
            batch: MetricBatch::default(),
            keys: Vec::new(),
            families: HashMap::new(),
            last_series: "",
            rules: strict::Families::default(),
            has_ended: false,
        }
    }

    fn line(&mut self, line: &'a str) -> Result<(), Fault> {
        if self.dialect == Dialect::Prometheus {
            let trimmed = line.trim_ascii_start();
            return match trimmed.strip_prefix('#') {
                _ if trimmed.is_empty() => Ok(()),
                Some(comment) => self.text_comment(comment, line.len()),
                None => self.sample(line),
            };
        }
        if self.has_ended {
            return Err(Fault { at: 0, message: "nothing may stand behind # EOF".into() });
        }
        match line.strip_prefix("# ") {
            Some("EOF") => self.has_ended = true,
            Some(comment) => self.openmetrics_comment(comment)?,
            None if line.is_empty() => return Err(Fault { at: 0, message: "a blank line".into() }),
            None => self.sample(line)?,
        }
        Ok(())
    }

    /// `# TYPE` and `# HELP` mean something, any other comment is skipped.
    fn text_comment(&mut self, comment: &'a str, line_len: usize) -> Result<(), Fault> {
        // A comment reaches to the end of its line: what is left of it tells where a fault is.
        let fault = |rest: &str, message: String| Fault { at: line_len.saturating_sub(rest.len()), message: message.into() };
        let (keyword, rest) = split_blank(comment.trim_ascii_start());
        if !matches!(keyword, "TYPE" | "HELP") {
            return Ok(());
        }
        let rest = rest.trim_ascii_start();
        let (name, rest) = family_name(rest).map_err(|message| fault(rest, message))?;
        let rest = rest.trim_ascii_start();
        let descriptor = if keyword == "TYPE" {
            Descriptor::Type(metric_type(rest.trim_ascii_end()).map_err(|message| fault(rest, message))?)
        } else {
            Descriptor::Help(unescape(rest))
        };
        self.describe(name, descriptor);
        Ok(())
    }

    fn openmetrics_comment(&mut self, comment: &'a str) -> Result<(), Fault> {
        let fault = |message: String| Fault { at: 2, message: message.into() };
        let (keyword, rest) = comment.split_once(' ').unwrap_or((comment, ""));
        if !matches!(keyword, "TYPE" | "HELP" | "UNIT") {
            return Err(fault("TYPE, HELP, UNIT or EOF is expected; other comments are not allowed".into()));
        }
        if self.dialect == Dialect::StrictOpenMetrics && rest.starts_with('"') {
            return Err(fault("OpenMetrics 1.0 has no names in quotes".into()));
        }
        let (name, rest) = family_name(rest).map_err(fault)?;
        let Some(rest) = rest.strip_prefix(' ') else {
            return Err(fault(format!("one space and more is expected behind {keyword} {name}")));
        };
        let descriptor = match keyword {
            "TYPE" if rest == "untyped" => return Err(fault("the type untyped is called unknown here".into())),
            "TYPE" => Descriptor::Type(metric_type(rest).map_err(fault)?),
            "HELP" => Descriptor::Help(unescape(rest)),
            _ => Descriptor::Unit(rest),
        };
        if self.dialect == Dialect::StrictOpenMetrics {
            self.rules.describe(&name, &descriptor).map_err(fault)?;
        } else if let Descriptor::Unit(unit) = descriptor
            && !unit.is_empty()
            && !name.strip_suffix(unit).is_some_and(|base| base.ends_with('_'))
        {
            return Err(fault(format!("unit {unit:?} is not the suffix of metric {name:?}")));
        }
        self.describe(name, descriptor);
        Ok(())
    }

    fn describe(&mut self, name: Cow<'a, str>, descriptor: Descriptor<'a>) {
        let metadata = &mut self.batch.metadata;
        let at = *self.families.entry(name).or_insert_with_key(|name| {
            metadata.push((name.to_string(), Metadata::default()));
            metadata.len() - 1
        });
        // `at` is an index into `metadata`: it was made by the push above, now or earlier, and nothing is ever removed.
        let family = &mut metadata[at].1;
        match descriptor {
            Descriptor::Type(metric_type) => family.metric_type = metric_type,
            Descriptor::Help(help) => family.help = help.into_owned(),
            Descriptor::Unit(unit) => unit.clone_into(&mut family.unit),
        }
    }

    fn sample(&mut self, text: &'a str) -> Result<(), Fault> {
        if self.known_sample(text) {
            return Ok(());
        }
        let rules =
            Rules { openmetrics: self.dialect != Dialect::Prometheus, strict: self.dialect == Dialect::StrictOpenMetrics };
        let sample = line::parse(text, rules, self.limits)?;
        if rules.strict {
            self.rules.sample(&sample).map_err(|message| Fault { at: 0, message: message.into() })?;
        }
        let is_same_series = sample.series_text == self.last_series && !self.batch.series.is_empty();
        self.last_series = sample.series_text;
        if !is_same_series {
            let hash = hash128(sample.series_text.as_bytes());
            let known = self.known.find(hash);
            self.keys.push(TextKey { hash, is_known: known.is_some() });
            let labels = known.unwrap_or_else(|| labels_of(&sample));
            self.batch.series.push(SeriesSamples { labels, ..SeriesSamples::default() });
        }
        if let Some(series) = self.batch.series.last_mut() {
            append(series, &sample);
        }
        Ok(())
    }

    /// Takes a line that names a known series and has nothing but a value, and a time where that is a whole number.
    /// The same name was read in full before: only what stands behind it has to be.
    fn known_sample(&mut self, text: &'a str) -> bool {
        if self.dialect == Dialect::StrictOpenMetrics {
            return false;
        }
        let Some((series_text, sample)) = line::plain(text, self.dialect == Dialect::OpenMetrics) else { return false };
        let hash = hash128(series_text.as_bytes());
        let Some(labels) = self.known.find(hash) else { return false };
        if series_text == self.last_series
            && let Some(series) = self.batch.series.last_mut()
        {
            series.samples.push(sample);
            return true;
        }
        self.last_series = series_text;
        self.keys.push(TextKey { hash, is_known: true });
        self.batch.series.push(SeriesSamples { labels, samples: vec![sample], exemplars: Vec::new() });
        true
    }

    fn finish(mut self) -> Result<Exposed, String> {
        if self.dialect != Dialect::Prometheus && !self.has_ended {
            return Err("the body does not end with # EOF".into());
        }
        if self.dialect == Dialect::StrictOpenMetrics {
            self.rules.finish()?;
        }
        created::attach_starts(&mut self.batch);
        Ok(Exposed { batch: self.batch, keys: self.keys })
    }
}

fn labels_of(sample: &SampleLine<'_>) -> Labels {
    let name = std::iter::once((METRIC_NAME, sample.name.as_ref()));
    Labels::from_pairs(name.chain(pairs(&sample.labels)))
}

fn pairs<'a>(labels: &'a LabelPairs<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
}

fn append(series: &mut SeriesSamples, sample: &SampleLine<'_>) {
    let timestamp_ms = sample.timestamp.map_or(NO_TIMESTAMP, |timestamp| timestamp.millis);
    let start_ms = sample.start.map(|start| start.millis);
    series.samples.push(Sample { timestamp_ms, value: Value::Float(sample.value), start_ms });
    if let Some(exemplar) = &sample.exemplar {
        series.exemplars.push(Exemplar {
            labels: Labels::from_pairs(pairs(&exemplar.labels)),
            value: exemplar.value,
            timestamp_ms: exemplar.timestamp.map_or(NO_TIMESTAMP, |timestamp| timestamp.millis),
        });
    }
}

fn split_blank(text: &str) -> (&str, &str) {
    text.split_at(text.find([' ', '\t']).unwrap_or(text.len()))
}

/// A family's name, bare or quoted, and what stands behind it.
fn family_name(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    if let Some((content, length)) = quoted(text) {
        return Ok((unescape(content), &text[length..]));
    }
    let (name, rest) = split_blank(text);
    if br_model::labels::is_legacy_metric_name(name) {
        return Ok((Cow::Borrowed(name), rest));
    }
    Err(format!("{name:?} is not a metric name"))
}

fn metric_type(word: &str) -> Result<MetricType, String> {
    word.parse().map_err(|()| format!("{word:?} is not a metric type"))
}
