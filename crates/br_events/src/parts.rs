//! Parts of the words of a page's bodies, for needles that begin or end within a word: a bitmap for each page, and those of a segment
//! transposed as [`crate::filter`]s are, so that one part is one read of a bit for each page.
//!
//! Parts are all runs of four bytes without a digit, and all runs of six bytes with one: four digits in a row are in every page that
//! has ids, four letters are not. Short words with a digit have runs of five as well.
//! A part sets few bits and many must be set: that takes far less room than few parts that are certain (docs/adr/0007).

/// Bits of one page, at most: 128 KiB.
pub(crate) const BITS_MAX: usize = 1 << 20;
const WORDS_MAX: usize = BITS_MAX / 64;
/// Bits of a page are a multiple of this.
const BITS_STEP: usize = 512;
/// Bits for each one that is set by different parts: about 55 % of them are set then.
const BITS_PER_PART: f64 = 1.25;
/// Where more of the bits are set than this share, they say nothing.
const FULL_SHARE: f64 = 0.95;

const LETTERS: usize = 4;
const DIGITS: usize = 6;
const SHORT: usize = 5;
/// Longer words with a digit have no parts of five; that there is such a word is known of each page.
const SHORT_WORD_MAX: usize = 8;
/// Bits that are looked up for a question, at most.
const PROBES_MAX: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letters,
    Digits,
    Short,
}

/// All parts of a word, or of a piece of one, each as the bits it may set.
#[inline]
fn each_part(word: &[u8], mut each: impl FnMut(Kind, [u32; 3])) {
    let (mut window, mut letters) = (0u64, 0usize);
    for (at, byte) in word.iter().enumerate() {
        window = window << 8 | u64::from(byte.to_ascii_lowercase());
        letters = if byte.is_ascii_digit() { 0 } else { letters + 1 };
        let length = at + 1;
        if letters >= LETTERS {
            each(Kind::Letters, bits_of(window & 0xffff_ffff));
        }
        if length >= DIGITS && letters < DIGITS {
            each(Kind::Digits, bits_of(window & 0xffff_ffff_ffff));
        }
        if length >= SHORT && letters < SHORT {
            each(Kind::Short, bits_of(window & 0xff_ffff_ffff));
        }
    }
}

/// Three numbers below [`BITS_MAX`].
#[inline]
fn bits_of(part: u64) -> [u32; 3] {
    let hash = part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    [44, 24, 4].map(|shift| (hash >> shift) as u32 & (BITS_MAX as u32 - 1))
}

/// Those of one page.
#[derive(Default)]
pub(crate) struct PageParts {
    /// Of [`BITS_MAX`]; empty until there is one.
    bits: Vec<u64>,
    /// Whether a word of more than [`SHORT_WORD_MAX`] bytes has a digit.
    has_long: bool,
}

impl PageParts {
    /// Adds a word. Twice changes nothing.
    pub(crate) fn add(&mut self, word: &[u8]) {
        if word.len() < LETTERS {
            return;
        }
        if self.bits.is_empty() {
            self.bits = vec![0; WORDS_MAX];
        }
        let is_long = word.len() > SHORT_WORD_MAX;
        let bits = &mut self.bits;
        let mut set = |bit: u32| bits[bit as usize / 64] |= 1 << (bit % 64);
        let mut has_digit = false;
        each_part(word, |kind, numbers| match kind {
            Kind::Letters => numbers.into_iter().for_each(&mut set),
            Kind::Digits => set(numbers[0]),
            Kind::Short => {
                has_digit = true;
                if !is_long {
                    set(numbers[0]);
                }
            }
        });
        self.has_long |= is_long && has_digit;
    }

