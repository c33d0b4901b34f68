//! Files of chunks.

use super::chunk::Encoding;
use super::input::{Cursor, ReadAt, checked, read, wrong};
use crate::Result;

const MAGIC: u32 = 0x85bd_40dd;
const HEADER_BYTES: u64 = 8;
/// A length takes no more bytes than this.
const LENGTH_BYTES_MAX: u64 = 5;

/// Verifies the head of a file of chunks.
pub fn check_header(input: &dyn ReadAt) -> Result<()> {
    let bytes = read(input, 0, HEADER_BYTES)?;
    let mut cursor = Cursor::new(&bytes, 0);
    if cursor.be32()? != MAGIC {
        return Err(wrong(0, "this is no file of chunks"));
    }
    match cursor.byte()? {
        1 => Ok(()),
        version => Err(wrong(4, format_args!("version {version} of chunk files; version 1 is read"))),
    }
}

/// The packed chunk at a place, its checksum verified.
pub fn read_chunk(input: &dyn ReadAt, offset: u64) -> Result<(Encoding, Vec<u8>)> {
    let head = read(input, offset, LENGTH_BYTES_MAX.min(input.size().saturating_sub(offset)))?;
    let mut cursor = Cursor::new(&head, offset);
    let length = cursor.uvarint()?;
    let start = cursor.offset();
    // The encoding stands before the data, the checksum behind them.
    let mut data = checked(read(input, start, length.saturating_add(5))?, start)?;
    let encoding = Encoding::from_code(data[0]).map_err(|error| error.context(format_args!("at byte {offset}")))?;
    data.remove(0);
    Ok((encoding, data))
}
