//! Patterns of paths: `*` and `?` within a name, `[a-z]`, `{this,that}`, and `**` for folders in any number.

use br_std::{Error, Result};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// What one pattern may become by its braces.
const ALTERNATIVES_MAX: usize = 64;
/// So many folders deep a `**` looks.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    /// Each is the parts of one path.
    alternatives: Vec<Vec<Part>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A name without any sign.
    Name(String),
    Some(Vec<Token>),
    Folders,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`
    One,
    /// `*`
    Any,
    Set {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// What the patterns of one source name at this moment.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    pub(super) paths: BTreeSet<PathBuf>,
    /// There were more paths than may be followed.
    pub(super) is_cut: bool,
    /// Folders that could not be read.
    pub(super) complaints: Vec<String>,
    paths_max: usize,
}

impl Expansion {
    pub(super) fn new(paths_max: usize) -> Self {
        Self { paths_max, ..Self::default() }
    }

    fn add(&mut self, path: PathBuf) {
        if self.paths.len() < self.paths_max {
            self.paths.insert(path);
        } else {
            self.is_cut = self.is_cut || !self.paths.contains(&path);
        }
    }

    fn complain(&mut self, folder: &Path, error: &io::Error) {
        const COMPLAINTS_MAX: usize = 8;
        // A folder that is not there yet may come.
        if error.kind() != io::ErrorKind::NotFound && self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(format!("{}: {error}", folder.display()));
        }
    }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::fix_request(format!("{text:?}: {what}"));
        if text.trim().is_empty() {
            return Err(wrong("an empty path"));
        }
        let mut alternatives = Vec::new();
        for path in braces(text).map_err(|what| wrong(&what))? {
            let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
            let parts: Result<Vec<Part>, String> = parts.map(part).collect();
            let parts = parts.map_err(|what| wrong(&what))?;
            if parts.is_empty() || matches!(parts.last(), Some(Part::Folders)) {
                return Err(wrong("the name of a file is missing at its end"));
            }
            alternatives.push(parts);
        }
        Ok(Self { text: text.to_owned(), alternatives })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Adds what there is. The pattern is absolute.
    pub(super) fn expand(&self, found: &mut Expansion) {
        for parts in &self.alternatives {
            walk(Path::new("/"), parts, found);
        }
    }

    /// A pattern without a `/` is one of names.
    pub(super) fn matches(&self, path: &Path) -> bool {
        let names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).filter(|name| *name != "/").collect();
        let names = if self.text.contains('/') { &names[..] } else { &names[names.len().saturating_sub(1)..] };
        self.alternatives.iter().any(|parts| matches_all(parts, names))
    }
}

/// The texts that a pattern with `{this,that}` stands for.
fn braces(text: &str) -> Result<Vec<String>, String> {
    let (mut whole, mut waiting) = (Vec::new(), vec![text.to_owned()]);
    while let Some(next) = waiting.pop() {
        if whole.len() + waiting.len() >= ALTERNATIVES_MAX {
            return Err(format!("more than {ALTERNATIVES_MAX} alternatives"));
        }
        let Some(open) = next.find('{') else {
            whole.push(next);
            continue;
        };
        let Some(length) = next[open..].find('}') else { return Err("a { without its }".to_owned()) };
        let (before, inner, behind) = (&next[..open], &next[open + 1..open + length], &next[open + length + 1..]);
        if inner.contains('{') {
            return Err("braces inside of braces".to_owned());
        }
        waiting.extend(inner.split(',').rev().map(|one| format!("{before}{one}{behind}")));
    }
    Ok(whole)
}

fn part(text: &str) -> Result<Part, String> {
    if text == "**" {
        return Ok(Part::Folders);
    }
    if text == ".." {
        return Err("a path with .. in it".to_owned());
    }
    if !text.contains(['*', '?', '[']) {
        return Ok(Part::Name(text.to_owned()));
    }
    let mut tokens = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        tokens.push(match character {
            '*' => Token::Any,
            '?' => Token::One,
            '[' => set(&mut rest).ok_or_else(|| format!("a [ without its ] in {text:?}"))?,
            other => Token::Character(other),
        });
    }
    // Several stars in a row are one.
    tokens.dedup_by(|one, other| *one == Token::Any && *other == Token::Any);
    Ok(Part::Some(tokens))
}

/// What stands behind a `[`, up to and with its `]`.
fn set(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut characters = Vec::new();
    loop {
        match rest.next()? {
            ']' if !characters.is_empty() => break,
            other => characters.push(other),
        }
    }
    let is_negated = characters.len() > 1 && matches!(characters[0], '!' | '^');
    let mut left = &characters[usize::from(is_negated)..];
    let mut ranges = Vec::new();
    while let [first, behind @ ..] = left {
        let (last, behind) = match behind {
            ['-', last, behind @ ..] => (last, behind),
            _ => (first, behind),
        };
        ranges.push((*first, *last));
        left = behind;
    }
    Some(Token::Set { is_negated, ranges })
}

fn walk(folder: &Path, parts: &[Part], found: &mut Expansion) {
    let Some((first, rest)) = parts.split_first() else { return };
    match first {
        Part::Name(name) if rest.is_empty() => found.add(folder.join(name)),
        Part::Name(name) => walk(&folder.join(name), rest, found),
        Part::Some(tokens) => match names_in(folder) {
            Ok(names) => {
                for (name, _) in names.iter().filter(|(name, _)| matches_name(tokens, name)) {
                    if rest.is_empty() { found.add(folder.join(name)) } else { walk(&folder.join(name), rest, found) }
                }
            }
            // What a pattern of folders names may be a file.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => found.complain(folder, &error),
        },
        Part::Folders => walk_below(folder, rest, DEPTH_MAX, found),
    }
}

/// Links to folders are not followed: they may lead up again.
fn walk_below(folder: &Path, rest: &[Part], depth_left: usize, found: &mut Expansion) {
    walk(folder, rest, found);
    if depth_left == 0 {
        return;
    }
    match names_in(folder) {
        Ok(names) => {
            for (name, _) in names.iter().filter(|(_, is_folder)| *is_folder) {
                walk_below(&folder.join(name), rest, depth_left - 1, found);
            }
        }
        Err(error) => found.complain(folder, &error),
    }
}

/// Names and whether each is a folder. One that is no text is passed over.
fn names_in(folder: &Path) -> io::Result<Vec<(String, bool)>> {
    let entries = folder.read_dir()?.flatten();
    let named = entries.filter_map(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        Some((entry.file_name().into_string().ok()?, is_folder))
    });
    Ok(named.collect())
}

fn matches_all(parts: &[Part], names: &[&str]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return names.is_empty() };
    match (first, names.split_first()) {
        (Part::Folders, _) => (0..=names.len()).any(|skipped| matches_all(rest, &names[skipped..])),
        (Part::Name(name), Some((given, behind))) => name == given && matches_all(rest, behind),
        (Part::Some(tokens), Some((given, behind))) => matches_name(tokens, given) && matches_all(rest, behind),
        (_, None) => false,
    }
}

fn matches_name(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut token, mut at) = (0, 0);
    // Where the last star was, and how far it reaches by now.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        let fits = match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::One) => true,
            Some(Token::Character(character)) => *character == name[at],
            Some(Token::Set { is_negated, ranges }) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&name[at])) != *is_negated
            }
            None => false,
        };
        if fits {
            (token, at) = (token + 1, at + 1);
            continue;
        }
        let Some((of_star, reached)) = star else { return false };
        star = Some((of_star, reached + 1));
        (token, at) = (of_star + 1, reached + 1);
    }
    tokens[token..].iter().all(|token| *token == Token::Any)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of others, on the real disk")]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expect: bool) {
        let matched = Pattern::new(pattern).expect(pattern).matches(Path::new(path));
        assert_eq!(matched, expect, "{pattern} {path}");
    }

    #[test]
    fn signs() {
        check("/var/log/*.log", "/var/log/a.log", true);
        check("/var/log/*.log", "/var/log/sub/a.log", false);
        check("/var/**/*.log", "/var/log/sub/a.log", true);
        check("/var/**/*.log", "/var/a.log", true);
        check("/a/?[0-9]*[!x]", "/a/b7zy", true);
        check("/a/?[0-9]*[!x]", "/a/b7zx", false);
        check("/a/{b,c*}.{log,txt}", "/a/cd.txt", true);
        check("/a/{b,c*}.{log,txt}", "/a/d.txt", false);
        check("*.gz", "/a/b/c.gz", true);
        check("a*b*c", "aXbXbYc", true);
        check("[]a]", "]", true);
        for wrong in ["", "/a/**", "/a/{b", "/a/[b", "/a/../b", "/"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong}");
        }
        let many = "/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}";
        assert!(Pattern::new(many).is_err_and(|error| error.message().contains("alternatives")));
    }

    #[test]
    fn what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a/x.log", "a/b/y.log", "a/z.txt"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            std::fs::write(path, "").expect("a file");
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).expect("a link");
        let found = |pattern: &str, paths_max: usize| {
            let mut found = Expansion::new(paths_max);
            Pattern::new(&format!("{}/{pattern}", folder.path().display())).expect(pattern).expand(&mut found);
            let names = found.paths.iter().filter_map(|path| path.strip_prefix(folder.path()).ok()?.to_str());
            (names.map(str::to_owned).collect::<Vec<_>>(), found.is_cut)
        };
        assert_eq!(found("**/*.log", 10), (vec!["a/b/y.log".to_owned(), "a/x.log".to_owned()], false));
        assert_eq!(found("*/*.{log,txt}", 10).0, ["a/x.log", "a/z.txt"]);
        assert_eq!(found("a/*/*.log", 10).0, ["a/b/y.log"]);
        let (paths, is_cut) = found("**/*.log", 1);
        assert_eq!((paths.len(), is_cut), (1, true));
    }
}
