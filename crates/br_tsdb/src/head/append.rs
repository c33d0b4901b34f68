//! Taking samples in.

use super::caps::Cap;
use super::series::is_same_value;
use super::slots::{TIME_MAX_MS, TIME_MIN_MS};
use super::{FamilyMetadata, TenantHead};
use crate::changes::Change;
use crate::index::SeriesId;
use crate::options::TsdbOptions;
use crate::outcome::{AppendOutcome, RejectReason};
use crate::store::Learning;
use br_model::{KnownSample, Labels, Metadata, Sample, SeriesSamples, Value};
use br_std::{Nanos, Result};

/// What a sample became.
enum Taken {
    Accepted,
    OutOfOrder,
    Repeated,
}

/// Times that are accepted at all, both included.
#[derive(Clone, Copy)]
pub(crate) struct AcceptedTimes {
    from_ms: i64,
    to_ms: i64,
}

impl AcceptedTimes {
    pub(crate) fn new(now: Nanos, options: &TsdbOptions) -> Self {
        let (from_ms, to_ms) = ((now - options.age_max).as_millis(), (now + options.future_max).as_millis());
        Self { from_ms: from_ms.max(TIME_MIN_MS), to_ms: to_ms.min(TIME_MAX_MS) }
    }

    fn check(self, timestamp_ms: i64) -> Result<(), RejectReason> {
        if timestamp_ms > self.to_ms {
            return Err(RejectReason::TooFarInFuture);
        }
        if timestamp_ms < self.from_ms { Err(RejectReason::TooOld) } else { Ok(()) }
    }
}

impl TenantHead {
    /// Takes the samples and exemplars of some series. What is refused stands in `outcome`.
    pub(crate) fn append(
        &mut self,
        batch: &[SeriesSamples],
        learning: Learning<'_>,
        times: AcceptedTimes,
        options: &TsdbOptions,
        outcome: &mut AppendOutcome,
        cursor: &mut AppendCursor,
    ) -> Result<()> {
        let mut learned = Vec::new();
        for (at, incoming) in batch.iter().enumerate() {
            let Some(id) = self.append_series(incoming, times, options, outcome, cursor)? else { continue };
            if let Some(identity) = learning.identities.get(at).filter(|identity| **identity != 0) {
                learned.push((*identity, id));
            }
        }
        if !learned.is_empty() {
            let mut registry = self.registry.write();
            for (identity, id) in learned {
                registry.learn(identity, id, learning.policy);
            }
        }
        Ok(())
    }

    /// Whether all numbers still stand for the series that they were given for.
    pub(crate) fn keeps_all(&self, samples: &[KnownSample]) -> bool {
        let registry = self.registry.read();
        samples.iter().all(|sample| registry.keeps(sample.series))
    }

    /// What taking in samples of series that are kept changes.
    pub(crate) fn change_of(&self, samples: &[KnownSample], now: Nanos) -> Change {
        let registry = self.registry.read();
        Change::of_samples(samples, now, |sample| sample.timestamp_ms, |sample| registry.group(sample.series))
    }

    /// Takes samples of series that are kept, as the caller has made sure under the same lock.
    pub(crate) fn append_known(
        &mut self,
        samples: &[KnownSample],
        times: AcceptedTimes,
        options: &TsdbOptions,
        outcome: &mut AppendOutcome,
    ) -> Result<()> {
        for known in samples {
            let id = known.series.number;
            let sample = Sample::float(known.timestamp_ms, known.value);
            let taken = match times.check(sample.timestamp_ms) {
                Ok(()) => self.append_sample(id, &sample, options)?,
                Err(reason) => Err(reason),
            };
            self.account(taken, outcome, |head, reason| sample_text(reason, &head.labels(id).unwrap_or_default(), &sample));
        }
        Ok(())
    }

    /// Counts what a sample became.
    fn account(
        &mut self,
        taken: Result<Taken, RejectReason>,
        outcome: &mut AppendOutcome,
        text: impl FnOnce(&Self, RejectReason) -> String,
    ) {
        match taken {
            Ok(Taken::Accepted) => outcome.accepted += 1,
            Ok(Taken::OutOfOrder) => {
                outcome.accepted += 1;
                self.counters.out_of_order += 1;
            }
            Ok(Taken::Repeated) => outcome.repeated += 1,
            Err(reason) => {
                self.counters.rejected[reason as usize] += 1;
                outcome.refused_samples += 1;
                outcome.reject(reason, 1, || text(self, reason));
            }
        }
    }

