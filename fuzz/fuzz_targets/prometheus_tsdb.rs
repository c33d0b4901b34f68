//! Files of a Prometheus data directory: an index with all its series, chunks, the write-ahead log, and what stands beside them.
#![no_main]

use br_wire::prometheus_tsdb::chunk::Encoding;
use br_wire::prometheus_tsdb::index::Index;
use br_wire::prometheus_tsdb::{aggregate, chunk, meta, segment, tombstones, wal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 8 {
        0 => drop(chunk::decode(Encoding::Xor, bytes)),
        1 => drop(chunk::decode(Encoding::Histogram, bytes)),
        2 => drop(chunk::decode(Encoding::FloatHistogram, bytes)),
        3 => drop(aggregate::decode(bytes)),
        4 => drop((tombstones::parse(bytes), meta::parse(bytes))),
        5 => drop((wal::parse(bytes), chunk::decode(Encoding::Xor2, bytes))),
        6 => drop((wal::Pages::default().read(bytes, |_, record| wal::parse(record).map(drop)), segment::read_chunk(&bytes, 0))),
        _ => {
            let Ok(index) = Index::open(bytes) else { return };
            for (_, postings) in index.metrics() {
                for series in index.postings(postings).unwrap_or_default() {
                    drop(index.series(series));
                }
            }
        }
    }
});
