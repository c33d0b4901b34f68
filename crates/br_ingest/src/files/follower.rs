//! Which files there are, how far each has been read, and what becomes of them: renamed, truncated, replaced, deleted.
//!
//! A file is its inode and its beginning, not its name. One whose name goes is read to its end where it is; one that shrinks, or
//! begins differently, is read anew, after what a copy of it still has.

mod reading;

use super::chunk::{Ending, Wrapping};
use super::config::FileSource;
use super::disk::{self, FileId, Head, Seen};
use super::gather::Gather;
use super::positions::Saved;
use super::{FileCounters, FileStatus};
use br_env::Clock;
use br_model::Resource;
use br_std::Nanos;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Files that are followed; more are passed over, and the status says so.
const FILES_MAX: usize = 65_536;
/// Between two looks for files; a look that takes long is followed by a longer rest.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_REST: u32 = 20;
/// One that takes less may come out of turn.
const QUICK_LOOK: Duration = Duration::from_millis(20);
/// A file that has not changed for this long is looked at less often.
const CALM_AFTER: Duration = Duration::from_secs(10);
const CALM_EVERY: Duration = Duration::from_secs(1);
/// After this it is no longer held open.
const CLOSE_AFTER: Duration = Duration::from_secs(30);
/// How long a writer may go on with a file whose name has gone, before it is given up.
const RENAMED_PATIENCE: Duration = Duration::from_mins(1);
const DELETED_PATIENCE: Duration = Duration::from_secs(3);
/// A file that begins as another one does may be a copy that is made before that one is truncated: that becomes clear within this.
const COPY_PATIENCE: Duration = Duration::from_secs(10);
const TRUNCATED_KEPT: Duration = Duration::from_mins(1);
/// How long the position of a file is kept that cannot be found, as on a disk that is not there at a start.
const SAVED_KEPT: Duration = Duration::from_hours(7 * 24);

/// One file.
struct Followed {
    id: FileId,
    /// Of its source, in the configuration.
    source: usize,
    /// The name under which it was met: what its records say.
    met_as: PathBuf,
    /// Its name, as far as is known.
    path: PathBuf,
    /// The patterns named it at the last look.
    is_wanted: bool,
    /// The look by which they no longer did.
    unwanted_since: u64,
    head: Head,
    /// All before is in a request.
    offset: u64,
    /// Bytes behind `offset` that are known to hold no end of a line, of one that is longer than a chunk.
    scanned: u64,
    size: u64,
    changed_at: Nanos,
    /// What a read that brought nothing looked at: it would bring nothing again.
    looked_at: Option<(u64, Ending)>,
    next_poll: Nanos,
    handle: Option<File>,
    /// What it is made of, once it has a line.
    known: Option<Known>,
    /// It is packed, and left alone.
    is_packed: bool,
    last_error: Option<String>,
    /// The time of its last record that had none of its own.
    last_time: Nanos,
    lines: u64,
}

#[derive(Clone)]
struct Known {
    wrapping: Wrapping,
    resource: Arc<Resource>,
}

/// What a file was before it was truncated: a copy of it may turn up.
struct Truncated {
    folder: PathBuf,
    head: Head,
    offset: u64,
    at: Nanos,
}

/// What a turn of one file ended with.
#[derive(PartialEq, Eq)]
enum Turn {
    Done,
    /// There is more to read.
    Unfinished,
    /// Nothing will come of it any more.
    Over,
}

pub(super) struct Follower {
    sources: Arc<Vec<FileSource>>,
    counters: Arc<FileCounters>,
    host: String,
    files: BTreeMap<FileId, Followed>,
    /// Positions of files that have not been met since the start.
    saved: BTreeMap<FileId, Saved>,
    truncated: Vec<Truncated>,
    /// What may be a copy, since when it is known.
    doubtful: BTreeMap<FileId, Nanos>,
    next_look: Nanos,
    /// How long the last one took, and how many there were.
    look_took: Duration,
    looks: u64,
    /// What is in folders, by inode, as it was needed in this round.
    folders: BTreeMap<PathBuf, BTreeMap<u64, PathBuf>>,
    clock: Arc<dyn Clock>,
    /// Nothing was followed before this start.
    is_first_start: bool,
    /// The file whose turn it is.
    cursor: Option<FileId>,
    open: usize,
    buffer: Vec<u8>,
    complaints: Vec<String>,
}

