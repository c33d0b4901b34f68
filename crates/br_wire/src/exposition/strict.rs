//! The MUSTs of OpenMetrics 1.0 that reach beyond one line: which samples a type has, in which order, with which values.

use super::line::{SampleLine, Timestamp, parse_number};
use super::text::Descriptor;
use br_model::MetricType;
use std::collections::{BTreeMap, BTreeSet};

/// Names and values of an exemplar's labels may have this many characters together.
const EXEMPLAR_CHARACTERS_MAX: usize = 128;

/// All families of a body; the rules speak of the one that is being read and of the names before it.
#[derive(Default)]
pub(super) struct Families {
    seen_names: BTreeSet<String>,
    current: Option<Family>,
}

type Group = BTreeMap<String, String>;

#[derive(Default)]
struct Family {
    name: String,
    metric_type: Option<MetricType>,
    has_help: bool,
    unit: Option<String>,
    has_samples: bool,
    seen_groups: BTreeSet<Group>,
    /// Names and labels of the samples without a time: each may stand once.
    seen_timeless: BTreeSet<(String, Group)>,
    group: Option<(Group, Option<Timestamp>)>,
    histogram: Histogram,
}

/// What has been seen of the histogram that is being read.
#[derive(Default)]
struct Histogram {
    key: Option<(Group, Option<f64>)>,
    bound: Option<f64>,
    bucket_value: f64,
    count: Option<f64>,
    has_sum: bool,
    has_gsum: bool,
    has_negative_bound: bool,
    has_negative_gsum: bool,
}

impl Families {
    pub(super) fn describe(&mut self, name: &str, descriptor: &Descriptor<'_>) -> Result<(), String> {
        let is_current = self.current.as_ref().is_some_and(|family| family.name == name);
        if !is_current {
            self.close()?;
            self.current = Some(Family { name: name.to_owned(), ..Family::default() });
        }
        let Some(family) = &mut self.current else { return Ok(()) };
        if family.has_samples {
            return Err(format!("metadata of {name} behind its samples"));
        }
        let stands_twice = match descriptor {
            Descriptor::Type(metric_type) => family.metric_type.replace(*metric_type).is_some(),
            Descriptor::Help(_) => std::mem::replace(&mut family.has_help, true),
            Descriptor::Unit(unit) => family.unit.replace((*unit).to_owned()).is_some(),
        };
        if stands_twice { Err(format!("the same metadata of {name} twice")) } else { Ok(()) }
    }

    pub(super) fn sample(&mut self, sample: &SampleLine<'_>) -> Result<(), String> {
        let belongs = self.current.as_ref().is_some_and(|family| family.has_sample_name(&sample.name));
        if !belongs {
            self.close()?;
            self.current = Some(Family { name: sample.name.to_string(), ..Family::default() });
        }
        match &mut self.current {
            Some(family) => family.sample(sample),
            None => Ok(()),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.close()
    }

    /// The family that was read is complete: no other may use its names.
    fn close(&mut self) -> Result<(), String> {
        let Some(family) = self.current.take() else { return Ok(()) };
        family.check_unit()?;
        family.histogram.check(&family.name)?;
        let suffixes = suffixes(family.kind());
        let names: BTreeSet<String> =
            suffixes.iter().map(|suffix| format!("{}{suffix}", family.name)).chain([family.name.clone()]).collect();
        for name in names {
            if self.seen_names.contains(&name) {
                return Err(format!("the name {name} clashes with a metric before it"));
            }
            self.seen_names.insert(name);
        }
        Ok(())
    }
}

/// What may follow a family's name in the names of its samples.
fn suffixes(metric_type: MetricType) -> &'static [&'static str] {
    match metric_type {
        MetricType::Counter => &["_total", "_created"],
        MetricType::Summary => &["", "_count", "_sum", "_created"],
        MetricType::Histogram => &["_count", "_sum", "_bucket", "_created"],
        MetricType::GaugeHistogram => &["_gcount", "_gsum", "_bucket"],
        MetricType::Info => &["_info"],
        MetricType::Gauge | MetricType::StateSet | MetricType::Unknown => &[""],
    }
}

