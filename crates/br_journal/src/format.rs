//! Bytes of segments and records, as `docs/format/journal.md` draws them. All integers are little-endian.

use crate::Record;
use crate::record::{Protocol, decode_context, encode_context};
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::JournalPosition;
use bytes::Bytes;

pub(crate) const FORMAT_VERSION: u16 = 1;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 40;
pub(crate) const RECORD_HEADER_BYTES: usize = 56;
/// What no body may exceed, neither as received nor as stored: a damaged length can not make a reader allocate more.
pub(crate) const BODY_BYTES_CAP: usize = 256 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"BRJOURNL";
pub(crate) const RECORD_MARKER: [u8; 4] = *b"BRec";
const FLAG_LZ4: u16 = 1;
const FLAG_SENDER_COMPRESSED: u16 = 2;
/// Shorter bodies do not get smaller.
const LZ4_BODY_BYTES_MIN: usize = 64;

/// What names a segment: file name and header both say it, so that either may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentId {
    /// Counts segments in the order in which they were begun.
    pub(crate) ordinal: u64,
    /// No record in it has a lower position. Records of earlier segments from this position on are superseded.
    pub(crate) first: JournalPosition,
    /// Random; every record carries it, so that bytes of another segment never pass for one of this.
    pub(crate) epoch: u64,
}

impl SegmentId {
    pub(crate) fn file_name(self) -> String {
        format!("{:010}-{:020}-{:016x}.segment", self.ordinal, self.first.0, self.epoch)
    }

    /// `None` for a file that is no segment.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".segment")?.split('-');
        let ordinal = parts.next()?.parse().ok()?;
        let first = JournalPosition(parts.next()?.parse().ok()?);
        let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
        let id = Self { ordinal, first, epoch };
        (parts.next().is_none() && id.file_name() == name).then_some(id)
    }
}

pub(crate) fn encode_segment_header(id: SegmentId, created: Nanos) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[10..12].copy_from_slice(&(SEGMENT_HEADER_BYTES as u16).to_le_bytes());
    bytes[12..20].copy_from_slice(&id.epoch.to_le_bytes());
    bytes[20..28].copy_from_slice(&id.first.0.to_le_bytes());
    bytes[28..36].copy_from_slice(&created.0.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..36]);
    bytes[36..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a segment's first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SegmentHeader {
    Ok,
    Damaged,
    /// Written by a later release.
    UnknownVersion(u16),
}

pub(crate) fn read_segment_header(bytes: &[u8], id: SegmentId) -> SegmentHeader {
    let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
        return SegmentHeader::Damaged;
    };
    if bytes[..8] != SEGMENT_MAGIC || le_u32(bytes, 36) != crc32fast::hash(&bytes[..36]) {
        return SegmentHeader::Damaged;
    }
    match u16::from_le_bytes([bytes[8], bytes[9]]) {
        FORMAT_VERSION if le_u64(bytes, 12) == id.epoch && le_u64(bytes, 20) == id.first.0 => SegmentHeader::Ok,
        FORMAT_VERSION => SegmentHeader::Damaged,
        version => SegmentHeader::UnknownVersion(version),
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) position: JournalPosition,
    received: Nanos,
    tenant: TenantId,
    protocol: Protocol,
    flags: u16,
    context_bytes: u32,
    stored_bytes: u32,
    body_bytes: u32,
    payload_crc: u32,
}

impl RecordHeader {
    /// Bytes that follow the header.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.context_bytes as usize + self.stored_bytes as usize
    }

    fn encode(&self, epoch: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&RECORD_MARKER);
        bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.received.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.tenant.0.to_le_bytes());
        bytes[36..38].copy_from_slice(&self.protocol.0.to_le_bytes());
        bytes[38..40].copy_from_slice(&self.flags.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.context_bytes.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[52..].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless `bytes` begin with the undamaged header of a record of the segment with `epoch`.
    pub(crate) fn decode(bytes: &[u8], epoch: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        if bytes[..4] != RECORD_MARKER || le_u64(bytes, 8) != epoch || le_u32(bytes, 4) != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        let header = Self {
            position: JournalPosition(le_u64(bytes, 16)),
            received: Nanos(le_u64(bytes, 24) as i64),
            tenant: TenantId(le_u32(bytes, 32)),
            protocol: Protocol(u16::from_le_bytes([bytes[36], bytes[37]])),
            flags: u16::from_le_bytes([bytes[38], bytes[39]]),
            context_bytes: le_u32(bytes, 40),
            stored_bytes: le_u32(bytes, 44),
            body_bytes: le_u32(bytes, 48),
            payload_crc: le_u32(bytes, 52),
        };
        let is_sane = header.stored_bytes as usize <= BODY_BYTES_CAP
            && header.body_bytes as usize <= BODY_BYTES_CAP
            && header.context_bytes as usize <= crate::record::CONTEXT_BYTES_MAX;
        is_sane.then_some(header)
    }

    /// Whether these are the bytes that were written behind the header. The message says what is wrong with them.
    pub(crate) fn check_payload(&self, payload: &[u8]) -> Result<(), &'static str> {
        if payload.len() != self.payload_bytes() || crc32fast::hash(payload) != self.payload_crc {
            return Err("checksum of the payload does not match");
        }
        Ok(())
    }

    /// The record, from the bytes that followed the header.
    pub(crate) fn decode_payload(&self, payload: &[u8]) -> Result<Record, &'static str> {
        self.check_payload(payload)?;
        let (context, stored) =
            payload.split_at_checked(self.context_bytes as usize).ok_or("context is longer than the payload")?;
        let context = decode_context(context).ok_or("context cannot be decoded")?;
        let body = if self.flags & FLAG_LZ4 == 0 {
            Bytes::copy_from_slice(stored)
        } else {
            let body = lz4_flex::block::decompress(stored, self.body_bytes as usize).map_err(|_| "lz4 body cannot be decoded")?;
            Bytes::from(body)
        };
        if body.len() != self.body_bytes as usize {
            return Err("body has another length than its header says");
        }
        Ok(Record {
            tenant: self.tenant,
            protocol: self.protocol,
            received: self.received,
            context,
            body,
            is_compressed: self.flags & FLAG_SENDER_COMPRESSED != 0,
        })
    }
}

