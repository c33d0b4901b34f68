//! What a merge has in hand: which series comes next, and its samples.

use crate::block::row::{ChunkKind, ChunkRow};
use crate::block::scan::{BlockScan, SeriesTexts};
use crate::codec::{timestamps, values};
use crate::points;
use br_std::{Error, Result};
use br_storage::Points;
use std::cmp::Ordering;

/// The inputs of a merge by the series that each comes to next.
#[derive(Default)]
pub(crate) struct Fronts {
    /// The lowest series last.
    fronts: Vec<Front>,
}

/// One series, and who comes to it next.
pub(crate) struct Front {
    pub(crate) hash: u128,
    pub(crate) texts: SeriesTexts,
    /// Numbers of the inputs, ascending.
    pub(crate) scans: Vec<usize>,
}

impl Fronts {
    pub(crate) fn take_lowest(&mut self) -> Option<Front> {
        self.fronts.pop()
    }

    /// Takes in what an input comes to next, unless it is at its end. Texts are read only where no other input is at the same series.
    pub(crate) fn add(&mut self, at: usize, scan: &mut BlockScan) -> Result<()> {
        let Some(hash) = scan.peek_hash()? else { return Ok(()) };
        if let Some(front) = self.fronts.iter_mut().rev().find(|front| front.hash == hash) {
            let place = front.scans.partition_point(|other| *other < at);
            front.scans.insert(place, at);
            return Ok(());
        }
        let Some((hash, texts)) = scan.peek_texts()? else { return Ok(()) };
        let (mut low, mut high) = (0, self.fronts.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.fronts[middle].texts.order(&texts)? {
                Ordering::Greater => low = middle + 1,
                _ => high = middle,
            }
        }
        self.fronts.insert(low, Front { hash, texts, scans: vec![at] });
        Ok(())
    }
}

/// Samples of one series out of rows, what was stored first in front. Plain floats that follow each other become one column, in memory
/// that is kept for the series to come.
pub(crate) struct MergedSamples {
    parts: Vec<Points>,
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    /// Of each input the timestamps that were read last: series that were scraped together have the same.
    known: Vec<KnownTimes>,
    /// Samples of all series that were left out though they had another value than the one of the same time that won.
    pub(crate) contradictions: u64,
}

#[derive(Clone, Default)]
struct KnownTimes {
    bytes: Vec<u8>,
    timestamps_ms: Vec<i64>,
}

impl KnownTimes {
    fn read(&mut self, bytes: &[u8], count: usize) -> Result<&[i64]> {
        if self.timestamps_ms.len() != count || self.bytes != bytes {
            self.timestamps_ms = timestamps::decode(bytes, count)?;
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
        Ok(&self.timestamps_ms)
    }
}

impl MergedSamples {
    pub(crate) fn new(inputs: usize) -> Self {
        let known = vec![KnownTimes::default(); inputs];
        Self { parts: Vec::new(), timestamps_ms: Vec::new(), values: Vec::new(), known, contradictions: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.timestamps_ms.clear();
        self.values.clear();
    }

    /// Takes a row of an input that is nothing but floats; false, and nothing is taken, for any other.
    pub(crate) fn push_floats(&mut self, input: usize, row: &ChunkRow<&[u8]>) -> Result<bool> {
        let count = row.head.count as usize;
        if row.head.kind != ChunkKind::Floats || row.starts.is_some() || count == 0 {
            return Ok(false);
        }
        let Some(known) = self.known.get_mut(input) else { return Ok(false) };
        let times = known.read(row.timestamps, count)?;
        if self.timestamps_ms.last().zip(times.first()).is_some_and(|(last, first)| last >= first) {
            close(&mut self.parts, &mut self.timestamps_ms, &mut self.values);
        }
        self.timestamps_ms.extend_from_slice(times);
        let mut bytes = row.values;
        values::decode_into(&mut bytes, count, &mut self.values)?;
        if !bytes.is_empty() {
            return Err(Error::corrupt("damaged chunk: bytes left over after the values"));
        }
        Ok(true)
    }

    pub(crate) fn push(&mut self, points: Option<Points>) {
        if let Some(points) = points {
            close(&mut self.parts, &mut self.timestamps_ms, &mut self.values);
            self.parts.push(points);
        }
    }

    /// All samples, when they are floats that follow each other and no more than this.
    pub(crate) fn only_floats(&self, count_max: usize) -> Option<(&[i64], &[f64])> {
        let is_one = self.parts.is_empty() && (1..=count_max).contains(&self.values.len());
        is_one.then_some((&self.timestamps_ms[..], &self.values[..]))
    }

    /// All samples, in time order.
    pub(crate) fn take(&mut self) -> Option<Points> {
        close(&mut self.parts, &mut self.timestamps_ms, &mut self.values);
        let (samples, contradictions) = points::merge_counting(std::mem::take(&mut self.parts));
        self.contradictions += contradictions;
        samples
    }
}

fn close(parts: &mut Vec<Points>, timestamps_ms: &mut Vec<i64>, values: &mut Vec<f64>) {
    if !timestamps_ms.is_empty() {
        parts.push(points::floats(timestamps_ms.as_slice().into(), std::mem::take(values), None));
        timestamps_ms.clear();
    }
}
