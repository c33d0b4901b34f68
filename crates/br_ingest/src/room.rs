//! The room that requests share while they are decoded: each takes of it what it may become, and waits for it within a time.

use br_journal::{Protocol, Record};
use br_std::{Error, Result};
use br_wire::Limits;
use br_wire::decompress::{Encoding, Unpacked, unpacked};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of a kind that are decoded at once; more wait.
const PLACES: usize = 4;
/// What those may become that are not small. One that may become more has all of it to itself.
const LARGE_KIB: usize = 448 << 10;
/// Small bodies have a room of their own: they do not wait behind large ones.
const SMALL_KIB: usize = 64 << 10;
const SMALL_KIB_MAX: usize = 4 << 10;
/// What comes of a byte in the clear, that byte included: a bucket of a native histogram is one byte there, and eight here.
const METRICS_GROWTH: usize = 8;
const EVENTS_GROWTH: usize = 2;
/// Zipkin's and Jaeger's clients write a span, or a tag, in a few bytes: it takes several times as many here.
const SPANS_GROWTH: usize = 8;
/// Who waits longer is asked to come again, before most senders give up by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a body may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    clear: Unpacked,
    growth: usize,
}

impl Weight {
    /// By the encoding that the decoder of the protocol will read it with.
    pub(crate) fn of(record: &Record, limits: &Limits) -> Self {
        let header = record.context_value("content-encoding").unwrap_or("");
        let (encoding, growth) = match record.protocol {
            // With nothing said it is packed all the same.
            Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 if header.trim().is_empty() => {
                (Some(Encoding::Snappy), METRICS_GROWTH)
            }
            // Whatever the header says, unless it is JSON.
            Protocol::LOKI_PUSH if !is_json(record) => (Some(Encoding::Snappy), EVENTS_GROWTH),
            Protocol::REMOTE_WRITE_1 | Protocol::REMOTE_WRITE_2 | Protocol::OTLP_METRICS => {
                (Encoding::from_header(header).ok(), METRICS_GROWTH)
            }
            Protocol::ZIPKIN_2 | Protocol::JAEGER_THRIFT => (Encoding::from_header(header).ok(), SPANS_GROWTH),
            _ => (Encoding::from_header(header).ok(), EVENTS_GROWTH),
        };
        Self { clear: unpacked(&record.body, encoding, limits), growth }
    }

    /// The limits that keep a body to what it says that it is.
    pub(crate) fn limits(self, limits: Limits) -> Limits {
        Limits { ratio_max: 0, ratio_free_bytes: self.clear.declared, ..limits }
    }

    /// For a body that turns out larger than it says, as one of several parts may be; `None` where that is all that is allowed.
    pub(crate) fn undeclared(self) -> Option<Self> {
        let Unpacked { declared, most } = self.clear;
        (declared < most).then_some(Self { clear: Unpacked { declared: most, most }, ..self })
    }

    fn kib(self) -> usize {
        (self.clear.declared.saturating_mul(self.growth) >> 10).max(1)
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
        let room = if weight.kib() <= SMALL_KIB_MAX { &self.small } else { &self.large };
        let kib = weight.kib().min(room.kib_max) as u32;
        let taking = async {
            let kib = room.kib.clone().acquire_many_owned(kib).await?;
            Ok(Taken { kib, place: Some(room.places.clone().acquire_owned().await?) })
        };
        match tokio::time::timeout(PATIENCE, taking).await {
            Ok(taken) => taken.map_err(|_: tokio::sync::AcquireError| Error::closed("the server is shutting down")),
            Err(_) => Err(Error::retry("other requests take all the room for decoding: try again in a moment")),
        }
    }
}

/// Given back when this goes.
pub(crate) struct Taken {
    kib: OwnedSemaphorePermit,
    place: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// The body is decoded: its place is free for the next, and it takes no more than what came of it.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.place = None;
        let spare = self.kib.num_permits().saturating_sub((bytes >> 10).max(1));
        drop(self.kib.split(spare));
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
        assert_eq!(of(Protocol::OTLP_METRICS, "gzip", protobuf, gzip(3 * mib)), 24);
        assert_eq!(of(Protocol::OTLP_LOGS, "gzip", protobuf, gzip(3 * mib)), 6);
        assert_eq!(of(Protocol::ZIPKIN_2, "gzip", "application/json", gzip(3 * mib)), 24);
        assert_eq!(of(Protocol::REMOTE_WRITE_1, "gzip", protobuf, gzip(3 * mib)), 24);
        assert_eq!(of(Protocol::REMOTE_WRITE_1, "", protobuf, snappy.clone()), 24);
        assert_eq!(of(Protocol::LOKI_PUSH, "identity", protobuf, snappy), 6);
        assert_eq!(of(Protocol::LOKI_PUSH, "", "application/json; charset=utf-8", vec![b' '; 3 * mib]), 6);
        assert_eq!(of(Protocol::OTLP_METRICS, "deflate", protobuf, vec![0; mib]), 8 * 64, "nothing is said: all that is allowed");

        let parts = [gzip(3 * mib), gzip(10)].concat();
        let said = weight(Protocol::OTLP_METRICS, [("content-encoding", "gzip"), ("content-type", protobuf)], parts);
        assert!(said.kib() < 8 << 10, "the last part alone is known: {said:?}");
        let most = said.undeclared().expect("more is allowed");
        assert!(most.kib() > 24 << 10 && most.undeclared().is_none(), "{most:?}");
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
        Weight { clear: Unpacked { declared: kib << 10, most: kib << 10 }, growth: 1 }
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
        large.shrink(1 << 20);
        let rest: Vec<Taken> = [rooms.take(of_kib(300 << 10)).await, rooms.take(of_kib(147 << 10)).await]
            .into_iter()
            .map(|taken| taken.expect("what it does not take is there for others"))
            .collect();
        assert_eq!(rooms.large.kib.available_permits(), 0);
        drop((large, rest));
        assert_eq!((rooms.large.kib.available_permits(), rooms.large.places.available_permits()), (LARGE_KIB, PLACES));
    }
}
