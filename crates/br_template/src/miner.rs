//! Finds the templates of a stream of lines.

use crate::WILDCARD;
use crate::line::{Line, is_variable, message_of_json};
use br_std::hash::hash64;
use hashbrown::HashMap;

/// What a miner may use.
#[derive(Clone, Copy, Debug)]
pub struct MinerLimits {
    /// Lines that fit no template once there are so many have none.
    pub templates_max: usize,
    /// Words of a line that are looked at.
    pub words_max: usize,
    /// Bytes of a line that are looked at.
    pub line_bytes_max: usize,
}

impl Default for MinerLimits {
    fn default() -> Self {
        Self { templates_max: 300, words_max: 100, line_bytes_max: 3000 }
    }
}

/// A line is like a template when more than so many of a hundred of its words are the same.
const ALIKE_OF_HUNDRED: usize = 50;

/// Lines that have the same between their words.
#[derive(Debug)]
struct Template {
    gaps: Vec<Box<str>>,
    last_gap: Box<str>,
    /// `None` where lines differ.
    words: Vec<Option<Box<str>>>,
    /// The words with which a text begins.
    firsts: Vec<bool>,
    /// It is a part of a line: of its message, or of its beginning.
    goes_on_before: bool,
    goes_on_after: bool,
}

/// Learns templates from lines; each keeps its number, and becomes more general as lines come that are like it.
#[derive(Debug)]
pub struct Miner {
    limits: MinerLimits,
    templates: Vec<Template>,
    /// By what stands between the words.
    groups: HashMap<u64, Vec<u32>>,
}

impl Miner {
    pub fn new(limits: MinerLimits) -> Self {
        Self { limits, templates: Vec::new(), groups: HashMap::new() }
    }

    /// The number of the template of a line, a new one where it is like none; `None` for a line without words, or when there are too many.
    pub fn observe(&mut self, text: &str) -> Option<usize> {
        let message = message_of_json(text);
        let whole = message.unwrap_or(text);
        let seen = &whole[..whole.floor_char_boundary(self.limits.line_bytes_max)];
        let line = Line::new(seen, self.limits.words_max);
        let (gaps, words): (Vec<&str>, Vec<&str>) = line.words().unzip();
        if words.is_empty() {
            return None;
        }
        let goes_on_after = message.is_some() || line.is_cut || seen.len() < whole.len();
        let last_gap = if line.is_cut { "" } else { line.last_gap() };
        let words: Vec<Option<&str>> = words.into_iter().map(|word| (!is_variable(word)).then_some(word)).collect();
        let group = group_of(&gaps, last_gap, (message.is_some(), goes_on_after));
        let known = self.groups.get(&group).map_or(&[][..], Vec::as_slice);
        let alike = known.iter().filter_map(|number| Some((self.templates[*number as usize].likeness(&words)?, *number)));
        if let Some((_, number)) = alike.max_by_key(|(likeness, number)| (*likeness, std::cmp::Reverse(*number))) {
            self.templates[number as usize].generalise(&words);
            return Some(number as usize);
        }
        if self.templates.len() >= self.limits.templates_max {
            return None;
        }
        let number = self.templates.len();
        self.templates.push(Template {
            firsts: firsts(&gaps, &words),
            gaps: gaps.into_iter().map(Box::from).collect(),
            last_gap: last_gap.into(),
            words: words.into_iter().map(|word| word.map(Box::from)).collect(),
            goes_on_before: message.is_some(),
            goes_on_after,
        });
        self.groups.entry(group).or_default().push(number as u32);
        Some(number)
    }

    /// Templates so far.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// A template as LogQL's pattern filter takes it.
    pub fn pattern(&self, number: usize) -> Option<String> {
        self.templates.get(number).map(Template::pattern)
    }
}

fn group_of(gaps: &[&str], last_gap: &str, ends: (bool, bool)) -> u64 {
    let mut bytes = vec![u8::from(ends.0), u8::from(ends.1)];
    for gap in gaps.iter().chain([&last_gap]) {
        bytes.extend_from_slice(gap.as_bytes());
        bytes.push(0);
    }
    hash64(&bytes)
}

/// Which words begin a text: the first one that is written, and those behind a quotation mark that opens a message.
fn firsts(gaps: &[&str], words: &[Option<&str>]) -> Vec<bool> {
    let first = words.iter().position(Option::is_some);
    let opens = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| words[at]);
        gaps[at].ends_with(" \"") || gaps[at] == "=\"" && matches!(before, Some("msg" | "message" | "event"))
    };
    (0..words.len()).map(|at| first == Some(at) || opens(at)).collect()
}