impl Follower {
    pub(super) fn new(
        sources: Arc<Vec<FileSource>>,
        saved: BTreeMap<FileId, Saved>,
        is_first_start: bool,
        host: String,
        clock: Arc<dyn Clock>,
        counters: Arc<FileCounters>,
    ) -> Self {
        Self {
            sources,
            counters,
            host,
            files: BTreeMap::new(),
            saved,
            truncated: Vec::new(),
            doubtful: BTreeMap::new(),
            next_look: Nanos(i64::MIN),
            look_took: Duration::ZERO,
            looks: 0,
            folders: BTreeMap::new(),
            clock,
            is_first_start,
            cursor: None,
            open: 0,
            buffer: vec![0; reading::CHUNK_BYTES],
            complaints: Vec::new(),
        }
    }

    /// Reads what there is, as much as goes into one round. True when there is more.
    pub(super) fn round(&mut self, now: Nanos, gather: &mut Gather) -> bool {
        if now >= self.next_look {
            let begin = self.clock.monotonic();
            self.look(now);
            self.look_took = self.clock.monotonic().saturating_sub(begin);
            self.next_look = now + LOOK_EVERY.max(self.look_took * LOOK_REST);
        }
        self.folders.clear();
        let mut is_unfinished = false;
        for id in self.due(now) {
            if gather.is_full() {
                self.cursor = Some(id);
                return true;
            }
            let Some(mut file) = self.files.remove(&id) else { continue };
            let turn = self.turn(&mut file, now, gather);
            is_unfinished |= turn == Turn::Unfinished;
            if turn == Turn::Over {
                self.close(&mut file);
            } else {
                self.files.insert(id, file);
            }
        }
        self.cursor = None;
        is_unfinished
    }

    /// Those whose time has come, from the one on that was next when the last round ended.
    fn due(&self, now: Nanos) -> Vec<FileId> {
        let is_due = |(id, file): (&FileId, &Followed)| (file.next_poll <= now).then_some(*id);
        let Some(cursor) = self.cursor else { return self.files.iter().filter_map(is_due).collect() };
        self.files.range(cursor..).chain(self.files.range(..cursor)).filter_map(is_due).collect()
    }

    pub(super) fn positions(&self, now: Nanos) -> BTreeMap<FileId, Saved> {
        let saved = self.saved.iter().filter(|(_, saved)| now.since(saved.seen) < SAVED_KEPT);
        let mut positions: BTreeMap<FileId, Saved> = saved.map(|(id, saved)| (*id, saved.clone())).collect();
        for (id, file) in &self.files {
            positions.insert(*id, file.saved(now));
        }
        positions
    }

    /// The files that are furthest behind or in trouble first.
    pub(super) fn status(&self, limit: usize) -> Vec<FileStatus> {
        let mut all: Vec<&Followed> = self.files.values().filter(|file| !file.is_packed).collect();
        all.sort_by_key(|file| (file.last_error.is_none(), std::cmp::Reverse(file.behind()), file.path.as_path()));
        let shown = all.into_iter().take(limit).map(|file| FileStatus {
            path: file.path.display().to_string(),
            source: self.sources[file.source].shown(),
            service: file.known.as_ref().map(|known| known.resource.service_name().to_owned()).unwrap_or_default(),
            size: file.size,
            offset: file.offset,
            lines: file.lines,
            changed_at: file.changed_at,
            last_error: file.last_error.clone(),
        });
        shown.collect()
    }

    pub(super) fn source(&self, at: usize) -> &FileSource {
        &self.sources[at]
    }

