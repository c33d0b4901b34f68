//! Chunks of floats in the encoding XOR2, with start timestamps where there are some.
//!
//! The head is the number of samples and a byte about start timestamps. From the third sample on one row of bits says what becomes
//! of time and value. Source: `tsdb/chunkenc/xor2.go` of Prometheus 3.15.

use super::bits::{BitReader, cut};
use super::xor::XorValue;
use crate::Result;
use br_model::metrics::{is_stale, stale_nan};

/// Of the byte about start timestamps: the first sample has one.
const FIRST_IS_KNOWN: u8 = 0x80;
/// The number of the first sample that has one of its own; zero for none.
const CHANGES_FROM: u8 = 0x7f;

/// The samples of a chunk by column.
#[derive(Debug, PartialEq)]
pub(super) struct Samples {
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// `None` where no sample has one; zero for a sample that has none.
    pub(super) starts: Option<Vec<i64>>,
}

/// A staleness marker is no value that the next one is compared with.
struct Values(XorValue);

impl Values {
    fn first(&mut self, value: f64) {
        if !is_stale(value) {
            self.0 = XorValue::new(value);
        }
    }

    /// Behind a change of the distance: a zero for the same value, `10` for the bits of the window that is known, `110` for a
    /// new window, `111` for a staleness marker.
    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<f64> {
        if !reader.bit()? {
            return Ok(self.0.value());
        }
        if !reader.bit()? {
            return self.0.read_window(reader);
        }
        if reader.bit()? { Ok(stale_nan()) } else { self.0.read_new_window(reader) }
    }

    /// Where it is known that the value has changed.
    fn read_changed(&mut self, reader: &mut BitReader<'_>) -> Result<f64> {
        if reader.bit()? { self.0.read_new_window(reader) } else { self.0.read_window(reader) }
    }
}

/// What became of the distance between two samples, and of the value.
enum Joint {
    Same,
    ValueChanged,
    DistanceChanged { width: u32 },
    Stale,
}

fn joint(reader: &mut BitReader<'_>) -> Result<Joint> {
    let mut ones = 0;
    while ones < 5 && reader.bit()? {
        ones += 1;
    }
    Ok(match ones {
        0 => Joint::Same,
        1 => Joint::ValueChanged,
        2 => Joint::DistanceChanged { width: 13 },
        3 => Joint::DistanceChanged { width: 20 },
        4 => Joint::DistanceChanged { width: 64 },
        _ => Joint::Stale,
    })
}

/// Two's complement.
fn signed(reader: &mut BitReader<'_>, width: u32) -> Result<i64> {
    let unused = 64 - width;
    Ok((reader.bits(width)? << unused) as i64 >> unused)
}

/// Start timestamps as they are written: how long before the sample in front of theirs.
struct Starts {
    is_first_known: bool,
    changes_from: usize,
    start: i64,
    before: i64,
}

impl Starts {
    fn new(header: u8) -> Self {
        let changes_from = usize::from(header & CHANGES_FROM);
        Self { is_first_known: header & FIRST_IS_KNOWN != 0, changes_from, start: 0, before: 0 }
    }

    fn read(&mut self, at: usize, time: i64, time_before: i64, reader: &mut BitReader<'_>) -> Result<i64> {
        if at == 0 {
            if self.is_first_known {
                self.start = time.wrapping_sub(reader.varint()?);
            }
        } else if self.changes_from > 0 && at >= self.changes_from {
            let change = reader.varbit_int()?;
            self.before = if at == self.changes_from { change } else { self.before.wrapping_add(change) };
            self.start = time_before.wrapping_sub(self.before);
        }
        Ok(self.start)
    }
}