impl Template {
    /// How many words are the same, if a line is like this one: more than half, and those with which texts begin.
    fn likeness(&self, words: &[Option<&str>]) -> Option<usize> {
        let (mut same, mut written) = (0, 0);
        for ((known, word), is_first) in self.words.iter().zip(words).zip(&self.firsts) {
            let Some(known) = known else { continue };
            let is_same = *word == Some(&**known);
            if *is_first && !is_same {
                return None;
            }
            written += 1;
            same += usize::from(is_same);
        }
        // A line of numbers alone is like another one; it is not like one that has words where it has numbers.
        let is_alike = same * 100 > written * ALIKE_OF_HUNDRED || written == 0 && words.iter().all(Option::is_none);
        is_alike.then_some(same)
    }

    fn generalise(&mut self, words: &[Option<&str>]) {
        for (known, word) in self.words.iter_mut().zip(words) {
            if known.as_deref() != *word {
                *known = None;
            }
        }
    }

    fn pattern(&self) -> String {
        let mut text = String::new();
        if self.goes_on_before {
            text.push_str(WILDCARD);
        }
        for (gap, word) in self.gaps.iter().zip(&self.words) {
            text.push_str(gap);
            match word {
                Some(word) => text.push_str(word),
                // Two of them side by side would be refused.
                None if text.ends_with(WILDCARD) => {}
                None => text.push_str(WILDCARD),
            }
        }
        text.push_str(&self.last_gap);
        if self.goes_on_after && !text.ends_with(WILDCARD) {
            text.push_str(WILDCARD);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mined(lines: &[&str]) -> (Vec<Option<usize>>, Vec<String>) {
        let mut miner = Miner::new(MinerLimits::default());
        let numbers = lines.iter().map(|line| miner.observe(line)).collect();
        (numbers, (0..miner.len()).filter_map(|number| miner.pattern(number)).collect())
    }

    #[test]
    fn words_that_change_become_wildcards() {
        let (numbers, patterns) = mined(&[
            "user ann logged in from berlin",
            "user bob logged in from paris",
            "user 7 logged in from rome",
            "payment failed: card refused",
            "12 34",
            "56 78",
            "",
        ]);
        assert_eq!(numbers, [Some(0), Some(0), Some(0), Some(1), Some(2), Some(2), None]);
        assert_eq!(patterns, ["user <_> logged in from <_>", "payment failed: card refused", "<_> <_>"]);
    }

    #[test]
    fn texts_of_other_words_stay_apart() {
        let (numbers, patterns) = mined(&["connected to db", "failed to connect", "connected to redis", "retry in 3 s"]);
        assert_eq!(numbers, [Some(0), Some(1), Some(0), Some(2)]);
        assert_eq!(patterns, ["connected to <_>", "failed to connect", "retry in <_> s"]);
    }

    #[test]
    fn json_goes_by_its_message() {
        let (numbers, patterns) = mined(&[
            r#"{"level":"info","id":"a7","msg":"order 1 paid"}"#,
            r#"{"msg":"order 2 paid","level":"warn","more":[1,2]}"#,
        ]);
        assert_eq!((numbers, patterns), (vec![Some(0), Some(0)], vec!["<_>order <_> paid<_>".to_owned()]));
    }

    #[test]
    fn there_is_an_end_of_templates_and_of_lines() {
        let mut miner = Miner::new(MinerLimits { templates_max: 2, words_max: 3, line_bytes_max: 40 });
        let long = "one two three four five";
        assert_eq!([miner.observe(long), miner.observe("alpha"), miner.observe("beta")], [Some(0), Some(1), None]);
        assert_eq!(miner.pattern(0).as_deref(), Some("one two three<_>"));
        assert_eq!(miner.observe("one two three and something else"), Some(0));
        assert_eq!(miner.observe(&"ß".repeat(100)), None);
    }

    /// Whether a line is what the pattern says: the texts between wildcards follow each other in it.
    fn fits(pattern: &str, line: &str) -> bool {
        let mut rest = line;
        for (at, text) in pattern.split(WILDCARD).enumerate() {
            match rest.find(text) {
                Some(found) if at > 0 || found == 0 => rest = &rest[found + text.len()..],
                _ => return false,
            }
        }
        rest.is_empty() || pattern.ends_with(WILDCARD)
    }

    proptest! {
        #[test]
        fn each_line_fits_its_pattern(lines in prop::collection::vec("[ab ]{0,3}[a-c0-2 =\",]{0,12}é?", 1..40)) {
            let mut miner = Miner::new(MinerLimits { words_max: 4, ..MinerLimits::default() });
            let numbers: Vec<_> = lines.iter().map(|line| miner.observe(line)).collect();
            for (line, number) in lines.iter().zip(numbers) {
                let Some(number) = number else { continue };
                let pattern = miner.pattern(number).expect("known");
                prop_assert!(fits(&pattern, line), "{pattern:?} {line:?}");
            }
        }
    }
}
