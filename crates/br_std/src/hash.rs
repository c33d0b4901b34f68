//! Hashes that may be kept: xxh3 does not change between releases or machines.

use xxhash_rust::xxh3;

pub fn hash64(bytes: &[u8]) -> u64 {
    xxh3::xxh3_64(bytes)
}

#[inline]
pub fn hash128(bytes: &[u8]) -> u128 {
    xxh3::xxh3_128(bytes)
}
