//! Reads one segment, record by record, and finds its way again behind damage.

use crate::Record;
use crate::format::{
    RECORD_HEADER_BYTES, RECORD_MARKER, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, read_segment_header,
};
use crate::shared::path_of;
use br_env::Disk;
use br_storage::JournalPosition;
use memchr::memmem;
use std::io;
use std::ops::Range;

/// One read takes this much at the least.
const CHUNK_BYTES: usize = 256 << 10;

/// Linux' number for a medium that cannot be read. Trying again does not help, unlike with every other error.
const EIO: i32 = 5;

/// What stands next in a segment.
#[derive(Debug)]
pub(crate) enum Found {
    Record(JournalPosition, Record),
    /// An intact record that the caller did not ask for.
    Skipped(JournalPosition),
    Damaged {
        bytes: Range<u64>,
        position: Option<JournalPosition>,
        reason: String,
    },
    /// The end of the segment holds no whole record: the write was cut short.
    Torn {
        bytes: Range<u64>,
    },
    End,
}

/// Which payloads the caller wants to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Records before this one are skipped without a look at their payload.
    pub(crate) from: JournalPosition,
    /// Whether payloads are decoded at all; otherwise records are only checked to be whole.
    pub(crate) decode: bool,
}

pub(crate) struct SegmentReader<'a> {
    disk: &'a dyn Disk,
    id: SegmentId,
    path: String,
    /// Nothing is read from here on.
    end: u64,
    offset: u64,
    /// Position of the last header that was legible.
    last: Option<JournalPosition>,
    chunk: Chunk,
}

/// The part of the file that was read last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    start: u64,
}

