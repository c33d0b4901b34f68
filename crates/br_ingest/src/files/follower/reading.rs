//! What is read of one file, and handed over as records.

use super::super::chunk::{self, Ending, RECORD_BYTES_MAX, Wrapping};
use super::super::config::Format;
use super::super::disk::{self, HEAD_BYTES, Head, Seen};
use super::super::gather::Gather;
use super::super::origin;
use super::{Followed, Follower, Known, Turn};
use br_std::Nanos;
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

/// Files that are held open between two rounds. All others are opened to be read.
const OPEN_MAX: usize = 256;
/// What is read at once. A line that is longer is cut.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
/// What one file may have read of it in a round.
const TURN_BYTES: u64 = 2 << 20;
/// A line that is longer than this ends there.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// How much may still come, and when this is.
type At = (Ending, Nanos);

impl Follower {
    pub(super) fn read(&mut self, file: &mut Followed, ending: Ending, now: Nanos, gather: &mut Gather) -> io::Result<Turn> {
        let handle = match file.handle.take() {
            Some(handle) => handle,
            None => match disk::open(&file.path, file.id)? {
                Some(handle) => {
                    self.open += 1;
                    handle
                }
                // Its name went this very moment.
                None => return Ok(Turn::Done),
            },
        };
        let outcome = self.read_open(&handle, file, ending, now, gather);
        // One that is deleted cannot be opened again.
        let is_reachable = || Seen::of_open(&handle).is_ok_and(|seen| seen.links > 0);
        if self.open > OPEN_MAX && is_reachable() {
            self.open -= 1;
        } else {
            file.handle = Some(handle);
        }
        if outcome.is_ok() {
            file.last_error = None;
        }
        outcome
    }

    fn read_open(
        &mut self,
        handle: &File,
        file: &mut Followed,
        ending: Ending,
        now: Nanos,
        gather: &mut Gather,
    ) -> io::Result<Turn> {
        self.check_head(handle, file, now)?;
        if file.is_packed {
            return Ok(Turn::Done);
        }
        let limit = file.offset + TURN_BYTES;
        loop {
            if file.offset >= limit || gather.is_full() {
                return Ok(Turn::Unfinished);
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let length = disk::read_at(handle, &mut buffer, file.offset + file.scanned);
            let step = length.map(|length| self.step(handle, file, &buffer[..length], (ending, now), gather));
            self.buffer = buffer;
            if !step? {
                return Ok(Turn::Done);
            }
        }
    }

    /// Whether the file still begins as it did; a longer beginning is remembered.
    fn check_head(&mut self, handle: &File, file: &mut Followed, now: Nanos) -> io::Result<()> {
        let mut start = [0; HEAD_BYTES];
        let length = disk::read_at(handle, &mut start, 0)?;
        let start = &start[..length];
        if !file.head.matches(start) {
            self.restart(file, now);
        }
        if file.head.bytes < length {
            if file.head.bytes == 0 {
                file.is_packed = disk::is_packed(start);
            }
            file.head = Head::of(start);
        }
        Ok(())
    }

    /// Takes what was read behind what is known. False when nothing more can be made of the file now.
    fn step(&mut self, handle: &File, file: &mut Followed, bytes: &[u8], (ending, now): At, gather: &mut Gather) -> bool {
        let is_whole = bytes.len() == CHUNK_BYTES;
        // What stands behind is not at its end yet.
        let ending = if is_whole { Ending::Open } else { ending };
        if file.scanned > 0 {
            return self.long_line(handle, file, bytes, (ending, now), gather);
        }
        let known = self.know(file, bytes);
        let sources = self.sources.clone();
        let folding = &sources[file.source].folding;
        let mut found = chunk::read(bytes, known.wrapping, folding, ending);
        if found.consumed == 0 && is_whole {
            if memchr::memchr(b'\n', bytes).is_none() {
                file.scanned = bytes.len() as u64;
                return true;
            }
            // No record ends in all of it: what there is must do.
            found = chunk::read(bytes, known.wrapping, folding, Ending::Quiet);
        }
        for record in found.records {
            self.hand_over(file, &known, record, now, gather);
        }
        if !is_whole {
            file.looked_at = Some((file.offset + bytes.len() as u64, ending));
        }
        file.offset += found.consumed as u64;
        is_whole
    }

    /// A line that is longer than a chunk: its end is looked for, then its beginning is kept.
    fn long_line(&mut self, handle: &File, file: &mut Followed, bytes: &[u8], (ending, now): At, gather: &mut Gather) -> bool {
        let end = memchr::memchr(b'\n', bytes);
        let length = file.scanned + end.unwrap_or(bytes.len()) as u64;
        let is_over = end.is_some() || length >= LINE_BYTES_MAX || ending == Ending::Gone;
        let mut start = vec![0; RECORD_BYTES_MAX];
        let read = if is_over { disk::read_at(handle, &mut start, file.offset) } else { Ok(0) };
        let Ok(read) = read.inspect_err(|error| file.last_error = Some(error.to_string())) else { return false };
        if !is_over {
            file.scanned = length;
            file.looked_at = Some((file.offset + length, ending));
            return bytes.len() == CHUNK_BYTES;
        }
        start.truncate(read);
        let text = String::from_utf8_lossy(&start);
        let mended = u64::from(matches!(text, Cow::Owned(_)));
        let cut_from = usize::try_from(length).unwrap_or(usize::MAX);
        let known = self.know(file, &start);
        let record = chunk::Record { text: text.into_owned(), cut_from, lines: 1, mended, ..chunk::Record::default() };
        self.hand_over(file, &known, record, now, gather);
        file.offset += length + u64::from(end.is_some());
        file.scanned = 0;
        true
    }

    /// What the file is made of, and who writes to it.
    fn know(&self, file: &mut Followed, bytes: &[u8]) -> Known {
        if let Some(known) = &file.known {
            return known.clone();
        }
        let source = &self.sources[file.source];
        let text = String::from_utf8_lossy(bytes);
        let has_line = text.contains('\n');
        let wrapping = match source.format {
            // The first may be cut where a file is read from its end.
            Format::Auto => {
                let lines = text.lines().filter(|line| !line.trim().is_empty()).take(3);
                lines.map(Wrapping::of).find(|wrapping| *wrapping != Wrapping::None).unwrap_or(Wrapping::None)
            }
            Format::Docker => Wrapping::Docker,
            Format::Cri => Wrapping::Cri,
            Format::Json | Format::Logfmt | Format::Text => Wrapping::None,
        };
        let known = Known { wrapping, resource: origin::resource(source, &file.met_as, wrapping, &self.host) };
        if has_line || source.format != Format::Auto {
            file.known = Some(known.clone());
        }
        known
    }

    fn hand_over(&self, file: &mut Followed, known: &Known, record: chunk::Record, now: Nanos, gather: &mut Gather) {
        let counters = &self.counters;
        file.lines += record.lines;
        for (counter, count) in [
            (&counters.lines, record.lines),
            (&counters.mended, record.mended),
            (&counters.unwrapped, record.unwrapped),
            (&counters.records, 1),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        // Lines of one read have one time: a nanosecond between them keeps their order.
        let time = record.time.unwrap_or_else(|| {
            file.last_time = now.max(Nanos(file.last_time.0.saturating_add(1)));
            file.last_time
        });
        gather.add(file.source, &known.resource, record, time, now);
    }
}
