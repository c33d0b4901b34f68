//! Expressions that need no automaton: words, and words with gaps in between.

use super::Mode;
use super::parse::{Parsed, Purpose, parse};
use regex_syntax::hir::{Class, Hir, HirKind};

/// How many words an expression may stand for before it is compiled instead.
const WORDS_MAX: usize = 256;
/// Bytes of them all.
const WORD_BYTES_MAX: usize = 64 << 10;
/// Gaps within one of them.
const GAPS_MAX: usize = 32;
/// Texts of which one is required.
const ALTERNATIVES_MAX: usize = 32;
/// Characters of a set that are looked at one by one.
const SET_CHARS_MAX: u32 = 16;

/// Words in a row with something in between: `api.*v1.+`. Matches a whole text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glob {
    first: String,
    /// Each word after the first, and how many characters there must be before it at least.
    rest: Vec<(usize, String)>,
}

/// The words that a whole text must be one of, with gaps or without; `None` where it takes more to tell.
pub fn globs(pattern: &str) -> Option<Vec<Glob>> {
    let Parsed { hir, is_whole, .. } = parse(pattern, Mode::Whole.dot_matches_newline(), Purpose::Check).ok()?;
    if is_whole { expand(&hir) } else { None }
}

/// What every match contains, as far as is easily told: one text of each of these lists.
pub fn required_literals(pattern: &str, mode: Mode) -> Vec<Vec<String>> {
    parse(pattern, mode.dot_matches_newline(), Purpose::Check).map_or_else(|_| Vec::new(), |parsed| required(&parsed.hir))
}

/// The longest text that every match contains, as far as is easily told.
pub fn required_literal(pattern: &str, mode: Mode) -> Option<String> {
    let single = required_literals(pattern, mode).into_iter().filter(|either| either.len() == 1).flatten();
    single.max_by_key(String::len)
}

fn required(hir: &Hir) -> Vec<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).map_or_else(|_| Vec::new(), |text| vec![vec![text]]),
        HirKind::Concat(parts) => parts.iter().flat_map(required).collect(),
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Alternation(branches) => {
            let shortest = |either: &Vec<String>| either.iter().map(String::len).min().unwrap_or(0);
            let of_branch = |branch| required(branch).into_iter().max_by_key(shortest);
            let either: Option<Vec<Vec<String>>> = branches.iter().map(of_branch).collect();
            let either = either.map(|lists| lists.concat()).filter(|either| either.len() <= ALTERNATIVES_MAX);
            either.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

impl Glob {
    /// The word, where there is no gap.
    pub fn word(&self) -> Option<&str> {
        self.rest.is_empty().then_some(&self.first)
    }

    pub fn matches(&self, text: &str) -> bool {
        let Some(mut text) = text.strip_prefix(self.first.as_str()) else { return false };
        let Some(((gap, last), between)) = self.rest.split_last() else { return text.is_empty() };
        for (gap, word) in between {
            let Some(after) = skipped(text, *gap) else { return false };
            let Some(at) = after.find(word.as_str()) else { return false };
            text = &after[at + word.len()..];
        }
        skipped(text, *gap).is_some_and(|after| after.ends_with(last.as_str()))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.first.len() + self.rest.iter().map(|(_, word)| word.len() + 32).sum::<usize>()
    }

    fn followed_by(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        match joined.rest.last_mut() {
            // A gap that touches a gap is one.
            Some((gap, word)) if word.is_empty() && other.first.is_empty() && !other.rest.is_empty() => {
                *gap += other.rest[0].0;
                word.clone_from(&other.rest[0].1);
                joined.rest.extend_from_slice(&other.rest[1..]);
                return joined;
            }
            Some((_, word)) => word.push_str(&other.first),
            None => joined.first.push_str(&other.first),
        }
        joined.rest.extend_from_slice(&other.rest);
        joined
    }
}

/// The text without its first characters, where it has so many.
fn skipped(text: &str, chars: usize) -> Option<&str> {
    if chars == 0 {
        return Some(text);
    }
    let (at, last) = text.char_indices().nth(chars - 1)?;
    Some(&text[at + last.len_utf8()..])
}

fn expand(hir: &Hir) -> Option<Vec<Glob>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Glob::default()]),
        HirKind::Literal(literal) => Some(vec![Glob { first: String::from_utf8(literal.0.to_vec()).ok()?, rest: Vec::new() }]),
        HirKind::Class(Class::Unicode(set)) => {
            let count: u32 = set.ranges().iter().map(|range| range.end() as u32 - range.start() as u32 + 1).sum();
            let chars = set.ranges().iter().flat_map(|range| range.start()..=range.end());
            (count <= SET_CHARS_MAX).then(|| chars.map(|one| Glob { first: one.to_string(), rest: Vec::new() }).collect())
        }
        HirKind::Repetition(repetition) if repetition.max.is_none() && repetition.min <= 1 && is_any(&repetition.sub) => {
            Some(vec![Glob { first: String::new(), rest: vec![(repetition.min as usize, String::new())] }])
        }
        HirKind::Repetition(repetition) if repetition.min == 0 && repetition.max == Some(1) => {
            let mut either = vec![Glob::default()];
            either.extend(expand(&repetition.sub)?);
            bounded(either)
        }
        HirKind::Capture(capture) => expand(&capture.sub),
        HirKind::Concat(parts) => parts.iter().try_fold(vec![Glob::default()], |before, part| {
            let after = expand(part)?;
            if before.len() * after.len() > WORDS_MAX {
                return None;
            }
            bounded(before.iter().flat_map(|before| after.iter().map(|after| before.followed_by(after))).collect())
        }),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(expand(branch)?);
                if all.len() > WORDS_MAX {
                    return None;
                }
            }
            bounded(all)
        }
        _ => None,
    }
}

fn bounded(globs: Vec<Glob>) -> Option<Vec<Glob>> {
    let bytes: usize = globs.iter().map(Glob::bytes).sum();
    let has_few_gaps = globs.iter().all(|glob| glob.rest.len() <= GAPS_MAX);
    (has_few_gaps && globs.len() <= WORDS_MAX && bytes <= WORD_BYTES_MAX).then_some(globs)
}

/// Whether this is any one character.
fn is_any(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Class(Class::Unicode(set)) if *set == any_char())
}

fn any_char() -> regex_syntax::hir::ClassUnicode {
    regex_syntax::hir::ClassUnicode::new([regex_syntax::hir::ClassUnicodeRange::new('\0', char::MAX)])
}
