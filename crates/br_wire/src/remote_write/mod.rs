//! Prometheus remote write 1.0 and 2.0.
//!
//! Decoding keeps every good series and reports each bad one with its index. Sources: the Prometheus specifications
//! "Remote-Write 1.0" and "Remote-Write 2.0", `prometheus/prompb/types.proto`, `io/prometheus/write/v2/types.proto`.

pub(crate) mod histogram;
mod series;
pub mod v1;
pub mod v2;

use crate::decompress::{Encoding, decompress};
use crate::{Decoded, Limits, Result, WireError};
use br_model::{KnownSeries, MetricBatch, Value};

/// Which message a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    /// Reads a `Content-Type` header. Without `proto=` it is 1.0, as the specification has it.
    pub fn from_content_type(content_type: &str) -> Result<Self> {
        let unsupported = || {
            WireError::Unsupported(format!(
                "content type {content_type:?} is not remote write; send application/x-protobuf with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request"
            ))
        };
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if !media_type.eq_ignore_ascii_case("application/x-protobuf") {
            return Err(unsupported());
        }
        let proto = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
        });
        match proto {
            None | Some("prometheus.WriteRequest") => Ok(Self::V1),
            Some("io.prometheus.write.v2.Request") => Ok(Self::V2),
            Some(_) => Err(unsupported()),
        }
    }
}

/// Reads a request as it came: headers and compressed body. Snappy is the encoding of the specification; a request that
/// names none is taken as snappy, one that names zstd or gzip is read too.
pub fn decode(body: &[u8], content_type: &str, content_encoding: &str, limits: &Limits) -> Result<Decoded<MetricBatch>> {
    decode_with(body, content_type, content_encoding, limits, &mut ()).map(|request| request.decoded)
}

/// The same, without reading the labels of series that are known. Only 1.0 can be read so: in 2.0 the same labels are other
/// numbers in each request.
pub fn decode_with(
    body: &[u8],
    content_type: &str,
    content_encoding: &str,
    limits: &Limits,
    directory: &mut dyn KnownSeries,
) -> Result<v1::Request> {
    let version = Version::from_content_type(content_type)?;
    let encoding = if content_encoding.trim().is_empty() { Encoding::Snappy } else { Encoding::from_header(content_encoding)? };
    let message = decompress(body, encoding, limits)?;
    match version {
        Version::V1 => v1::decode_with(&message, limits, directory),
        Version::V2 => {
            let decoded = v2::decode(&message, limits)?;
            let identities = vec![0; decoded.value.series.len()];
            Ok(v1::Request { decoded, identities, known: Vec::new() })
        }
    }
}

/// What a receiver of 2.0 tells in `X-Prometheus-Remote-Write-Samples-Written` and its two siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub samples: usize,
    pub histograms: usize,
    pub exemplars: usize,
}

impl Written {
    pub fn of(batch: &MetricBatch) -> Self {
        let mut written = Self::default();
        for series in &batch.series {
            let histograms = series.samples.iter().filter(|sample| matches!(sample.value, Value::Histogram(_))).count();
            written.histograms += histograms;
            written.samples += series.samples.len() - histograms;
            written.exemplars += series.exemplars.len();
        }
        written
    }

    /// Header names with their values.
    pub fn headers(self) -> [(&'static str, String); 3] {
        [
            ("X-Prometheus-Remote-Write-Samples-Written", self.samples.to_string()),
            ("X-Prometheus-Remote-Write-Histograms-Written", self.histograms.to_string()),
            ("X-Prometheus-Remote-Write-Exemplars-Written", self.exemplars.to_string()),
        ]
    }
}
