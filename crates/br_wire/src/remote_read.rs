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
use std::collections::VecDeque;

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

/// The whole answer of samples: for each query its series, as [`put_series`] wrote them. They go as it grows.
pub fn response(results: Vec<Vec<Vec<u8>>>) -> Vec<u8> {
    let length = |series: &[Vec<u8>]| series.iter().map(Vec::len).sum::<usize>();
    let mut message = Vec::with_capacity(results.iter().map(|series| length(series) + 16).sum());
    for series in results {
        varint::put_u64(&mut message, 1 << 3 | 2);
        varint::put_u64(&mut message, length(&series) as u64);
        for bytes in series {
            message.extend_from_slice(&bytes);
        }
    }
    message
}

/// What [`compress`] takes at the most.
pub fn compressed_bytes_max(message: &[u8]) -> usize {
    snap::raw::max_compress_len(message.len())
}

/// As an answer of samples is sent.
pub fn compress(message: &[u8]) -> Result<Vec<u8>> {
    snap::raw::Encoder::new().compress_vec(message).map_err(WireError::malformed)
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

/// A request for chunks, compressed with snappy.
pub fn encode_request(queries: &[Query]) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    for query in queries {
        put_message(&mut message, 1, |out| {
            put_int(out, 1, query.start_ms);
            put_int(out, 2, query.end_ms);
            for matcher in &query.matchers {
                put_message(out, 3, |out| {
                    put_varint(out, 1, matcher.op as u64);
                    put_bytes(out, 2, matcher.name.as_bytes());
                    put_bytes(out, 3, matcher.value.as_bytes());
                });
            }
        });
    }
    put_varint(&mut message, 2, 1);
    snap::raw::Encoder::new().compress_vec(&message).map_err(WireError::malformed)
}

/// One series of the streamed form, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkedSeries {
    pub labels: Labels,
    pub chunks: Vec<EncodedChunk>,
}

/// A message of the streamed form may have this many bytes.
const FRAME_BYTES_MAX: u64 = 64 << 20;

/// Takes the streamed form apart as it comes.
#[derive(Default)]
pub struct Frames {
    buffer: Vec<u8>,
    waiting: VecDeque<ChunkedSeries>,
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the stream may end here.
    pub fn is_at_end(&self) -> bool {
        self.buffer.is_empty() && self.waiting.is_empty()
    }

    /// The next series; `None` until more has come.
    pub fn next_series(&mut self) -> Result<Option<ChunkedSeries>> {
        while self.waiting.is_empty() {
            let mut rest = &self.buffer[..];
            let Some(length) = varint::take_u64(&mut rest) else {
                return if self.buffer.len() < 10 { Ok(None) } else { Err(WireError::malformed("a message of no known length")) };
            };
            if length > FRAME_BYTES_MAX {
                return Err(WireError::TooLarge(format!("a message of {length} bytes")));
            }
            let Some((sum, behind)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            let Some((message, behind)) = behind.split_at_checked(length as usize) else { return Ok(None) };
            if crc32c(message) != u32::from_be_bytes(*sum) {
                return Err(WireError::malformed("the checksum of a message does not fit"));
            }
            let mut reader = Reader::new(message);
            while let Some((number, field)) = reader.next()? {
                if number == 1 {
                    self.waiting.push_back(chunked_series(field.bytes()?)?);
                }
            }
            let taken = self.buffer.len() - behind.len();
            self.buffer.drain(..taken);
        }
        Ok(self.waiting.pop_front())
    }
}

fn chunked_series(bytes: &[u8]) -> Result<ChunkedSeries> {
    let (mut pairs, mut chunks) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => {
                let (mut name, mut value) = ("", "");
                let mut label = Reader::new(field.bytes()?);
                while let Some((number, field)) = label.next()? {
                    match number {
                        1 => name = field.text()?,
                        2 => value = field.text()?,
                        _ => {}
                    }
                }
                pairs.push((name, value));
            }
            2 => chunks.push(chunk_of(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(ChunkedSeries { labels: Labels::from_pairs(pairs), chunks })
}

fn chunk_of(bytes: &[u8]) -> Result<EncodedChunk> {
    let mut chunk = EncodedChunk { min_ms: 0, max_ms: 0, encoding: ChunkEncoding::Xor, data: Vec::new() };
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => chunk.min_ms = field.i64()?,
            2 => chunk.max_ms = field.i64()?,
            3 => {
                chunk.encoding = match field.u64()? {
                    1 => ChunkEncoding::Xor,
                    2 => ChunkEncoding::Histogram,
                    3 => ChunkEncoding::FloatHistogram,
                    other => return Err(WireError::Unsupported(format!("a chunk of type {other}"))),
                }
            }
            4 => chunk.data = field.bytes()?.to_vec(),
            _ => {}
        }
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_comes_apart_wherever_it_is_cut() {
        let labels = Labels::from_pairs([("__name__", "up"), ("é", "1")]);
        let chunk = |at: i64| EncodedChunk {
            min_ms: at,
            max_ms: at + 1,
            encoding: ChunkEncoding::FloatHistogram,
            data: vec![7; 600_000],
        };
        let chunks = vec![chunk(-5), chunk(10), chunk(20)];
        let mut stream = Vec::new();
        put_chunked_series(&mut stream, &labels, &chunks, 0);
        for step in [1_000_003, 77_777, stream.len()] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in stream.chunks(step) {
                frames.push(part);
                while let Some(series) = frames.next_series().expect("sound") {
                    assert_eq!(series.labels, labels);
                    found.extend(series.chunks);
                }
            }
            assert!(frames.is_at_end());
            assert_eq!(found, chunks);
        }
        stream[50] ^= 1;
        let mut frames = Frames::default();
        frames.push(&stream);
        assert!(frames.next_series().is_err());
    }

    #[test]
    fn requests_come_back() {
        let matcher = LabelMatcher { op: MatchType::NotRegex, name: "a".into(), value: "b|c".into() };
        let queries = vec![Query { start_ms: -7, end_ms: 9, matchers: vec![matcher] }, Query::default()];
        let request = decode(&encode_request(&queries).expect("small"), &Limits::default()).expect("just written");
        assert_eq!(request, Request { queries, response: ResponseType::StreamedChunks });
    }
}