impl Family {
    fn kind(&self) -> MetricType {
        self.metric_type.unwrap_or_default()
    }

    fn has_sample_name(&self, name: &str) -> bool {
        name.strip_prefix(self.name.as_str()).is_some_and(|suffix| suffixes(self.kind()).contains(&suffix))
    }

    fn check_unit(&self) -> Result<(), String> {
        let Some(unit) = self.unit.as_deref().filter(|unit| !unit.is_empty()) else { return Ok(()) };
        if !self.name.strip_suffix(unit).is_some_and(|base| base.ends_with('_')) {
            return Err(format!("unit {unit:?} is not the suffix of metric {:?}", self.name));
        }
        if matches!(self.kind(), MetricType::Info | MetricType::StateSet) {
            return Err(format!("{}: a metric of this type has no unit", self.name));
        }
        Ok(())
    }

    fn sample(&mut self, sample: &SampleLine<'_>) -> Result<(), String> {
        self.has_samples = true;
        // The caller made sure that the sample's name begins with the family's.
        let suffix = sample.name.get(self.name.len()..).unwrap_or_default().to_owned();
        self.check_labels(sample, &suffix)?;
        self.check_value(sample, &suffix)?;
        self.check_exemplar(sample, &suffix)?;
        let group = self.group_of(sample, &suffix);
        self.check_group(&group, sample)?;
        self.check_once(sample)?;
        if matches!(self.kind(), MetricType::Histogram | MetricType::GaugeHistogram) {
            self.histogram.sample(&self.name, &suffix, group, sample)?;
        }
        Ok(())
    }

    fn check_labels(&self, sample: &SampleLine<'_>, suffix: &str) -> Result<(), String> {
        match self.kind() {
            MetricType::StateSet if label(sample, &self.name).is_none() => {
                Err(format!("a state set needs a label {:?}", self.name))
            }
            MetricType::Histogram | MetricType::GaugeHistogram if suffix == "_bucket" => {
                let le = label(sample, "le").ok_or("a bucket needs a label \"le\"")?;
                let bound =
                    parse_number(le).filter(|bound| !bound.is_nan()).ok_or_else(|| format!("le={le:?} is not a bound"))?;
                if bound == f64::INFINITY && le != "+Inf" {
                    return Err(format!("le={le:?} must be written \"+Inf\""));
                }
                Ok(())
            }
            MetricType::Summary if suffix.is_empty() => {
                let quantile = label(sample, "quantile").ok_or("a quantile needs a label \"quantile\"")?;
                let is_valid = parse_number(quantile).is_some_and(|number| (0.0..=1.0).contains(&number));
                if is_valid { Ok(()) } else { Err(format!("quantile={quantile:?} is not between 0 and 1")) }
            }
            _ => Ok(()),
        }
    }

    fn check_value(&self, sample: &SampleLine<'_>, suffix: &str) -> Result<(), String> {
        let value = sample.value;
        let wrong = match (self.kind(), suffix) {
            (MetricType::StateSet, _) if value != 0.0 && value != 1.0 => "a state is 0 or 1",
            (MetricType::Info, _) if value != 1.0 => "an info metric is 1",
            (MetricType::Summary, "") if value < 0.0 => "a quantile's value is not negative",
            (_, "_total" | "_sum" | "_count" | "_bucket" | "_gcount" | "_gsum") if value.is_nan() => "a counter is not NaN",
            (_, "_total" | "_sum" | "_count" | "_bucket" | "_gcount") if value < 0.0 => "a counter is not negative",
            _ => return Ok(()),
        };
        Err(format!("{}: {wrong}", sample.name))
    }

    fn check_exemplar(&self, sample: &SampleLine<'_>, suffix: &str) -> Result<(), String> {
        let Some(exemplar) = &sample.exemplar else { return Ok(()) };
        let may_have = match self.kind() {
            MetricType::Histogram | MetricType::GaugeHistogram => suffix == "_bucket",
            MetricType::Counter => suffix == "_total",
            _ => false,
        };
        if !may_have {
            return Err(format!("{} may not have an exemplar", sample.name));
        }
        let characters: usize = exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if characters > EXEMPLAR_CHARACTERS_MAX {
            return Err(format!(
                "the exemplar's labels have {characters} characters; at most {EXEMPLAR_CHARACTERS_MAX} are allowed"
            ));
        }
        Ok(())
    }

