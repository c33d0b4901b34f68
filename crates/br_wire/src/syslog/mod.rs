//! Syslog messages, of RFC 5424 and of RFC 3164 and its many dialects, as log records.
//!
//! What a listener receives is kept as frames, `PEER LENGTH MESSAGE`, so that it can be journaled as it came and read again.
//!
//! Sources: RFC 5424, RFC 3164, RFC 6587 (framing over TCP), OpenTelemetry "Logs data model" appendices A and B (names, severities).

mod message;
mod split;
mod time;

pub use message::{Heads, Split};
pub(crate) use message::{facility_of, severity_of};
pub use split::{Splitter, Wrong};
pub use time::check_zone;

use crate::amount::{Memory, Room};
use crate::document::push;
use crate::{Decoded, Limits, Result, WireError};
use br_model::LogBatch;
use br_std::Nanos;

/// Adds a message to a body for [`decode`]. `peer` is the address of who sent it.
pub fn put_frame(out: &mut Vec<u8>, peer: &str, message: &[u8]) {
    out.extend_from_slice(peer.as_bytes());
    out.extend_from_slice(format!(" {} ", message.len()).as_bytes());
    out.extend_from_slice(message);
}

/// What a record takes beside its text.
const RECORD_BYTES: usize = 1024;

/// Reads frames. `zone` is the IANA name of the time zone of messages that name none; empty for UTC.
pub fn decode(body: &[u8], zone: &str, received: Nanos, limits: &Limits) -> Result<Decoded<LogBatch>> {
    let clock = time::Clock::new(zone, received);
    let (mut room, mut memory) = (Room::new(limits.records_max, "messages"), Memory::new(limits));
    let mut decoded = Decoded::new(LogBatch::default());
    let (mut rest, mut index) = (body, 0);
    while !rest.is_empty() {
        let (peer, message, behind) = take_frame(rest)
            .ok_or_else(|| WireError::Malformed(format!("syslog: byte {}: no frame", body.len() - rest.len())))?;
        rest = behind;
        room.take(1)?;
        memory.take(RECORD_BYTES + message.len())?;
        match message::parse(message, peer, &clock, limits) {
            None => decoded.reject(index, 1, "an empty message"),
            Some((resource, record)) => push(&mut decoded.value, resource, record),
        }
        index += 1;
    }
    Ok(decoded)
}

/// Peer, message, and what stands behind.
fn take_frame(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    const HEAD_BYTES_MAX: usize = 128;
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let peer_end = memchr::memchr(b' ', head)?;
    let length_end = peer_end + 1 + memchr::memchr(b' ', &head[peer_end + 1..])?;
    let peer = std::str::from_utf8(&bytes[..peer_end]).ok()?;
    let length = std::str::from_utf8(&bytes[peer_end + 1..length_end]).ok()?.parse().ok()?;
    let (message, behind) = bytes[length_end + 1..].split_at_checked(length)?;
    Some((peer, message, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let mut body = Vec::new();
        put_frame(&mut body, "10.0.0.1", b"<14>Nov 27 03:03:03 web shop[7]: one\ntwo");
        put_frame(&mut body, "10.0.0.1", b"\n");
        put_frame(&mut body, "::1", b"<11>1 - db - - - - three");
        let received = Nanos(1_795_748_583_000_000_000);
        let decoded = decode(&body, "", received, &Limits::default()).expect("frames");
        assert_eq!((decoded.rejected_count, decoded.rejected[0].index), (1, 1));
        let groups = &decoded.value.groups;
        assert_eq!((groups[0].records[0].body.as_str(), groups[1].records[0].body.as_str()), ("one\ntwo", "three"));
        for broken in [&b"10.0.0.1 7 <14>a"[..], b"10.0.0.1", b"a b c", &[b'x'; 300]] {
            assert!(decode(broken, "", received, &Limits::default()).is_err());
        }
    }
}
