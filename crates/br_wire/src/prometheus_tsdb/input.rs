//! Reading from a file at a place, and the numbers that stand there.

use crate::{Result, WireError};
use br_std::crc32c::crc32c;
use br_std::varint;
use std::fmt;
use std::io;

/// A file, or bytes in its stead.
pub trait ReadAt {
    fn size(&self) -> u64;

    /// Fills the buffer with the bytes from `offset` on, all of them or none.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let found = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What is wrong at this byte of the file.
pub(super) fn wrong(offset: u64, what: impl fmt::Display) -> WireError {
    WireError::Malformed(format!("at byte {offset}: {what}"))
}

/// Reads so many bytes. Memory is taken only for what the file has.
pub(super) fn read(input: &dyn ReadAt, offset: u64, length: u64) -> Result<Vec<u8>> {
    let end = offset.checked_add(length).filter(|end| *end <= input.size());
    let (Some(_), Ok(length)) = (end, usize::try_from(length)) else {
        return Err(wrong(offset, format_args!("{length} bytes should be here, the file ends at {}", input.size())));
    };
    let mut bytes = vec![0; length];
    input.read_exact_at(offset, &mut bytes).map_err(|error| wrong(offset, error))?;
    Ok(bytes)
}

/// Takes the last four bytes off, which must be the checksum of those before them.
pub(super) fn checked(mut bytes: Vec<u8>, offset: u64) -> Result<Vec<u8>> {
    let Some((data, sum)) = bytes.split_last_chunk::<4>() else { return Err(wrong(offset, "too short for a checksum")) };
    if crc32c(data) != u32::from_be_bytes(*sum) {
        return Err(wrong(offset, "the checksum does not fit"));
    }
    bytes.truncate(bytes.len() - 4);
    Ok(bytes)
}

/// Takes numbers and texts off the front of some bytes, and knows at which byte of the file it is.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    end: u64,
}

impl<'a> Cursor<'a> {
    /// `offset` is where `bytes` begin in the file.
    pub(super) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, end: offset.saturating_add(bytes.len() as u64) }
    }

    pub(super) fn offset(&self) -> u64 {
        self.end - self.rest.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    fn cut(&self) -> WireError {
        wrong(self.offset(), "a value is cut short")
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.cut())?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn be32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn be64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn be_f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.be64()?))
    }

    pub(super) fn uvarint(&mut self) -> Result<u64> {
        varint::take_u64(&mut self.rest).ok_or_else(|| self.cut())
    }

    pub(super) fn varint(&mut self) -> Result<i64> {
        varint::take_i64(&mut self.rest).ok_or_else(|| self.cut())
    }

    /// A number of things of which each takes at least `bytes_min` of what is left.
    pub(super) fn count(&mut self, bytes_min: usize) -> Result<usize> {
        let count = self.uvarint()?;
        let fits = usize::try_from(count).ok().filter(|count| *count <= self.rest.len() / bytes_min.max(1));
        fits.ok_or_else(|| wrong(self.offset(), format_args!("{count} entries cannot be in the {} bytes left", self.rest.len())))
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.cut())?;
        self.rest = rest;
        Ok(bytes)
    }

    /// What may be a text, with its length in front.
    pub(super) fn text_bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.count(1)?;
        self.bytes(length)
    }
}
