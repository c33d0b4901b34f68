//! The open end of a series in memory: float samples in time order, appended one by one.
//!
//! A sample that comes at the usual interval with an unchanged value takes one byte; a small integer step two or three.

use super::{damaged, take_byte, take_i64, xor};
use br_std::{Result, varint};

/// Set in the code byte when the interval changed; a varint with the difference follows.
const INTERVAL_CHANGED: u8 = 0x80;
/// Both values are whole numbers; a varint with their difference follows.
const WHOLE_STEP: u8 = xor::CODE_END;
/// Whole numbers below this are exact in a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

#[derive(Clone, Debug)]
pub(crate) struct Strip {
    bytes: Vec<u8>,
    /// Of the newest sample ever, also when that was taken away; [`NOTHING_YET`] before the first.
    newest_ms: i64,
    /// The same of its value.
    newest_bits: u64,
    count: u32,
    interval_ms: i32,
}

/// In the place of a time: there was none.
const NOTHING_YET: i64 = i64::MIN;

impl Default for Strip {
    fn default() -> Self {
        Self { bytes: Vec::new(), newest_ms: NOTHING_YET, newest_bits: 0, count: 0, interval_ms: 0 }
    }
}

impl Strip {
    /// Appends a sample. `timestamp_ms` is above that of the sample before.
    pub(crate) fn push(&mut self, timestamp_ms: i64, value: f64) {
        // A strip stands for itself: its first sample is written against zero.
        let (before_ms, before) = if self.count == 0 { (0, 0) } else { (self.newest_ms, self.newest_bits) };
        let interval = timestamp_ms.wrapping_sub(before_ms);
        let coded = Coded::of(before, value);
        let usual = i64::from(self.interval_ms);
        if interval == usual {
            self.bytes.push(coded.code);
        } else {
            self.bytes.push(coded.code | INTERVAL_CHANGED);
            varint::put_i64(&mut self.bytes, interval.wrapping_sub(usual));
        }
        coded.put_rest(&mut self.bytes);
        self.newest_ms = timestamp_ms;
        self.newest_bits = value.to_bits();
        self.interval_ms = remembered(interval, self.count == 0);
        self.count += 1;
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Times of the first and the last sample that are in here.
    pub(crate) fn time_range(&self) -> Option<(i64, i64)> {
        (self.count > 0).then(|| (first_timestamp_ms(&self.bytes), self.newest_ms))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties the strip and keeps its memory, unless that is far more than it needed.
    pub(crate) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() > bytes.len() * 2 + 32 {
            bytes = Vec::new();
        }
        bytes.clear();
        (self.bytes, self.count, self.interval_ms) = (bytes, 0, 0);
    }

    /// Takes the samples away, with their memory.
    pub(crate) fn take(&mut self) -> Self {
        let emptied = Self { newest_ms: self.newest_ms, newest_bits: self.newest_bits, ..Self::default() };
        std::mem::replace(self, emptied)
    }

    /// Takes note of a sample that stands elsewhere. Only for a strip that has no samples.
    pub(crate) fn pass(&mut self, timestamp_ms: i64) {
        (self.newest_ms, self.newest_bits) = (timestamp_ms, 0);
    }

    /// Time of the newest sample ever, also when that was taken away; `None` before the first.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        (self.newest_ms != NOTHING_YET).then_some(self.newest_ms)
    }

    /// Bits of the newest sample ever, also when that was taken away; zero when it was no float.
    pub(crate) fn newest_bits(&self) -> u64 {
        self.newest_bits
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Timestamps and values, oldest first.
    pub(crate) fn decode(&self) -> Result<(Vec<i64>, Vec<f64>)> {
        decode(&self.bytes, self.count())
    }
}

/// The interval that the next one is compared with: not the first, which is counted from zero, and none that is longer than weeks.
fn remembered(interval: i64, is_first: bool) -> i32 {
    if is_first { 0 } else { i32::try_from(interval).unwrap_or(0) }
}

/// Time of the first sample in the bytes of a strip; zero when there is none.
pub(crate) fn first_timestamp_ms(bytes: &[u8]) -> i64 {
    let mut input = bytes.get(1..).unwrap_or_default();
    let is_written = bytes.first().is_some_and(|code| code & INTERVAL_CHANGED != 0);
    if is_written { varint::take_i64(&mut input).unwrap_or(0) } else { 0 }
}

/// Reads `count` samples from the bytes of a strip.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<(Vec<i64>, Vec<f64>)> {
    let (mut timestamps, mut values) = (Vec::new(), Vec::new());
    decode_into(bytes, count, &mut timestamps, &mut values)?;
    Ok((timestamps, values))
}

