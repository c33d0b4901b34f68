//! Rows of a head in the order of a file: by service and stream (logs) or name (spans), then by time.

use crate::schema::{NAME, SERVICE, STREAM, TS, column, damaged};
use crate::summary::PAGE_ROWS;
use arrow::array::{Array, BinaryArray, MapArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::compute::interleave_record_batch;
use br_std::Result;
use br_storage::Table;
use hashbrown::HashMap;

/// A page ends early when its rows have so many bytes: offsets of texts are 32-bit, and pages are held in memory.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// What a row has beside its texts, about.
const ROW_BYTES: usize = 128;

/// The rows of narrow batches, sorted, from which pages are taken.
pub(crate) struct Ordered<'a> {
    batches: Vec<&'a RecordBatch>,
    /// Number of the batch and of the row.
    rows: Vec<(u32, u32)>,
    sizes: Vec<Vec<usize>>,
    next: usize,
}

impl<'a> Ordered<'a> {
    pub(crate) fn new(table: Table, batches: &'a [RecordBatch]) -> Result<Self> {
        let texts = |name: &str| batches.iter().map(|batch| column(batch, name)).collect::<Result<Vec<&StringArray>>>();
        let services = ranks(&texts(SERVICE)?);
        let names = if table == Table::Spans { ranks(&texts(NAME)?) } else { Vec::new() };
        let mut keys: Vec<(u32, u64, i64, u32, u32)> = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        for (at, batch) in batches.iter().enumerate() {
            let times: &TimestampNanosecondArray = column(batch, TS)?;
            let streams: &UInt64Array = column(batch, STREAM)?;
            for row in 0..batch.num_rows() {
                let second = names.get(at).map_or_else(|| streams.value(row), |names| u64::from(names[row]));
                keys.push((services[at][row], second, times.value(row), at as u32, row as u32));
            }
        }
        keys.sort_unstable();
        let rows = keys.into_iter().map(|(.., at, row)| (at, row)).collect();
        Ok(Self { batches: batches.iter().collect(), rows, sizes: batches.iter().map(row_bytes).collect(), next: 0 })
    }

    pub(crate) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// The next rows, as many as make a page.
    pub(crate) fn next_page(&mut self) -> Result<Option<RecordBatch>> {
        let mut room = PageRoom::default();
        let rest = self.rows.get(self.next..).unwrap_or_default();
        let count = rest.iter().take_while(|(at, row)| room.take(self.sizes[*at as usize][*row as usize])).count();
        if count == 0 {
            return Ok(None);
        }
        let rows: Vec<(usize, usize)> = rest[..count].iter().map(|(at, row)| (*at as usize, *row as usize)).collect();
        self.next += count;
        interleave_record_batch(&self.batches, &rows).map(Some).map_err(damaged)
    }
}

/// What still fits into a page.
#[derive(Default)]
pub(crate) struct PageRoom {
    rows: usize,
    bytes: usize,
}

impl PageRoom {
    /// Whether a row of so many bytes fits; the first one always does.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.rows == 0 || self.rows < PAGE_ROWS && self.bytes + bytes <= PAGE_BYTES_MAX;
        if fits {
            self.rows += 1;
            self.bytes += bytes;
        }
        fits
    }
}

/// The place of each text among all that there are, sorted.
fn ranks(columns: &[&StringArray]) -> Vec<Vec<u32>> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut rows: Vec<Vec<u32>> = Vec::with_capacity(columns.len());
    for texts in columns {
        let mut last = None;
        let mut of_batch = Vec::with_capacity(texts.len());
        for row in 0..texts.len() {
            let text = texts.value(row);
            let number = match last {
                Some((known, number)) if known == text => number,
                _ => {
                    let fresh = numbers.len() as u32;
                    *numbers.entry(text).or_insert(fresh)
                }
            };
            last = Some((text, number));
            of_batch.push(number);
        }
        rows.push(of_batch);
    }
    let mut sorted: Vec<(&str, u32)> = numbers.into_iter().collect();
    sorted.sort_unstable();
    let mut ranks = vec![0; sorted.len()];
    for (rank, (_, number)) in sorted.into_iter().enumerate() {
        ranks[number as usize] = rank as u32;
    }
    rows.iter_mut().flatten().for_each(|number| *number = ranks[*number as usize]);
    rows
}

/// About what each row takes in memory.
pub(crate) fn row_bytes(batch: &RecordBatch) -> Vec<usize> {
    let mut sizes = vec![ROW_BYTES; batch.num_rows()];
    let mut add = |offsets: &[i32]| {
        for (size, pair) in sizes.iter_mut().zip(offsets.windows(2)) {
            *size += (pair[1] - pair[0]) as usize;
        }
    };
    for array in batch.columns() {
        let any = array.as_any();
        if let Some(texts) = any.downcast_ref::<StringArray>() {
            add(texts.value_offsets());
        } else if let Some(bytes) = any.downcast_ref::<BinaryArray>() {
            add(bytes.value_offsets());
        } else if let Some(map) = any.downcast_ref::<MapArray>() {
            for texts in [map.keys(), map.values()] {
                if let Some(texts) = texts.as_any().downcast_ref::<StringArray>() {
                    let inner = texts.value_offsets();
                    add(&map.value_offsets().iter().map(|at| inner[*at as usize]).collect::<Vec<_>>());
                }
            }
        }
    }
    sizes
}
