//! The house rules that no lint knows: lengths, pages that must exist, words that must not.
//!
//! Lengths are a ratchet: what is longer today is recorded in xtask/ratchet.toml and may only shrink.

use crate::shell;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 700;

/// Words that must not stand in the repository: paths of one machine and hosts of package registries.
/// Spelt in two halves, so that this list does not find itself.
const FORBIDDEN: [(&str, &str); 6] = [
    ("/work", "/main"),
    ("/home/", "runner"),
    ("registry.npm", "js.org"),
    ("static.crates", ".io/"),
    ("files.python", "hosted.org"),
    ("index.crates", ".io/"),
];

/// Lines of what is too long, by `path` or `path::function`.
type Lengths = BTreeMap<String, usize>;

pub fn run(ratchet: bool) -> Result<()> {
    let files = shell::tracked_files()?;
    let lengths = lengths(&files)?;
    let recorded_at = shell::root().join("xtask/ratchet.toml");
    let recorded: Lengths = toml::from_str(&std::fs::read_to_string(&recorded_at).unwrap_or_default())?;
    if ratchet {
        std::fs::write(&recorded_at, render(&lengths))?;
        println!("xtask/ratchet.toml has {} entries", lengths.len());
        return Ok(());
    }
    let mut complaints = forbidden_words(&files);
    complaints.extend(missing_from_map());
    for (what, lines) in &lengths {
        match recorded.get(what) {
            None => complaints.push(format!("{what} has {lines} lines: is there a second story in it?")),
            Some(before) if lines > before => complaints.push(format!("{what} grew from {before} to {lines} lines")),
            Some(_) => {}
        }
    }
    for complaint in &complaints {
        println!("tidy: {complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} places are untidy", complaints.len());
    }
    println!("tidy: {} files, {} long places recorded", files.len(), recorded.len());
    Ok(())
}

fn render(lengths: &Lengths) -> String {
    let mut text =
        "# What was too long when it was last looked at. Entries may shrink and go, never grow: `cargo xtask tidy --ratchet`.\n"
            .to_owned();
    for (what, lines) in lengths {
        let _ = writeln!(text, "{what:?} = {lines}");
    }
    text
}

fn lengths(files: &[String]) -> Result<Lengths> {
    let mut lengths = Lengths::new();
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        let text = std::fs::read_to_string(shell::root().join(path))?;
        let own = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let count = own.lines().count();
        if count > FILE_LINES_MAX {
            lengths.insert(path.clone(), count);
        }
        // A scenario of a test reads from top to bottom, however long it is.
        let is_test = path.contains("/tests/");
        for (name, count) in long_functions(own).into_iter().filter(|_| !is_test) {
            let longest = lengths.entry(format!("{path}::{name}")).or_default();
            *longest = count.max(*longest);
        }
    }
    Ok(lengths)
}

/// Functions over the line, by name. rustfmt ends a function with a brace at the column where its first line starts.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = function_name(code) else { continue };
        let signature_end = lines[at..].iter().find(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
        if signature_end.is_none_or(|line| !line.ends_with('{')) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let end = format!("{indent}}}");
        let length = lines[at..].iter().position(|line| *line == end).map_or(0, |last| last + 1);
        if length > FUNCTION_LINES_MAX {
            long.push((name.to_owned(), length));
        }
    }
    long
}

fn function_name(code: &str) -> Option<&str> {
    let mut words = code.split(' ');
    loop {
        match words.next()? {
            "pub" | "pub(crate)" | "pub(super)" | "async" | "const" | "unsafe" => {}
            "fn" => break,
            _ => return None,
        }
    }
    words.next()?.split(['(', '<']).next()
}

fn forbidden_words(files: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in files {
        let Ok(text) = std::fs::read_to_string(shell::root().join(path)) else { continue };
        // The lock file names the registry as cargo writes it.
        if path == "Cargo.lock" || path.ends_with("/Cargo.lock") {
            continue;
        }
        for (first, second) in FORBIDDEN {
            let word = format!("{first}{second}");
            if let Some(at) = text.find(&word) {
                let line = text[..at].lines().count().max(1);
                complaints.push(format!("{path}:{line} names {word}"));
            }
        }
    }
    complaints
}

/// Crates that the map does not show.
fn missing_from_map() -> Vec<String> {
    let map = std::fs::read_to_string(shell::root().join("docs/ARCHITECTURE.md")).unwrap_or_default();
    let Ok(crates) = std::fs::read_dir(shell::root().join("crates")) else { return Vec::new() };
    let names = crates.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut missing: Vec<String> = names.filter(|name| !map.contains(&format!("`{name}`"))).collect();
    missing.sort();
    missing.into_iter().map(|name| format!("docs/ARCHITECTURE.md does not mention {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_functions() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        let text = format!("trait T {{\n    fn declared();\n}}\n\npub async fn long<T>(a: T) {{\n{body}}}\n");
        assert_eq!(long_functions(&text), [("long".to_owned(), FUNCTION_LINES_MAX + 2)]);
    }
}
