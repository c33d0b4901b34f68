//! What is kept: one request, as it was received.

use br_model::TenantId;
use br_std::{Error, Nanos, Result, varint};
use bytes::Bytes;

/// How a body is to be decoded. The numbers are on disk: they are never given a second meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u16);

impl Protocol {
    pub const REMOTE_WRITE_1: Self = Self(1);
    pub const REMOTE_WRITE_2: Self = Self(2);
    pub const EXPOSITION: Self = Self(3);
    pub const OTLP_METRICS: Self = Self(10);
    pub const OTLP_LOGS: Self = Self(11);
    pub const OTLP_TRACES: Self = Self(12);
    pub const LOKI_PUSH: Self = Self(20);
    pub const ELASTIC_BULK: Self = Self(21);
    pub const NDJSON: Self = Self(22);
    /// Frames of `br_wire::syslog`.
    pub const SYSLOG: Self = Self(23);
    pub const JOURNALD: Self = Self(24);
    pub const SENTRY_ENVELOPE: Self = Self(30);
    pub const SENTRY_STORE: Self = Self(31);
    pub const JAEGER_THRIFT: Self = Self(40);
    pub const ZIPKIN_2: Self = Self(41);
    /// What Bellrock tells itself.
    pub const NATIVE: Self = Self(50);
    /// An administrator's deletion of series: `br_tsdb::Deletion`.
    pub const DELETE_SERIES: Self = Self(51);
    /// An administrator's erasure of logs and spans: `br_ingest::erasure`.
    pub const ERASE_EVENTS: Self = Self(52);
}

/// One accepted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub tenant: TenantId,
    pub protocol: Protocol,
    pub received: Nanos,
    /// What is needed to decode the body again and does not stand in it: content type, encoding, labels of a scrape target.
    pub context: Vec<(String, String)>,
    pub body: Bytes,
    /// The sender compressed the body, so that doing it again is wasted work. The body is handed back as it came in any case.
    pub is_compressed: bool,
}

impl Record {
    /// The value of a context entry.
    pub fn context_value(&self, name: &str) -> Option<&str> {
        self.context.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A record's context may take this many bytes, encoded.
pub(crate) const CONTEXT_BYTES_MAX: usize = 1 << 20;

/// The pairs as varint-prefixed strings, the number of pairs first.
pub(crate) fn encode_context(pairs: &[(String, String)]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if pairs.is_empty() {
        return Ok(out);
    }
    varint::put_u64(&mut out, pairs.len() as u64);
    for (name, value) in pairs {
        for text in [name, value] {
            varint::put_u64(&mut out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }
    if out.len() > CONTEXT_BYTES_MAX {
        return Err(Error::over_limit(format!(
            "a record's context takes {} bytes, at most {CONTEXT_BYTES_MAX} are kept",
            out.len()
        )));
    }
    Ok(out)
}

/// `None` when the bytes are not what [`encode_context`] writes.
pub(crate) fn decode_context(mut input: &[u8]) -> Option<Vec<(String, String)>> {
    if input.is_empty() {
        return Some(Vec::new());
    }
    let count = usize::try_from(varint::take_u64(&mut input)?).ok()?;
    // Two length bytes a pair at the least: what is claimed beyond that is never allocated.
    let mut pairs = Vec::with_capacity(count.min(input.len() / 2));
    for _ in 0..count {
        let name = take_text(&mut input)?;
        pairs.push((name, take_text(&mut input)?));
    }
    input.is_empty().then_some(pairs)
}

fn take_text(input: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(varint::take_u64(input)?).ok()?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn context_round_trips(pairs in prop::collection::vec((".{0,20}", ".{0,20}"), 0..8)) {
            let bytes = encode_context(&pairs).expect("small");
            prop_assert_eq!(decode_context(&bytes), Some(pairs));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_context(&bytes);
        }
    }
}
