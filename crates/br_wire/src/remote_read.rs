//! Prometheus remote read: which series a reader wants, and both forms of the answer.
//!
//! Source: `prometheus/prompb/remote.proto`; the framing of the streamed form is in Prometheus' `storage/remote/chunked.go`.

use crate::decompress::{Encoding, decompress};
use crate::prometheus_tsdb::chunk::{EncodedChunk, Encoding as ChunkEncoding};
use crate::protobuf::{Reader, put_bytes, put_f64, put_int, put_message, put_varint};
use crate::remote_write::histogram;
use crate::{Limits, Result, WireError};
use br_model::{Labels, Value};
use br_std::crc32c::crc32c;
use br_std::varint;

pub const CONTENT_TYPE_SAMPLES: &str = "application/x-protobuf";
pub const CONTENT_TYPE_CHUNKS: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// What comes back: samples in one message, or chunks one series after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    Samples,
    StreamedChunks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchType {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMatcher {
    pub op: MatchType,
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Both included.
    pub start_ms: i64,
    pub end_ms: i64,
    pub matchers: Vec<LabelMatcher>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub queries: Vec<Query>,
    /// The first one that the reader names and that is known here; samples when it names none.
    pub response: ResponseType,
}

/// Queries of one request, and matchers of one query.
const PARTS_MAX: usize = 1000;

/// Reads a request as it came, compressed with snappy.
pub fn decode(body: &[u8], limits: &Limits) -> Result<Request> {
    let message = decompress(body, Encoding::Snappy, limits)?;
    let mut queries = Vec::new();
    let mut wanted = Vec::new();
    let mut reader = Reader::new(&message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 if queries.len() == PARTS_MAX => return Err(too_many("queries")),
            1 => queries.push(query(field.bytes()?).map_err(|error| error.context(format_args!("query {}", queries.len())))?),
            2 => field.each_varint(|kind| wanted.push(kind))?,
            _ => {}
        }
    }
    let known = |kind: &u64| match kind {
        0 => Some(ResponseType::Samples),
        1 => Some(ResponseType::StreamedChunks),
        _ => None,
    };
    let response = wanted.iter().find_map(known);
    let response = if wanted.is_empty() { Some(ResponseType::Samples) } else { response };
    let response = response.ok_or_else(|| WireError::malformed("none of the accepted response types is known here"))?;
    Ok(Request { queries, response })
}

fn too_many(what: &str) -> WireError {
    WireError::TooLarge(format!("more than {PARTS_MAX} {what}"))
}

fn query(bytes: &[u8]) -> Result<Query> {
    let mut query = Query::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => query.start_ms = field.i64()?,
            2 => query.end_ms = field.i64()?,
            3 if query.matchers.len() == PARTS_MAX => return Err(too_many("matchers")),
            3 => query.matchers.push(matcher(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(query)
}

fn matcher(bytes: &[u8]) -> Result<LabelMatcher> {
    let mut matcher = LabelMatcher { op: MatchType::Equal, name: String::new(), value: String::new() };
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => {
                matcher.op = match field.u64()? {
                    0 => MatchType::Equal,
                    1 => MatchType::NotEqual,
                    2 => MatchType::Regex,
                    3 => MatchType::NotRegex,
                    other => return Err(WireError::Malformed(format!("a matcher of type {other}"))),
                }
            }
            2 => field.text()?.clone_into(&mut matcher.name),
            3 => field.text()?.clone_into(&mut matcher.value),
            _ => {}
        }
    }
    Ok(matcher)
}

/// Writes one series of a result of samples: `put_message(out, 1, …)` of a `QueryResult`.
pub fn put_series(result: &mut Vec<u8>, labels: &Labels, samples: impl IntoIterator<Item = (i64, Value)>) {
    put_message(result, 1, |out| {
        put_labels(out, labels);
        for (time, value) in samples {
            match value {
                Value::Float(value) => put_message(out, 2, |out| {
                    put_f64(out, 1, value);
                    put_int(out, 2, time);
                }),
                Value::Histogram(histogram) => put_message(out, 4, |out| histogram::encode(out, &histogram, time, 0)),
            }
        }
    });
}

/// The whole answer of samples, compressed with snappy: one result for each query, as [`put_series`] wrote them.
pub fn response(results: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut message = Vec::with_capacity(results.iter().map(|result| result.len() + 8).sum());
    for result in results {
        put_bytes(&mut message, 1, result);
    }
    snap::raw::Encoder::new().compress_vec(&message).map_err(WireError::malformed)
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels.iter() {
        put_message(out, 1, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

/// Packed data of one message; a reader takes no larger ones.
const FRAME_BYTES: usize = 1 << 20;

/// Writes one series of the streamed form, in as many messages as it takes.
pub fn put_chunked_series(out: &mut Vec<u8>, labels: &Labels, chunks: &[EncodedChunk], query: usize) {
    let mut rest = chunks;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |chunk: &&EncodedChunk| {
            bytes += chunk.data.len() + 32;
            bytes <= FRAME_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        let mut message = Vec::with_capacity(bytes.min(FRAME_BYTES) + 256);
        put_message(&mut message, 1, |series| {
            put_labels(series, labels);
            for chunk in now {
                put_message(series, 2, |out| put_chunk(out, chunk));
            }
        });
        put_varint(&mut message, 2, query as u64);
        varint::put_u64(out, message.len() as u64);
        out.extend_from_slice(&crc32c(&message).to_be_bytes());
        out.extend_from_slice(&message);
    }
}

fn put_chunk(out: &mut Vec<u8>, chunk: &EncodedChunk) {
    put_int(out, 1, chunk.min_ms);
    put_int(out, 2, chunk.max_ms);
    put_varint(out, 3, if chunk.encoding == ChunkEncoding::Xor { 1 } else { 3 });
    put_bytes(out, 4, &chunk.data);
}
