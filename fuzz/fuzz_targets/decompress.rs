//! The first byte picks the encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    use br_wire::decompress::{Encoding, decompress};
    let Some((kind, body)) = bytes.split_first() else { return };
    let encodings = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy, Encoding::Lz4];
    let limits = br_wire::Limits { decoded_bytes_max: 4 << 20, ..br_wire::Limits::default() };
    if let Ok(decoded) = decompress(body, encodings[usize::from(*kind) % encodings.len()], &limits) {
        assert!(decoded.len() <= limits.decoded_bytes_max);
    }
});
