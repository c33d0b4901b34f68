//! Split-block Bloom filters over the pages of a segment, transposed: for one term, one contiguous read answers for all pages.
//!
//! Each page has the same number of blocks of 256 bits; a term sets one bit in each of the eight words of one block.
//! A segment holds block 0 of all its pages, then block 1 of all pages, and so on.
//! Source: the Parquet specification's bloom filters (for the block), turned on its side.

use br_std::{Error, Result};

pub(crate) const BLOCK_BYTES: usize = 32;
/// Blocks of one page, at most: 128 KiB, about 87,000 terms at the full rate. Beyond it false positives become more.
pub(crate) const BLOCKS_MAX: usize = 4096;
/// Bits for each term: about 0.5 % false positives.
const BITS_PER_TERM: usize = 12;
const SALTS: [u32; 8] = [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// How many blocks each page needs when the fullest has `terms`.
fn block_count(terms: usize) -> usize {
    (terms * BITS_PER_TERM).div_ceil(BLOCK_BYTES * 8).clamp(1, BLOCKS_MAX)
}

/// Which block holds a term.
pub(crate) fn block_of(term: u64, blocks: usize) -> usize {
    ((u128::from(term >> 32) * blocks as u128) >> 32) as usize
}

fn mask(term: u64) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((term as u32).wrapping_mul(salt) >> 27))
}

/// The filters of all pages, of which each has its terms once, and the number of blocks of each.
pub(crate) fn build(pages: &[&[u64]]) -> (Vec<u8>, usize) {
    let blocks = block_count(pages.iter().map(|terms| terms.len()).max().unwrap_or(0));
    let mut bytes = vec![0u8; blocks * pages.len() * BLOCK_BYTES];
    for (page, terms) in pages.iter().enumerate() {
        for term in *terms {
            let term = *term;
            let at = (block_of(term, blocks) * pages.len() + page) * BLOCK_BYTES;
            for (word, bit) in bytes[at..at + BLOCK_BYTES].chunks_exact_mut(4).zip(mask(term)) {
                for (byte, bits) in word.iter_mut().zip(bit.to_le_bytes()) {
                    *byte |= bits;
                }
            }
        }
    }
    (bytes, blocks)
}

/// Which pages may have the term; `row` is its block of all pages.
pub(crate) fn probe(row: &[u8], term: u64, pages: usize) -> Result<Vec<bool>> {
    if row.len() != pages * BLOCK_BYTES {
        return Err(Error::corrupt(format!("page filter: {} bytes for {pages} pages", row.len())));
    }
    let mask = mask(term);
    let holds = |block: &[u8]| {
        block.chunks_exact(4).zip(mask).all(|(word, bit)| u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & bit != 0)
    };
    Ok(row.chunks_exact(BLOCK_BYTES).map(holds).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::hash::hash64;

    #[test]
    fn finds_all_and_little_else() {
        let term = |page: u64, number: u64| hash64(&(page * 1_000_000 + number).to_le_bytes());
        let pages: Vec<Vec<u64>> = (0..4).map(|page| (0..5_000).map(|number| term(page, number)).collect()).collect();
        let (bytes, blocks) = build(&pages.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let row = |term| &bytes[block_of(term, blocks) * 4 * BLOCK_BYTES..][..4 * BLOCK_BYTES];
        let mut strangers = 0;
        for number in 0..5_000 {
            let inside = term(2, number);
            assert!(probe(row(inside), inside, 4).expect("fits")[2]);
            let outside = term(9, number);
            strangers += probe(row(outside), outside, 4).expect("fits").iter().filter(|hit| **hit).count();
        }
        assert!(strangers < 200, "{strangers} false positives of 20,000");
        assert!(probe(&bytes[..7], 1, 4).is_err());
    }
}
