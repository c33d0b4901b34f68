//! Labelled texts: how many of the values that a person marked are found, and how many of those found were marked.
//!
//! A file is a list, or lines, of `{"full_text": …, "spans": [{"entity_type": …, "start_position": …, "end_position": …}]}`, as
//! Presidio's evaluation sets have it; `text`, `type`, `start` and `end` are taken as well. Positions count characters.
//! Text without labels (`.log`, `.txt`) is a set in which nothing is to be found.

use br_redact::{Policy, RULES, Redactor, Shape};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What structured values must reach.
const PRECISION_MIN: f64 = 0.98;
const RECALL_MIN: f64 = 0.99;
/// Values that can be told by their form: the others are measured and not judged.
const JUDGED: [&str; 6] = ["card", "iban", "email", "us_ssn", "jwt", "api_key"];
/// In texts without labels: values for each 100 000 lines.
const FALSE_MAX: f64 = 1.0;

/// What became of a file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rules that reach what they must.
    pub passed: usize,
    pub failures: Vec<String>,
    pub note: String,
}

#[derive(Deserialize)]
struct Sample {
    #[serde(alias = "text")]
    full_text: String,
    #[serde(default, alias = "labels", alias = "entities")]
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    #[serde(alias = "type", alias = "label")]
    entity_type: String,
    #[serde(alias = "start")]
    start_position: usize,
    #[serde(alias = "end")]
    end_position: usize,
}

/// Of one rule.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    /// Marked values that are found, and those that are not.
    hits: usize,
    misses: usize,
    /// Found and not marked.
    false_alarms: usize,
}

impl Score {
    fn precision(self) -> f64 {
        ratio(self.hits, self.hits + self.false_alarms)
    }

    fn recall(self) -> f64 {
        ratio(self.hits, self.hits + self.misses)
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// The labelled sets of the shared data, where it has any: what looks like one by its first bytes.
pub fn files(shared: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["redaction", "pii", "privacy"] {
        files.extend(files_below(&shared.join(folder)));
    }
    // Logs that real systems wrote: nothing in them is secret.
    files.extend(files_below(&shared.join("events/drain")));
    files.sort();
    files
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_set = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| matches!(extension, "json" | "jsonl" | "log" | "txt"))
    };
    paths.filter(is_set).collect()
}

/// Measures one file.
pub fn run(path: &Path, text: &str) -> Report {
    let is_labelled = path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl");
    if !is_labelled {
        return unlabelled(text);
    }
    match samples(text) {
        Ok(samples) => labelled(&samples),
        Err(error) => Report { failures: vec![error], ..Report::default() },
    }
}

fn samples(text: &str) -> Result<Vec<Sample>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| format!("{}: no labelled text: {error}", error.line()));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| serde_json::from_str(line).map_err(|error| format!("{}: no labelled text: {error}", at + 1))).collect()
}

/// What the labels of known sets are called here.
fn rule_of(entity: &str) -> Option<&'static str> {
    let rule = match entity {
        "CREDIT_CARD" | "CREDIT_CARD_NUMBER" | "CARD" => "card",
        "IBAN_CODE" | "IBAN" => "iban",
        "EMAIL_ADDRESS" | "EMAIL" => "email",
        "US_SSN" | "SSN" => "us_ssn",
        "PHONE_NUMBER" | "PHONE" => "phone",
        "IP_ADDRESS" | "IP" | "IPV4" | "IPV6" => "ip",
        other => RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(other))?.name,
    };
    Some(rule)
}

/// Every rule is on: a set says what it marks.
fn everything() -> Redactor {
    let rules = RULES.iter().map(|rule| (rule.name.to_owned(), true)).collect();
    Redactor::new(&Policy { rules, ..Policy::default() }).unwrap_or_default()
}

