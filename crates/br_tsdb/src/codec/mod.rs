//! Bytes of samples: the stream that an open series appends to, and the chunks that files hold.
//!
//! Everything here is bit-exact and pure. Decoders take foreign bytes: they bound what they allocate by the length of the
//! input and answer damage with [`br_std::Kind::Corrupt`]. `docs/format/metrics-block.md` has the layouts.

pub(crate) mod exemplars;
pub(crate) mod histograms;
pub(crate) mod starts;
pub(crate) mod strip;
pub(crate) mod timestamps;
pub(crate) mod values;
mod xor;

use br_std::{Error, Result, varint};

/// A chunk holds at most this many samples; a decoder refuses more.
pub(crate) const CHUNK_SAMPLES_MAX: usize = 1024;

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("damaged chunk: {what}"))
}

fn take_u64(input: &mut &[u8], what: &str) -> Result<u64> {
    varint::take_u64(input).ok_or_else(|| damaged(what))
}

fn take_i64(input: &mut &[u8], what: &str) -> Result<i64> {
    varint::take_i64(input).ok_or_else(|| damaged(what))
}

fn take_byte(input: &mut &[u8], what: &str) -> Result<u8> {
    let (byte, rest) = input.split_first().ok_or_else(|| damaged(what))?;
    *input = rest;
    Ok(*byte)
}

fn take_f64(input: &mut &[u8], what: &str) -> Result<f64> {
    let (bytes, rest) = input.split_first_chunk::<8>().ok_or_else(|| damaged(what))?;
    *input = rest;
    Ok(f64::from_bits(u64::from_le_bytes(*bytes)))
}

fn take_bytes<'a>(input: &mut &'a [u8], length: usize, what: &str) -> Result<&'a [u8]> {
    let (bytes, rest) = input.split_at_checked(length).ok_or_else(|| damaged(what))?;
    *input = rest;
    Ok(bytes)
}

/// A count of things of which each takes at least `bytes_min` bytes of what is left.
fn take_count(input: &mut &[u8], bytes_min: usize, what: &str) -> Result<usize> {
    let count = take_u64(input, what)?;
    if count > (input.len() / bytes_min.max(1)) as u64 {
        return Err(damaged(what));
    }
    Ok(count as usize)
}

fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// An error where bytes are left over after the last value.
fn expect_end(input: &[u8], what: &str) -> Result<()> {
    if input.is_empty() { Ok(()) } else { Err(damaged(&format!("{} bytes too many after {what}", input.len()))) }
}
