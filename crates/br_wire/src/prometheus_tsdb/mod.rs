//! The files of a Prometheus data directory, which Thanos and Mimir keep as well: blocks and the write-ahead log.
//!
//! Source: the format pages in Prometheus' repository (`tsdb/docs/format`) for index, chunks, tombstones and write-ahead log; its
//! `tsdb/chunkenc` for chunks of histograms and of the encoding XOR2; Thanos' `pkg/compact/downsample` for aggregated chunks.
//!
//! Everything is checked against the checksums that the files carry. An error says at which byte of its file it is;
//! the caller knows the file's name.

pub mod aggregate;
pub mod chunk;
pub mod index;
pub mod meta;
pub mod segment;
pub mod tombstones;
pub mod wal;

mod bits;
mod float_histogram;
mod histogram;
mod input;
mod xor;
mod xor2;

pub use input::ReadAt;