    fn append_series(
        &mut self,
        incoming: &SeriesSamples,
        times: AcceptedTimes,
        options: &TsdbOptions,
        outcome: &mut AppendOutcome,
        cursor: &mut AppendCursor,
    ) -> Result<Option<SeriesId>> {
        let stamps = || {
            let samples = incoming.samples.iter().map(|sample| sample.timestamp_ms);
            samples.chain(incoming.exemplars.iter().map(|exemplar| exemplar.timestamp_ms))
        };
        if !stamps().any(|timestamp| times.check(timestamp).is_ok()) {
            self.refuse_all(incoming, times, outcome);
            return Ok(None);
        }
        let hash = incoming.labels.wire_hash_with(&mut cursor.hash_bytes);
        let id = match self.find_or_register(&incoming.labels, (hash, cursor.hash_bytes.len()), cursor.predicted, options) {
            Ok(id) => id,
            Err(reason) => {
                self.refuse_series(reason, incoming, options, outcome);
                return Ok(None);
            }
        };
        cursor.predicted = id.wrapping_add(1);
        for sample in &incoming.samples {
            let taken = match times.check(sample.timestamp_ms) {
                Ok(()) => self.append_sample(id, sample, options)?,
                Err(reason) => Err(reason),
            };
            self.account(taken, outcome, |_, reason| sample_text(reason, &incoming.labels, sample));
        }
        self.append_exemplars(id, incoming, times, options, outcome);
        Ok(Some(id))
    }

    /// The outer error is a damaged strip, the inner one a refusal.
    fn append_sample(&mut self, id: SeriesId, sample: &Sample, options: &TsdbOptions) -> Result<Result<Taken, RejectReason>> {
        let Some(newest_ms) = self.series.newest_ms(id) else { return Ok(Err(RejectReason::SeriesLimit)) };
        if let Value::Histogram(histogram) = &sample.value
            && histogram.positive_buckets.len() + histogram.negative_buckets.len() + histogram.custom_values.len()
                > options.histogram_buckets_max
        {
            return Ok(Err(RejectReason::HistogramLimit));
        }
        let timestamp = sample.timestamp_ms;
        let taken = if timestamp > newest_ms {
            if !self.series.push(id, sample) {
                return Ok(Err(RejectReason::SeriesLimit));
            }
            Taken::Accepted
        } else {
            let window_ms = i64::try_from(options.out_of_order_window.as_millis()).unwrap_or(i64::MAX);
            if timestamp < newest_ms.saturating_sub(window_ms) {
                return Ok(Err(RejectReason::TooOld));
            }
            if let Some(stored) = self.series.find(id, timestamp)? {
                let is_same = is_same_value(&stored, &sample.value);
                return Ok(if is_same { Ok(Taken::Repeated) } else { Err(RejectReason::DuplicateTimestamp) });
            }
            // The newest sample may be sealed already: its bits say whether this is the same one again.
            if newest_ms == timestamp
                && let Value::Float(value) = sample.value
                && let Some(newest_bits) = self.series.newest_bits(id)
            {
                let is_same = value.to_bits() == newest_bits;
                return Ok(if is_same { Ok(Taken::Repeated) } else { Err(RejectReason::DuplicateTimestamp) });
            }
            if self.series.late_count(id) >= options.out_of_order_samples_max {
                return Ok(Err(RejectReason::OutOfOrderLimit));
            }
            self.series.insert_late(id, sample.clone());
            Taken::OutOfOrder
        };
        self.min_ms = self.min_ms.min(timestamp);
        self.max_ms = self.max_ms.max(timestamp);
        Ok(Ok(taken))
    }

    fn append_exemplars(
        &mut self,
        id: SeriesId,
        incoming: &SeriesSamples,
        times: AcceptedTimes,
        options: &TsdbOptions,
        outcome: &mut AppendOutcome,
    ) {
        for exemplar in &incoming.exemplars {
            let label_bytes: usize = exemplar.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
            let bytes = label_bytes + EXEMPLAR_BYTES;
            let is_over = self.exemplar_bytes + bytes > options.exemplar_bytes_max || label_bytes > options.label_bytes_max;
            let checked = if is_over { Err(RejectReason::ExemplarLimit) } else { times.check(exemplar.timestamp_ms) };
            let taken = checked.and_then(|()| self.series.add_exemplar(id, exemplar, options.exemplars_per_series_max));
            match taken {
                Ok(is_new) => self.exemplar_bytes += if is_new { bytes } else { 0 },
                Err(reason) => {
                    self.refuse_exemplar(reason, incoming, exemplar.timestamp_ms, outcome);
                    continue;
                }
            }
            self.min_ms = self.min_ms.min(exemplar.timestamp_ms);
            self.max_ms = self.max_ms.max(exemplar.timestamp_ms);
        }
    }

