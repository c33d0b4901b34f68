//! Immutable files: Parquet with one row per series and chunk, sorted by metric and labels.
//!
//! `docs/format/metrics-block.md` has the layout. A file's checksums are verified whenever something is read from it.

pub(crate) mod file;
pub(crate) mod index;
pub(crate) mod io;
pub(crate) mod read;
mod reader;
pub(crate) mod row;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod write;
