//! Files that a command line names: read whole, by path or by pattern.

use br_std::re2::{self, Mode, Regex};
use std::path::{Path, PathBuf};

/// The text of a file, or why there is none.
pub fn read(path: &Path) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "rule files and their tests lie outside any data directory")]
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The files that a pattern names, sorted. It is taken from `base` unless it is absolute; `*`, `?` and `[…]` stay within one
/// part of a path, and a backslash takes the next character as it stands. Without matches there are none.
pub fn matching(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { base.to_owned() }];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !part.contains(['*', '?', '[', '\\']) {
            for path in &mut paths {
                path.push(part);
            }
            continue;
        }
        let names = names(part).map_err(|reason| format!("{pattern}: {reason}"))?;
        let mut deeper = Vec::new();
        for folder in &paths {
            let entries = folder.read_dir().into_iter().flatten().flatten();
            deeper.extend(entries.filter(|entry| names.is_match(&entry.file_name().to_string_lossy())).map(|entry| entry.path()));
        }
        deeper.sort();
        paths = deeper;
    }
    paths.retain(|path| path.exists());
    Ok(paths)
}

/// The names that one part of a pattern stands for.
fn names(part: &str) -> Result<Regex, String> {
    let mut source = String::new();
    let mut rest = part.chars();
    while let Some(character) = rest.next() {
        match character {
            '*' => source.push_str(".*"),
            '?' => source.push('.'),
            '\\' => source.push_str(&re2::escape(&rest.next().ok_or("a backslash at the end")?.to_string())),
            '[' => {
                source.push('[');
                let mut is_closed = false;
                if rest.as_str().starts_with('^') {
                    rest.next();
                    source.push('^');
                }
                while let Some(character) = rest.next() {
                    match character {
                        ']' => {
                            is_closed = true;
                            break;
                        }
                        '-' => source.push('-'),
                        '\\' => source.push_str(&re2::escape(&rest.next().ok_or("a backslash at the end")?.to_string())),
                        _ => source.push_str(&re2::escape(&character.to_string())),
                    }
                }
                if !is_closed {
                    return Err("a bracket is not closed".to_owned());
                }
                source.push(']');
            }
            _ => source.push_str(&re2::escape(&character.to_string())),
        }
    }
    Regex::new(&source, Mode::Whole).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        let check = |part: &str, name: &str, expect: bool| {
            assert_eq!(names(part).expect(part).is_match(name), expect, "{part} {name}");
        };
        check("*.yml", "a.yml", true);
        check("*.yml", "a.yaml", false);
        check("a?[0-9]*", "ab7.x", true);
        check("[^a]b", "ab", false);
        check("[a&&b]", "&", true);
        check("[+--]", ",", true);
        check("[\\d]", "d", true);
        check("\\*", "*", true);
        check("\\*", "a", false);
        assert!(names("[a").is_err());
    }
}