/// Where a reader stands, to go on later.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bookmark {
    offset: u64,
    last: Option<JournalPosition>,
    chunk: Chunk,
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, id: SegmentId, end: u64, bookmark: Bookmark) -> Self {
        let Bookmark { offset, last, chunk } = bookmark;
        Self { disk, id, path: path_of(&id.file_name()), end, offset, last, chunk }
    }

    pub(crate) fn into_bookmark(self) -> Bookmark {
        Bookmark { offset: self.offset, last: self.last, chunk: self.chunk }
    }

    /// After an error nothing has been passed over: the next call tries the same bytes again.
    pub(crate) fn next(&mut self, wanted: Wanted) -> io::Result<Found> {
        if self.offset == 0
            && let Some(found) = self.segment_header()?
        {
            return Ok(found);
        }
        let start = self.offset;
        if start >= self.end {
            return Ok(Found::End);
        }
        let epoch = self.id.epoch;
        let header = match self.read(start, RECORD_HEADER_BYTES) {
            Ok(bytes) => RecordHeader::decode(bytes, epoch),
            Err(error) if error.raw_os_error() == Some(EIO) => None,
            Err(error) => return Err(error),
        };
        match header.filter(|header| self.may_follow(header.position)) {
            Some(header) => self.record(header, wanted),
            None => self.resync(start),
        }
    }

    /// Passes over the segment's header. The file's name says the same, so damage in it costs nothing but a notice.
    fn segment_header(&mut self) -> io::Result<Option<Found>> {
        if self.end < SEGMENT_HEADER_BYTES as u64 {
            let bytes = 0..self.end;
            self.offset = self.end;
            // An empty file is what remains when the power goes while a segment is begun.
            return Ok((self.end > 0).then_some(Found::Torn { bytes }));
        }
        let id = self.id;
        let header = match self.read(0, SEGMENT_HEADER_BYTES) {
            Ok(bytes) => read_segment_header(bytes, id),
            Err(error) if error.raw_os_error() == Some(EIO) => SegmentHeader::Damaged,
            Err(error) => return Err(error),
        };
        let reason = match header {
            SegmentHeader::Ok => {
                self.offset = SEGMENT_HEADER_BYTES as u64;
                return Ok(None);
            }
            SegmentHeader::Damaged => "the segment's header is damaged".to_owned(),
            SegmentHeader::UnknownVersion(version) => {
                self.offset = self.end;
                let reason = format!("format version {version} is of a later release");
                return Ok(Some(Found::Damaged { bytes: 0..self.end, position: None, reason }));
            }
        };
        self.offset = SEGMENT_HEADER_BYTES as u64;
        Ok(Some(Found::Damaged { bytes: 0..self.offset, position: None, reason }))
    }

    /// Positions ascend. A record that was copied into the body of a later one is told apart by this.
    fn may_follow(&self, position: JournalPosition) -> bool {
        position >= self.id.first && self.last.is_none_or(|last| position > last)
    }

    fn record(&mut self, header: RecordHeader, wanted: Wanted) -> io::Result<Found> {
        let start = self.offset;
        let payload_start = start + RECORD_HEADER_BYTES as u64;
        let end = payload_start + header.payload_bytes() as u64;
        if end > self.end {
            // Behind an intact header the file ends too early; still, a whole record may follow where this one's length was
            // never reached.
            return self.resync(start);
        }
        let found = if header.position < wanted.from {
            Found::Skipped(header.position)
        } else {
            let payload = match self.read(payload_start, header.payload_bytes()) {
                Ok(payload) if wanted.decode => header.decode_payload(payload).map(Some),
                Ok(payload) => header.check_payload(payload).map(|()| None),
                Err(error) if error.raw_os_error() == Some(EIO) => Err("the disk cannot read it"),
                Err(error) => return Err(error),
            };
            match payload {
                Ok(Some(record)) => Found::Record(header.position, record),
                Ok(None) => Found::Skipped(header.position),
                Err(reason) => Found::Damaged { bytes: start..end, position: Some(header.position), reason: reason.to_owned() },
            }
        };
        self.last = Some(header.position);
        self.offset = end;
        Ok(found)
    }

    /// Looks for the next record behind `start`, where none begins.
    fn resync(&mut self, start: u64) -> io::Result<Found> {
        let mut at = start + 1;
        while at + RECORD_HEADER_BYTES as u64 <= self.end {
            let (next, is_record) = self.find_header(at)?;
            if is_record {
                self.offset = next;
                let reason = "no record begins here".to_owned();
                return Ok(Found::Damaged { bytes: start..next, position: None, reason });
            }
            at = next;
        }
        self.offset = self.end;
        Ok(Found::Torn { bytes: start..self.end })
    }

    /// The place of the next header in the chunk at `at`, or the place from where to look on.
    fn find_header(&mut self, at: u64) -> io::Result<(u64, bool)> {
        let length = CHUNK_BYTES.min(usize::try_from(self.end - at).unwrap_or(CHUNK_BYTES));
        let epoch = self.id.epoch;
        let (first, last) = (self.id.first, self.last);
        let bytes = match self.read(at, length) {
            Ok(bytes) => bytes,
            Err(error) if error.raw_os_error() == Some(EIO) => return Ok((at + length as u64, false)),
            Err(error) => return Err(error),
        };
        for found in memmem::find_iter(bytes, &RECORD_MARKER) {
            let header = bytes.get(found..).and_then(|rest| RecordHeader::decode(rest, epoch));
            if header.is_some_and(|header| header.position >= first && last.is_none_or(|last| header.position > last)) {
                return Ok((at + found as u64, true));
            }
        }
        // A header may begin in the last bytes of the chunk.
        let passed = bytes.len().saturating_sub(RECORD_HEADER_BYTES - 1).max(1);
        Ok((at + passed as u64, false))
    }

    /// The bytes from `start`; fewer than `length` where the segment ends.
    fn read(&mut self, start: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.end.saturating_sub(start)).unwrap_or(usize::MAX));
        let held = start.checked_sub(self.chunk.start).and_then(|skip| usize::try_from(skip).ok());
        let is_held = held.is_some_and(|skip| skip.saturating_add(length) <= self.chunk.bytes.len());
        if !is_held {
            let room = usize::try_from(self.end - start).unwrap_or(usize::MAX);
            let bytes = match self.disk.read_at(&self.path, start, length.max(CHUNK_BYTES).min(room)) {
                // What cannot be read may lie behind what is wanted.
                Err(error) if error.raw_os_error() == Some(EIO) && length < CHUNK_BYTES => {
                    self.disk.read_at(&self.path, start, length)?
                }
                other => other?,
            };
            self.chunk = Chunk { bytes, start };
        }
        let skip = usize::try_from(start - self.chunk.start).unwrap_or(usize::MAX);
        let held = self.chunk.bytes.get(skip..).unwrap_or_default();
        Ok(&held[..length.min(held.len())])
    }
}
