//! Float values of one chunk: the shortest of a ladder of encodings, bit-exact for every float, NaN payloads included.
//!
//! Byte-aligned on purpose: the pages of a file run through zstd, which then works across neighbouring series.

use super::{CHUNK_SAMPLES_MAX, damaged, put_f64, take_byte, take_f64, take_i64, take_u64, xor};
use br_std::{Result, varint};
use smallvec::SmallVec;

const CONSTANT: u8 = 0;
/// Whole numbers after scaling by a power of ten; first the value, then differences.
const DECIMAL_DELTA: u8 = 1;
/// The same with differences of differences: counters that grow evenly.
const DECIMAL_DELTA2: u8 = 2;
const XOR: u8 = 3;

/// Scales that are tried: 1, 10, … 10^12. All are exact floats.
const POWERS: [f64; 13] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// From here on floats have no halves.
const HALVES_END: f64 = 4_503_599_627_370_496.0;

/// Appends the code and the bytes of `values`, of which there is at least one.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let Some((first, rest)) = values.split_first() else { return };
    if rest.iter().all(|value| value.to_bits() == first.to_bits()) {
        out.push(CONSTANT);
        return put_f64(out, *first);
    }
    let xor_bytes = 1 + xor::size_of(values);
    match Decimal::of(values) {
        Some(decimal) if decimal.bytes() < xor_bytes => decimal.put(out),
        _ => {
            out.reserve(xor_bytes);
            out.push(XOR);
            let mut before = 0;
            for value in values {
                xor::put(out, before, value.to_bits());
                before = value.to_bits();
            }
        }
    }
}

/// Reads exactly `count` values off the front of `input`.
pub(crate) fn decode(input: &mut &[u8], count: usize) -> Result<Vec<f64>> {
    let mut values = Vec::new();
    decode_into(input, count, &mut values)?;
    Ok(values)
}

/// The same, after what the column has already.
pub(crate) fn decode_into(input: &mut &[u8], count: usize, values: &mut Vec<f64>) -> Result<()> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(damaged("more samples than a chunk may hold"));
    }
    if count == 0 {
        return Ok(());
    }
    values.reserve(count);
    match take_byte(input, "the encoding of values")? {
        CONSTANT => {
            values.resize(values.len() + count, take_f64(input, "a constant")?);
            Ok(())
        }
        DECIMAL_DELTA => decode_decimal(input, count, false, values),
        DECIMAL_DELTA2 => decode_decimal(input, count, true, values),
        XOR => decode_xor(input, count, values),
        other => Err(damaged(&format!("encoding {other} of values is not known"))),
    }
}

fn decode_xor(input: &mut &[u8], count: usize, values: &mut Vec<f64>) -> Result<()> {
    let mut bits = 0;
    for _ in 0..count {
        let code = take_byte(input, "a float")?;
        if code >= xor::CODE_END {
            return Err(damaged("a float's code"));
        }
        bits = xor::take(code, bits, input)?;
        values.push(f64::from_bits(bits));
    }
    Ok(())
}

/// Values as whole numbers times a power of ten, with a few exceptions such as staleness markers.
struct Decimal {
    exponent: usize,
    wholes: Wholes,
    exceptions: SmallVec<[(usize, f64); 8]>,
    code: u8,
    /// What the steps take.
    step_bytes: usize,
}

/// Most chunks that are made have no more samples than this.
type Wholes = SmallVec<[i64; 256]>;

impl Decimal {
    /// `None` when more than one value in eight has no short decimal form.
    fn of(values: &[f64]) -> Option<Self> {
        let exceptions_max = values.len() / 8 + 1;
        let mut wholes = Wholes::with_capacity(values.len());
        let exponent = common_exponent(values, exceptions_max, &mut wholes)?;
        let mut exceptions = SmallVec::new();
        if wholes.len() < values.len() {
            wholes.clear();
            for (at, value) in values.iter().enumerate() {
                let whole = scaled(*value, exponent).unwrap_or_else(|| {
                    exceptions.push((at, *value));
                    wholes.last().copied().unwrap_or(0)
                });
                wholes.push(whole);
            }
            if exceptions.len() > exceptions_max {
                return None;
            }
        }
        let (mut delta_bytes, mut delta2_bytes) = (0, 0);
        let (mut before, mut step_before) = (0i64, 0i64);
        for (at, whole) in wholes.iter().enumerate() {
            let step = whole - before;
            delta_bytes += varint::size_u64(varint::zigzag(step));
            delta2_bytes += varint::size_u64(varint::zigzag(if at > 1 { step - step_before } else { step }));
            (before, step_before) = (*whole, step);
        }
        let code = if delta2_bytes < delta_bytes { DECIMAL_DELTA2 } else { DECIMAL_DELTA };
        let step_bytes = delta2_bytes.min(delta_bytes) as usize;
        Some(Self { exponent, wholes, exceptions, code, step_bytes })
    }

