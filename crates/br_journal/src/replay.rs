//! Reads the journal back, in order, each record once.

use crate::Record;
use crate::segment::{Bookmark, Found, SegmentReader, Wanted};
use crate::shared::{Segment, Shared};
use crate::status::Quarantined;
use br_std::{Error, Kind, Result};
use br_storage::JournalPosition;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Hands out the records that were durable when it was made, in ascending positions, each once.
///
/// An error of the kind `Corrupt` names a damaged range; the iteration goes on behind it. Every other error left the iteration
/// where it was: the next call tries again. Positions of requests that failed are missing. Memory is bounded by one record.
pub struct Replay {
    shared: Arc<Shared>,
    /// Not yet read, each with the position from which on a later segment has superseded it.
    segments: VecDeque<(Segment, Option<JournalPosition>)>,
    bookmark: Bookmark,
    /// The next record has this position or a higher one.
    next: JournalPosition,
    last: JournalPosition,
}

impl Replay {
    pub(crate) fn new(shared: Arc<Shared>, from: JournalPosition) -> Self {
        let (segments, last) = {
            let files = shared.files.lock();
            let following = files.segments.iter().skip(1).map(|segment| Some(segment.id.first)).chain([None]);
            let segments: Vec<_> = files.segments.iter().copied().zip(following).collect();
            (segments, files.durable)
        };
        // Ordinals order segments; a damaged name can not, because it would be no segment's name.
        let needed = segments.into_iter().filter(|(_, until)| until.is_none_or(|until| until > from));
        Self { segments: needed.collect(), shared, bookmark: Bookmark::default(), next: from, last }
    }

    /// The last position that this iteration may reach.
    pub fn last_position(&self) -> JournalPosition {
        self.last
    }

    /// All positions before this one have been handed out or are not there.
    pub fn next_position(&self) -> JournalPosition {
        self.next
    }

    fn step(&mut self, segment: Segment) -> io::Result<Found> {
        let bookmark = std::mem::take(&mut self.bookmark);
        let mut reader = SegmentReader::new(&*self.shared.env.disk, segment.id, segment.bytes, bookmark);
        let found = reader.next(Wanted { from: self.next, decode: true });
        self.bookmark = reader.into_bookmark();
        found
    }

    fn leave_segment(&mut self) {
        self.segments.pop_front();
        self.bookmark = Bookmark::default();
    }
}

impl Iterator for Replay {
    type Item = Result<(JournalPosition, Record)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (segment, until) = *self.segments.front()?;
            let name = segment.id.file_name();
            match self.step(segment) {
                Ok(Found::End) => self.leave_segment(),
                Ok(Found::Skipped(_)) => {}
                Ok(Found::Record(position, _)) if until.is_some_and(|until| position >= until) => self.leave_segment(),
                Ok(Found::Record(position, record)) => {
                    self.next = position.next();
                    return Some(Ok((position, record)));
                }
                Ok(Found::Torn { bytes }) => self.shared.damage.lock().tear(segment.id, bytes.end - bytes.start),
                Ok(Found::Damaged { bytes, position, reason }) => {
                    let is_superseded = position.zip(until).is_some_and(|(position, until)| position >= until);
                    if is_superseded || position.is_some_and(|position| position < self.next) {
                        continue;
                    }
                    let message = format!("{name}, bytes {}..{}: {reason}", bytes.start, bytes.end);
                    let damaged = Quarantined { segment: name, bytes, position, reason };
                    self.shared.damage.lock().quarantine(segment.id, damaged);
                    return Some(Err(Error::corrupt(message)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.leave_segment();
                    let was_truncated = until.is_some_and(|until| until <= self.shared.files.lock().start);
                    if !was_truncated {
                        let bytes = 0..segment.bytes;
                        let reason = "the file is gone".to_owned();
                        let damaged = Quarantined { segment: name.clone(), bytes, position: None, reason };
                        self.shared.damage.lock().quarantine(segment.id, damaged);
                        return Some(Err(Error::corrupt(format!("{name}: the file is gone"))));
                    }
                }
                Err(error) => {
                    let error = Error::new(Kind::Retry, format!("reading {name}: {error}")).with_source(error);
                    return Some(Err(error));
                }
            }
        }
    }
}
