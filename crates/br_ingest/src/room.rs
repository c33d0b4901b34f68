//! The room that requests share while they are decoded: each takes of it what it may become, and waits for it within a time.

use br_journal::{Protocol, Record};
use br_std::{Error, Result};
use br_wire::decompress::{Encoding, Unpacked, unpacked};
use br_wire::{Limits, WireError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of a kind that are decoded at once; more wait.
const PLACES: usize = 4;
/// What those may become that are not small. One that may become more has all of it to itself.
const LARGE_KIB: usize = 448 << 10;
const WHOLE_BYTES: usize = LARGE_KIB << 10;
/// Small bodies have a room of their own: they do not wait behind large ones.
const SMALL_KIB: usize = 64 << 10;
const SMALL_KIB_MAX: usize = 10 << 10;
/// What usually comes of a byte in the clear, that byte included. An attribute of 30 bytes is one of 200 in memory, a bucket of a
/// native histogram one byte there and eight here.
const GROWTH: usize = 10;
/// In OTLP the buckets of a histogram share their labels, and each is a series here.
const OTLP_METRICS_GROWTH: usize = 32;
/// Of that the body itself and its texts.
const TEXTS_GROWTH: usize = 2;
/// In the clear nobody weighs less.
const CLEAR_BYTES_MIN: usize = 64 << 10;
/// So many times more is taken for a body that needs more than it weighs.
const STEP: usize = 4;
/// Who waits longer is asked to come again, before most senders give up by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a body may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    clear: Unpacked,
    bytes: usize,
}

impl Weight {
    /// By the encoding that the decoder of the protocol will read it with.
    pub(crate) fn of(record: &Record, limits: &Limits) -> Self {
        let header = record.context_value("content-encoding").unwrap_or("");
        let encoding = match record.protocol {
            // With nothing said it is packed all the same.
            Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 if header.trim().is_empty() => Some(Encoding::Snappy),
            // Whatever the header says, unless it is JSON.
            Protocol::LOKI_PUSH if !is_json(record) => Some(Encoding::Snappy),
            _ => Encoding::from_header(header).ok(),
        };
        let growth = if record.protocol == Protocol::OTLP_METRICS { OTLP_METRICS_GROWTH } else { GROWTH };
        let Unpacked { declared, most } = unpacked(&record.body, encoding, limits);
        let declared = declared.max(CLEAR_BYTES_MIN).min(most);
        Self { clear: Unpacked { declared, most }, bytes: declared.saturating_mul(growth).min(WHOLE_BYTES) }
    }

    /// The limits that keep a body to what it weighs. What has all the room has it for what holds its records alone.
    pub(crate) fn limits(self, limits: Limits) -> Limits {
        let texts = self.clear.declared.saturating_mul(TEXTS_GROWTH);
        let memory_bytes_max = if self.bytes == WHOLE_BYTES { WHOLE_BYTES } else { self.bytes.saturating_sub(texts) };
        Limits { ratio_max: 0, ratio_free_bytes: self.clear.declared, memory_bytes_max, ..limits }
    }

    /// For a body that turns out larger than it says, as one of several parts may be, or that brings more than is usual;
    /// `None` where no more is allowed, or where more is no help.
    pub(crate) fn more(self, error: &WireError) -> Option<Self> {
        let Self { clear: Unpacked { declared, most }, bytes } = self;
        let declared = match error {
            WireError::GrowsTooLarge(_) if declared < most => declared.saturating_mul(STEP).min(most),
            WireError::NeedsMemory(_) if bytes < WHOLE_BYTES => declared,
            _ => return None,
        };
        Some(Self { clear: Unpacked { declared, most }, bytes: bytes.saturating_mul(STEP).min(WHOLE_BYTES) })
    }

    fn is_small(self) -> bool {
        self.kib() <= SMALL_KIB_MAX
    }

    fn kib(self) -> usize {
        (self.bytes >> 10).max(1)
    }
}

fn is_json(record: &Record) -> bool {
    let media_type = record.context_value("content-type").unwrap_or("").split(';').next().unwrap_or("");
    media_type.trim().eq_ignore_ascii_case("application/json")
}