/// The same, after what the columns have already.
pub(crate) fn decode_into(bytes: &[u8], count: usize, timestamps: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<()> {
    if count > bytes.len() {
        return Err(damaged("a strip's count"));
    }
    let mut input = bytes;
    timestamps.reserve(count);
    values.reserve(count);
    let (mut timestamp, mut usual, mut bits) = (0i64, 0i32, 0u64);
    for at in 0..count {
        let code = take_byte(&mut input, "a strip")?;
        let mut interval = i64::from(usual);
        if code & INTERVAL_CHANGED != 0 {
            interval = interval.wrapping_add(take_i64(&mut input, "an interval")?);
        }
        usual = remembered(interval, at == 0);
        timestamp = timestamp.wrapping_add(interval);
        bits = take_value(code & !INTERVAL_CHANGED, bits, &mut input)?;
        timestamps.push(timestamp);
        values.push(f64::from_bits(bits));
    }
    Ok(())
}

/// The difference of two whole numbers; `None` where a value is not whole, too large, or the negative zero.
/// A value as its strip has it: the code, and a step or bytes behind it.
struct Coded {
    code: u8,
    step: i64,
    bytes: [u8; 8],
    length: usize,
}

impl Coded {
    fn of(before: u64, value: f64) -> Self {
        let (code, bytes, length) = xor::split(before, value.to_bits());
        match whole_step(f64::from_bits(before), value) {
            Some(step) if code != 0 => Self { code: WHOLE_STEP, step, bytes, length: 0 },
            _ => Self { code, step: 0, bytes, length },
        }
    }

    fn put_rest(&self, out: &mut Vec<u8>) {
        if self.code == WHOLE_STEP {
            varint::put_i64(out, self.step);
        } else {
            out.extend_from_slice(&self.bytes[..self.length]);
        }
    }
}

/// Reads what stands behind the code of a value.
fn take_value(code: u8, before: u64, input: &mut &[u8]) -> Result<u64> {
    match code {
        WHOLE_STEP => {
            let whole = f64::from_bits(before) as i64;
            Ok((whole.wrapping_add(take_i64(input, "a step")?) as f64).to_bits())
        }
        code if code < xor::CODE_END => xor::take(code, before, input),
        _ => Err(damaged("a strip's code")),
    }
}

/// Values alone, as in a strip whose times stand elsewhere.
pub(crate) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let mut before = 0;
    for value in values {
        let coded = Coded::of(before, *value);
        out.push(coded.code);
        coded.put_rest(out);
        before = value.to_bits();
    }
}

/// Reads `count` values that [`put_values`] wrote, after what the column has already.
pub(crate) fn take_values(mut input: &[u8], count: usize, values: &mut Vec<f64>) -> Result<()> {
    let mut bits = 0;
    for _ in 0..count {
        let code = take_byte(&mut input, "a strip")?;
        bits = take_value(code, bits, &mut input)?;
        values.push(f64::from_bits(bits));
    }
    Ok(())
}

fn whole_step(before: f64, value: f64) -> Option<i64> {
    let is_whole = |value: f64| value.abs() < WHOLE_MAX && (value as i64 as f64).to_bits() == value.to_bits();
    (is_whole(before) && is_whole(value)).then(|| value as i64 - before as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(samples in prop::collection::vec((1i64..100_000, any::<u64>().prop_map(f64::from_bits)), 0..200), start: i64) {
            let mut strip = Strip::default();
            let (mut timestamps, mut bits, mut timestamp) = (Vec::new(), Vec::new(), start >> 1);
            for (gap, value) in samples {
                timestamp += gap;
                strip.push(timestamp, value);
                timestamps.push(timestamp);
                bits.push(value.to_bits());
            }
            let (decoded, values) = strip.decode().expect("own bytes");
            prop_assert_eq!(decoded, timestamps);
            prop_assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), count in 0usize..200) {
            let _ = decode(&bytes, count);
        }
    }

    #[test]
    fn a_steady_series_takes_a_byte_a_sample() {
        let mut strip = Strip::default();
        for at in 0..100 {
            strip.push(1_700_000_000_000 + at * 15_000, 42.5);
        }
        assert!(strip.bytes.len() < 125, "{}", strip.bytes.len());
    }
}
