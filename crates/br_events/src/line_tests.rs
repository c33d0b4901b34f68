//! Tests of lines on a column of bodies, whose bytes stand one after the other.

use arrow::array::{Array, StringArray};
use br_storage::{LinePattern, LineTest};
use memchr::memmem::Finder;

/// Keeps those of `rows`, which are ascending, whose body passes all tests.
pub(crate) fn retain(tests: &[LineTest], bodies: &StringArray, rows: &mut Vec<u32>) {
    for test in tests {
        if rows.is_empty() {
            return;
        }
        // All bodies are searched at once when most of them are asked for.
        let texts = contained(test).filter(|_| rows.len() * 2 > bodies.len());
        let Some(finders) = texts else {
            rows.retain(|row| test.holds(bodies.value(*row as usize)));
            continue;
        };
        let mut found = vec![false; bodies.len()];
        for finder in finders {
            find_all(finder, bodies, &mut found);
        }
        rows.retain(|row| found[*row as usize] != test.is_negated);
    }
}

/// Keeps those of `rows` whose body contains one of the texts.
pub(crate) fn retain_containing(finders: &[&Finder<'static>], bodies: &StringArray, rows: &mut Vec<u32>) {
    if rows.len() * 2 <= bodies.len() {
        rows.retain(|row| finders.iter().any(|finder| finder.find(bodies.value(*row as usize).as_bytes()).is_some()));
        return;
    }
    let mut found = vec![false; bodies.len()];
    for finder in finders {
        find_all(finder, bodies, &mut found);
    }
    rows.retain(|row| found[*row as usize]);
}

/// The texts, where a test is about nothing else.
fn contained(test: &LineTest) -> Option<Vec<&Finder<'static>>> {
    fn finder(pattern: &LinePattern) -> Option<&Finder<'static>> {
        match pattern {
            LinePattern::Contains(finder) => Some(finder),
            LinePattern::Regex(_) | LinePattern::Other(_) => None,
        }
    }
    test.any_of.iter().map(finder).collect()
}

/// Marks the rows that contain a text. What is found across the end of a row is no match, and hides none: the search goes on
/// behind its first byte.
fn find_all(finder: &Finder<'static>, bodies: &StringArray, found: &mut [bool]) {
    let ends = &bodies.value_offsets()[1..];
    let (data, length) = (bodies.value_data(), finder.needle().len());
    if length == 0 {
        return found.fill(true);
    }
    let last = ends.last().map_or(0, |end| *end as usize);
    let (mut row, mut at) = (0, bodies.value_offsets()[0] as usize);
    while let Some(distance) = finder.find(&data[at..last]) {
        let start = at + distance;
        row += ends[row..].partition_point(|end| *end as usize <= start);
        let end = ends[row] as usize;
        if start + length <= end {
            found[row] = true;
            at = end;
        } else {
            at = start + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use br_std::re2::{Mode, Regex};

    fn test(is_negated: bool, texts: &[&str]) -> LineTest {
        LineTest { any_of: texts.iter().map(|text| LinePattern::contains(text)).collect(), is_negated }
    }

    #[test]
    fn texts_across_rows_are_no_match_and_hide_none() {
        let bodies = StringArray::from(vec!["xaa", "ab", "", "baab", "aaa"]).slice(1, 4);
        let mut rows = vec![0, 1, 2, 3];
        retain(&[test(false, &["aa"])], &bodies, &mut rows);
        assert_eq!(rows, [2, 3]);
        let mut rows = vec![0, 1, 2, 3];
        retain(&[test(true, &["aa", "bb"])], &bodies, &mut rows);
        assert_eq!(rows, [0, 1], "\"bb\" is across two rows");
    }

    proptest::proptest! {
        #[test]
        fn at_once_is_as_one_by_one(
            lines in proptest::collection::vec("[ab]{0,5}", 0..12),
            texts in proptest::collection::vec("[ab]{0,3}", 1..3),
            is_negated in proptest::bool::ANY,
            from in 0usize..4,
        ) {
            let from = from.min(lines.len());
            let bodies = StringArray::from_iter_values(&lines).slice(from, lines.len() - from);
            let regex = Regex::new("ab*a$", Mode::Part).expect("valid");
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let tests = [test(is_negated, &texts), LineTest { any_of: vec![LinePattern::Regex(regex)], is_negated: false }];
            let mut rows: Vec<u32> = (0..bodies.len() as u32).collect();
            let expect: Vec<u32> =
                rows.iter().copied().filter(|row| tests.iter().all(|test| test.holds(bodies.value(*row as usize)))).collect();
            retain(&tests, &bodies, &mut rows);
            proptest::prop_assert_eq!(rows, expect);
        }
    }
}
