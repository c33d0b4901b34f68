//! The outcome of unit tests as JUnit XML: one suite a file, one case a test.

use super::test::lines;
use br_promrules::unit::FileReport;
use br_std::Nanos;
use std::fmt::Write as _;

pub(super) fn render(reports: &[(String, Result<FileReport, String>)], now: Nanos) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    let time = jiff::Timestamp::from_second(now.as_secs()).map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string());
    let time = time.unwrap_or_default();
    for (name, outcome) in reports {
        let (cases, failed, abort) = cases(outcome);
        let errors = u32::from(abort.is_some());
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"{errors}\" timestamp=\"{time}\">",
            escaped(name),
            cases.len(),
        );
        for (test, messages) in cases {
            let _ = writeln!(xml, "    <testcase name=\"{}\">", escaped(&test));
            for message in messages {
                let _ = writeln!(xml, "      <failure message=\"\" type=\"\">{}</failure>", escaped(&message));
            }
            xml.push_str("    </testcase>\n");
        }
        if let Some(reason) = abort {
            let _ = writeln!(xml, "    <system-err>{}</system-err>", escaped(&reason));
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// A test and what failed in it.
type Case = (String, Vec<String>);

/// The tests, how many failed, and why the file could not be used.
fn cases(outcome: &Result<FileReport, String>) -> (Vec<Case>, usize, Option<String>) {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => return (Vec::new(), 0, Some(error.clone())),
    };
    let messages = |failures: &[br_promrules::unit::Failure]| -> Vec<String> {
        failures.iter().map(|failure| format!("line {}: {}", failure.position.line, lines(failure, false).join("\n"))).collect()
    };
    let cases: Vec<Case> = report.tests.iter().map(|test| (test.name.clone(), messages(&test.failures))).collect();
    let failed = cases.iter().filter(|(_, messages)| !messages.is_empty()).count();
    let complaints: Vec<String> = report.complaints.iter().map(ToString::to_string).collect();
    (cases, failed, (!complaints.is_empty()).then(|| complaints.join("\n")))
}

/// XML has no way at all to write most control characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(character),
            _ if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}