    pub(super) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Gauges.
    pub(super) fn count(&self) {
        let packed = self.files.values().filter(|file| file.is_packed).count();
        let behind: u64 = self.files.values().map(Followed::behind).sum();
        let FileCounters { followed, open, left_alone, behind_bytes, .. } = &*self.counters;
        followed.store((self.files.len() - packed) as u64, Ordering::Relaxed);
        open.store(self.open as u64, Ordering::Relaxed);
        left_alone.store(packed as u64, Ordering::Relaxed);
        behind_bytes.store(behind, Ordering::Relaxed);
    }

    /// Looks for files that the patterns name.
    fn look(&mut self, now: Nanos) {
        self.complaints.clear();
        self.looks += 1;
        for file in self.files.values_mut().filter(|file| file.is_wanted) {
            (file.is_wanted, file.unwanted_since) = (false, self.looks);
        }
        for (at, source) in self.sources.clone().iter().enumerate() {
            let expansion = source.expand(FILES_MAX);
            if expansion.is_cut {
                self.complaints.push(format!("{}: more than {FILES_MAX} files", source.shown()));
            }
            self.complaints.extend(expansion.complaints);
            for path in expansion.paths {
                match disk::look(&path) {
                    Ok(Some(seen)) => self.meet(at, path, seen, now),
                    Ok(None) => {}
                    Err(error) => self.complain(&path, &error),
                }
            }
        }
        if self.looks == 1 {
            self.find_saved(now);
        }
        self.truncated.retain(|one| now.since(one.at) < TRUNCATED_KEPT);
        self.doubtful.retain(|_, since| now.since(*since) < COPY_PATIENCE * 2);
    }

