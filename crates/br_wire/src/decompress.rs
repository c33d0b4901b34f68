//! Content encodings, decoded with a bound on what comes out.
//!
//! A bomb costs no more than the limit: streams are read through a counter, and snappy's declared length is checked before
//! anything is allocated. Sources: RFC 1951, 1952, 8878; snappy `format_description.txt`; LZ4 frame format 1.6.

use crate::{Limits, Result, WireError};
use std::borrow::Cow;
use std::io::Read;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    /// `deflate` in HTTP means zlib; the bare form, which some clients send, is read too.
    Deflate,
    Zstd,
    /// The block format, as in remote write and Loki.
    Snappy,
    /// The frame format.
    Lz4,
}

impl Encoding {
    /// Reads a `Content-Encoding` header. One encoding at the most: a chain of them is refused.
    pub fn from_header(header: &str) -> Result<Self> {
        let mut names =
            header.split(',').map(str::trim).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        let Some(name) = names.next() else { return Ok(Self::Identity) };
        if names.next().is_some() {
            return Err(WireError::Unsupported(format!("content encoding {header:?}: more than one encoding")));
        }
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            "snappy" => Ok(Self::Snappy),
            "lz4" => Ok(Self::Lz4),
            _ => Err(WireError::Unsupported(format!(
                "content encoding {name:?} is not known; send gzip, deflate, zstd, snappy, lz4 or none"
            ))),
        }
    }
}

/// The base-2 logarithm of the largest zstd window: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The body in the clear; borrowed where nothing was encoded.
pub fn decompress<'a>(body: &'a [u8], encoding: Encoding, limits: &Limits) -> Result<Cow<'a, [u8]>> {
    if body.len() > limits.body_bytes_max {
        return Err(WireError::TooLarge(format!(
            "the body has {} bytes; at most {} are taken",
            body.len(),
            limits.body_bytes_max
        )));
    }
    let decoded = match encoding {
        Encoding::Identity => return Ok(Cow::Borrowed(body)),
        Encoding::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(body), body.len(), "gzip", limits)?,
        Encoding::Deflate => deflate(body, limits)?,
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(body).map_err(|error| broken("zstd", &error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| broken("zstd", &error))?;
            read_bounded(decoder, body.len(), "zstd", limits)?
        }
        Encoding::Snappy => snappy(body, limits)?,
        Encoding::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(body), body.len(), "lz4", limits)?,
    };
    Ok(Cow::Owned(decoded))
}

/// [`decompress`] with the header's words.
pub fn decompress_header<'a>(body: &'a [u8], content_encoding: &str, limits: &Limits) -> Result<Cow<'a, [u8]>> {
    decompress(body, Encoding::from_header(content_encoding)?, limits)
}

/// A zlib stream says so in its first two bytes.
fn deflate(body: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let has_zlib_header = match body {
        [first, second, ..] => first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31),
        _ => false,
    };
    if has_zlib_header {
        read_bounded(flate2::read::ZlibDecoder::new(body), body.len(), "deflate", limits)
    } else {
        read_bounded(flate2::read::DeflateDecoder::new(body), body.len(), "deflate", limits)
    }
}

fn snappy(body: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let declared = snap::raw::decompress_len(body).map_err(|error| broken("snappy", &error))?;
    let allowed = bytes_allowed(body.len(), limits);
    if declared > allowed {
        return Err(too_large("snappy", allowed));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|error| broken("snappy", &error))
}

/// What a body becomes in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// As it says itself, or what is likely where it says nothing. A body of several parts tells of one of them, and nobody must tell
    /// the truth.
    pub declared: usize,
    /// As the limits allow.
    pub most: usize,
}

/// How many times larger a body is thought to become that does not say it.
const LIKELY_RATIO: usize = 8;

/// Looks at what a body says of itself; without an encoding, whatever it turns out to have.
pub fn unpacked(body: &[u8], encoding: Option<Encoding>, limits: &Limits) -> Unpacked {
    let most = bytes_allowed(body.len(), limits).max(body.len());
    let declared = match encoding {
        Some(Encoding::Identity) => Some(body.len()),
        Some(Encoding::Snappy) => snap::raw::decompress_len(body).ok(),
        Some(Encoding::Gzip) => body.last_chunk().map(|size| u32::from_le_bytes(*size) as usize),
        Some(Encoding::Zstd) => zstd::zstd_safe::get_frame_content_size(body).ok().flatten().map(|size| size as usize),
        Some(Encoding::Lz4) => lz4_content_size(body),
        Some(Encoding::Deflate) | None => None,
    };
    let declared = declared.unwrap_or(body.len().saturating_mul(LIKELY_RATIO));
    Unpacked { declared: declared.clamp(body.len().min(most), most), most }
}

/// What the header of an lz4 frame says, where the sender knew it before.
fn lz4_content_size(body: &[u8]) -> Option<usize> {
    const HAS_CONTENT_SIZE: u8 = 1 << 3;
    let (flags, rest) = body.strip_prefix(&[0x04, 0x22, 0x4d, 0x18])?.split_first()?;
    let size = rest.get(1..9).filter(|_| flags & HAS_CONTENT_SIZE != 0)?;
    usize::try_from(u64::from_le_bytes(size.try_into().ok()?)).ok()
}

