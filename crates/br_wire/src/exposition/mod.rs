//! What `/metrics` serves: the Prometheus text format 0.0.4, OpenMetrics 1.0 and the protobuf format.
//!
//! A scrape is taken as a whole or not at all, as in Prometheus: the first fault is told with its line and column.
//! Sources: Prometheus "Exposition formats", OpenMetrics 1.0 (with `st@` from the 2.0 draft), io.prometheus.client.

mod bounds;
mod created;
mod federation;
mod line;
mod protobuf;
mod protocol;
mod strict;
mod text;
mod write;

pub use bounds::{Bounds, check_labels};
pub use federation::{Accepted, Escaping, Latest, write_federation};
pub use protocol::Protocol;
pub use write::write_text;

use crate::{Limits, Result, WireError};
use br_model::{Labels, MetricBatch};

/// The timestamp of a sample or exemplar that carries none: the caller puts the time of the scrape there.
pub const NO_TIMESTAMP: i64 = i64::MIN;

/// For the `Content-Type` header of what [`write_text`] makes.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, and 1.0.0 with quoted names.
    Text,
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily`, each with its length in front.
    Protobuf,
}

impl Format {
    /// Reads a `Content-Type` header. One that is not known counts as text where `has_fallback` says so.
    pub fn from_content_type(content_type: &str, has_fallback: bool) -> Result<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
        match media_type.as_str() {
            "application/openmetrics-text" => Ok(Self::OpenMetrics),
            "text/plain" => Ok(Self::Text),
            "application/vnd.google.protobuf" if parameters.iter().any(|parameter| parameter == "encoding=delimited") => {
                Ok(Self::Protobuf)
            }
            _ if has_fallback => Ok(Self::Text),
            "" => Err(WireError::Unsupported("the target sends no content type, and no fallback_scrape_protocol is set".into())),
            _ => Err(WireError::Unsupported(format!(
                "the target sends content type {content_type:?}, which is no exposition format, and no fallback_scrape_protocol is set"
            ))),
        }
    }
}

/// Reads the body of a scrape. With `has_fallback` a content type that is not known counts as text.
/// Samples without a timestamp have [`NO_TIMESTAMP`].
pub fn parse(body: &[u8], content_type: &str, has_fallback: bool, limits: &Limits) -> Result<MetricBatch> {
    parse_bounded(body, Format::from_content_type(content_type, has_fallback)?, limits)
}

/// Reads a body of a known format, native and classic histograms alike.
pub fn parse_format(body: &[u8], format: Format) -> Result<MetricBatch> {
    parse_bounded(body, format, &Limits::default())
}

fn parse_bounded(body: &[u8], format: Format, limits: &Limits) -> Result<MetricBatch> {
    let forms = HistogramForms { native: true, classic_too: true };
    parse_choosing(body, format, forms, &(), &Bounds::of(limits)).map(|exposed| exposed.batch)
}

/// Which forms of a histogram are read where a target offers both, as only the protobuf format can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramForms {
    pub native: bool,
    /// Also the classic form of histograms that are read in the native one.
    pub classic_too: bool,
}

/// What a scraper remembers of series by the way in which their lines name them.
pub trait KnownTexts {
    /// The labels that it has given to the series whose name and labels have this hash as they are written.
    fn find(&self, text_hash: u128) -> Option<Labels>;
}

/// Nothing is known: every line is read in full.
impl KnownTexts for () {
    fn find(&self, _text_hash: u128) -> Option<Labels> {
        None
    }
}

/// How a series of a text format was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextKey {
    pub hash: u128,
    /// Its labels are those that the scraper remembered.
    pub is_known: bool,
}

/// What a scrape brought.
#[derive(Debug, Default)]
pub struct Exposed {
    pub batch: MetricBatch,
    /// One for each series of a text format; none for the protobuf format.
    pub keys: Vec<TextKey>,
}

/// Reads a body of a known format, within bounds.
pub fn parse_choosing(
    body: &[u8],
    format: Format,
    forms: HistogramForms,
    known: &dyn KnownTexts,
    bounds: &Bounds<'_>,
) -> Result<Exposed> {
    match format {
        Format::Text => text::parse(as_text(body)?, text::Dialect::Prometheus, known, bounds),
        Format::OpenMetrics => text::parse(as_text(body)?, text::Dialect::OpenMetrics, known, bounds),
        Format::Protobuf => protobuf::parse(body, forms, bounds).map(|batch| Exposed { batch, keys: Vec::new() }),
    }
}

/// Reads OpenMetrics 1.0 and holds it to every MUST of the specification: order, grouping, types, values.
/// Scrapes are read more kindly, by [`parse`]; this is for those who write an exposition.
pub fn parse_openmetrics_strict(body: &[u8]) -> Result<MetricBatch> {
    text::parse(as_text(body)?, text::Dialect::StrictOpenMetrics, &(), &Bounds::of(&Limits::default()))
        .map(|exposed| exposed.batch)
}

fn as_text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|error| {
        let good = &body[..error.valid_up_to()];
        let line = memchr::memchr_iter(b'\n', good).count() + 1;
        let column = good.len() - memchr::memrchr(b'\n', good).map_or(0, |at| at + 1) + 1;
        WireError::Malformed(format!("{line}:{column}: invalid UTF-8"))
    })
}
