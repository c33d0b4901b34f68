//! Bits in a stream, and the numbers of varying width that chunks are made of.

use crate::{Result, WireError};

pub(super) fn cut() -> WireError {
    WireError::malformed("the chunk ends inside a sample")
}

/// Reads bits, the highest of a byte first.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

/// Widths that follow one to seven ones and a zero; eight ones are followed by 64 bits.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Result<bool> {
        let byte = self.bytes.get(self.at / 8).ok_or_else(cut)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// At most 64.
    pub(super) fn bits(&mut self, count: u32) -> Result<u64> {
        if count == 0 {
            return Ok(0);
        }
        let end = self.at + count as usize;
        let bytes = self.bytes.get(self.at / 8..end.div_ceil(8)).ok_or_else(cut)?;
        let word = bytes.iter().fold(0u128, |word, byte| word << 8 | u128::from(*byte));
        let behind = end.div_ceil(8) * 8 - end;
        self.at = end;
        Ok((word >> behind) as u64 & u64::MAX >> (64 - count))
    }

    pub(super) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.bits(64)?))
    }

    /// Two's complement, of which the lowest value stands for the one above the highest.
    pub(super) fn signed(&mut self, width: u32) -> Result<i64> {
        let bits = self.bits(width)?;
        if width < 64 && bits > 1 << (width - 1) { Ok((bits as i64) - (1i64 << width)) } else { Ok(bits as i64) }
    }

    /// LEB128, byte by byte wherever the stream stands.
    pub(super) fn uvarint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for at in 0..10 {
            let byte = self.bits(8)?;
            if at == 9 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::malformed("a number takes more than 64 bits"))
    }

    pub(super) fn varint(&mut self) -> Result<i64> {
        Ok(br_std::varint::unzigzag(self.uvarint()?))
    }

    /// The width of the number that comes next; 0 for a zero.
    fn width(&mut self) -> Result<u32> {
        for width in [0].into_iter().chain(WIDTHS) {
            if !self.bit()? {
                return Ok(width);
            }
        }
        Ok(64)
    }

    pub(super) fn varbit_int(&mut self) -> Result<i64> {
        match self.width()? {
            0 => Ok(0),
            width => self.signed(width),
        }
    }

    pub(super) fn varbit_uint(&mut self) -> Result<u64> {
        let width = self.width()?;
        self.bits(width)
    }
}

/// Whether a number fits a width in the sense of [`BitReader::signed`].
pub(super) fn fits(value: i64, width: u32) -> bool {
    let highest = 1i64 << (width - 1);
    (1 - highest..=highest).contains(&value)
}

#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl BitWriter {
    pub(super) fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    /// The lowest `count` bits, at most 64.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (value >> (left - taken)) as u8 & (0xff >> (8 - taken));
            self.free -= taken;
            left -= taken;
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << self.free;
            }
        }
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.bits(value.to_bits(), 64);
    }

    pub(super) fn uvarint(&mut self, value: u64) {
        let mut bytes = Vec::with_capacity(10);
        br_std::varint::put_u64(&mut bytes, value);
        for byte in bytes {
            self.bits(u64::from(byte), 8);
        }
    }

    pub(super) fn varint(&mut self, value: i64) {
        self.uvarint(br_std::varint::zigzag(value));
    }

    /// So many ones, and a zero.
    fn prefix(&mut self, ones: u32) {
        self.bits((1 << (ones + 1)) - 2, ones + 1);
    }

    pub(super) fn varbit_int(&mut self, value: i64) {
        if value == 0 {
            return self.bit(false);
        }
        for (ones, width) in (1..).zip(WIDTHS) {
            if fits(value, width) {
                self.prefix(ones);
                return self.bits(value as u64, width);
            }
        }
        self.bits(0xff, 8);
        self.bits(value as u64, 64);
    }

    pub(super) fn varbit_uint(&mut self, value: u64) {
        if value == 0 {
            return self.bit(false);
        }
        for (ones, width) in (1..).zip(WIDTHS) {
            if value >> width == 0 {
                self.prefix(ones);
                return self.bits(value, width);
            }
        }
        self.bits(0xff, 8);
        self.bits(value, 64);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let signed = [0, 1, -1, -3, 4, 5, -4, 32, -31, 256, 257, 2048, -2047, 131_072, 16_777_216, -1 << 55, 1 << 55, i64::MIN];
        let unsigned = [0, 1, 7, 8, 63, 64, 511, 4095, 4096, 1 << 25, (1 << 56) - 1, 1 << 56, u64::MAX];
        let mut writer = BitWriter::default();
        for value in signed {
            writer.varbit_int(value);
        }
        for value in unsigned {
            writer.varbit_uint(value);
        }
        for value in signed {
            writer.varint(value);
        }
        writer.f64(-0.5);
        let bytes = writer.into_bytes();
        let mut reader = BitReader::new(&bytes);
        assert_eq!(signed.map(|_| reader.varbit_int().expect("written")), signed);
        assert_eq!(unsigned.map(|_| reader.varbit_uint().expect("written")), unsigned);
        assert_eq!(signed.map(|_| reader.varint().expect("written")), signed);
        assert_eq!(reader.f64(), Ok(-0.5));
        assert!(reader.bits(8).is_err());
    }
}
