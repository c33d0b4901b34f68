//! Thanos' downsampled chunks: up to five chunks of floats in one, each an aggregate over five minutes or an hour.

use super::chunk::Encoding;
use super::xor;
use crate::{Result, WireError};
use br_std::varint;

/// What was made of the samples of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Count,
    Sum,
    Min,
    Max,
    /// The last value of a counter, with its resets undone.
    Counter,
}

impl Aggregate {
    /// In the order in which they stand in a chunk.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Counter => "counter",
        }
    }
}

/// One aggregate of a chunk: its times and values.
pub type Aggregated = (Aggregate, Vec<i64>, Vec<f64>);

/// The aggregates that a chunk has.
///
/// A counter repeats its last time with the raw value behind it, so that Thanos sees a reset; here the first of both counts.
pub fn decode(mut data: &[u8]) -> Result<Vec<Aggregated>> {
    let mut found = Vec::new();
    let cut = || WireError::malformed("a chunk of aggregates ends inside one");
    for aggregate in Aggregate::ALL {
        let length = varint::take_u64(&mut data).ok_or_else(cut)?;
        if length == 0 {
            continue;
        }
        let (encoding, rest) = data.split_first().ok_or_else(cut)?;
        let length = usize::try_from(length).map_err(|_| cut())?;
        let (chunk, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        data = rest;
        if *encoding != Encoding::Xor as u8 {
            return Err(WireError::Unsupported(format!("an aggregate of encoding {encoding}; only floats (1) are read")));
        }
        let (mut times, mut values) = xor::decode(chunk)?;
        drop_repeated(&mut times, &mut values);
        if !times.is_sorted() {
            return Err(WireError::malformed("the aggregates of a chunk are not in the order of time"));
        }
        found.push((aggregate, times, values));
    }
    Ok(found)
}

fn drop_repeated(times: &mut Vec<i64>, values: &mut Vec<f64>) {
    let mut kept = 0;
    for at in 0..times.len() {
        if at == 0 || times[at] != times[kept - 1] {
            (times[kept], values[kept]) = (times[at], values[at]);
            kept += 1;
        }
    }
    times.truncate(kept);
    values.truncate(kept);
}
