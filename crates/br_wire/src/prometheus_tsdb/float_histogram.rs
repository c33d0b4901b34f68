//! Chunks of histograms with float counts, which every histogram of the model has.

use super::bits::{BitReader, BitWriter};
use super::histogram::{ChunkState, Histograms, Layout, ResetHeader, decode_as};
use super::xor::XorValue;
use crate::Result;
use br_model::metrics::is_stale;
use br_model::{CounterResetHint, FloatHistogram};

/// What changes from one histogram to the next.
#[derive(Default)]
struct State {
    time: i64,
    distance: i64,
    count: XorValue,
    zero_count: XorValue,
    sum: XorValue,
    positive: Vec<XorValue>,
    negative: Vec<XorValue>,
}

impl ChunkState for State {
    fn first(reader: &mut BitReader<'_>, buckets: (usize, usize)) -> Result<Self> {
        let time = reader.varbit_int()?;
        let mut value = || reader.f64().map(XorValue::new);
        let (count, zero_count, sum) = (value()?, value()?, value()?);
        let mut side = |buckets| (0..buckets).map(|_| value()).collect::<Result<Vec<_>>>();
        Ok(Self { time, distance: 0, count, zero_count, sum, positive: side(buckets.0)?, negative: side(buckets.1)? })
    }

    fn next(&mut self, reader: &mut BitReader<'_>, is_second: bool) -> Result<()> {
        self.distance = if is_second { reader.varbit_uint()? as i64 } else { self.distance.wrapping_add(reader.varbit_int()?) };
        self.time = self.time.wrapping_add(self.distance);
        self.count.read(reader)?;
        self.zero_count.read(reader)?;
        if is_stale(self.sum.read(reader)?) {
            return Ok(());
        }
        self.positive.iter_mut().chain(&mut self.negative).try_for_each(|bucket| bucket.read(reader).map(drop))
    }

    fn time(&self) -> i64 {
        self.time
    }

    fn sum(&self) -> f64 {
        self.sum.value()
    }

    fn fill(&self, histogram: &mut FloatHistogram) {
        let values = |buckets: &[XorValue]| buckets.iter().map(XorValue::value).collect();
        histogram.count = self.count.value();
        histogram.zero_count = self.zero_count.value();
        histogram.positive_buckets = values(&self.positive);
        histogram.negative_buckets = values(&self.negative);
    }
}

pub(super) fn decode(data: &[u8]) -> Result<Histograms> {
    decode_as::<State>(data)
}

/// Writes one chunk.
pub(super) struct Encoder {
    header: ResetHeader,
    layout: Layout,
    count: u16,
    state: State,
    writer: BitWriter,
    last: FloatHistogram,
}

impl Encoder {
    pub(super) fn new(first: &FloatHistogram) -> Self {
        let header = match first.counter_reset_hint {
            CounterResetHint::Gauge => ResetHeader::Gauge,
            CounterResetHint::Reset => ResetHeader::Reset,
            CounterResetHint::NotReset | CounterResetHint::Unknown => ResetHeader::Unknown,
        };
        let layout = if is_stale(first.sum) { Layout::default() } else { Layout::of(first) };
        let mut writer = BitWriter::default();
        layout.write(&mut writer);
        Self { header, layout, count: 0, state: State::default(), writer, last: FloatHistogram::default() }
    }

    /// Whether a histogram may follow in this chunk: all of a chunk look alike, and none is a reset of the one before.
    pub(super) fn takes(&self, next: &FloatHistogram) -> bool {
        if self.count == 0 || is_stale(next.sum) {
            return true;
        }
        let is_gauge = next.counter_reset_hint == CounterResetHint::Gauge;
        if is_stale(self.last.sum) || is_gauge != (self.header == ResetHeader::Gauge) || Layout::of(next) != self.layout {
            return false;
        }
        let grows = |before: &[f64], now: &[f64]| before.iter().zip(now).all(|(before, now)| now >= before);
        is_gauge
            || next.counter_reset_hint != CounterResetHint::Reset
                && next.count >= self.last.count
                && next.zero_count >= self.last.zero_count
                && grows(&self.last.positive_buckets, &next.positive_buckets)
                && grows(&self.last.negative_buckets, &next.negative_buckets)
    }

    pub(super) fn push(&mut self, time: i64, histogram: &FloatHistogram) {
        let stale = FloatHistogram { sum: histogram.sum, ..FloatHistogram::default() };
        let histogram = if is_stale(histogram.sum) { &stale } else { histogram };
        let (state, writer) = (&mut self.state, &mut self.writer);
        let distance = time.wrapping_sub(state.time);
        match self.count {
            0 => {
                writer.varbit_int(time);
                for value in [histogram.count, histogram.zero_count, histogram.sum] {
                    writer.f64(value);
                }
                let mut side = |values: &[f64]| -> Vec<XorValue> {
                    let mut first = |value: &f64| {
                        writer.f64(*value);
                        XorValue::new(*value)
                    };
                    values.iter().map(&mut first).collect()
                };
                state.positive = side(&histogram.positive_buckets);
                state.negative = side(&histogram.negative_buckets);
                state.count = XorValue::new(histogram.count);
                state.zero_count = XorValue::new(histogram.zero_count);
                state.sum = XorValue::new(histogram.sum);
            }
            count => {
                if count == 1 {
                    writer.varbit_uint(distance as u64);
                } else {
                    writer.varbit_int(distance.wrapping_sub(state.distance));
                }
                state.count.write(histogram.count, writer);
                state.zero_count.write(histogram.zero_count, writer);
                state.sum.write(histogram.sum, writer);
                for (bucket, value) in state.positive.iter_mut().zip(&histogram.positive_buckets) {
                    bucket.write(*value, writer);
                }
                for (bucket, value) in state.negative.iter_mut().zip(&histogram.negative_buckets) {
                    bucket.write(*value, writer);
                }
                state.distance = distance;
            }
        }
        state.time = time;
        self.last = histogram.clone();
        self.count += 1;
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let [high, low] = self.count.to_be_bytes();
        let mut data = vec![high, low, self.header as u8];
        data.extend(self.writer.into_bytes());
        data
    }
}