pub(crate) struct Rooms {
    small: Room,
    large: Room,
}

struct Room {
    places: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    kib_max: usize,
}

impl Room {
    fn new(kib_max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), kib: Arc::new(Semaphore::new(kib_max)), kib_max }
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self { small: Room::new(SMALL_KIB), large: Room::new(LARGE_KIB) }
    }
}

impl Rooms {
    /// Room for a body, and a place to decode it in.
    pub(crate) async fn take(&self, weight: Weight) -> Result<Taken> {
        let room = if weight.is_small() { &self.small } else { &self.large };
        let kib = weight.kib().min(room.kib_max) as u32;
        let taking = async {
            let kib = room.kib.clone().acquire_many_owned(kib).await?;
            Ok(Taken { kib, kib_max: room.kib_max, place: Some(room.places.clone().acquire_owned().await?) })
        };
        match tokio::time::timeout(PATIENCE, taking).await {
            Ok(taken) => taken.map_err(|_: tokio::sync::AcquireError| Error::closed("the server is shutting down")),
            Err(_) => Err(no_room()),
        }
    }
}

fn no_room() -> Error {
    Error::retry("other requests take all the room for decoding: try again in a moment")
}

/// Given back when this goes.
pub(crate) struct Taken {
    kib: OwnedSemaphorePermit,
    /// Of the whole room.
    kib_max: usize,
    place: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// The body is decoded: its place is free for the next, and it takes what came of it, no more. Where that is more than it
    /// weighed, it is refused when others take the rest.
    pub(crate) fn settle(&mut self, bytes: usize) -> Result<()> {
        self.place = None;
        let (held, needed) = (self.kib.num_permits(), (bytes >> 10).clamp(1, self.kib_max));
        if needed > held {
            let rest = self.kib.semaphore().clone().try_acquire_many_owned((needed - held) as u32);
            self.kib.merge(rest.map_err(|_| no_room())?);
        } else {
            drop(self.kib.split(held - needed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_model::TenantId;
    use br_std::{Kind, Nanos};
    use std::io::Write;

    /// Packed about tenfold.
    fn gzip(bytes: usize) -> Vec<u8> {
        let content: Vec<u8> = (0..bytes as u32).map(|at| ((at / 16).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&content).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn weight(protocol: Protocol, headers: [(&str, &str); 2], body: Vec<u8>) -> Weight {
        let context = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let received = Nanos::from_millis(0);
        let record = Record { tenant: TenantId(1), protocol, received, is_compressed: true, context, body: body.into() };
        Weight::of(&record, &Limits::default())
    }

    #[test]
    fn a_body_weighs_what_it_says() {
        let mib = 1 << 20;
        let of = |protocol, encoding, content_type, body| {
            weight(protocol, [("content-encoding", encoding), ("content-type", content_type)], body).kib() >> 10
        };
        let protobuf = "application/x-protobuf";
        let snappy = snap_of(3 * mib);
        assert_eq!(of(Protocol::OTLP_METRICS, "gzip", protobuf, gzip(3 * mib)), 96);
        assert_eq!(of(Protocol::OTLP_LOGS, "gzip", protobuf, gzip(3 * mib)), 30);
        assert_eq!(of(Protocol::REMOTE_WRITE_1, "gzip", protobuf, gzip(3 * mib)), 30);
        assert_eq!(of(Protocol::REMOTE_WRITE_1, "", protobuf, snappy.clone()), 30);
        assert_eq!(of(Protocol::LOKI_PUSH, "identity", protobuf, snappy), 30);
        assert_eq!(of(Protocol::LOKI_PUSH, "", "application/json; charset=utf-8", vec![b' '; 3 * mib]), 30);
        assert_eq!(of(Protocol::OTLP_METRICS, "deflate", protobuf, vec![0; mib / 4]), 64, "nothing is said: a usual one");
        assert!(
            weight(Protocol::LOKI_PUSH, [("content-encoding", "deflate"), ("content-type", "application/json")], vec![0; 100])
                .is_small()
        );

        let parts = [gzip(3 * mib), gzip(10)].concat();
        let said = weight(Protocol::OTLP_METRICS, [("content-encoding", "gzip"), ("content-type", protobuf)], parts);
        assert!(said.limits(Limits::default()).ratio_free_bytes < mib, "the last part alone is known: {said:?}");
        let steps = steps(said, &WireError::GrowsTooLarge(String::new()));
        let most = steps.last().expect("more is allowed");
        assert!(most.clear.declared == most.clear.most && steps.len() < 6, "{steps:?}");
    }

    fn steps(weight: Weight, error: &WireError) -> Vec<Weight> {
        std::iter::successors(weight.more(error), |weight| weight.more(error)).collect()
    }

    /// What becomes of two bytes on the wire is told by no header.
    #[test]
    fn a_body_weighs_what_it_brings() {
        let logs = |records: usize| {
            let mut body = b"\x12\x00".repeat(records);
            for number in [2, 1] {
                let mut outer = vec![number << 3 | 2];
                br_std::varint::put_u64(&mut outer, body.len() as u64);
                body = [outer, body].concat();
            }
            let context = vec![("content-type".to_owned(), "application/x-protobuf".to_owned())];
            let (protocol, received) = (Protocol::OTLP_LOGS, Nanos::from_millis(0));
            Record { tenant: TenantId(1), protocol, received, is_compressed: false, context, body: body.into() }
        };
        let decode = |record: &Record, weight: Weight| {
            let limits = crate::decode::DecodeLimits { wire: weight.limits(Limits::default()), ..Default::default() };
            crate::decode::decode(record, &limits).map(|decoded| decoded.memory_bytes())
        };
        let record = logs(20_000);
        let mut weight = Weight::of(&record, &Limits::default());
        assert!(weight.kib() < 1 << 10, "{weight:?}");
        let bytes = loop {
            match decode(&record, weight) {
                Ok(bytes) => break bytes,
                Err(error) => weight = weight.more(&error).unwrap_or_else(|| panic!("{error} with {weight:?}")),
            }
        };
        assert!(bytes > 2 << 20 && weight.kib() << 10 > bytes, "{weight:?} for {bytes}");
        let whole = *steps(weight, &WireError::NeedsMemory(String::new())).last().expect("more is there");
        assert_eq!(whole.kib(), LARGE_KIB);
        assert_eq!(whole.more(&WireError::NeedsMemory(String::new())), None);
    }

    /// The head of a body in snappy's block format that says that it becomes so large.
    fn snap_of(bytes: usize) -> Vec<u8> {
        let mut head = Vec::new();
        let mut left = bytes;
        while left > 0x7f {
            head.push(left as u8 | 0x80);
            left >>= 7;
        }
        head.push(left as u8);
        head.resize(200 << 10, 0);
        head
    }

    fn of_kib(kib: usize) -> Weight {
        Weight { clear: Unpacked { declared: kib << 10, most: kib << 10 }, bytes: kib << 10 }
    }

    #[tokio::test]
    async fn who_finds_no_room_is_asked_to_come_again() {
        let rooms = Rooms::default();
        let mut large = rooms.take(of_kib(usize::MAX >> 10)).await.expect("all of it");
        let (refused, small) = tokio::join!(rooms.take(of_kib(100 << 10)), async {
            rooms.take(of_kib(1)).await.map(drop).and(rooms.take(of_kib(SMALL_KIB_MAX)).await.map(drop))
        });
        assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::Retry));
        small.expect("small bodies do not wait");
        large.settle(1 << 20).expect("less than it had");
        let rest: Vec<Taken> = [rooms.take(of_kib(300 << 10)).await, rooms.take(of_kib(147 << 10)).await]
            .into_iter()
            .map(|taken| taken.expect("what it does not take is there for others"))
            .collect();
        assert_eq!(rooms.large.kib.available_permits(), 0);
        assert_eq!(large.settle(2 << 20).map_err(|error| error.kind()), Err(Kind::Retry), "what others have is not there");
        drop(rest);
        large.settle(usize::MAX).expect("all that there is");
        assert_eq!(rooms.large.kib.available_permits(), 0);
        drop(large);
        assert_eq!((rooms.large.kib.available_permits(), rooms.large.places.available_permits()), (LARGE_KIB, PLACES));
    }
}
