//! Sentry's envelopes: lines of JSON as headers, and payloads of told lengths, which masks keep.
//!
//! Source: Sentry's developer documentation, "Envelopes".

use crate::json;
use crate::pass::{Pass, Under};
use std::ops::Range;

pub(crate) fn redact(pass: &mut Pass<'_>, place: Range<usize>) {
    let mut at = line(pass, place.start..place.end);
    while at < place.end {
        let header_end = line_end(pass.source, at, place.end);
        let length = told_length(&pass.source[at..header_end]);
        let is_blank = pass.source[at..header_end].trim_ascii().is_empty();
        at = line(pass, at..place.end);
        if is_blank {
            continue;
        }
        let payload_end = match length {
            Some(length) => at.saturating_add(length).min(place.end),
            None => line_end(pass.source, at, place.end),
        };
        payload(pass, at..payload_end);
        at = payload_end;
    }
}

/// Reads a line as JSON; where the next one begins.
fn line(pass: &mut Pass<'_>, place: Range<usize>) -> usize {
    let end = line_end(pass.source, place.start, place.end);
    json::redact(pass, place.start..end);
    (end + 1).min(place.end)
}

fn line_end(source: &[u8], at: usize, end: usize) -> usize {
    memchr::memchr(b'\n', &source[at..end]).map_or(end, |length| at + length)
}

/// What an item's header says about its payload.
fn told_length(line: &[u8]) -> Option<usize> {
    let header: serde_json::Value = serde_json::from_slice(line).ok()?;
    usize::try_from(header.get("length")?.as_u64()?).ok()
}

fn payload(pass: &mut Pass<'_>, place: Range<usize>) {
    let bytes = &pass.source[place.clone()];
    match bytes.trim_ascii_start().first() {
        Some(b'{' | b'[') => json::redact(pass, place),
        _ if std::str::from_utf8(bytes).is_ok() => pass.text(place, Under::NOTHING),
        _ => pass.raw(place),
    }
}
