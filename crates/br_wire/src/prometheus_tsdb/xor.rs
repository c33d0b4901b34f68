//! Chunks of floats: time stamps as changes of their distance, values as what changed in their bits.

use super::bits::{BitReader, BitWriter, fits};
use crate::{Result, WireError};

/// A float that is written as the bits that differ from the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct XorValue {
    pub(super) bits: u64,
    /// Where the bits that differed last time stood; the writer has none at first.
    window: Option<(u32, u32)>,
}

impl XorValue {
    pub(super) fn new(value: f64) -> Self {
        Self { bits: value.to_bits(), window: None }
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    pub(super) fn read(&mut self, reader: &mut BitReader<'_>) -> Result<f64> {
        if !reader.bit()? {
            return Ok(self.value());
        }
        if reader.bit()? { self.read_new_window(reader) } else { self.read_window(reader) }
    }

    /// Where the bits that differ stand, and they.
    pub(super) fn read_new_window(&mut self, reader: &mut BitReader<'_>) -> Result<f64> {
        let leading = reader.bits(5)? as u32;
        let significant = match reader.bits(6)? as u32 {
            0 => 64,
            bits => bits,
        };
        let trailing = 64u32.checked_sub(leading + significant);
        let trailing = trailing.ok_or_else(|| WireError::malformed("a value has more than 64 bits"))?;
        self.window = Some((leading, trailing));
        self.read_window(reader)
    }

    /// Bits that differ where those of the last time did.
    pub(super) fn read_window(&mut self, reader: &mut BitReader<'_>) -> Result<f64> {
        let (leading, trailing) = self.window.unwrap_or_default();
        self.bits ^= reader.bits(64 - leading - trailing)? << trailing;
        Ok(self.value())
    }

    pub(super) fn write(&mut self, value: f64, writer: &mut BitWriter) {
        let changed = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        writer.bit(changed != 0);
        if changed == 0 {
            return;
        }
        let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
        let window = match self.window {
            Some(window) if leading >= window.0 && trailing >= window.1 => {
                writer.bit(false);
                window
            }
            _ => {
                writer.bit(true);
                writer.bits(u64::from(leading), 5);
                writer.bits(u64::from(64 - leading - trailing), 6);
                self.window = Some((leading, trailing));
                (leading, trailing)
            }
        };
        writer.bits(changed >> window.1, 64 - window.0 - window.1);
    }
}

/// Widths of a change of the distance, behind one to three ones and a zero, or four ones.
const WIDTHS: [u32; 4] = [14, 17, 20, 64];

fn read_change(reader: &mut BitReader<'_>) -> Result<i64> {
    let mut ones = 0;
    while ones < 4 && reader.bit()? {
        ones += 1;
    }
    match ones {
        0 => Ok(0),
        ones => reader.signed(WIDTHS[ones - 1]),
    }
}

fn write_change(change: i64, writer: &mut BitWriter) {
    if change == 0 {
        return writer.bit(false);
    }
    for (width, (prefix, prefix_bits)) in WIDTHS.into_iter().zip([(0b10, 2), (0b110, 3), (0b1110, 4), (0b1111, 4)]) {
        if width == 64 || fits(change, width) {
            writer.bits(prefix, prefix_bits);
            return writer.bits(change as u64, width);
        }
    }
}

/// Times and values, in the order in which they stand.
pub(super) fn decode(data: &[u8]) -> Result<(Vec<i64>, Vec<f64>)> {
    let (count, stream) = data.split_first_chunk::<2>().ok_or_else(super::bits::cut)?;
    let count = usize::from(u16::from_be_bytes(*count));
    let mut reader = BitReader::new(stream);
    let (mut times, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut time, mut distance, mut value) = (0i64, 0i64, XorValue::default());
    for at in 0..count {
        if at == 0 {
            time = reader.varint()?;
            value = XorValue::new(reader.f64()?);
        } else {
            distance = if at == 1 { reader.uvarint()? as i64 } else { distance.wrapping_add(read_change(&mut reader)?) };
            time = time.wrapping_add(distance);
            value.read(&mut reader)?;
        }
        times.push(time);
        values.push(value.value());
    }
    Ok((times, values))
}

/// At most 65 535 samples, ascending in time.
pub(super) fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut writer = BitWriter::default();
    writer.bits(samples.len() as u64, 16);
    let (mut before, mut distance, mut value) = (0i64, 0i64, XorValue::default());
    for (at, (time, float)) in samples.iter().enumerate() {
        let since = time.wrapping_sub(before);
        match at {
            0 => {
                writer.varint(*time);
                writer.f64(*float);
                value = XorValue::new(*float);
            }
            1 => {
                writer.uvarint(since as u64);
                value.write(*float, &mut writer);
            }
            _ => {
                write_change(since.wrapping_sub(distance), &mut writer);
                value.write(*float, &mut writer);
            }
        }
        (before, distance) = (*time, since);
    }
    writer.into_bytes()
}
