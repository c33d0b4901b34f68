//! A reader and a writer for protobuf's wire format, for messages whose generated form would cost an allocation per field.
//!
//! Source: the Protocol Buffers documentation, "Encoding".

use crate::{Result, WireError};
use br_std::varint;

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    /// No message here has such a field; it is only skipped.
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::malformed("protobuf: bytes expected")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::malformed("protobuf: invalid UTF-8 in a string"))
    }

    /// Text of senders that do not see to it that it is UTF-8.
    pub(crate) fn lossy(self) -> Result<String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub(crate) fn u64(self) -> Result<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(WireError::malformed("protobuf: varint expected")),
        }
    }

    pub(crate) fn i64(self) -> Result<i64> {
        Ok(self.u64()? as i64)
    }

    pub(crate) fn zigzag(self) -> Result<i64> {
        Ok(varint::unzigzag(self.u64()?))
    }

    pub(crate) fn f64(self) -> Result<f64> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WireError::malformed("protobuf: double expected")),
        }
    }

    /// A repeated varint, packed or one by one.
    pub(crate) fn each_varint(self, mut take: impl FnMut(u64)) -> Result<()> {
        match self {
            Self::Varint(value) => take(value),
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    take(varint::take_u64(&mut bytes).ok_or_else(cut)?);
                }
            }
            _ => return Err(WireError::malformed("protobuf: varints expected")),
        }
        Ok(())
    }

    /// A repeated double, packed or one by one.
    pub(crate) fn each_f64(self, mut take: impl FnMut(f64)) -> Result<()> {
        match self {
            Self::Fixed64(bits) => take(f64::from_bits(bits)),
            Self::Bytes(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(cut());
                }
                for chunk in chunks {
                    take(f64::from_le_bytes(*chunk));
                }
            }
            _ => return Err(WireError::malformed("protobuf: doubles expected")),
        }
        Ok(())
    }
}

/// Reads the fields of one message in order.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How much is not read yet.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    /// The next field with its number; `None` at the end. Groups, long gone from protobuf, are refused.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = varint::take_u64(&mut self.rest).ok_or_else(cut)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0);
        let number = number.ok_or_else(|| WireError::malformed("protobuf: invalid field number"))?;
        let field = match tag & 7 {
            0 => Field::Varint(varint::take_u64(&mut self.rest).ok_or_else(cut)?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let length = varint::take_u64(&mut self.rest).ok_or_else(cut)?;
                let length = usize::try_from(length).map_err(|_| cut())?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(cut)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => {
                self.take_array::<4>()?;
                Field::Fixed32
            }
            other => return Err(WireError::Malformed(format!("protobuf: wire type {other} is not known"))),
        };
        Ok(Some((number, field)))
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(cut)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

fn cut() -> WireError {
    WireError::malformed("protobuf: the message ends inside a field")
}

pub(crate) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        varint::put_u64(out, u64::from(number) << 3);
        varint::put_u64(out, value);
    }
}

/// An `int64`, with two's complement for negative values.
pub(crate) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, number, value as u64);
}

/// A `sint64`.
pub(crate) fn put_zigzag(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, number, varint::zigzag(value));
}

/// Writes every value whose bits are not all zero, so that -0.0 survives.
pub(crate) fn put_f64(out: &mut Vec<u8>, number: u32, value: f64) {
    if value.to_bits() != 0 {
        put_f64_always(out, number, value);
    }
}

/// For members of a `oneof`, whose presence matters.
pub(crate) fn put_f64_always(out: &mut Vec<u8>, number: u32, value: f64) {
    varint::put_u64(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint::put_u64(out, u64::from(number) << 3 | 2);
    varint::put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a message inside a message.
pub(crate) fn put_message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

pub(crate) fn put_packed_f64(out: &mut Vec<u8>, number: u32, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    varint::put_u64(out, u64::from(number) << 3 | 2);
    varint::put_u64(out, 8 * values.len() as u64);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn put_packed_varint(out: &mut Vec<u8>, number: u32, values: impl Iterator<Item = u64>) {
    let mut packed = Vec::new();
    values.for_each(|value| varint::put_u64(&mut packed, value));
    if !packed.is_empty() {
        put_bytes(out, number, &packed);
    }
}