/// What `body_len` bytes may become.
fn bytes_allowed(body_len: usize, limits: &Limits) -> usize {
    body_len.saturating_mul(limits.ratio_max).max(limits.ratio_free_bytes).min(limits.decoded_bytes_max)
}

fn read_bounded(reader: impl Read, body_len: usize, name: &str, limits: &Limits) -> Result<Vec<u8>> {
    let allowed = bytes_allowed(body_len, limits);
    let mut reader = reader.take(allowed as u64 + 1);
    let mut decoded = Vec::with_capacity(body_len.saturating_mul(4).min(allowed));
    loop {
        // A vector that grows by itself takes up to twice what is allowed, and is copied each time. What is not written to takes
        // no memory.
        if decoded.len() == decoded.capacity() {
            decoded.reserve_exact(allowed + 1 - decoded.len());
        }
        let free = decoded.capacity() - decoded.len();
        let read = reader.by_ref().take(free as u64).read_to_end(&mut decoded).map_err(|error| broken(name, &error))?;
        if decoded.len() > allowed {
            return Err(too_large(name, allowed));
        }
        if read < free {
            return Ok(decoded);
        }
    }
}

fn broken(name: &str, error: &dyn std::fmt::Display) -> WireError {
    WireError::Malformed(format!("the body is not {name}: {error}"))
}

fn too_large(name: &str, allowed: usize) -> WireError {
    WireError::GrowsTooLarge(format!("the {name} body becomes larger than {allowed} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn encoded(bytes: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(bytes).expect("in memory");
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(bytes).expect("in memory");
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(bytes).expect("in memory");
        vec![
            (Encoding::Identity, bytes.to_vec()),
            (Encoding::Gzip, gzip(bytes)),
            (Encoding::Deflate, zlib.finish().expect("in memory")),
            (Encoding::Deflate, bare.finish().expect("in memory")),
            (Encoding::Zstd, zstd::encode_all(bytes, 1).expect("in memory")),
            (Encoding::Snappy, snap::raw::Encoder::new().compress_vec(bytes).expect("in memory")),
            (Encoding::Lz4, lz4.finish().expect("in memory")),
        ]
    }

    #[test]
    fn every_encoding_round_trips_and_cut_bodies_are_refused() {
        let text = "the bell rock ".repeat(500);
        for (encoding, body) in encoded(text.as_bytes()) {
            let decoded = decompress(&body, encoding, &Limits::default()).expect("valid");
            assert_eq!(decoded.as_ref(), text.as_bytes(), "{encoding:?}");
            if encoding != Encoding::Identity {
                let error = decompress(&body[..body.len() / 2], encoding, &Limits::default()).expect_err("cut");
                assert_eq!(error.http_status(), 400, "{encoding:?}");
            }
        }
    }

    #[test]
    fn bombs_are_too_large() {
        let zeros = vec![0; 32 << 20];
        for (encoding, body) in encoded(&zeros).into_iter().skip(1).filter(|(_, body)| body.len() * 100 < zeros.len()) {
            let error = decompress(&body, encoding, &Limits::default()).expect_err("bomb");
            assert_eq!(error.http_status(), 413, "{encoding:?}: {error}");
        }
        let declared = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert_eq!(decompress(&declared, Encoding::Snappy, &Limits::default()).expect_err("declared").http_status(), 413);
        let body = vec![0; (16 << 20) + 1];
        assert_eq!(decompress(&body, Encoding::Identity, &Limits::default()).expect_err("long").http_status(), 413);
    }

    #[test]
    fn a_body_tells_its_size_or_is_taken_for_a_usual_one() {
        let text = "the bell rock ".repeat(5_000);
        for (encoding, body) in encoded(text.as_bytes()) {
            let declared = unpacked(&body, Some(encoding), &Limits::default()).declared;
            let expect = match encoding {
                // Those that are written as streams say nothing.
                Encoding::Deflate | Encoding::Lz4 | Encoding::Zstd => body.len() * 8,
                _ => text.len(),
            };
            assert_eq!(declared, expect, "{encoding:?}");
        }
        let frame = lz4_flex::frame::FrameInfo::new().content_size(Some(text.len() as u64));
        let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
        lz4.write_all(text.as_bytes()).expect("in memory");
        let lz4 = lz4.finish().expect("in memory");
        assert_eq!(unpacked(&lz4, Some(Encoding::Lz4), &Limits::default()).declared, text.len());
    }

    #[test]
    fn headers() {
        for (header, expect) in [
            ("", Ok(Encoding::Identity)),
            ("identity", Ok(Encoding::Identity)),
            (" GZIP ", Ok(Encoding::Gzip)),
            ("zstd", Ok(Encoding::Zstd)),
            ("gzip, zstd", Err(415)),
            ("br", Err(415)),
        ] {
            assert_eq!(Encoding::from_header(header).map_err(|error| error.http_status()), expect, "{header}");
        }
    }
}
