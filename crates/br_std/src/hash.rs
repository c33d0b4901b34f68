//! Hashes that may be kept: xxh3 does not change between releases or machines.

use xxhash_rust::xxh3;

pub fn hash64(bytes: &[u8]) -> u64 {
    xxh3::xxh3_64(bytes)
}

#[inline]
pub fn hash128(bytes: &[u8]) -> u128 {
    xxh3::xxh3_128(bytes)
}

/// Of one word, for tables in memory only.
#[inline]
pub fn spread(word: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let wide = u128::from(word ^ ODD) * u128::from(ODD);
    (wide as u64) ^ (wide >> 64) as u64
}
