//! Finds out, in the first moments of a start, where the journal goes on.

use crate::format::SegmentId;
use crate::segment::{Bookmark, Found, SegmentReader, Wanted};
use crate::shared::{Damage, FOLDER, Segment, path_of};
use crate::space::BALLAST_FILE;
use crate::status::Quarantined;
use br_env::{Disk, Env};
use br_std::{Error, Kind, Result};
use br_storage::JournalPosition;
use std::io;

/// What a start found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The last position that the files hold or that the stores knew of; replay up to here.
    pub last_position: JournalPosition,
    /// Positions before this one may have been deleted.
    pub start: JournalPosition,
    /// Segments of earlier lives.
    pub segments: usize,
    pub bytes: u64,
    /// Bytes of unfinished records at the end of the last segment. They were never acknowledged.
    pub torn_bytes: u64,
    /// Damage in the last segment; that of earlier ones shows when they are replayed.
    pub quarantined: Vec<Quarantined>,
    /// The journal had been closed in order. Also true for a new one.
    pub was_clean: bool,
    /// What else was met and did not stop the start.
    pub warnings: Vec<String>,
}

/// What the files say, before a new segment is begun.
pub(crate) struct Scan {
    pub(crate) segments: Vec<Segment>,
    pub(crate) recovery: Recovery,
}

/// Holds the position before which nothing is needed any more.
pub(crate) const START_FILE: &str = "start";
/// Exists between an orderly end and the next start.
pub(crate) const CLEAN_FILE: &str = "clean";

/// Reads names and sizes of all segments, and the whole of the last one.
pub(crate) fn recover(env: &Env, floor: JournalPosition, damage: &mut Damage) -> Result<Scan> {
    let disk = &*env.disk;
    disk.create_dir(FOLDER).map_err(|error| Error::from(error).context("making the journal's folder"))?;
    let mut warnings = Vec::new();
    if let Err(error) = disk.sync_dir("") {
        warnings.push(format!("the data directory cannot be synced: {error}"));
    }
    let segments = list_segments(disk, &mut warnings)?;
    let start = read_start(disk, &mut warnings);
    warn_of_missing(&segments, start, &mut warnings);
    let mut last_position = floor.max(JournalPosition(start.0.saturating_sub(1)));
    if let Some(last) = segments.last() {
        last_position = last_position.max(JournalPosition(last.id.first.0.saturating_sub(1)));
        match last_in_segment(disk, *last, damage) {
            Ok(in_segment) => last_position = last_position.max(in_segment),
            Err(error) => warnings.push(format!("segment {} could not be read: {error}", last.id.file_name())),
        }
    }
    let was_clean = take_clean_mark(disk, &mut warnings) || segments.is_empty();
    let recovery = Recovery {
        last_position,
        start,
        segments: segments.len(),
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        torn_bytes: damage.torn_bytes(),
        quarantined: damage.quarantined(),
        was_clean,
        warnings,
    };
    Ok(Scan { segments, recovery })
}

fn list_segments(disk: &dyn Disk, warnings: &mut Vec<String>) -> Result<Vec<Segment>> {
    let names = disk.list(FOLDER).map_err(|error| Error::from(error).context("listing the journal's folder"))?;
    let mut segments = Vec::new();
    for name in names {
        let Some(id) = SegmentId::from_file_name(&name) else {
            let is_ours = [START_FILE, CLEAN_FILE, BALLAST_FILE].contains(&name.strip_suffix(".tmp").unwrap_or(&name));
            if !is_ours {
                warnings.push(format!("{FOLDER}/{name} is no segment and is left alone"));
            }
            continue;
        };
        match disk.size(&path_of(&name)) {
            Ok(bytes) => segments.push(Segment { id, bytes }),
            Err(error) => warnings.push(format!("segment {name} cannot be opened: {error}")),
        }
    }
    segments.sort_by_key(|segment| (segment.id.ordinal, segment.id.first));
    Ok(segments)
}

/// Segments are numbered without a gap and deleted from the front only, after the start has moved: what else is not there is lost.
fn warn_of_missing(segments: &[Segment], start: JournalPosition, warnings: &mut Vec<String>) {
    if let Some(first) = segments.first()
        && first.id.first > start
    {
        warnings
            .push(format!("the records from position {} to before {} are gone with their segments", start.0, first.id.first.0));
    }
    for pair in segments.windows(2) {
        let [before, after] = pair else { continue };
        if after.id.ordinal > before.id.ordinal + 1 {
            warnings.push(format!(
                "segments {} to {} are gone, and with them records between positions {} and {}",
                before.id.ordinal + 1,
                after.id.ordinal - 1,
                before.id.first.0,
                after.id.first.0
            ));
        }
    }
}

/// The highest position that a legible header in the segment has, damaged payloads included.
fn last_in_segment(disk: &dyn Disk, segment: Segment, damage: &mut Damage) -> io::Result<JournalPosition> {
    let id = segment.id;
    let mut last = JournalPosition(id.first.0.saturating_sub(1));
    let mut reader = SegmentReader::new(disk, id, segment.bytes, Bookmark::default());
    loop {
        match reader.next(Wanted { from: JournalPosition(0), decode: false })? {
            Found::End => return Ok(last),
            Found::Record(position, _) | Found::Skipped(position) => last = last.max(position),
            Found::Torn { bytes } => damage.tear(id, bytes.end - bytes.start),
            Found::Damaged { bytes, position, reason } => {
                last = last.max(position.unwrap_or(last));
                damage.quarantine(id, Quarantined { segment: id.file_name(), bytes, position, reason });
            }
        }
    }
}

/// Eight bytes of position, four of checksum.
pub(crate) fn encode_start(start: JournalPosition) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&start.0.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The start only spares work and explains missing segments: without it the journal is replayed from its first record.
fn read_start(disk: &dyn Disk, warnings: &mut Vec<String>) -> JournalPosition {
    match disk.read(&path_of(START_FILE)) {
        Ok(bytes) => {
            let position = bytes.first_chunk::<8>().map(|position| JournalPosition(u64::from_le_bytes(*position)));
            if let Some(position) = position.filter(|position| encode_start(*position)[..] == bytes[..]) {
                return position;
            }
            warnings.push(format!("{FOLDER}/{START_FILE} is damaged and was not used"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warnings.push(format!("{FOLDER}/{START_FILE} cannot be read: {error}")),
    }
    JournalPosition(1)
}

/// True when the mark of an orderly end was there; it is gone afterwards.
fn take_clean_mark(disk: &dyn Disk, warnings: &mut Vec<String>) -> bool {
    match disk.remove(&path_of(CLEAN_FILE)).map_err(Error::from) {
        Ok(()) => true,
        Err(error) if error.kind() == Kind::NotFound => false,
        Err(error) => {
            warnings.push(format!("{FOLDER}/{CLEAN_FILE} cannot be removed: {error}"));
            false
        }
    }
}
