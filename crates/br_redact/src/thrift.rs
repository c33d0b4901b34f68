//! Thrift's binary protocol in place, as Jaeger's clients speak it.
//!
//! The protocol tells the types of all fields itself. A structure whose first field is a text and whose third is one as well is a tag:
//! the first is its name. Source: Apache Thrift, "Thrift Binary protocol encoding".

use crate::pass::{Pass, Under};
use std::ops::Range;

const DEPTH_MAX: usize = 32;

const STRING: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const SET: u8 = 14;
const LIST: u8 = 15;

/// Reads a structure. What is no Thrift is looked at as bytes from where it ceases to be.
pub(crate) fn redact(pass: &mut Pass<'_>, place: Range<usize>) {
    let mut walk = Walk { pass, at: place.start, end: place.end };
    if walk.structure(0).is_none() {
        let rest = walk.at..place.end;
        pass.raw(rest);
    }
}

struct Walk<'p, 'a> {
    pass: &'p mut Pass<'a>,
    at: usize,
    end: usize,
}

impl<'a> Walk<'_, 'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.end)?;
        let bytes = &self.pass.source[self.at..end];
        self.at = end;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = self.take(4)?;
        usize::try_from(i32::from_be_bytes(bytes.try_into().ok()?)).ok()
    }

    fn string(&mut self) -> Option<Range<usize>> {
        let length = self.length()?;
        let start = self.at;
        self.take(length)?;
        Some(start..self.at)
    }

    fn structure(&mut self, depth: usize) -> Option<()> {
        let source = self.pass.source;
        let mut key: &[u8] = b"";
        loop {
            let kind = self.byte()?;
            if kind == 0 {
                return Some(());
            }
            let id = self.take(2)?;
            match (kind, id) {
                (STRING, [0, 1]) => {
                    let place = self.string()?;
                    key = &source[place.clone()];
                    self.pass.text(place, Under::NOTHING);
                }
                (STRING, [0, 3]) => {
                    let place = self.string()?;
                    let under = self.pass.under(key, Under::NOTHING);
                    self.pass.text(place, under);
                }
                _ => self.value(kind, depth)?,
            }
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth >= DEPTH_MAX {
            return None;
        }
        match kind {
            2 | 3 => self.take(1).map(drop),
            6 => self.take(2).map(drop),
            8 => self.take(4).map(drop),
            4 | 10 => self.take(8).map(drop),
            STRING => {
                let place = self.string()?;
                self.pass.text(place, Under::NOTHING);
                Some(())
            }
            STRUCT => self.structure(depth + 1),
            LIST | SET => {
                let kind = self.byte()?;
                (0..self.length()?).try_for_each(|_| self.value(kind, depth + 1))
            }
            MAP => {
                let (key, value) = (self.byte()?, self.byte()?);
                (0..self.length()?).try_for_each(|_| {
                    self.value(key, depth + 1)?;
                    self.value(value, depth + 1)
                })
            }
            _ => None,
        }
    }
}
