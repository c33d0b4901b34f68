//! One block: its series in the order in which files want them, its samples without what was deleted.

use super::files::{self, FileAt, numbered};
use super::find::Block;
use super::windows::Window;
use anyhow::{Context, Result, anyhow};
use br_model::Labels;
use br_model::labels::METRIC_NAME;
use br_storage::{Points, Values};
use br_tsdb::ImportWriter;
use br_wire::prometheus_tsdb::aggregate::{self, Aggregate};
use br_wire::prometheus_tsdb::chunk::{self, ChunkSamples, ChunkValues, Encoding};
use br_wire::prometheus_tsdb::index::{ChunkPlace, Index, Postings};
use br_wire::prometheus_tsdb::tombstones::Intervals;
use br_wire::prometheus_tsdb::{segment, tombstones};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy)]
pub(super) struct BlockOptions<'a> {
    pub(super) aggregates: &'a [Aggregate],
    pub(super) external_labels: bool,
}

pub(super) struct BlockReader<'a> {
    block: &'a Block,
    options: BlockOptions<'a>,
    index_path: PathBuf,
    index: Index<FileAt>,
    segments: Vec<(PathBuf, FileAt)>,
    deleted: BTreeMap<u64, Intervals>,
    /// Series whose labels are not UTF-8.
    illegible: RefCell<BTreeSet<u32>>,
    unread: RefCell<Unread>,
}

/// Chunks of an encoding that is not known.
#[derive(Default)]
struct Unread {
    /// By segment and place: a chunk may reach into several windows.
    chunks: BTreeSet<(u32, u32)>,
    first: Option<String>,
}

impl Unread {
    /// How many, and what the user has to know of them.
    fn told(&self) -> Option<(usize, String)> {
        let (first, count) = (self.first.as_ref()?, self.chunks.len());
        Some((count, format!("{count} chunks are left out, their encoding is not known; the first is {first}")))
    }
}

const TOMBSTONES_BYTES_MAX: u64 = 256 << 20;

/// A metric as it is written: under its own name, or an aggregate under a name of its own.
struct Metric {
    name: String,
    postings: Postings,
    aggregate: Option<Aggregate>,
}

struct Series {
    labels: Labels,
    reference: u32,
    chunks: Vec<ChunkPlace>,
}

impl<'a> BlockReader<'a> {
    pub(super) fn open(block: &'a Block, options: BlockOptions<'a>) -> Result<Self> {
        let index_path = block.path.join("index");
        let index = Index::open(FileAt::open(&index_path)?).map_err(|error| in_file(&index_path, error))?;
        let mut segments = Vec::new();
        for (_, path) in numbered(&block.path.join("chunks"))? {
            let file = FileAt::open(&path)?;
            segment::check_header(&file).map_err(|error| in_file(&path, error))?;
            segments.push((path, file));
        }
        let path = block.path.join("tombstones");
        let deleted = if path.is_file() {
            tombstones::parse(&files::read(&path, TOMBSTONES_BYTES_MAX)?).map_err(|error| in_file(&path, error))?
        } else {
            BTreeMap::new()
        };
        Ok(Self {
            block,
            options,
            index_path,
            index,
            segments,
            deleted,
            illegible: RefCell::default(),
            unread: RefCell::default(),
        })
    }

    /// Hands out the series that have samples in a window, with these.
    pub(super) fn series_of(&self, window: Window, take: &mut dyn FnMut(&Labels, Vec<Points>) -> Result<()>) -> Result<()> {
        for metric in self.metrics() {
            let mut series = self.series(&metric, window).map_err(|error| in_file(&self.index_path, error))?;
            series.sort_by(|one, other| ImportWriter::order(&one.labels, &other.labels));
            let mut series = series.into_iter().peekable();
            while let Some(first) = series.next() {
                let mut parts = self.samples(&first, metric.aggregate, window)?;
                // Replicas are the same series where their external labels are left away.
                while let Some(twin) = series.next_if(|next| next.labels == first.labels) {
                    parts.extend(self.samples(&twin, metric.aggregate, window)?);
                }
                take(&first.labels, parts)?;
            }
        }
        Ok(())
    }

    /// How many series were left out because their labels are not UTF-8.
    pub(super) fn illegible_count(&self) -> usize {
        self.illegible.borrow().len()
    }

    pub(super) fn unread(&self) -> Option<(usize, String)> {
        self.unread.borrow().told()
    }

    /// In the order of the names that they are written under.
    fn metrics(&self) -> Vec<Metric> {
        let resolution = self.block.meta.thanos.downsample.resolution;
        let mut metrics = Vec::new();
        for (name, postings) in self.index.metrics() {
            if resolution == 0 {
                metrics.push(Metric { name: name.to_owned(), postings, aggregate: None });
                continue;
            }
            for aggregate in self.options.aggregates {
                let name = format!("{name}:{}:{}", interval(resolution), aggregate.as_str());
                metrics.push(Metric { name, postings, aggregate: Some(*aggregate) });
            }
        }
        metrics.sort_by(|one, other| one.name.cmp(&other.name));
        metrics
    }