    /// Keeps what a sender says about its metric families; the newest word counts.
    /// A family is written to files when its description changes, and again in each window in which it is sent.
    pub(crate) fn append_metadata(
        &mut self,
        metadata: &[(String, Metadata)],
        window_ms: i64,
        options: &TsdbOptions,
        outcome: &mut AppendOutcome,
    ) {
        for (family, incoming) in metadata {
            if family.len() + incoming.help.len() + incoming.unit.len() > options.label_bytes_max {
                self.refuse(RejectReason::MetadataLimit, 1, outcome, || format!("metadata of {family:?} is too long"));
                continue;
            }
            if let Some(known) = self.metadata.get_mut(family) {
                let is_news = known.metadata != *incoming;
                if is_news {
                    known.metadata = incoming.clone();
                }
                if is_news || known.written_window_ms.is_some_and(|written| written != window_ms) {
                    known.written_window_ms = None;
                }
                continue;
            }
            if self.metadata.len() >= options.metadata_max {
                let text = || format!("metadata of {family:?}: {} families are kept already", options.metadata_max);
                self.refuse(RejectReason::MetadataLimit, 1, outcome, text);
                continue;
            }
            let known = FamilyMetadata { metadata: incoming.clone(), written_window_ms: None };
            self.metadata.insert(family.clone(), known);
        }
    }

    fn refuse_all(&mut self, incoming: &SeriesSamples, times: AcceptedTimes, outcome: &mut AppendOutcome) {
        for sample in &incoming.samples {
            if let Err(reason) = times.check(sample.timestamp_ms) {
                outcome.refused_samples += 1;
                self.refuse(reason, 1, outcome, || sample_text(reason, &incoming.labels, sample));
            }
        }
        for exemplar in &incoming.exemplars {
            if let Err(reason) = times.check(exemplar.timestamp_ms) {
                self.refuse_exemplar(reason, incoming, exemplar.timestamp_ms, outcome);
            }
        }
    }

    fn refuse_exemplar(&mut self, reason: RejectReason, of: &SeriesSamples, at_ms: i64, outcome: &mut AppendOutcome) {
        outcome.refused_exemplars += 1;
        let why = if reason == RejectReason::ExemplarLimit { "is one too many or too long" } else { "is of no kept time" };
        self.refuse(reason, 1, outcome, || format!("{}: the exemplar at {at_ms} ms {why}", short(&of.labels)));
    }

    /// Counts samples whose retention rule is over.
    pub(crate) fn refuse_past(&mut self, count: u64, example: String, outcome: &mut AppendOutcome) {
        outcome.refused_samples += count;
        self.refuse(RejectReason::TooOld, count, outcome, || example);
    }

    /// Refuses all samples of a series that is not let in.
    fn refuse_series(
        &mut self,
        reason: RejectReason,
        incoming: &SeriesSamples,
        options: &TsdbOptions,
        outcome: &mut AppendOutcome,
    ) {
        let (labels, samples) = (&incoming.labels, incoming.samples.len() as u64);
        self.counters.rejected[reason as usize] += samples;
        outcome.refused_samples += samples;
        outcome.refused_exemplars += incoming.exemplars.len() as u64;
        let Some(cap) = Cap::of(reason) else {
            return outcome.reject(reason, samples, || {
                let (count, bytes) = (options.labels_max, options.label_bytes_max);
                format!("{}: a series needs 1 to {count} labels with at most {bytes} bytes in all", short(labels))
            });
        };
        self.refusals.count(cap, labels, samples);
        outcome.reject(reason, samples, || {
            let (count, max) = self.counts.against(cap, &self.index, labels, self.series_count(), options);
            format!("{}: {}", short(labels), cap.text(labels, count, max))
        });
    }

    fn refuse(&mut self, reason: RejectReason, count: u64, outcome: &mut AppendOutcome, example: impl FnOnce() -> String) {
        self.counters.rejected[reason as usize] += count;
        outcome.reject(reason, count, example);
    }
}

/// What carries over from one series of a batch to the next.
#[derive(Default)]
pub(crate) struct AppendCursor {
    /// Series that a sender sends in the same order again have numbers in a row.
    predicted: SeriesId,
    hash_bytes: Vec<u8>,
}

/// What an exemplar takes in memory beside its labels, about.
const EXEMPLAR_BYTES: usize = 96;

/// Label sets in messages are cut here.
const EXAMPLE_CHARS_MAX: usize = 300;

fn sample_text(reason: RejectReason, labels: &Labels, sample: &Sample) -> String {
    let what = match reason {
        RejectReason::TooOld => "is too old",
        RejectReason::TooFarInFuture => "is too far in the future",
        RejectReason::DuplicateTimestamp => "has another value than the stored one of the same time",
        RejectReason::OutOfOrderLimit => "is one too many out of order",
        RejectReason::HistogramLimit => "has too many buckets",
        _ => "is over a limit",
    };
    format!("{}: the sample at {} ms {what}", short(labels), sample.timestamp_ms)
}

pub(crate) fn short(labels: &Labels) -> String {
    let text = labels.to_string();
    match text.char_indices().nth(EXAMPLE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
