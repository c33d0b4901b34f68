//! The open end of a series in memory: float samples in time order, appended one by one.
//!
//! The first time is written against a base that many strips share, and so is the interval behind it: strips are short, and most are
//! scraped at one pace.
//! A sample that comes at the usual interval with an unchanged value takes one byte; a small integer step two or three.

use super::{damaged, take_byte, take_i64, xor};
use br_std::{Result, varint};

/// Set in the code byte when the interval changed; a varint with the difference follows.
const INTERVAL_CHANGED: u8 = 0x80;
/// Both values are whole numbers; a varint with their difference follows.
const WHOLE_STEP: u8 = xor::CODE_END;
/// Whole numbers below this are exact in a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What the first sample of a strip is written against, and the interval that is expected after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StripBase {
    pub(crate) from_ms: i64,
    pub(crate) interval_ms: i32,
}

/// Where a strip ends: what the next sample is written against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripEnd {
    /// Of the newest sample; means nothing while there is none.
    pub(crate) newest_ms: i64,
    pub(crate) newest_bits: u64,
    pub(crate) interval_ms: i32,
    pub(crate) count: u32,
}

impl StripEnd {
    /// The bytes of one more sample. `timestamp_ms` is above that of the sample before.
    pub(crate) fn push(&mut self, base: StripBase, timestamp_ms: i64, value: f64) -> Encoded {
        let is_first = self.count == 0;
        // A strip stands for itself: its first value is written against zero.
        let (before_ms, before) = if is_first { (base.from_ms, 0) } else { (self.newest_ms, self.newest_bits) };
        let usual = if is_first { 0 } else { i64::from(self.interval_ms) };
        let interval = timestamp_ms.wrapping_sub(before_ms);
        let coded = Coded::of(before, value);
        let mut out = Encoded::default();
        if interval == usual {
            out.push(coded.code);
        } else {
            out.push(coded.code | INTERVAL_CHANGED);
            out.put_i64(interval.wrapping_sub(usual));
        }
        coded.put_rest(&mut out);
        self.newest_ms = timestamp_ms;
        self.newest_bits = value.to_bits();
        self.interval_ms = if is_first { base.interval_ms } else { remembered(interval) };
        self.count += 1;
        out
    }
}

/// The bytes of one sample: a code, two varints at the most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Encoded {
    bytes: [u8; 24],
    length: u8,
}