    /// All series of a metric that have chunks in a window.
    fn series(&self, metric: &Metric, window: Window) -> br_wire::Result<Vec<Series>> {
        let mut found = Vec::new();
        for reference in self.index.postings(metric.postings)? {
            let mut series = self.index.series(reference)?;
            if series.is_illegible {
                self.illegible.borrow_mut().insert(reference);
                continue;
            }
            series.chunks.retain(|place| place.max_ms >= window.from_ms && place.min_ms <= window.to_ms);
            if !series.chunks.is_empty() {
                found.push(Series { labels: self.labels(&series.labels, metric), reference, chunks: series.chunks });
            }
        }
        Ok(found)
    }

    fn labels(&self, labels: &Labels, metric: &Metric) -> Labels {
        let external = &self.block.meta.thanos.labels;
        let adds_external = self.options.external_labels && !external.is_empty();
        if !adds_external && metric.aggregate.is_none() {
            return labels.clone();
        }
        let mut builder = labels.to_builder();
        if adds_external {
            for (name, value) in external {
                builder.set(name, value);
            }
        }
        builder.set(METRIC_NAME, &metric.name);
        builder.build()
    }

    fn samples(&self, series: &Series, aggregate: Option<Aggregate>, window: Window) -> Result<Vec<Points>> {
        let nothing = Intervals::new();
        let deleted = self.deleted.get(&u64::from(series.reference)).unwrap_or(&nothing);
        let mut parts = Vec::with_capacity(series.chunks.len());
        for place in &series.chunks {
            let Some(samples) = self.chunk(place, aggregate)? else { continue };
            let is_wanted = |time: i64| {
                (window.from_ms..=window.to_ms).contains(&time) && !deleted.iter().any(|(from, to)| (*from..=*to).contains(&time))
            };
            parts.extend(points_of(samples, is_wanted));
        }
        Ok(parts)
    }

    fn chunk(&self, place: &ChunkPlace, aggregate: Option<Aggregate>) -> Result<Option<ChunkSamples>> {
        let Some((path, file)) = self.segments.get(place.segment as usize) else {
            return Err(anyhow!(
                "{}: a chunk is in file {} of {}",
                self.index_path.display(),
                place.segment + 1,
                self.segments.len()
            ));
        };
        let read = segment::read_chunk(file, u64::from(place.offset));
        if let Err(error @ br_wire::WireError::Unsupported(_)) = &read {
            let mut unread = self.unread.borrow_mut();
            unread.chunks.insert((place.segment, place.offset));
            unread.first.get_or_insert_with(|| format!("{}, at byte {}: {error}", path.display(), place.offset));
            return Ok(None);
        }
        let decoded = read.and_then(|(encoding, data)| {
            let Some(aggregate) = aggregate else { return chunk::decode(encoding, &data).map(Some) };
            if encoding != Encoding::Aggregates {
                return Err(br_wire::WireError::Unsupported("a chunk of samples in a downsampled block".into()));
            }
            let found = aggregate::decode(&data)?.into_iter().find(|(found, ..)| *found == aggregate);
            Ok(found.map(|(_, times_ms, values)| ChunkSamples { times_ms, values: ChunkValues::Floats(values), starts_ms: None }))
        });
        decoded.with_context(|| format!("{}: the chunk at byte {}", path.display(), place.offset))
    }
}

/// `5m`, `1h`.
fn interval(resolution_ms: i64) -> String {
    match resolution_ms {
        hours if hours % 3_600_000 == 0 => format!("{}h", hours / 3_600_000),
        minutes if minutes % 60_000 == 0 => format!("{}m", minutes / 60_000),
        other => format!("{other}ms"),
    }
}

fn in_file(path: &Path, error: br_wire::WireError) -> anyhow::Error {
    anyhow!("{}: {error}", path.display())
}

/// The samples at the times that are wanted; `None` when there are none.
pub(super) fn points_of(samples: ChunkSamples, is_wanted: impl Fn(i64) -> bool) -> Option<Points> {
    let wanted: Vec<bool> = samples.times_ms.iter().map(|time| is_wanted(*time)).collect();
    fn kept<T>(all: Vec<T>, wanted: &[bool]) -> Vec<T> {
        all.into_iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(value, _)| value).collect()
    }
    let timestamps_ms: Arc<[i64]> = kept(samples.times_ms, &wanted).into();
    if timestamps_ms.is_empty() {
        return None;
    }
    let values = match samples.values {
        ChunkValues::Floats(values) => Values::Floats(kept(values, &wanted)),
        ChunkValues::Histograms(values) => Values::Histograms(kept(values, &wanted)),
    };
    let starts_ms = samples.starts_ms.map(|starts| kept(starts, &wanted));
    Some(Points { timestamps_ms, values, starts_ms, weights: None })
}
