//! Start timestamps of the samples of one chunk, as runs of equal ones. `i64::MIN` stands for "not known".

use super::{CHUNK_SAMPLES_MAX, damaged, expect_end, take_i64, take_u64};
use br_std::{Result, varint};

pub(crate) fn encode(starts_ms: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before = 0i64;
    for run in starts_ms.chunk_by(|one, other| one == other) {
        varint::put_u64(&mut out, run.len() as u64);
        varint::put_i64(&mut out, run[0].wrapping_sub(before));
        before = run[0];
    }
    out
}

/// Reads exactly `count` start timestamps.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<i64>> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(damaged("more samples than a chunk may hold"));
    }
    let mut input = bytes;
    let mut starts = Vec::with_capacity(count);
    let mut start = 0i64;
    while starts.len() < count {
        let run = take_u64(&mut input, "a run of start timestamps")?;
        start = start.wrapping_add(take_i64(&mut input, "a start timestamp")?);
        if run == 0 || run > (count - starts.len()) as u64 {
            return Err(damaged("the length of a run of start timestamps"));
        }
        starts.resize(starts.len() + run as usize, start);
    }
    expect_end(input, "the start timestamps")?;
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(runs in prop::collection::vec((any::<i64>(), 1usize..50), 0..20)) {
            let starts: Vec<i64> = runs.iter().flat_map(|(start, length)| std::iter::repeat_n(*start, *length)).collect();
            prop_assert_eq!(decode(&encode(&starts), starts.len()).expect("own bytes"), starts);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..50), count in 0usize..2000) {
            let _ = decode(&bytes, count);
        }
    }
}
