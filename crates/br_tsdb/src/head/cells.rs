//! Bytes of many short strips, each in a chain of small cells.
//!
//! A vector for each strip would be half empty, take three words to point to it, and leave holes all over the memory when it grows and
//! when it goes. Here the cells of a scrape lie in the order in which its series came, and all of them go at once.

/// Bytes in a cell, beside the number of the next one.
pub(super) const CELL_BYTES: usize = 12;

#[derive(Clone, Copy)]
struct Cell {
    bytes: [u8; CELL_BYTES],
    /// Of the last one in a chain: the first.
    next: u32,
}

/// Large enough that the allocator gives each page back by itself.
const PAGE_CELLS: usize = 1 << 16;
/// Cells have numbers below this.
const CELLS_MAX: usize = 1 << 31;
/// In the place of a number: none.
const NONE: u32 = u32::MAX;

/// Where the bytes of a strip are.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    pub(super) last: u32,
    /// Bytes in the last cell; zero for a strip without any.
    pub(super) fill: u8,
}

pub(super) struct Cells {
    pages: Vec<Vec<Cell>>,
    /// The first of a chain of cells that were used before.
    free: u32,
    used: usize,
}

impl Default for Cells {
    fn default() -> Self {
        Self { pages: Vec::new(), free: NONE, used: 0 }
    }
}

impl Cells {
    /// Whether a sample more may find no cell.
    #[inline]
    pub(super) fn are_used_up(&self) -> bool {
        self.pages.len() * PAGE_CELLS >= CELLS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds bytes to a chain. Not for more than a sample's, and not when the cells are used up.
    #[inline]
    pub(super) fn append(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        if chain.fill == 0 {
            chain.last = self.take();
        }
        loop {
            let fill = usize::from(chain.fill);
            let part = bytes.len().min(CELL_BYTES - fill);
            let cell = self.cell_mut(chain.last);
            cell.bytes[fill..fill + part].copy_from_slice(&bytes[..part]);
            chain.fill += part as u8;
            bytes = &bytes[part..];
            if bytes.is_empty() {
                return;
            }
            let fresh = self.take();
            let first = std::mem::replace(&mut self.cell_mut(chain.last).next, fresh);
            self.cell_mut(fresh).next = first;
            *chain = Chain { last: fresh, fill: 0 };
        }
    }

    /// A cell that is the only one of its chain.
    #[inline]
    fn take(&mut self) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let number = self.free;
            let cell = self.cell_mut(number);
            let next = std::mem::replace(&mut cell.next, number);
            self.free = next;
            return number;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE_CELLS) {
            // The first one grows: most tenants have few series.
            let capacity = if self.pages.is_empty() { 0 } else { PAGE_CELLS };
            self.pages.push(Vec::with_capacity(capacity));
        }
        let at = self.pages.len() - 1;
        let number = (at * PAGE_CELLS + self.pages[at].len()) as u32;
        self.pages[at].push(Cell { bytes: [0; CELL_BYTES], next: number });
        number
    }

    #[inline]
    fn cell(&self, number: u32) -> &Cell {
        &self.pages[number as usize / PAGE_CELLS][number as usize % PAGE_CELLS]
    }

    #[inline]
    fn cell_mut(&mut self, number: u32) -> &mut Cell {
        &mut self.pages[number as usize / PAGE_CELLS][number as usize % PAGE_CELLS]
    }

    /// The first bytes of a chain that has some; what stands behind them means nothing.
    pub(super) fn first(&self, chain: Chain) -> &[u8; CELL_BYTES] {
        &self.cell(self.cell(chain.last).next).bytes
    }

    /// Appends the bytes of a chain.
    pub(super) fn copy(&self, chain: Chain, out: &mut Vec<u8>) {
        if chain.fill == 0 {
            return;
        }
        let mut number = self.cell(chain.last).next;
        while number != chain.last {
            let cell = self.cell(number);
            out.extend_from_slice(&cell.bytes);
            number = cell.next;
        }
        out.extend_from_slice(&self.cell(number).bytes[..usize::from(chain.fill)]);
    }

    /// The cells of a chain may be used by others.
    pub(super) fn release(&mut self, chain: Chain) {
        if chain.fill == 0 {
            return;
        }
        let (mut number, mut count) = (self.cell(chain.last).next, 1);
        while number != chain.last {
            number = self.cell(number).next;
            count += 1;
        }
        let free = self.free;
        self.free = std::mem::replace(&mut self.cell_mut(chain.last).next, free);
        self.used -= count;
    }

    /// No chain is needed any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes in all chains, at the most.
    pub(super) fn byte_count(&self) -> usize {
        self.used * CELL_BYTES
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let full = self.pages.len().saturating_sub(1) * PAGE_CELLS;
        (full + self.pages.last().map_or(0, Vec::len)) * size_of::<Cell>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chains_keep_their_bytes_apart(steps in prop::collection::vec((0usize..8, prop::collection::vec(any::<u8>(), 1..25), 0u8..12), 0..200)) {
            let mut cells = Cells::default();
            let mut chains = [Chain { last: 0, fill: 0 }; 8];
            let mut expected: [Vec<u8>; 8] = Default::default();
            for (at, bytes, way) in steps {
                if way == 0 {
                    cells.release(chains[at]);
                    chains[at].fill = 0;
                    expected[at].clear();
                } else {
                    cells.append(&mut chains[at], &bytes);
                    expected[at].extend_from_slice(&bytes);
                }
                for (chain, expected) in chains.iter().zip(&expected) {
                    let mut found = Vec::new();
                    cells.copy(*chain, &mut found);
                    prop_assert_eq!(&found, expected);
                    if !found.is_empty() {
                        let length = found.len().min(CELL_BYTES);
                        prop_assert_eq!(&cells.first(*chain)[..length], &found[..length]);
                    }
                }
                let used: usize = expected.iter().map(|bytes| bytes.len().div_ceil(CELL_BYTES)).sum();
                prop_assert_eq!(cells.used, used);
            }
        }
    }
}
