//! The write-ahead log: the hours that are in no block yet.
//!
//! It is read twice: first for series and for what was deleted, then for samples. Between two hand-overs samples are held packed.

use super::block::points_of;
use super::files::{name, numbered, open};
use super::windows::{Sink, Window, of_range};
use anyhow::{Context, Result, anyhow};
use br_model::labels::METRIC_NAME;
use br_model::{Exemplar, Labels, Metadata, Value};
use br_tsdb::{ImportWriter, WINDOW_SECS, import_window_ms};
use br_wire::prometheus_tsdb::chunk::{self, EncodedChunk};
use br_wire::prometheus_tsdb::wal::{self, Illegible, PAGE_BYTES, Pages, Record};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Samples that are held, before they are written.
const HELD_BYTES_MAX: usize = 256 << 20;
/// Samples of one series that are held unpacked.
const UNPACKED_MAX: usize = 120;

pub(super) struct Log {
    /// In the order in which they were written.
    files: Vec<PathBuf>,
}

impl Log {
    /// Finds the files of the log in a data directory: the newest checkpoint, what comes behind it, and what came out of order.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let folder = directory.join("wal");
        let mut checkpoint: Option<(u64, PathBuf)> = None;
        for path in super::files::list(&folder)? {
            let number = name(&path).strip_prefix("checkpoint.").and_then(|number| number.parse().ok());
            if let Some(number) = number.filter(|number| checkpoint.as_ref().is_none_or(|(newest, _)| newest < number)) {
                checkpoint = Some((number, path));
            }
        }
        let behind = checkpoint.as_ref().map(|(number, _)| *number);
        let mut files = Vec::new();
        if let Some((_, folder)) = checkpoint {
            files.extend(numbered(&folder)?.into_iter().map(|(_, path)| path));
        }
        files.extend(
            numbered(&folder)?.into_iter().filter(|(number, _)| behind.is_none_or(|last| *number > last)).map(|(_, path)| path),
        );
        let out_of_order = directory.join("wbl");
        if out_of_order.is_dir() {
            files.extend(numbered(&out_of_order)?.into_iter().map(|(_, path)| path));
        }
        Ok(Self { files })
    }

    /// Names what is in the log now: when it has grown, it is another source.
    pub(super) fn source(&self) -> String {
        let mut bytes = Vec::new();
        for path in &self.files {
            let size = path.metadata().map_or(0, |found| found.len());
            bytes.extend(format!("{}:{size};", path.display()).into_bytes());
        }
        format!("wal:{:032x}", br_std::hash::hash128(&bytes))
    }

    /// Reads everything from `cutoff_ms` on. Gives what the user has to know.
    pub(super) fn read(&self, cutoff_ms: i64, sink: &mut Sink<'_>) -> Result<Notes> {
        let mut held = Held::default();
        let mut notes = Notes::default();
        let mut illegible = IllegibleNotes::default();
        self.records(&mut notes, &mut illegible, |record| held.learn(record))?;
        let mut ignored = (Notes::default(), IllegibleNotes::default());
        self.records(&mut ignored.0, &mut ignored.1, |record| {
            held.take(record);
            if held.bytes > HELD_BYTES_MAX { held.write(cutoff_ms, sink) } else { Ok(()) }
        })?;
        held.write(cutoff_ms, sink)?;
        notes.told.extend(illegible.note(held.illegible_samples));
        if held.strangers > 0 {
            notes.told.insert(format!("{} samples in the log are of series that it does not name: left out", held.strangers));
        }
        Ok(notes)
    }

    fn records(
        &self,
        notes: &mut Notes,
        illegible: &mut IllegibleNotes,
        mut take: impl FnMut(Logged) -> Result<()>,
    ) -> Result<()> {
        let mut page = vec![0; PAGE_BYTES];
        for (at, path) in self.files.iter().enumerate() {
            let mut file = open(path)?;
            let mut pages = Pages::default();
            let mut failure = None;
            loop {
                let read = read_page(&mut file, &mut page).with_context(|| format!("cannot read {}", path.display()))?;
                let outcome = pages.read(&page[..read], |place, record| {
                    let (record, unread) = wal::parse(record)?;
                    illegible.add(path, place, &unread);
                    if let Record::Unknown(kind) = record {
                        notes.unread_count += 1;
                        notes.unread.insert(format!("records of kind {kind} in {}", path.display()));
                    } else if let Err(error) = take(Logged { record, illegible: unread.series }) {
                        failure = Some(error);
                        return Err(br_wire::WireError::Malformed("stopped".into()));
                    }
                    Ok(())
                });
                if let Some(error) = failure.take() {
                    return Err(error);
                }
                if let Err(error) = outcome {
                    // A crash tears the end of the last file; anywhere else it is damage.
                    let is_last = self.files[at + 1..].iter().all(|other| other.parent() != path.parent());
                    if !is_last {
                        return Err(anyhow!("{}: {error}", path.display()));
                    }
                    notes.told.insert(format!("{}: read up to a torn end ({error})", path.display()));
                    break;
                }
                if read < PAGE_BYTES {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What the user has to know of a log.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) told: BTreeSet<String>,
    /// Records of kinds that are not known, and where they are.
    unread_count: usize,
    unread: BTreeSet<String>,
}

impl Notes {
    pub(super) fn unread(&self) -> Option<(usize, String)> {
        let (first, count) = (self.unread.first()?, self.unread_count);
        Some((count, format!("{count} records are left out, their kind is not known; the first are {first}")))
    }
}

/// A record, and the series that it names in something else than UTF-8.
struct Logged {
    record: Record,
    illegible: Vec<u64>,
}

/// What is left out because it is not UTF-8.
#[derive(Default)]
struct IllegibleNotes {
    series: BTreeSet<u64>,
    others: u64,
    first: Option<String>,
}

impl IllegibleNotes {
    fn add(&mut self, path: &Path, place: u64, found: &Illegible) {
        if found.series.is_empty() && found.others == 0 {
            return;
        }
        self.series.extend(&found.series);
        self.others += found.others;
        self.first.get_or_insert_with(|| format!("{}, in the record that ends at byte {place} and following", path.display()));
    }

    fn note(self, samples: u64) -> Option<String> {
        let Self { series, others, first } = self;
        let place = first?;
        Some(format!(
            "{} series of the log with {samples} samples, and {others} exemplars and descriptions, are left out: their labels or \
             texts are not UTF-8; the first is in {place}",
            series.len()
        ))
    }
}

fn read_page(file: &mut std::fs::File, page: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < page.len() {
        match file.read(&mut page[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[derive(Default)]
struct LogSeries {
    labels: Labels,
    deleted: Vec<(i64, i64)>,
    unpacked: Vec<(i64, Value)>,
    chunks: Vec<EncodedChunk>,
    exemplars: Vec<Exemplar>,
}

#[derive(Default)]
struct Held {
    /// Positions in `series`, by the number that the log has for a series: one series may have several.
    by_reference: HashMap<u64, usize>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<LogSeries>,
    metadata: BTreeMap<String, Metadata>,
    bytes: usize,
    strangers: u64,
    /// Series that are left out, and how many samples they have.
    illegible: BTreeSet<u64>,
    illegible_samples: u64,
}

/// What an unpacked sample takes, about.
const SAMPLE_BYTES: usize = 24;

impl Held {
    /// Series, deletions, metadata.
    #[allow(clippy::unnecessary_wraps, reason = "as the second reading has it")]
    fn learn(&mut self, logged: Logged) -> Result<()> {
        self.illegible.extend(logged.illegible);
        match logged.record {
            Record::Series(found) => {
                for (reference, labels) in found {
                    let next = self.series.len();
                    let at = *self.by_labels.entry(labels.clone()).or_insert(next);
                    if at == next {
                        self.series.push(LogSeries { labels, ..LogSeries::default() });
                    }
                    self.illegible.remove(&reference);
                    self.by_reference.insert(reference, at);
                }
            }
            Record::Tombstones(found) => {
                for (reference, from_ms, to_ms) in found {
                    if let Some(at) = self.by_reference.get(&reference) {
                        self.series[*at].deleted.push((from_ms, to_ms));
                    }
                }
            }
            Record::Metadata(found) => {
                for (reference, metadata) in found {
                    if let Some(at) = self.by_reference.get(&reference)
                        && let Some(name) = self.series[*at].labels.get(METRIC_NAME)
                    {
                        self.metadata.insert(name.to_owned(), metadata);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, logged: Logged) {
        match logged.record {
            Record::Floats(found) => {
                for (series, time, value) in found {
                    self.push(series, time, Value::Float(value));
                }
            }
            Record::Histograms(found) => {
                for (series, time, value) in found {
                    self.push(series, time, Value::Histogram(value));
                }
            }
            Record::Exemplars(found) => {
                for (reference, exemplar) in found {
                    if let Some(at) = self.by_reference.get(&reference) {
                        self.bytes += 128;
                        self.series[*at].exemplars.push(exemplar);
                    }
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, reference: u64, time: i64, value: Value) {
        let Some(at) = self.by_reference.get(&reference) else {
            *if self.illegible.contains(&reference) { &mut self.illegible_samples } else { &mut self.strangers } += 1;
            return;
        };
        let series = &mut self.series[*at];
        let is_out_of_order = series.unpacked.last().is_some_and(|(last, _)| *last >= time);
        if is_out_of_order || series.unpacked.len() >= UNPACKED_MAX {
            self.bytes -= series.unpacked.len() * SAMPLE_BYTES;
            self.bytes += series.pack();
        }
        if let Value::Histogram(histogram) = &value {
            // Unpacked, its buckets count most.
            let buckets = histogram.positive_buckets.len() + histogram.negative_buckets.len();
            if buckets > 0 && series.unpacked.len() >= UNPACKED_MAX / 8 {
                self.bytes -= series.unpacked.len() * SAMPLE_BYTES;
                self.bytes += series.pack();
            }
        }
        self.bytes += SAMPLE_BYTES;
        series.unpacked.push((time, value));
    }

    /// Writes what is held, and lets it go.
    fn write(&mut self, cutoff_ms: i64, sink: &mut Sink<'_>) -> Result<()> {
        for series in &mut self.series {
            series.pack();
        }
        let mut order: Vec<usize> = (0..self.series.len()).filter(|at| !self.series[*at].chunks.is_empty()).collect();
        order.sort_by(|one, other| ImportWriter::order(&self.series[*one].labels, &self.series[*other].labels));
        let mut windows: BTreeMap<i64, Window> = BTreeMap::new();
        for chunk in order.iter().flat_map(|at| &self.series[*at].chunks) {
            let mut start_ms = import_window_ms(chunk.min_ms, WINDOW_SECS);
            while start_ms <= chunk.max_ms {
                let end_ms = start_ms + i64::from(WINDOW_SECS) * 1000 - 1;
                windows.extend(of_range(start_ms, end_ms, cutoff_ms).into_iter().map(|window| (window.start_ms, window)));
                start_ms = end_ms + 1;
            }
        }
        for window in windows.into_values() {
            sink.begin(window)?;
            for at in &order {
                let series = &self.series[*at];
                let parts = series.points(window)?;
                if !parts.is_empty() {
                    sink.push(&series.labels, parts, &series.exemplars)?;
                }
            }
            sink.end(&self.metadata)?;
        }
        for series in &mut self.series {
            series.chunks.clear();
            series.exemplars.clear();
        }
        self.bytes = 0;
        Ok(())
    }
}

impl LogSeries {
    /// Packs what is not packed yet; gives the bytes that it takes.
    fn pack(&mut self) -> usize {
        let chunks = chunk::encode(self.unpacked.drain(..));
        let bytes = chunks.iter().map(|chunk| chunk.data.len() + size_of::<EncodedChunk>()).sum();
        self.chunks.extend(chunks);
        bytes
    }

    fn points(&self, window: Window) -> Result<Vec<br_storage::Points>> {
        let is_wanted = |time: i64| {
            (window.from_ms..=window.to_ms).contains(&time)
                && !self.deleted.iter().any(|(from, to)| (*from..=*to).contains(&time))
        };
        let mut parts = Vec::new();
        for chunk in self.chunks.iter().filter(|chunk| chunk.max_ms >= window.from_ms && chunk.min_ms <= window.to_ms) {
            parts.extend(points_of(chunk::decode(chunk.encoding, &chunk.data)?, is_wanted));
        }
        Ok(parts)
    }
}