    fn ones(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// The bitmaps of a segment's pages.
#[derive(Default)]
pub(crate) struct SegmentParts {
    pub(crate) bytes: Vec<u8>,
    /// Of each page; 0 where there is nothing to be known.
    pub(crate) bits: usize,
    /// A bit for each page that has a long word with a digit.
    pub(crate) long: u64,
}

/// At most 64 pages.
pub(crate) fn build(pages: &[PageParts]) -> SegmentParts {
    let fullest = pages.iter().map(PageParts::ones).max().unwrap_or(0);
    let share = fullest as f64 / BITS_MAX as f64;
    if fullest == 0 || share > FULL_SHARE {
        return SegmentParts::default();
    }
    // Some parts have set the same bits.
    let parts = -(BITS_MAX as f64) * (1.0 - share).ln();
    let bits = ((parts * BITS_PER_PART) as usize).next_multiple_of(BITS_STEP).clamp(BITS_STEP, BITS_MAX);
    let folded: Vec<Vec<u64>> = pages.iter().map(|page| fold(&page.bits, bits / 64)).collect();
    let row_bytes = row_bytes(pages.len());
    let mut bytes = vec![0; bits * row_bytes];
    for (word, rows) in bytes.chunks_exact_mut(64 * row_bytes).enumerate() {
        let mut block = [0; 64];
        for (to, page) in block.iter_mut().zip(&folded) {
            *to = page[word];
        }
        transpose(&mut block);
        for (row, bits) in rows.chunks_exact_mut(row_bytes).zip(block) {
            row.copy_from_slice(&bits.to_le_bytes()[..row_bytes]);
        }
    }
    let long = pages.iter().enumerate().map(|(at, page)| u64::from(page.has_long) << at).sum();
    SegmentParts { bytes, bits, long }
}

pub(crate) fn row_bytes(pages: usize) -> usize {
    pages.div_ceil(8)
}

/// Bit `n` becomes bit `n` modulo `64 * words`.
fn fold(bits: &[u64], words: usize) -> Vec<u64> {
    let mut folded = vec![0; words];
    for chunk in bits.chunks(words) {
        for (to, from) in folded.iter_mut().zip(chunk) {
            *to |= from;
        }
    }
    folded
}

/// Bit `b` of number `a` becomes bit `a` of number `b`: halves change places, then their halves.
fn transpose(block: &mut [u64; 64]) {
    let (mut half, mut mask) = (32, 0xffff_ffff_u64);
    while half > 0 {
        let mut at = 0;
        while at < 64 {
            let swapped = (block[at] >> half ^ block[at + half]) & mask;
            block[at] ^= swapped << half;
            block[at + half] ^= swapped;
            at = (at + half + 1) & !half;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

/// A bit that must be set of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Probe {
    pub(crate) bit: u32,
    /// Pages with a long word that has a digit may do without.
    pub(crate) is_short: bool,
}

/// What must be set of a page for a word there to contain each of some pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Probes(Vec<Probe>);

impl Probes {
    /// A piece of a word must stand within a word.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        each_part(piece, |kind, numbers| {
            let of_kind = match kind {
                Kind::Letters => &numbers[..],
                Kind::Digits => &numbers[..1],
                Kind::Short if piece.len() == SHORT => &numbers[..1],
                Kind::Short => &[],
            };
            self.0.extend(of_kind.iter().map(|bit| Probe { bit: *bit, is_short: kind == Kind::Short }));
        });
        self.thin();
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
        self.thin();
    }

    /// Leaves as many as are looked up, from everywhere: those that are left must be set all the same.
    fn thin(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
        let count = self.0.len();
        if count > PROBES_MAX {
            self.0 = (0..PROBES_MAX).map(|at| self.0[at * count / PROBES_MAX]).collect();
        }
    }

    pub(crate) fn as_slice(&self) -> &[Probe] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: impl IntoIterator<Item = String>) -> PageParts {
        let mut page = PageParts::default();
        words.into_iter().for_each(|word| page.add(word.as_bytes()));
        page
    }

    /// The pages that may have the piece.
    fn found(parts: &SegmentParts, pages: usize, piece: &str) -> Vec<usize> {
        let mut probes = Probes::default();
        probes.add(piece.as_bytes());
        let holds = |probe: &Probe, page: usize| {
            let row = probe.bit as usize % parts.bits * row_bytes(pages);
            let is_set = parts.bytes[row + page / 8] >> (page % 8) & 1 == 1;
            is_set || probe.is_short && parts.long >> page & 1 == 1
        };
        (0..pages).filter(|page| probes.as_slice().iter().all(|probe| holds(probe, *page))).collect()
    }

    fn id(seed: u64) -> String {
        format!("{:016x}{:016x}", br_std::hash::hash64(&seed.to_le_bytes()), br_std::hash::hash64(&seed.to_be_bytes()))
    }

    #[test]
    fn a_number_in_each_place_is_found_again() {
        let mut block: [u64; 64] = std::array::from_fn(|at| br_std::hash::spread(at as u64));
        let before = block;
        transpose(&mut block);
        for (at, number) in before.iter().enumerate() {
            for (bit, row) in block.iter().enumerate() {
                assert_eq!(number >> bit & 1, row >> at & 1);
            }
        }
    }

    #[test]
    fn ids_are_found_by_any_piece_and_strangers_are_not() {
        let pages: Vec<PageParts> = (0..11u64).map(|at| page((0..8192).map(|row| id((at << 32) | row)))).collect();
        let parts = build(&pages);
        let bits_per_id = parts.bits as f64 / 8192.0;
        assert!((25.0..45.0).contains(&bits_per_id), "{bits_per_id} bits an id");
        let mut strangers = [0; 3];
        for row in 0..200u64 {
            let known = id((7 << 32) | (row * 40));
            for piece in [&known[..], &known[3..19], &known[20..], &known[10..18]] {
                assert!(found(&parts, 11, piece).contains(&7), "{piece}");
            }
            let unknown = id((99 << 32) | row);
            for (count, piece) in strangers.iter_mut().zip([&unknown[..], &unknown[..12], &unknown[..8]]) {
                *count += found(&parts, 11, piece).len();
            }
        }
        let [whole, twelve, eight] = strangers;
        assert!(whole <= 1 && twelve < 100 && eight < 600, "{strangers:?} of 2,200");
    }

    #[test]
    fn words_and_short_numbers_among_many() {
        let with = |more: &str| page((0..2000).map(|row| format!("name{row}")).chain([more.to_owned()]));
        let pages = [with("timeout"), with("31234"), with("order31234"), with("x")];
        let parts = build(&pages);
        assert_eq!(found(&parts, 4, "timeout"), [0]);
        assert_eq!(found(&parts, 4, "IMEOU"), [0], "in any case");
        assert_eq!(found(&parts, 4, "31234"), [1, 2]);
        assert_eq!(found(&parts, 4, "order3123"), [2]);
        assert_eq!(found(&parts, 4, "e17").len(), 4, "too short to be known");
        assert!(found(&parts, 4, "name1999").len() == 4 && found(&parts, 4, "zebra").is_empty());
    }

    #[test]
    fn what_is_too_full_is_left_out() {
        let noise = (0..60_000u64).map(id);
        assert!(build(&[page(noise)]).bits > 0);
        let more = (0..140_000u64).map(id);
        assert_eq!(build(&[page(more)]).bits, 0);
        assert_eq!(build(&[PageParts::default()]).bits, 0);
    }
}