    /// The labels that all samples of one metric share.
    fn group_of(&self, sample: &SampleLine<'_>, suffix: &str) -> Group {
        let own = match (self.kind(), suffix) {
            (MetricType::Info, _) => return Group::new(),
            (MetricType::Summary, "") => "quantile",
            (MetricType::StateSet, _) => self.name.as_str(),
            (MetricType::Histogram | MetricType::GaugeHistogram, "_bucket") => "le",
            _ => "",
        };
        let labels = sample.labels.iter().filter(|(name, _)| name != own);
        labels.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn check_group(&mut self, group: &Group, sample: &SampleLine<'_>) -> Result<(), String> {
        match &self.group {
            Some((last, timestamp)) if last == group => match (timestamp, sample.timestamp) {
                (Some(_), None) | (None, Some(_)) => return Err("samples with and without timestamps in one metric".into()),
                (Some(before), Some(now)) if before.seconds > now.seconds && self.kind() != MetricType::Info => {
                    return Err("timestamps go backwards within a metric".into());
                }
                _ => {}
            },
            Some(_) if self.seen_groups.contains(group) => return Err(format!("samples of {} are not grouped", self.name)),
            _ => {}
        }
        self.seen_groups.insert(group.clone());
        self.group = Some((group.clone(), sample.timestamp));
        Ok(())
    }
}

impl Family {
    /// Two points of one series must have times that rise; without times there is one point.
    fn check_once(&mut self, sample: &SampleLine<'_>) -> Result<(), String> {
        if sample.timestamp.is_some() {
            return Ok(());
        }
        let labels = sample.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let is_first = self.seen_timeless.insert((sample.name.to_string(), labels));
        if is_first { Ok(()) } else { Err(format!("{} stands twice without a timestamp", sample.name)) }
    }
}

impl Histogram {
    fn sample(&mut self, family: &str, suffix: &str, group: Group, sample: &SampleLine<'_>) -> Result<(), String> {
        let key = Some((group, sample.timestamp.map(|timestamp| timestamp.seconds)));
        if self.key != key {
            std::mem::take(self).check(family)?;
            self.key = key;
        }
        match suffix {
            "_bucket" => {
                let bound = label(sample, "le").and_then(parse_number).unwrap_or(f64::NAN);
                if self.bound.is_some_and(|before| bound <= before) {
                    return Err(format!("{family}: buckets are out of order"));
                }
                if self.bound.is_some() && sample.value < self.bucket_value {
                    return Err(format!("{family}: a bucket counts less than the one before it"));
                }
                self.has_negative_bound |= bound < 0.0;
                self.bound = Some(bound);
                self.bucket_value = sample.value;
            }
            "_count" | "_gcount" => self.count = Some(sample.value),
            "_sum" => self.has_sum = true,
            "_gsum" => {
                self.has_gsum = true;
                self.has_negative_gsum = sample.value < 0.0;
            }
            _ => {}
        }
        Ok(())
    }

    /// The histogram is complete; does it fit together?
    fn check(&self, family: &str) -> Result<(), String> {
        if self.key.is_none() {
            return Ok(());
        }
        let wrong = if self.bound != Some(f64::INFINITY) {
            "the bucket le=\"+Inf\" is missing at the end"
        } else if self.count.is_some_and(|count| count != self.bucket_value) {
            "the count is not that of the bucket le=\"+Inf\""
        } else if (self.has_sum || self.has_gsum) && self.count.is_none() {
            "a sum needs a count beside it"
        } else if !(self.has_sum || self.has_gsum) && self.count.is_some() {
            "a count needs a sum beside it"
        } else if self.has_negative_bound && self.has_sum {
            "a histogram with negative buckets has no sum"
        } else if !self.has_negative_bound && self.has_negative_gsum {
            "a negative sum needs negative buckets"
        } else {
            return Ok(());
        };
        Err(format!("{family}: {wrong}"))
    }
}

fn label<'a>(sample: &'a SampleLine<'_>, name: &str) -> Option<&'a str> {
    sample.labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_ref())
}
