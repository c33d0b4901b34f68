//! Families of error events: which of them are one issue, as a JSON file `{"family": …, "events": [{"event": …, "expect_group": …}]}`
//! with events as a Sentry SDK sends them.
//!
//! Each pair of events of a family is an expectation: one issue, or two.

use br_model::Grouping;
use br_std::Nanos;
use br_wire::Limits;
use br_wire::sentry::{self, Context};
use serde::Deserialize;
use serde_json::Value;

/// What became of a family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Pairs that are gathered as expected.
    pub passed: usize,
    pub failures: Vec<String>,
}

#[derive(Deserialize)]
struct Family {
    #[serde(rename = "family")]
    name: String,
    /// Trackers differ, and none of them is wrong.
    #[serde(default)]
    policy_dependent: bool,
    events: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    event: Value,
    expect_group: String,
}

/// Compares each pair of events of a family. A list of families, as the corpus has for people, holds no events: nothing to do.
pub fn run(text: &str) -> Report {
    let mut report = Report::default();
    if text.trim_start().starts_with('[') {
        return report;
    }
    let family: Family = match serde_json::from_str(text) {
        Ok(family) => family,
        Err(error) => {
            report.failures.push(format!("{}: no family: {error}", error.line()));
            return report;
        }
    };
    let groupings: Vec<Result<Grouping, String>> = family.events.iter().map(|member| grouping(&member.event)).collect();
    for (at, (first, found)) in family.events.iter().zip(&groupings).enumerate() {
        for (behind, (second, other)) in family.events.iter().zip(&groupings).enumerate().skip(at + 1) {
            let is_one = first.expect_group == second.expect_group;
            let failure = match (found, other) {
                (Ok(found), Ok(other)) if (found.hash == other.hash) == is_one => None,
                (Ok(found), Ok(other)) => Some(format!("`{}` and `{}`", found.explanation, other.explanation)),
                (Err(error), _) | (_, Err(error)) => Some(error.clone()),
            };
            let Some(reason) = failure else {
                report.passed += 1;
                continue;
            };
            let issues = if is_one { "one issue" } else { "two issues" };
            let policy = if family.policy_dependent { " (trackers differ)" } else { "" };
            report.failures.push(format!(" {}{policy}: events {at} and {behind} should be {issues}: {reason}", family.name));
        }
    }
    report
}

fn grouping(event: &Value) -> Result<Grouping, String> {
    let context = Context { service: "corpus", received: Nanos(0) };
    let decoded = sentry::decode_store(event.to_string().as_bytes(), context, &Limits::default());
    let batch = decoded.map_err(|error| error.to_string())?.value;
    let mut records = batch.logs.groups.iter().flat_map(|group| &group.records);
    let error = records.find_map(|record| record.error.as_ref());
    error.map(|error| error.grouping()).ok_or_else(|| "the event is no error".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(first: &str, second: &str, passed: usize, failures: usize) {
        let member = |group: &str| format!(r#"{{"event": {{"message": "job {} of {group}"}}, "expect_group": "{group}"}}"#, 7);
        let text = format!(r#"{{"family": "F", "events": [{}, {}]}}"#, member(first), member(second));
        let report = run(&text);
        assert_eq!((report.passed, report.failures.len()), (passed, failures), "{text}: {report:?}");
    }

    #[test]
    fn pairs() {
        check("a", "a", 1, 0);
        check("a", "b", 1, 0);
        check("1", "2", 0, 1);
        assert_eq!(run("[]"), Report::default());
        assert_eq!(run("{}").failures.len(), 1);
    }
}
