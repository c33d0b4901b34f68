//! What lines of logs have in common: a template is a line with `<_>` where others have something else.
//!
//! [`mask`] looks at one line and leaves out what cannot be part of a text that somebody wrote: numbers, ids, times. A [`Miner`] sees many
//! lines and finds which words change too. After Drain (He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree", 2017),
//! with what stands between the words in the place of the tree.

mod line;
mod miner;

pub use miner::{Miner, MinerLimits};

use line::{Line, is_variable};

/// What stands in a template for what changes.
pub const WILDCARD: &str = "<_>";

/// A line without what changes by its looks: words with digits in them, long ones, and those of hexadecimal digits.
pub fn mask(text: &str) -> String {
    let line = Line::new(text, usize::MAX);
    let mut masked = String::with_capacity(text.len());
    for (gap, word) in line.words() {
        masked.push_str(gap);
        masked.push_str(if is_variable(word) { WILDCARD } else { word });
    }
    masked.push_str(line.last_gap());
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_by_its_looks_is_masked() {
        for (line, expected) in [
            ("user 42 logged in", "user <_> logged in"),
            ("GET /api/v1/items/7 200 1.5ms", "GET <_> <_> <_>"),
            (r#"ts=2024-05-02T12:17:25Z level=info msg="done in 3s""#, r#"ts=<_> level=info msg="done in <_>""#),
            ("commit deadbeefcafe pushed by ann", "commit <_> pushed by ann"),
            ("", ""),
            ("  spaced\tout ", "  spaced\tout "),
            ("größe 5 überschritten", "größe <_> überschritten"),
        ] {
            assert_eq!(mask(line), expected);
        }
    }
}
