//! Ascending timestamps of one chunk, as differences of differences.
//!
//! Series that were scraped together have equal bytes here, so that a file keeps them once (dictionary encoding).

use super::{CHUNK_SAMPLES_MAX, damaged, expect_end, take_byte, take_i64};
use br_std::{Result, varint};

const REGULAR: u8 = 0;
const IRREGULAR: u8 = 1;

pub(crate) fn encode(timestamps_ms: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    let Some(&first) = timestamps_ms.first() else { return out };
    varint::put_i64(&mut out, first);
    let Some(&second) = timestamps_ms.get(1) else { return out };
    let interval = second.wrapping_sub(first);
    varint::put_i64(&mut out, interval);
    if timestamps_ms.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == interval) {
        out.push(REGULAR);
        return out;
    }
    out.push(IRREGULAR);
    let mut before = interval;
    for pair in timestamps_ms[1..].windows(2) {
        let interval = pair[1].wrapping_sub(pair[0]);
        varint::put_i64(&mut out, interval.wrapping_sub(before));
        before = interval;
    }
    out
}

/// Reads exactly `count` timestamps and checks that they ascend.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<i64>> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(damaged("more samples than a chunk may hold"));
    }
    let mut input = bytes;
    let mut timestamps = Vec::with_capacity(count);
    if count > 0 {
        timestamps.push(take_i64(&mut input, "the first timestamp")?);
    }
    if count > 1 {
        decode_rest(&mut input, count, &mut timestamps)?;
    }
    expect_end(input, "the timestamps")?;
    if timestamps.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(damaged("timestamps out of order"));
    }
    Ok(timestamps)
}

fn decode_rest(input: &mut &[u8], count: usize, timestamps: &mut Vec<i64>) -> Result<()> {
    let mut interval = take_i64(input, "the interval")?;
    let mut timestamp = timestamps[0].wrapping_add(interval);
    timestamps.push(timestamp);
    let is_regular = match take_byte(input, "the kind of timestamps")? {
        REGULAR => true,
        IRREGULAR => false,
        _ => return Err(damaged("the kind of timestamps")),
    };
    while timestamps.len() < count {
        if !is_regular {
            interval = interval.wrapping_add(take_i64(input, "a timestamp")?);
        }
        timestamp = timestamp.wrapping_add(interval);
        timestamps.push(timestamp);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(gaps in prop::collection::vec(1i64..1 << 40, 0..300), first in -(1i64 << 60)..1 << 60, regular: bool) {
            let mut timestamp = first;
            let mut timestamps = vec![first];
            for gap in &gaps {
                timestamp += if regular { gaps[0] } else { *gap };
                timestamps.push(timestamp);
            }
            let bytes = encode(&timestamps);
            prop_assert_eq!(decode(&bytes, timestamps.len()).expect("own bytes"), timestamps);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..50), count in 0usize..2000) {
            let _ = decode(&bytes, count);
        }
    }

    #[test]
    fn a_whole_scrape_history_takes_a_dozen_bytes() {
        let timestamps: Vec<i64> = (0..1000).map(|at| 1_700_000_000_000 + at * 15_000).collect();
        assert!(encode(&timestamps).len() <= 12);
    }
}
