//! LEB128 integers and their zigzag form, as in protobuf.

/// Appends `value`, one to ten bytes.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_u64`] appends.
pub fn size_u64(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Takes a value off the front of `input`. `None` when the input ends inside the value or the value does not fit.
#[inline]
pub fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let (first, rest) = input.split_first()?;
    if *first < 0x80 {
        *input = rest;
        return Some(u64::from(*first));
    }
    take_long(input)
}

fn take_long(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (at, byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *input = &input[at + 1..];
            return Some(value);
        }
    }
    None
}

#[inline]
pub fn take_i64(input: &mut &[u8]) -> Option<i64> {
    take_u64(input).map(unzigzag)
}

#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for value in [0, 1, -1, 63, 64, -64, 300, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_i64(&mut bytes, value);
            let mut input = &bytes[..];
            assert_eq!(take_i64(&mut input), Some(value));
            assert!(input.is_empty());
            assert_eq!(take_i64(&mut &bytes[..bytes.len() - 1]), None, "{value} cut short");
        }
        assert_eq!(take_u64(&mut &[0xff; 11][..]), None);
    }
}
