//! `| decolorize`: takes ANSI escape sequences out of the line.

use super::Stage;
use crate::pipeline::Line;
use std::borrow::Cow;

pub(super) struct DecolorizeStage;

const ESCAPE: char = '\x1b';

impl Stage for DecolorizeStage {
    fn process(&self, line: &mut Line<'_>) -> bool {
        if line.text.contains(ESCAPE) {
            line.text = Cow::Owned(plain(&line.text));
        }
        true
    }
}

/// ECMA-48: `ESC [` parameters (0x30–0x3f), intermediates (0x20–0x2f), one final byte (0x40–0x7e).
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(ESCAPE) {
        out.push_str(before);
        rest = after;
        if let Some(sequence) = after.strip_prefix('[') {
            let length = sequence.bytes().take_while(|byte| (0x20..0x40).contains(byte)).count();
            let has_final = sequence.as_bytes().get(length).is_some_and(|byte| (0x40..0x7f).contains(byte));
            rest = &sequence[length + usize::from(has_final)..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_go() {
        assert_eq!(super::plain("a\x1b[31mred\x1b[0m b\x1b[1;4"), "ared b");
    }
}
