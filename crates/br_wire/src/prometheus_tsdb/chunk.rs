//! A chunk: samples of one series, packed.

use super::{float_histogram, histogram, xor, xor2};
use crate::{Result, WireError};
use br_model::{FloatHistogram, Value};
use std::sync::Arc;

/// How a chunk is packed, by the number that its file has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
    /// Floats in fewer bits, with start timestamps.
    Xor2 = 4,
    /// Thanos' own; see [`super::aggregate`].
    Aggregates = 0xff,
}

impl Encoding {
    pub fn from_code(code: u8) -> Result<Self> {
        let all = [Self::Xor, Self::Histogram, Self::FloatHistogram, Self::Xor2, Self::Aggregates];
        let known = all.into_iter().find(|encoding| *encoding as u8 == code);
        known.ok_or_else(|| {
            WireError::Unsupported(format!(
                "a chunk of encoding {code}; floats (1, 4), histograms (2, 3) and Thanos' aggregates (255) are read"
            ))
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChunkValues {
    Floats(Vec<f64>),
    Histograms(Vec<Arc<FloatHistogram>>),
}

/// The samples of a chunk by column, ascending in time.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkSamples {
    pub times_ms: Vec<i64>,
    pub values: ChunkValues,
    /// When the counter behind each sample began to count; `None` where no sample says so, `i64::MIN` for one that does not.
    pub starts_ms: Option<Vec<i64>>,
}

/// Unpacks a chunk. Aggregates are no samples: [`super::aggregate::decode`] reads them.
pub fn decode(encoding: Encoding, data: &[u8]) -> Result<ChunkSamples> {
    let samples = match encoding {
        Encoding::Xor => {
            let (times_ms, values) = xor::decode(data)?;
            ChunkSamples { times_ms, values: ChunkValues::Floats(values), starts_ms: None }
        }
        Encoding::Xor2 => {
            let xor2::Samples { times, values, starts } = xor2::decode(data)?;
            let known = |start| if start == 0 { i64::MIN } else { start };
            let starts_ms = starts.map(|starts| starts.into_iter().map(known).collect());
            ChunkSamples { times_ms: times, values: ChunkValues::Floats(values), starts_ms }
        }
        Encoding::Histogram | Encoding::FloatHistogram => {
            let decode = if encoding == Encoding::Histogram { histogram::decode } else { float_histogram::decode };
            let histograms = decode(data)?;
            ChunkSamples { times_ms: histograms.times, values: ChunkValues::Histograms(histograms.values), starts_ms: None }
        }
        Encoding::Aggregates => return Err(WireError::malformed("aggregates where samples should be")),
    };
    if !samples.times_ms.is_sorted_by(|one, next| one < next) {
        return Err(WireError::malformed("the samples of a chunk are not in the order of time"));
    }
    Ok(samples)
}

/// A chunk as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedChunk {
    /// Both included.
    pub min_ms: i64,
    pub max_ms: i64,
    /// Floats, or histograms with float counts.
    pub encoding: Encoding,
    pub data: Vec<u8>,
}

/// As many as Prometheus packs: more cost a reader who wants few.
const SAMPLES_PER_CHUNK: usize = 120;

/// Packs the samples of one series, which ascend in time.
pub fn encode(samples: impl IntoIterator<Item = (i64, Value)>) -> Vec<EncodedChunk> {
    let mut encoder = Encoder::default();
    for (time, value) in samples {
        encoder.push(time, &value);
    }
    encoder.finish()
}

/// What is being packed: floats or histograms, not both.
#[derive(Default)]
struct Encoder {
    chunks: Vec<EncodedChunk>,
    floats: Vec<(i64, f64)>,
    histograms: Option<float_histogram::Encoder>,
    times: Vec<i64>,
}

impl Encoder {
    fn push(&mut self, time: i64, value: &Value) {
        let fits = self.times.len() < SAMPLES_PER_CHUNK
            && match value {
                Value::Float(_) => self.histograms.is_none(),
                Value::Histogram(histogram) => {
                    self.floats.is_empty() && self.histograms.as_ref().is_none_or(|encoder| encoder.takes(histogram))
                }
            };
        if !fits {
            self.cut();
        }
        self.times.push(time);
        match value {
            Value::Float(value) => self.floats.push((time, *value)),
            Value::Histogram(histogram) => {
                self.histograms.get_or_insert_with(|| float_histogram::Encoder::new(histogram)).push(time, histogram);
            }
        }
    }

    fn cut(&mut self) {
        let (Some(min_ms), Some(max_ms)) = (self.times.first().copied(), self.times.last().copied()) else { return };
        let (encoding, data) = match self.histograms.take() {
            Some(encoder) => (Encoding::FloatHistogram, encoder.finish()),
            None => (Encoding::Xor, xor::encode(&self.floats)),
        };
        self.chunks.push(EncodedChunk { min_ms, max_ms, encoding, data });
        self.floats.clear();
        self.times.clear();
    }

    fn finish(mut self) -> Vec<EncodedChunk> {
        self.cut();
        self.chunks
    }
}
