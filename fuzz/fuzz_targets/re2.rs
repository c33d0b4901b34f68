//! Regular expressions: what can be read compiles, or is too large; what needs no automaton says the same as one.
#![no_main]

use br_std::re2::{Mode, Regex, check, globs, required_literal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (pattern, text) = input;
    let checked = check(pattern, Mode::Whole);
    let regex = match Regex::with_size(pattern, Mode::Whole, 64 << 10) {
        Ok(regex) => regex,
        Err(error) => {
            let is_large = error.message().contains("when compiled") || error.message().contains("too large");
            assert!(checked.is_err() || is_large, "{pattern:?}: {error}");
            return;
        }
    };
    assert_eq!(checked.ok(), Some(regex.is_match("")), "{pattern:?}");
    let found = regex.is_match(text);
    if let Some(globs) = globs(pattern) {
        assert_eq!(globs.iter().any(|glob| glob.matches(text)), found, "{pattern:?} {text:?}");
    }
    if found && let Some(literal) = required_literal(pattern, Mode::Whole) {
        assert!(text.contains(&literal), "{pattern:?} {text:?} {literal:?}");
    }
});
