//! Immutable files: Parquet with one row per series and chunk, sorted by metric and labels.
//!
//! `docs/format/metrics-block.md` has the layout. What is read of a file is verified: the footer, the sections of the metrics that are asked for, and each chunk.

mod cache;
mod directory;
pub(crate) mod file;
pub(crate) mod footer;
pub(crate) mod io;
pub(crate) mod pages;
pub(crate) mod read;
mod reader;
pub(crate) mod residency;
pub(crate) mod row;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod section;
pub(crate) mod series_table;
pub(crate) mod stats;
pub(crate) mod write;