fn labelled(samples: &[Sample]) -> Report {
    let redactor = everything();
    let mut scores: BTreeMap<&'static str, Score> = BTreeMap::new();
    let mut report = Report::default();
    for (at, sample) in samples.iter().enumerate() {
        let marked = marked(sample);
        let found: Vec<(Range<usize>, &'static str)> =
            redactor.find(&sample.full_text).into_iter().filter_map(|(range, rule)| Some((range, family(&rule)?))).collect();
        for (range, rule) in &marked {
            let is_found = found.iter().any(|(other, _)| other.start <= range.start && other.end >= range.end);
            let score = scores.entry(rule).or_default();
            if is_found {
                score.hits += 1;
            } else {
                score.misses += 1;
                report.failures.push(format!("{at}: {rule} is missed: {:?}", sample.full_text.get(range.clone()).unwrap_or("")));
            }
        }
        for (range, rule) in &found {
            let is_marked = sample.spans.iter().any(|span| {
                let span = bytes(&sample.full_text, span);
                span.start < range.end && range.start < span.end && rule_matches(&marked, &span, rule)
            });
            if !is_marked {
                scores.entry(rule).or_default().false_alarms += 1;
                report.failures.push(format!("{at}: no {rule}: {:?}", sample.full_text.get(range.clone()).unwrap_or("")));
            }
        }
    }
    judge(&scores, report)
}

/// A card under another name is still a card that should not be masked as one.
fn rule_matches(marked: &[(Range<usize>, &'static str)], span: &Range<usize>, rule: &str) -> bool {
    marked.iter().any(|(range, name)| range == span && *name == rule)
}

fn family(rule: &str) -> Option<&'static str> {
    match rule {
        "us_ssn_bare" => Some("us_ssn"),
        "ipv4" | "ipv6" => Some("ip"),
        other => RULES.iter().find(|described| described.name == other).map(|described| described.name),
    }
}

fn marked(sample: &Sample) -> Vec<(Range<usize>, &'static str)> {
    sample.spans.iter().filter_map(|span| Some((bytes(&sample.full_text, span), rule_of(&span.entity_type)?))).collect()
}

/// Positions of characters as positions of bytes.
fn bytes(text: &str, span: &Span) -> Range<usize> {
    let place = |position: usize| text.char_indices().nth(position).map_or(text.len(), |(at, _)| at);
    place(span.start_position)..place(span.end_position)
}

fn judge(scores: &BTreeMap<&'static str, Score>, report: Report) -> Report {
    let mut judged = Report::default();
    let mut notes = Vec::new();
    let mut all = Score::default();
    for (rule, score) in scores {
        notes.push(format!("{rule} P {:.3} R {:.3} of {}", score.precision(), score.recall(), score.hits + score.misses));
        if !JUDGED.contains(rule) {
            continue;
        }
        all.hits += score.hits;
        all.misses += score.misses;
        all.false_alarms += score.false_alarms;
        if score.precision() >= PRECISION_MIN && score.recall() >= RECALL_MIN {
            judged.passed += 1;
            continue;
        }
        let (precision, recall) = (score.precision(), score.recall());
        judged.failures.push(format!(
            "{rule}: precision {precision:.4} (at least {PRECISION_MIN}), recall {recall:.4} (at least {RECALL_MIN})"
        ));
        let named = report.failures.iter().filter(|failure| failure.contains(rule)).take(20).cloned();
        judged.failures.extend(named.map(|failure| format!(" {failure}")));
    }
    notes.insert(0, format!("structured P {:.4} R {:.4}", all.precision(), all.recall()));
    judged.note = notes.join(", ");
    judged
}

/// Of what a server masks by itself nothing may be found.
fn unlabelled(text: &str) -> Report {
    let redactor = Redactor::default();
    let lines = text.lines().count();
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let redacted = redactor.redact(line.as_bytes(), Shape::Text);
        found.extend(redacted.body.map(|masked| format!("{}: {}", at + 1, String::from_utf8_lossy(&masked))));
    }
    let share = found.len() as f64 * 100_000.0 / lines.max(1) as f64;
    let note = format!("{} values in {lines} lines without labels", found.len());
    // A short file says little: one value in it is looked at by a person.
    if share > FALSE_MAX && found.len() > 1 {
        found.truncate(20);
        return Report { passed: 0, failures: found, note };
    }
    Report { passed: 1, failures: Vec::new(), note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores() {
        let text = r#"[
            {"full_text": "née ann@example.com", "spans": [{"entity_type": "EMAIL_ADDRESS", "start_position": 4, "end_position": 19}]},
            {"full_text": "call 4111111111111111", "spans": [{"entity_type": "PERSON", "start_position": 0, "end_position": 4}]},
            {"text": "nothing@all", "spans": [{"type": "EMAIL", "start": 0, "end": 11}]}]"#;
        let report = run(Path::new("a.json"), text);
        assert!(report.note.contains("card P 0.000 R 1.000 of 0, email P 1.000 R 0.500 of 2"), "{report:?}");
        assert_eq!((report.passed, report.failures.len()), (0, 4), "{report:?}");
        assert_eq!(run(Path::new("a.txt"), "a line\nanother").passed, 1);
        assert_eq!(run(Path::new("a.txt"), "a@example.com\nb@example.com").failures.len(), 2);
        assert_eq!(run(Path::new("a.jsonl"), "{}\n").failures.len(), 1);
    }
}
