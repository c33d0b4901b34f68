//! Private keys in PEM (RFC 7468): what stands between the lines that begin and end it.

use crate::mask::is_masked;
use memchr::memmem;
use std::ops::Range;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const LABEL_BYTES_MAX: usize = 64;

/// `start` is the first of five hyphens. A key that is cut off goes as far as the text does.
pub(crate) fn find(text: &[u8], start: usize) -> Option<Range<usize>> {
    let behind = text[start..].strip_prefix(BEGIN)?;
    let label_end = memmem::find(&behind[..behind.len().min(LABEL_BYTES_MAX)], b"-----")?;
    let label = &behind[..label_end];
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let key = start + BEGIN.len() + label_end + 5;
    let end = memmem::find(&text[key..], END).map_or(text.len(), |length| key + length);
    (end > key && !is_masked(&text[key..end])).then_some(key..end)
}