impl Encoded {
    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }

    fn put_i64(&mut self, value: i64) {
        let mut left = varint::zigzag(value);
        while left >= 0x80 {
            self.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.push(left as u8);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A strip that stands by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strip {
    pub(crate) base: StripBase,
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
    /// Of the last sample; means nothing while there is none.
    pub(crate) last_ms: i64,
}

impl Strip {
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Times of the first and the last sample that are in here.
    pub(crate) fn time_range(&self) -> Option<(i64, i64)> {
        (self.count > 0).then(|| (first_timestamp_ms(self.base, &self.bytes), self.last_ms))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Timestamps and values, oldest first.
    pub(crate) fn decode(&self) -> Result<(Vec<i64>, Vec<f64>)> {
        decode(self.base, &self.bytes, self.count())
    }
}

/// The interval that the next one is compared with: none that is longer than weeks.
fn remembered(interval: i64) -> i32 {
    i32::try_from(interval).unwrap_or(0)
}

/// Bytes of a strip from its start that [`first_timestamp_ms`] looks at, at the most.
pub(crate) const FIRST_TIMESTAMP_BYTES: usize = 11;

/// Time of the first sample in the bytes of a strip; that of the base when there is none.
pub(crate) fn first_timestamp_ms(base: StripBase, bytes: &[u8]) -> i64 {
    let mut input = bytes.get(1..).unwrap_or_default();
    let is_written = bytes.first().is_some_and(|code| code & INTERVAL_CHANGED != 0);
    let from_base = if is_written { varint::take_i64(&mut input).unwrap_or(0) } else { 0 };
    base.from_ms.wrapping_add(from_base)
}

/// Reads `count` samples from the bytes of a strip.
pub(crate) fn decode(base: StripBase, bytes: &[u8], count: usize) -> Result<(Vec<i64>, Vec<f64>)> {
    let (mut timestamps, mut values) = (Vec::new(), Vec::new());
    decode_into(base, bytes, count, &mut timestamps, &mut values)?;
    Ok((timestamps, values))
}

/// The same, after what the columns have already.
pub(crate) fn decode_into(
    base: StripBase,
    bytes: &[u8],
    count: usize,
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<()> {
    if count > bytes.len() {
        return Err(damaged("a strip's count"));
    }
    let mut input = bytes;
    timestamps.reserve(count);
    values.reserve(count);
    let (mut timestamp, mut usual, mut bits) = (base.from_ms, 0i32, 0u64);
    for at in 0..count {
        let code = take_byte(&mut input, "a strip")?;
        let mut interval = i64::from(usual);
        if code & INTERVAL_CHANGED != 0 {
            interval = interval.wrapping_add(take_i64(&mut input, "an interval")?);
        }
        usual = if at == 0 { base.interval_ms } else { remembered(interval) };
        timestamp = timestamp.wrapping_add(interval);
        bits = take_value(code & !INTERVAL_CHANGED, bits, &mut input)?;
        timestamps.push(timestamp);
        values.push(f64::from_bits(bits));
    }
    Ok(())
}

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

    fn put_rest(&self, out: &mut Encoded) {
        if self.code == WHOLE_STEP {
            return out.put_i64(self.step);
        }
        for byte in &self.bytes[..self.length] {
            out.push(*byte);
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

/// Codes from here on, where values stand alone: so many more of the same, less one.
const REPEATED: u8 = WHOLE_STEP + 1;
/// From here on: both values are whole, and the second is larger by so much, less one.
const SMALL_STEP: u8 = 0x80;
const REPEATED_MAX: usize = (SMALL_STEP - REPEATED) as usize;
const SMALL_STEPS: std::ops::RangeInclusive<i64> = 1..=0x80;

/// Values alone, as in a strip whose times stand elsewhere.
pub(crate) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    let mut before = 0u64;
    let mut rest = values;
    while let Some((value, behind)) = rest.split_first() {
        let equal = rest.iter().take(REPEATED_MAX).take_while(|value| value.to_bits() == before).count();
        if equal > 0 {
            out.push(REPEATED + (equal - 1) as u8);
            rest = &rest[equal..];
            continue;
        }
        let coded = Coded::of(before, *value);
        if coded.code == WHOLE_STEP && SMALL_STEPS.contains(&coded.step) {
            out.push(SMALL_STEP + (coded.step - 1) as u8);
        } else {
            let mut encoded = Encoded::default();
            encoded.push(coded.code);
            coded.put_rest(&mut encoded);
            out.extend_from_slice(encoded.as_slice());
        }
        before = value.to_bits();
        rest = behind;
    }
}

/// Reads `count` values that [`put_values`] wrote, after what the column has already.
pub(crate) fn take_values(mut input: &[u8], count: usize, values: &mut Vec<f64>) -> Result<()> {
    let mut bits = 0;
    let mut left = count;
    while left > 0 {
        let code = take_byte(&mut input, "a strip")?;
        let mut times = 1;
        match code {
            SMALL_STEP.. => {
                let whole = f64::from_bits(bits) as i64;
                bits = (whole.wrapping_add(i64::from(code - SMALL_STEP) + 1) as f64).to_bits();
            }
            REPEATED.. => times = usize::from(code - REPEATED) + 1,
            _ => bits = take_value(code, bits, &mut input)?,
        }
        left = left.checked_sub(times).ok_or_else(|| damaged("a strip's repeats"))?;
        values.extend(std::iter::repeat_n(f64::from_bits(bits), times));
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

    fn strip(base: StripBase, samples: impl Iterator<Item = (i64, f64)>) -> Strip {
        let mut end = StripEnd { newest_ms: 0, newest_bits: 1, interval_ms: 1, count: 0 };
        let mut bytes = Vec::new();
        for (timestamp, value) in samples {
            bytes.extend_from_slice(end.push(base, timestamp, value).as_slice());
        }
        Strip { base, bytes, count: end.count, last_ms: end.newest_ms }
    }

    proptest! {
        #[test]
        fn round_trip(
            samples in prop::collection::vec((1i64..100_000, any::<u64>().prop_map(f64::from_bits)), 0..200),
            start: i64,
            from_ms: i64,
            interval_ms: i32,
        ) {
            let (mut timestamps, mut bits, mut timestamp) = (Vec::new(), Vec::new(), start >> 1);
            for (gap, value) in &samples {
                timestamp += gap;
                timestamps.push(timestamp);
                bits.push(value.to_bits());
            }
            let strip = strip(
                StripBase { from_ms, interval_ms },
                timestamps.iter().copied().zip(samples.iter().map(|(_, value)| *value)),
            );
            let (decoded, values) = strip.decode().expect("own bytes");
            prop_assert_eq!(strip.time_range(), timestamps.first().copied().zip(timestamps.last().copied()));
            let first = &strip.bytes[..strip.bytes.len().min(FIRST_TIMESTAMP_BYTES)];
            prop_assert!(timestamps.first().is_none_or(|time| first_timestamp_ms(strip.base, first) == *time));
            prop_assert_eq!(decoded, timestamps);
            prop_assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
        }

        /// Runs, small and large steps of whole numbers, and any floats.
        #[test]
        fn round_trip_of_values_alone(
            runs in prop::collection::vec(
                (prop_oneof![(-300i64..300).prop_map(|step| step as f64), any::<u64>().prop_map(f64::from_bits)], any::<bool>(), 1usize..200),
                0..20,
            )
        ) {
            let (mut values, mut before) = (Vec::new(), 0.0);
            for (value, is_step, count) in runs {
                before = if is_step { before + value } else { value };
                values.extend(std::iter::repeat_n(before, count));
            }
            let (mut bytes, mut decoded) = (Vec::new(), Vec::new());
            put_values(&mut bytes, &values);
            take_values(&bytes, values.len(), &mut decoded).expect("own bytes");
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded), bits(&values));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), count in 0usize..200) {
            let _ = decode(StripBase::default(), &bytes, count);
            let _ = take_values(&bytes, count, &mut Vec::new());
        }
    }

    #[test]
    fn a_steady_series_takes_a_byte_a_sample() {
        let base = StripBase { from_ms: 1_700_000_000_000, interval_ms: 15_000 };
        let strip = strip(base, (0..100).map(|at| (1_700_000_000_500 + at * 15_000, 42.5)));
        assert!(strip.bytes.len() < 106, "{}", strip.bytes.len());
    }
}