    /// What [`Self::put`] appends.
    fn bytes(&self) -> usize {
        let place_bytes = |(at, _): &(usize, f64)| varint::size_u64(*at as u64) as usize;
        let exceptions: usize = self.exceptions.iter().map(|exception| place_bytes(exception) + 8).sum();
        2 + varint::size_u64(self.exceptions.len() as u64) as usize + exceptions + self.step_bytes
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        out.push(self.code);
        out.push(self.exponent as u8);
        varint::put_u64(out, self.exceptions.len() as u64);
        for (at, value) in &self.exceptions {
            varint::put_u64(out, *at as u64);
            put_f64(out, *value);
        }
        let (mut before, mut step_before) = (0i64, 0i64);
        for (at, whole) in self.wholes.iter().enumerate() {
            let step = whole - before;
            varint::put_i64(out, if self.code == DECIMAL_DELTA2 && at > 1 { step - step_before } else { step });
            (before, step_before) = (*whole, step);
        }
    }
}

fn decode_decimal(input: &mut &[u8], count: usize, is_delta2: bool, values: &mut Vec<f64>) -> Result<()> {
    let exponent = take_byte(input, "an exponent")?;
    let power = *POWERS.get(usize::from(exponent)).ok_or_else(|| damaged("an exponent"))?;
    let exceptions_count = take_u64(input, "the count of exceptions")?;
    if exceptions_count > count as u64 {
        return Err(damaged("the count of exceptions"));
    }
    let mut exceptions = Vec::with_capacity(exceptions_count as usize);
    for _ in 0..exceptions_count {
        exceptions.push((take_u64(input, "an exception")?, take_f64(input, "an exception")?));
    }
    let start = values.len();
    let (mut whole, mut step) = (0i64, 0i64);
    for at in 0..count {
        let read = take_i64(input, "a step")?;
        step = if is_delta2 && at > 1 { step.wrapping_add(read) } else { read };
        whole = whole.wrapping_add(step);
        values.push(whole as f64 / power);
    }
    for (at, value) in exceptions {
        let slot = usize::try_from(at).ok().and_then(|at| values[start..].get_mut(at));
        *slot.ok_or_else(|| damaged("the place of an exception"))? = value;
    }
    Ok(())
}

/// The smallest power of ten that makes all values whole but for `exceptions_max` of them. Where it makes all of them whole from the
/// first one on, they are put into `wholes`, of which otherwise some are missing.
fn common_exponent(values: &[f64], exceptions_max: usize, wholes: &mut Wholes) -> Option<usize> {
    let mut exponent = 0;
    let mut exceptions = 0;
    for (at, value) in values.iter().enumerate() {
        if let Some(whole) = scaled(*value, exponent) {
            wholes.push(whole);
            continue;
        }
        match (exponent + 1..POWERS.len()).find_map(|exponent| Some((exponent, scaled(*value, exponent)?))) {
            Some((needed, whole)) => {
                exponent = needed;
                // Those before are to be scaled anew.
                wholes.clear();
                if at == 0 {
                    wholes.push(whole);
                }
            }
            None => exceptions += 1,
        }
        if exceptions > exceptions_max {
            return None;
        }
    }
    Some(exponent)
}

/// `value` times 10^`exponent` when dividing that by the power gives the same bits again.
#[inline]
fn scaled(value: f64, exponent: usize) -> Option<i64> {
    let product = value * POWERS[exponent];
    // To the nearest, by hand: `f64::round` is a call. Where the two differ, neither gives the same bits again.
    let whole = if product.abs() < HALVES_END { product + 0.5f64.copysign(product) } else { product } as i64;
    let is_exact = product.abs() < WHOLE_MAX && (whole as f64 / POWERS[exponent]).to_bits() == value.to_bits();
    is_exact.then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::stale_nan;
    use proptest::prelude::*;

    fn check(values: &[f64]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        let mut input = &bytes[..];
        let decoded = decode(&mut input, values.len()).expect("own bytes");
        assert!(input.is_empty());
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&decoded), bits(values));
        bytes.len()
    }

    #[test]
    fn each_rung_is_short_where_it_should_be() {
        assert_eq!(check(&[f64::NAN; 500]), 9);
        let counter: Vec<f64> = (0..500).map(|at| 1e9 + f64::from(at) * 1234.0).collect();
        assert!(check(&counter) < 520);
        let seconds: Vec<f64> = (0..500).map(|at| f64::from(at * at % 977) / 100.0).collect();
        assert!(check(&seconds) < 1100);
        let mut ended = counter.clone();
        ended.push(stale_nan());
        assert!(check(&ended) < 540, "a staleness marker must not spoil the chunk");
        check(&[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 5e-324]);
    }

    fn any_float() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-1_000_000i64..1_000_000).prop_map(|whole| whole as f64),
            (-1_000_000i64..1_000_000, 0i32..8).prop_map(|(whole, places)| whole as f64 / 10f64.powi(places)),
            Just(stale_nan()),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(values in prop::collection::vec(any_float(), 1..200)) {
            check(&values);
        }

        #[test]
        fn round_trip_of_decimals(values in prop::collection::vec((-10_000i64..10_000).prop_map(|whole| whole as f64 / 1000.0), 1..200)) {
            check(&values);
        }

        #[test]
        fn foreign_bytes_never_panic(code in 0u8..5, bytes in prop::collection::vec(any::<u8>(), 0..100), count in 0usize..2000) {
            let mut input = vec![code];
            input.extend(bytes);
            let _ = decode(&mut &input[..], count);
        }
    }
}
