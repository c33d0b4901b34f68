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

#[derive(Clone, Debug, Default)]
pub(crate) struct Strip {
    bytes: Vec<u8>,
    count: u32,
    last_timestamp_ms: i64,
    interval_ms: i64,
    last_bits: u64,
}

impl Strip {
    /// Appends a sample. `timestamp_ms` is above that of the sample before.
    pub(crate) fn push(&mut self, timestamp_ms: i64, value: f64) {
        let interval = timestamp_ms.wrapping_sub(self.last_timestamp_ms);
        let bits = value.to_bits();
        let step = whole_step(f64::from_bits(self.last_bits), value);
        let (xor_code, xor_bytes, xor_length) = xor::split(self.last_bits, bits);
        let use_step = step.is_some() && xor_code != 0;
        let code = if use_step { WHOLE_STEP } else { xor_code };
        if interval == self.interval_ms {
            self.bytes.push(code);
        } else {
            self.bytes.push(code | INTERVAL_CHANGED);
            varint::put_i64(&mut self.bytes, interval.wrapping_sub(self.interval_ms));
        }
        match step {
            Some(step) if use_step => varint::put_i64(&mut self.bytes, step),
            _ => self.bytes.extend_from_slice(&xor_bytes[..xor_length]),
        }
        self.last_timestamp_ms = timestamp_ms;
        self.interval_ms = interval;
        self.last_bits = bits;
        self.count += 1;
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Time of the first sample; zero when there is none.
    pub(crate) fn first_timestamp_ms(&self) -> i64 {
        first_timestamp_ms(&self.bytes)
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
        *self = Self { bytes, ..Self::default() };
    }

    /// Time of the newest sample; zero when there is none.
    pub(crate) fn last_timestamp_ms(&self) -> i64 {
        self.last_timestamp_ms
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Timestamps and values, oldest first.
    pub(crate) fn decode(&self) -> Result<(Vec<i64>, Vec<f64>)> {
        decode(&self.bytes, self.count())
    }
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
    let (mut timestamp, mut interval, mut bits) = (0i64, 0i64, 0u64);
    for _ in 0..count {
        let code = take_byte(&mut input, "a strip")?;
        if code & INTERVAL_CHANGED != 0 {
            interval = interval.wrapping_add(take_i64(&mut input, "an interval")?);
        }
        timestamp = timestamp.wrapping_add(interval);
        bits = match code & !INTERVAL_CHANGED {
            WHOLE_STEP => {
                let whole = f64::from_bits(bits) as i64;
                (whole.wrapping_add(take_i64(&mut input, "a step")?) as f64).to_bits()
            }
            code if code < xor::CODE_END => xor::take(code, bits, &mut input)?,
            _ => return Err(damaged("a strip's code")),
        };
        timestamps.push(timestamp);
        values.push(f64::from_bits(bits));
    }
    Ok(())
}

/// The difference of two whole numbers; `None` where a value is not whole, too large, or the negative zero.
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