/// A record that lacks its position and epoch only. Made outside of every lock, because compression and checksum take time.
pub(crate) struct EncodedRecord {
    header: RecordHeader,
    payload: Vec<u8>,
}

impl EncodedRecord {
    pub(crate) fn new(record: &Record, body_bytes_max: usize, compress: bool) -> Result<Self> {
        let body_bytes_max = body_bytes_max.min(BODY_BYTES_CAP);
        if record.body.len() > body_bytes_max {
            return Err(Error::over_limit(format!(
                "the body has {} bytes, at most {body_bytes_max} are accepted: send smaller batches or raise limits.body_bytes",
                record.body.len()
            )));
        }
        let mut payload = encode_context(&record.context)?;
        let context_bytes = payload.len();
        let mut flags = if record.is_compressed { FLAG_SENDER_COMPRESSED } else { 0 };
        let squeezed = (compress && !record.is_compressed && record.body.len() >= LZ4_BODY_BYTES_MIN)
            .then(|| lz4_flex::block::compress(&record.body))
            .filter(|squeezed| squeezed.len() < record.body.len());
        match squeezed {
            Some(squeezed) => {
                flags |= FLAG_LZ4;
                payload.extend_from_slice(&squeezed);
            }
            None => payload.extend_from_slice(&record.body),
        }
        let header = RecordHeader {
            position: JournalPosition(0),
            received: record.received,
            tenant: record.tenant,
            protocol: record.protocol,
            flags,
            context_bytes: context_bytes as u32,
            stored_bytes: (payload.len() - context_bytes) as u32,
            body_bytes: record.body.len() as u32,
            payload_crc: crc32fast::hash(&payload),
        };
        Ok(Self { header, payload })
    }

    /// Bytes that the record takes in a segment.
    pub(crate) fn total_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload.len()
    }

    pub(crate) fn set_position(&mut self, position: JournalPosition) {
        self.header.position = position;
    }

    pub(crate) fn position(&self) -> JournalPosition {
        self.header.position
    }

    /// Header and payload, for a segment with `epoch`.
    pub(crate) fn parts(&self, epoch: u64) -> ([u8; RECORD_HEADER_BYTES], &[u8]) {
        (self.header.encode(epoch), &self.payload)
    }
}

fn le_u32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le_u64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(le_u32(bytes, at)) | u64::from(le_u32(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(body: Vec<u8>, is_compressed: bool) -> Record {
        Record {
            tenant: TenantId(7),
            protocol: Protocol::OTLP_LOGS,
            received: Nanos(-5),
            context: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Bytes::from(body),
            is_compressed,
        }
    }

    proptest! {
        #[test]
        fn records_round_trip(body in prop::collection::vec(0u8..4, 0..600), is_compressed: bool, compress: bool, epoch: u64) {
            let record = record(body, is_compressed);
            let mut encoded = EncodedRecord::new(&record, 1 << 20, compress).expect("small");
            encoded.set_position(JournalPosition(42));
            let (header, payload) = encoded.parts(epoch);
            let header = RecordHeader::decode(&header, epoch).expect("undamaged");
            prop_assert_eq!(header.position, JournalPosition(42));
            prop_assert_eq!(header.decode_payload(payload), Ok(record));
        }

        #[test]
        fn every_flipped_bit_is_seen(body in prop::collection::vec(0u8..4, 0..200), at: prop::sample::Index, bit in 0u8..8) {
            let encoded = EncodedRecord::new(&record(body, false), 1 << 20, true).expect("small");
            let (header, payload) = encoded.parts(9);
            let mut bytes = [&header[..], payload].concat();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let decoded = RecordHeader::decode(&bytes, 9).map(|header| header.decode_payload(&bytes[RECORD_HEADER_BYTES..]));
            prop_assert!(!matches!(decoded, Some(Ok(_))));
        }
    }

    #[test]
    fn segment_names_and_headers() {
        let id = SegmentId { ordinal: 3, first: JournalPosition(91), epoch: 0xabc };
        assert_eq!(SegmentId::from_file_name(&id.file_name()), Some(id));
        for name in ["start", "x.segment", "3-91-abc.segment", &format!("{}.tmp", id.file_name())] {
            assert_eq!(SegmentId::from_file_name(name), None, "{name}");
        }
        let header = encode_segment_header(id, Nanos(1));
        assert_eq!(read_segment_header(&header, id), SegmentHeader::Ok);
        assert_eq!(read_segment_header(&header[..30], id), SegmentHeader::Damaged);
        assert_eq!(read_segment_header(&header, SegmentId { epoch: 1, ..id }), SegmentHeader::Damaged);
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let id = SegmentId { ordinal: 1, first: JournalPosition(1), epoch: 5 };
        let mut header = encode_segment_header(id, Nanos(1));
        header[8] = 9;
        let crc = crc32fast::hash(&header[..36]);
        header[36..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_segment_header(&header, id), SegmentHeader::UnknownVersion(9));
    }
}