    fn complain(&mut self, path: &Path, error: &io::Error) {
        const COMPLAINTS_MAX: usize = 100;
        self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(format!("{}: {error}", path.display()));
        }
    }

    /// A name that a pattern has found.
    fn meet(&mut self, source: usize, path: PathBuf, seen: Seen, now: Nanos) {
        if let Some(file) = self.files.get_mut(&seen.id) {
            let is_elsewhere = || disk::look(&file.path).ok().flatten().is_none_or(|there| there.id != seen.id);
            if file.path != path && is_elsewhere() {
                file.path = path;
            }
            file.is_wanted = true;
            return;
        }
        let ignore_older = self.sources[source].ignore_older;
        let is_old = ignore_older.is_some_and(|age| now.since(seen.modified) > age) && !self.saved.contains_key(&seen.id);
        if is_old || disk::is_packed_name(&path) || self.files.len() >= FILES_MAX {
            return;
        }
        let start = match disk::start_of(&path, seen.id) {
            Ok(Some(start)) => start,
            Ok(None) => return,
            Err(error) => return self.complain(&path, &error),
        };
        let Some(offset) = self.place_of(source, &path, &start, seen, now) else { return };
        let mut file = Followed::new(source, path.clone(), path, seen, offset, &start);
        file.is_packed = offset == 0 && disk::is_packed(&start);
        (file.is_wanted, file.changed_at) = (true, now);
        self.files.insert(seen.id, file);
    }

    /// From where a file is read that is not followed yet; `None` while that is not clear.
    fn place_of(&mut self, source: usize, path: &Path, start: &[u8], seen: Seen, now: Nanos) -> Option<u64> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if let Some(saved) = self.take_saved(path, seen.id) {
            if saved.head.matches(start) && saved.offset <= seen.size {
                return Some(saved.offset);
            }
            // It was truncated, or is another one, since the server stopped.
            self.note_truncation(path, saved.head, saved.offset, source, now);
            return Some(0);
        }
        let is_of = |one: &Truncated| one.head.is_telling() && one.folder == folder && one.head.matches(start);
        if let Some(at) = self.truncated.iter().position(is_of) {
            return Some(self.truncated.swap_remove(at).offset.min(seen.size));
        }
        if self.looks == 1 {
            let is_from_end = self.is_first_start && self.sources[source].is_read_from_end;
            return Some(if is_from_end { seen.size } else { 0 });
        }
        let mut others = self.files.values().filter(|file| file.path.parent() == Some(folder));
        let may_be_copy = others.any(|file| file.head.is_telling() && file.head.matches(start));
        if !may_be_copy {
            return Some(0);
        }
        let since = *self.doubtful.entry(seen.id).or_insert(now);
        (now.since(since) >= COPY_PATIENCE).then_some(0)
    }

    /// After a start of the machine a disk may have another number.
    fn take_saved(&mut self, path: &Path, id: FileId) -> Option<Saved> {
        if self.saved.is_empty() {
            return None;
        }
        let moved = || {
            let mut all = self.saved.iter();
            all.find(|(other, saved)| other.inode == id.inode && saved.path == path).map(|(other, _)| *other)
        };
        let key = if self.saved.contains_key(&id) { id } else { moved()? };
        self.saved.remove(&key)
    }

    /// Files that have lost their name since the server stopped.
    fn find_saved(&mut self, now: Nanos) {
        let lost: Vec<FileId> = self.saved.keys().copied().collect();
        for id in lost {
            let Some(saved) = self.saved.get(&id).cloned() else { continue };
            let Some(source) = self.source_of(&saved.met_as) else {
                self.saved.remove(&id);
                continue;
            };
            let Some((path, seen)) = self.find(&saved.path, id) else { continue };
            self.saved.remove(&id);
            let Ok(Some(start)) = disk::start_of(&path, id) else { continue };
            if saved.head.matches(&start) && saved.offset < seen.size && !disk::is_packed_name(&path) {
                let mut file = Followed::new(source, saved.met_as, path, seen, saved.offset, &start);
                file.changed_at = now;
                self.files.insert(id, file);
            }
        }
    }

    fn source_of(&self, path: &Path) -> Option<usize> {
        self.sources.iter().position(|source| source.names(path))
    }

    /// Remembers what a file was, and looks for a copy with what of it was not read.
    fn note_truncation(&mut self, path: &Path, head: Head, offset: u64, source: usize, now: Nanos) {
        self.counters.truncations.fetch_add(1, Ordering::Relaxed);
        if !head.is_telling() {
            return;
        }
        for (copy, seen) in disk::rotated(path) {
            if self.files.contains_key(&seen.id) || seen.size <= offset {
                continue;
            }
            if let Ok(Some(start)) = disk::start_of(&copy, seen.id)
                && head.matches(&start)
            {
                let mut file = Followed::new(source, path.to_owned(), copy, seen, offset, &start);
                file.changed_at = now;
                self.doubtful.remove(&seen.id);
                self.files.insert(seen.id, file);
                return;
            }
        }
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        self.truncated.push(Truncated { folder, head, offset, at: now });
    }

    /// What has come to a file.
    fn turn(&mut self, file: &mut Followed, now: Nanos, gather: &mut Gather) -> Turn {
        let (size, is_gone) = match self.size_of(file) {
            Ok(Some(found)) => found,
            Ok(None) => return Turn::Over,
            Err(error) => return self.trouble(file, &error, now),
        };
        if size != file.size {
            (file.size, file.changed_at) = (size, now);
        }
        file.next_poll = if now.since(file.changed_at) > CALM_AFTER { now + CALM_EVERY } else { now };
        if file.is_packed {
            return if is_gone { Turn::Over } else { Turn::Done };
        }
        if size < file.offset + file.scanned {
            self.restart(file, now);
        }
        let ending = self.ending(file, now, is_gone);
        let has_more = size > file.offset + file.scanned || (ending > Ending::Open && size > file.offset);
        if has_more && file.looked_at != Some((size, ending)) {
            return self.read(file, ending, now, gather).unwrap_or_else(|error| self.trouble(file, &error, now));
        }
        let idle = now.since(file.changed_at);
        if ending == Ending::Gone {
            return Turn::Over;
        }
        if idle > CLOSE_AFTER && !is_gone {
            self.close(file);
        }
        Turn::Done
    }

    /// Whether more may come, by how long nothing has.
    fn ending(&self, file: &Followed, now: Nanos, is_gone: bool) -> Ending {
        let idle = now.since(file.changed_at);
        // A look or two tell whether the patterns name it again.
        let is_renamed = !file.is_wanted && self.looks > file.unwanted_since + 1;
        if (is_gone && idle >= DELETED_PATIENCE) || (is_renamed && idle >= RENAMED_PATIENCE) {
            Ending::Gone
        } else if idle >= self.sources[file.source].fold_wait {
            Ending::Quiet
        } else {
            Ending::Open
        }
    }

    /// How large it is now, and whether it is deleted; `None` when nothing can be read of it any more.
    fn size_of(&mut self, file: &mut Followed) -> io::Result<Option<(u64, bool)>> {
        let named = disk::look(&file.path)?.filter(|seen| seen.id == file.id);
        if let Some(seen) = named {
            return Ok(Some((seen.size, false)));
        }
        if file.is_wanted {
            (file.is_wanted, file.unwanted_since) = (false, self.looks);
            self.counters.rotations.fetch_add(1, Ordering::Relaxed);
            if self.look_took < QUICK_LOOK {
                // What has come in its place is soon met.
                self.next_look = Nanos(i64::MIN);
            }
        }
        let open = file.handle.as_ref().map(Seen::of_open).transpose()?;
        if open.is_none_or(|seen| seen.links > 0)
            && let Some((path, seen)) = self.find(&file.path, file.id)
        {
            file.path = path;
            return Ok(Some((seen.size, false)));
        }
        if let Some(seen) = open {
            return Ok(Some((seen.size, seen.links == 0)));
        }
        let missed = file.behind();
        self.counters.missed_bytes.fetch_add(missed, Ordering::Relaxed);
        if missed > 0 {
            tracing::error!(event = "FileMissedError", path = %file.path.display(), bytes = missed, "it went before it was read to its end");
        }
        if file.path.parent().is_some_and(|folder| !folder.exists()) {
            self.saved.insert(file.id, file.saved(file.changed_at));
        }
        Ok(None)
    }

    /// Where a file is now that is no longer where it was, if it is in the same folder.
    fn find(&mut self, path: &Path, id: FileId) -> Option<(PathBuf, Seen)> {
        let folder = path.parent()?;
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_owned(), disk::by_inode(folder));
        }
        let path = self.folders.get(folder)?.get(&id.inode)?.clone();
        let seen = disk::look(&path).ok().flatten().filter(|seen| seen.id == id)?;
        Some((path, seen))
    }

    fn trouble(&mut self, file: &mut Followed, error: &io::Error, now: Nanos) -> Turn {
        self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
        let told = error.to_string();
        if file.last_error.as_ref() != Some(&told) {
            tracing::warn!(event = "FileReadError", path = %file.path.display(), "{told}");
        }
        file.last_error = Some(told);
        file.next_poll = now + CALM_EVERY;
        self.close(file);
        Turn::Done
    }

    fn close(&mut self, file: &mut Followed) {
        if file.handle.take().is_some() {
            self.open -= 1;
        }
    }

    /// From its beginning again: it is another file in the same place.
    fn restart(&mut self, file: &mut Followed, now: Nanos) {
        tracing::info!(event = "FileTruncated", path = %file.path.display(), read = file.offset, size = file.size);
        self.note_truncation(&file.path, file.head, file.offset, file.source, now);
        (file.offset, file.scanned, file.head) = (0, 0, Head::default());
        (file.known, file.looked_at) = (None, None);
    }
}

impl Followed {
    fn new(source: usize, met_as: PathBuf, path: PathBuf, seen: Seen, offset: u64, start: &[u8]) -> Self {
        Self {
            id: seen.id,
            source,
            met_as,
            path,
            is_wanted: false,
            unwanted_since: 0,
            head: Head::of(start),
            offset,
            scanned: 0,
            size: seen.size,
            changed_at: Nanos::default(),
            looked_at: None,
            next_poll: Nanos(i64::MIN),
            handle: None,
            known: None,
            is_packed: false,
            last_error: None,
            last_time: Nanos::default(),
            lines: 0,
        }
    }

    fn saved(&self, seen: Nanos) -> Saved {
        let Self { met_as, path, head, offset, .. } = self;
        Saved { met_as: met_as.clone(), path: path.clone(), head: *head, offset: *offset, seen }
    }

    fn behind(&self) -> u64 {
        if self.is_packed { 0 } else { self.size.saturating_sub(self.offset) }
    }
}
