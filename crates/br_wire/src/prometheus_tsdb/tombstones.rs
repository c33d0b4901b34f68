//! `tombstones`: what of a block was deleted and still stands in it.

use super::input::{Cursor, checked, wrong};
use crate::Result;
use std::collections::BTreeMap;

const MAGIC: u32 = 0x0130_ba30;

/// Spans of time, both ends included.
pub type Intervals = Vec<(i64, i64)>;

/// What was deleted, by the reference of the series.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<u64, Intervals>> {
    let mut head = Cursor::new(bytes, 0);
    if head.be32()? != MAGIC {
        return Err(wrong(0, "this is no file of tombstones"));
    }
    match head.byte()? {
        1 => {}
        version => return Err(wrong(4, format_args!("version {version} of tombstones; version 1 is read"))),
    }
    let start = head.offset();
    let data = checked(bytes[start as usize..].to_vec(), start)?;
    let mut cursor = Cursor::new(&data, start);
    let mut deleted: BTreeMap<u64, Intervals> = BTreeMap::new();
    while !cursor.is_empty() {
        let series = cursor.uvarint()?;
        let interval = (cursor.varint()?, cursor.varint()?);
        deleted.entry(series).or_default().push(interval);
    }
    Ok(deleted)
}