pub(super) fn decode(data: &[u8]) -> Result<Samples> {
    let (&[high, low, header], stream) = data.split_first_chunk::<3>().ok_or_else(cut)?;
    let count = usize::from(u16::from_be_bytes([high, low]));
    let mut reader = BitReader::new(stream);
    let mut samples = Samples {
        times: Vec::with_capacity(count),
        values: Vec::with_capacity(count),
        starts: (header != 0).then(|| Vec::with_capacity(count)),
    };
    let (mut time, mut distance, mut values, mut starts) = (0i64, 0i64, Values(XorValue::new(0.0)), Starts::new(header));
    for at in 0..count {
        let time_before = time;
        let value = match at {
            0 => {
                time = reader.varint()?;
                let value = reader.f64()?;
                values.first(value);
                value
            }
            1 => {
                distance = reader.uvarint()? as i64;
                time = time.wrapping_add(distance);
                values.read(&mut reader)?
            }
            _ => {
                let joint = joint(&mut reader)?;
                if let Joint::DistanceChanged { width } = joint {
                    distance = distance.wrapping_add(signed(&mut reader, width)?);
                }
                time = time.wrapping_add(distance);
                match joint {
                    Joint::Same => values.0.value(),
                    Joint::ValueChanged => values.read_changed(&mut reader)?,
                    Joint::DistanceChanged { .. } => values.read(&mut reader)?,
                    Joint::Stale => stale_nan(),
                }
            }
        };
        samples.times.push(time);
        samples.values.push(value);
        let start = starts.read(at, time, time_before, &mut reader)?;
        samples.starts.iter_mut().for_each(|starts| starts.push(start));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::super::bits::BitWriter;
    use super::*;
    use proptest::prelude::*;

    /// Writes as Prometheus does, from the description of the format. `None` is no start timestamp.
    #[derive(Default)]
    struct Encoder {
        writer: BitWriter,
        value: u64,
        window: Option<(u32, u32)>,
    }

    impl Encoder {
        fn window(&mut self, changed: u64, known: (u64, u32), new: (u64, u32)) {
            let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
            if let Some((high, low)) = self.window.filter(|(high, low)| leading >= *high && trailing >= *low) {
                self.writer.bits(known.0, known.1);
                return self.writer.bits(changed >> low, 64 - high - low);
            }
            self.window = Some((leading, trailing));
            self.writer.bits(new.0, new.1);
            self.writer.bits(u64::from(leading), 5);
            self.writer.bits(u64::from(64 - leading - trailing), 6);
            self.writer.bits(changed >> trailing, 64 - leading - trailing);
        }

        fn value(&mut self, value: f64) {
            let changed = value.to_bits() ^ self.value;
            if is_stale(value) {
                return self.writer.bits(0b111, 3);
            }
            self.value = value.to_bits();
            if changed == 0 { self.writer.bit(false) } else { self.window(changed, (0b10, 2), (0b110, 3)) }
        }

        fn joint(&mut self, change: i64, value: f64) {
            let changed = value.to_bits() ^ self.value;
            match change {
                0 if is_stale(value) => return self.writer.bits(0b11111, 5),
                0 if changed == 0 => return self.writer.bit(false),
                0 => {
                    self.value = value.to_bits();
                    self.writer.bits(0b10, 2);
                    return self.window(changed, (0, 1), (1, 1));
                }
                -4096..=4095 => self.writer.bits(0b110 << 13 | change as u64 & 0x1fff, 16),
                -524_288..=524_287 => self.writer.bits(0b1110 << 20 | change as u64 & 0xf_ffff, 24),
                _ => {
                    self.writer.bits(0b11110, 5);
                    self.writer.bits(change as u64, 64);
                }
            }
            self.value(value);
        }
    }

    fn encode(samples: &[(i64, f64, i64)]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let (mut header, mut changes_from, mut known, mut before) = (0u8, 0usize, 0i64, 0i64);
        let (mut distance, mut time_before) = (0i64, 0i64);
        for (at, (time, value, start)) in samples.iter().enumerate() {
            let since = time.wrapping_sub(time_before);
            match at {
                0 => {
                    encoder.writer.varint(*time);
                    encoder.writer.f64(*value);
                    if !is_stale(*value) {
                        encoder.value = value.to_bits();
                    }
                    if *start != 0 {
                        encoder.writer.varint(time.wrapping_sub(*start));
                        header = FIRST_IS_KNOWN;
                    }
                }
                1 => {
                    encoder.writer.uvarint(since as u64);
                    encoder.value(*value);
                }
                _ => encoder.joint(since.wrapping_sub(distance), *value),
            }
            if at > 0 && (changes_from > 0 || *start != known || at == usize::from(CHANGES_FROM)) {
                let wanted = time_before.wrapping_sub(*start);
                if changes_from == 0 {
                    changes_from = at;
                    header |= at as u8;
                    before = 0;
                }
                encoder.writer.varbit_int(wanted.wrapping_sub(before));
                before = wanted;
            }
            (known, distance, time_before) = (*start, if at == 0 { 0 } else { since }, *time);
        }
        let mut bytes = (samples.len() as u16).to_be_bytes().to_vec();
        bytes.push(header);
        bytes.extend(encoder.writer.into_bytes());
        bytes
    }

    fn check(samples: &[(i64, f64, i64)]) {
        let found = decode(&encode(samples)).expect("as it was written");
        let starts = found.starts.unwrap_or_else(|| vec![0; samples.len()]);
        let found: Vec<_> = found
            .times
            .iter()
            .zip(&found.values)
            .zip(starts)
            .map(|((time, value), start)| (*time, value.to_bits(), start))
            .collect();
        let expected: Vec<_> = samples.iter().map(|(time, value, start)| (*time, value.to_bits(), *start)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_written_comes_back() {
        let nothing = |times: &[i64]| times.iter().map(|time| (*time, 1.0, 0)).collect::<Vec<_>>();
        check(&nothing(&[5]));
        check(&nothing(&[-1, 0, 4096, 8191, 8191 + 524_288, 1 << 40, (1 << 40) + 1]));
        let stale = stale_nan();
        check(&[
            (0, stale, 0),
            (10, 0.0, 0),
            (20, stale, 0),
            (30, stale, 0),
            (41, stale, 0),
            (51, 2.5, 0),
            (61, 2.5, 0),
            (71, -0.0, 0),
        ]);
        // Start timestamps: always the same, from the middle on, one for each, gone again.
        let with_starts = |start: &dyn Fn(i64) -> i64| (0..300).map(|at| (at * 15_000, at as f64, start(at))).collect::<Vec<_>>();
        check(&with_starts(&|_| 77));
        check(&with_starts(&|at| if at < 100 { 0 } else { 1_400_000 }));
        check(&with_starts(&|at| if at < 200 { 0 } else { at * 15_000 - 10 }));
        check(&with_starts(&|at| (at + 1) % 2 * (at * 15_000 - 5)));
    }

    /// By hand, from the description: three samples at 1000, 2000 and 3000 of the value 1.
    #[test]
    fn the_bytes_are_those_of_the_description() {
        let bytes = [0, 3, 0, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xe8, 0x07, 0b0000_0000];
        let samples = Samples { times: vec![1000, 2000, 3000], values: vec![1.0; 3], starts: None };
        assert_eq!(decode(&bytes).expect("valid"), samples);
        assert_eq!(encode(&[(1000, 1.0, 0), (2000, 1.0, 0), (3000, 1.0, 0)]), bytes);
        assert!(decode(&bytes[..12]).is_err() && decode(&[0, 1]).is_err() && decode(&[255, 255, 255]).is_err());
    }

    proptest! {
        #[test]
        fn any_samples_come_back(
            samples in prop::collection::vec(
                (
                    prop_oneof![Just(15_000i64), 1i64..20_000, 1i64..1 << 41],
                    prop_oneof![any::<f64>(), Just(1.0), Just(stale_nan()), (0i32..9).prop_map(f64::from)],
                    prop_oneof![Just(0i64), Just(5), any::<i32>().prop_map(i64::from)],
                ),
                1..250,
            ),
        ) {
            let mut time = -7i64;
            let samples: Vec<_> = samples.into_iter().map(|(step, value, start)| { time += step; (time, value, start) }).collect();
            check(&samples);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
