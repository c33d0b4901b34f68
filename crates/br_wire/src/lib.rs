//! Bytes to model: every protocol that Bellrock speaks, decoded and encoded without I/O.
//!
//! A decoder takes bytes and [`Limits`], and returns [`Decoded`]: the good part, and a complaint for each part that is not good.
//! It returns an error only where nothing of the body can be used. No decoder panics, whatever the bytes.

pub mod container;
pub mod decompress;
pub mod elastic;
pub mod error;
pub mod exposition;
pub mod fold;
pub mod jaeger;
pub mod journald;
pub mod json_line;
pub mod loki;
pub mod ndjson;
pub mod otlp;
pub mod postgres;
pub mod prometheus_tsdb;
pub mod remote_read;
pub mod remote_write;
pub mod sentry;
pub mod severity;
pub mod syslog;
pub mod traceback;
pub mod zipkin;

mod amount;
mod document;
mod enrich;
mod json;
mod logfmt;
mod marks;
mod protobuf;
mod span_view;

pub use enrich::{EnrichPolicy, enrich};
pub use error::{Decoded, Rejection, Result, WireError};
pub use marks::Cuts;
pub use span_view::SpanView;

/// How many tags, events or references of a span were left out as it was read: an attribute of spans whose protocols do not count
/// that themselves.
pub(crate) const DROPPED_KEY: &str = "bellrock.dropped_parts";

/// What a decoder accepts at the most. A body over a limit is refused; a record over a limit is rejected, or cut where that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The body as received.
    pub body_bytes_max: usize,
    /// The body after decompression.
    pub decoded_bytes_max: usize,
    /// How many times larger a body may become, once it is larger than [`Limits::ratio_free_bytes`].
    pub ratio_max: usize,
    pub ratio_free_bytes: usize,
    /// Samples, records or spans in one request. What surrounds them (attributes, JSON values) is bounded with it.
    pub records_max: usize,
    /// What holds the records, besides the bytes of their texts, by a rough count that is made before they are.
    /// Only who shares a room with others needs a bound here: OTLP, Loki's pushes and all JSON keep to it.
    pub memory_bytes_max: usize,
    /// Labels of one series or log stream.
    pub labels_max: usize,
    pub label_name_bytes_max: usize,
    pub label_value_bytes_max: usize,
    /// Attributes of one record, span or resource; further ones are dropped, and a record or span says how many.
    pub attributes_max: usize,
    /// The text of an attribute; longer ones are cut, and their record or span says how many.
    pub attribute_bytes_max: usize,
    /// Events, and apart from them links, of one span; it says how many were dropped.
    pub span_children_max: usize,
    /// A log line; longer ones are cut and say so.
    pub line_bytes_max: usize,
    /// Arrays and maps inside each other.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 16 << 20,
            decoded_bytes_max: 64 << 20,
            ratio_max: 100,
            ratio_free_bytes: 1 << 20,
            records_max: 500_000,
            memory_bytes_max: usize::MAX,
            labels_max: 64,
            label_name_bytes_max: 512,
            label_value_bytes_max: 4096,
            attributes_max: 128,
            attribute_bytes_max: 64 << 10,
            span_children_max: 256,
            line_bytes_max: 256 << 10,
            depth_max: 16,
        }
    }
}
