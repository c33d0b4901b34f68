//! How many rows of each stream, minute and severity a file of logs has, and the bytes of their lines: who only counts reads no row.

use crate::schema::{BODY, SERVICE, SEVERITY, STREAM, TS, column};
use arrow::array::{RecordBatch, StringArray, TimestampNanosecondArray, UInt8Array, UInt64Array};
use br_std::varint::{put_u64, take_u64, unzigzag, zigzag};
use br_std::{Error, Result};

const MINUTE_NANOS: i64 = 60_000_000_000;
/// Counts of fewer rows each than this on average are not kept: they would be a good part of the file.
const ROWS_PER_CELL_MIN: u64 = 4;
/// Stands before the cells of each stream but the first.
const NEXT_STREAM: u64 = 0;

/// The minute of a time, by its number: a minute leaves its start out and includes its end, as windows of LogQL do.
pub(crate) fn minute_of(time: i64) -> i64 {
    time.saturating_sub(1).div_euclid(MINUTE_NANOS)
}

/// The start and the end of a minute.
pub(crate) fn bounds_of(minute: i64) -> (i64, i64) {
    let start = minute.saturating_mul(MINUTE_NANOS);
    (start, start.saturating_add(MINUTE_NANOS))
}

/// The rows of a stream, by its number in the file, of one minute and severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) stream: usize,
    pub(crate) minute: i64,
    pub(crate) severity: u8,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// Counts while a file is written.
pub(crate) struct Counter {
    encoded: Vec<u8>,
    /// Service and id of the stream whose rows come now.
    stream: Option<(String, u64)>,
    streams: usize,
    minute: i64,
    /// Of the minute: severity, rows and bytes.
    open: Vec<(u8, u64, u64)>,
    /// The minute that was encoded last.
    last_minute: i64,
    cells: u64,
    rows: u64,
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self { encoded: Vec::new(), stream: None, streams: 0, minute: 0, open: Vec::new(), last_minute: 0, cells: 0, rows: 0 }
    }

    /// Adds a page of `logs`; rows come in the order of the file.
    pub(crate) fn add(&mut self, page: &RecordBatch) -> Result<()> {
        let (services, bodies): (&StringArray, &StringArray) = (column(page, SERVICE)?, column(page, BODY)?);
        let streams: &UInt64Array = column(page, STREAM)?;
        let times: &TimestampNanosecondArray = column(page, TS)?;
        let severities: &UInt8Array = column(page, SEVERITY)?;
        for row in 0..page.num_rows() {
            let (id, minute) = (streams.value(row), minute_of(times.value(row)));
            let is_same = self.stream.as_ref().is_some_and(|(service, known)| *known == id && service == services.value(row));
            if !is_same {
                self.end_minute();
                if self.stream.is_some() {
                    put_u64(&mut self.encoded, NEXT_STREAM);
                }
                self.stream = Some((services.value(row).to_owned(), id));
                self.streams += 1;
            } else if minute != self.minute {
                self.end_minute();
            }
            self.minute = minute;
            let (severity, bytes) = (severities.value(row), bodies.value_length(row) as u64);
            match self.open.iter_mut().find(|(known, ..)| *known == severity) {
                Some((_, rows, sum)) => (*rows, *sum) = (*rows + 1, *sum + bytes),
                None => self.open.push((severity, 1, bytes)),
            }
        }
        self.rows += page.num_rows() as u64;
        Ok(())
    }

    fn end_minute(&mut self) {
        for (severity, rows, bytes) in self.open.drain(..) {
            put_u64(&mut self.encoded, zigzag(self.minute - self.last_minute) + 1);
            self.encoded.push(severity);
            put_u64(&mut self.encoded, rows);
            put_u64(&mut self.encoded, bytes);
            self.last_minute = self.minute;
            self.cells += 1;
        }
    }

    /// For a file with so many streams. Nothing where counts are not worth it.
    pub(crate) fn finish(mut self, streams: usize) -> Vec<u8> {
        self.end_minute();
        let is_worth = self.streams == streams && self.cells * ROWS_PER_CELL_MIN <= self.rows;
        if is_worth { self.encoded } else { Vec::new() }
    }
}

/// The cells of a file with so many streams, in their order.
pub(crate) fn decode(mut bytes: &[u8], streams: usize) -> Result<Vec<Cell>> {
    let damaged = || Error::corrupt("counts of the file cannot be read");
    let take = |bytes: &mut &[u8]| take_u64(bytes).ok_or_else(damaged);
    let (mut cells, mut stream, mut minute) = (Vec::new(), 0, 0i64);
    while !bytes.is_empty() {
        let head = take(&mut bytes)?;
        if head == NEXT_STREAM {
            stream += 1;
            continue;
        }
        minute = minute.wrapping_add(unzigzag(head - 1));
        let (severity, rest) = bytes.split_first().ok_or_else(damaged)?;
        bytes = rest;
        let rows = take(&mut bytes)?;
        let line_bytes = take(&mut bytes)?;
        cells.push(Cell { stream, minute, severity: *severity, rows, bytes: line_bytes });
    }
    if stream + 1 == streams { Ok(cells) } else { Err(damaged()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_include_their_end() {
        assert_eq!([0, 1, MINUTE_NANOS, MINUTE_NANOS + 1].map(minute_of), [-1, 0, 0, 1]);
        assert_eq!(bounds_of(1), (MINUTE_NANOS, 2 * MINUTE_NANOS));
        minute_of(i64::MIN);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_cells_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let _ = decode(&bytes, 1);
        }
    }
}
