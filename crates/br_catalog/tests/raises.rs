//! One raise that several reporters tell, in the catalog.

mod support;

use br_catalog::{Catalog, ErrorBatch, ErrorOccurrence, IssueFilter, IssueStatus, RecordedErrors};
use br_storage::JournalPosition;
use support::{Opened, TENANT, seconds};

fn occurrence(issue: u64, trace: &str, stack: &[u64], reporter: &str) -> ErrorOccurrence {
    ErrorOccurrence {
        issue,
        at: seconds(10),
        title: format!("of {reporter}"),
        trace_id: trace.into(),
        grouping: format!("br1: E in f{issue}"),
        stack: stack.to_vec(),
        reporter: reporter.into(),
        ..ErrorOccurrence::default()
    }
}

fn batches(occurrences: Vec<Vec<ErrorOccurrence>>) -> Vec<ErrorBatch> {
    let batch = |(occurrences, position)| ErrorBatch { tenant: TENANT, position: JournalPosition(position), occurrences };
    occurrences.into_iter().zip(1..).map(batch).collect()
}

async fn counts(catalog: &Catalog) -> Vec<(u64, u64)> {
    let issues = catalog.issues(TENANT, &IssueFilter::default(), 100).await.expect("issues");
    issues.iter().map(|issue| (issue.id, issue.count)).collect()
}

/// Records all in one call, and each batch in a call of its own with a restart in between: what is known is the same.
async fn check(occurrences: Vec<Vec<ErrorOccurrence>>, expect: &[(u64, u64)]) -> RecordedErrors {
    let batches = batches(occurrences);
    let whole = Opened::new().await;
    let recorded = whole.catalog.record_errors(&batches).await.expect("record");
    assert_eq!(counts(&whole.catalog).await, expect, "{batches:?}");
    let mut parts = Opened::new().await;
    for at in 0..batches.len() {
        parts.catalog.record_errors(&batches[..=at]).await.expect("record");
        parts = parts.reopened().await;
    }
    assert_eq!(counts(&parts.catalog).await, expect, "{batches:?}");
    recorded
}

#[tokio::test]
async fn nested_spans_and_a_second_sdk_count_once() {
    let (inner, outer) = (occurrence(1, "t", &[5], "otel"), occurrence(2, "t", &[5, 6], "otel"));
    let sentry = occurrence(2, "t", &[5, 6, 7], "sentry");
    let recorded = check(vec![vec![inner.clone()], vec![outer.clone()], vec![sentry.clone()]], &[(2, 1)]).await;
    assert_eq!(recorded.new, [(TENANT, 2)], "the issue of the inner one is gone");
    check(vec![vec![sentry.clone()], vec![inner.clone(), outer.clone()]], &[(2, 1)]).await;
    let recorded = check(vec![vec![inner, outer], vec![sentry]], &[(2, 1)]).await;
    assert_eq!(recorded.new, [(TENANT, 2)]);
}

#[tokio::test]
async fn other_traces_and_other_callers_count_by_themselves() {
    let of_web = occurrence(1, "t", &[5, 6], "otel");
    check(vec![vec![of_web.clone(), occurrence(2, "t", &[5, 7], "otel")]], &[(1, 1), (2, 1)]).await;
    check(vec![vec![of_web.clone(), occurrence(1, "u", &[5, 6], "otel")]], &[(1, 2)]).await;
    check(vec![vec![occurrence(1, "", &[5, 6], "a"), occurrence(1, "", &[5, 6], "b")]], &[(1, 2)]).await;
    check(vec![vec![occurrence(1, "t", &[], "a"), occurrence(1, "t", &[], "b")]], &[(1, 2)]).await;
    check(vec![vec![of_web.clone()], vec![of_web.clone()], vec![occurrence(1, "t", &[5, 6], "sentry")]], &[(1, 2)]).await;
}

#[tokio::test]
async fn an_issue_that_somebody_decided_about_stays() {
    let opened = Opened::new().await;
    let of = |occurrences| batches(vec![occurrences]);
    opened.catalog.record_errors(&of(vec![occurrence(1, "t", &[5], "otel")])).await.expect("record");
    opened.catalog.set_issue_status(TENANT, 1, IssueStatus::Ignored, seconds(11)).await.expect("ignore");
    let mut later = of(vec![occurrence(2, "t", &[5, 6], "otel")]);
    later[0].position = JournalPosition(2);
    opened.catalog.record_errors(&later).await.expect("record");
    assert_eq!(counts(&opened.catalog).await, [(1, 0), (2, 1)]);
}

#[tokio::test]
async fn raises_are_forgotten_after_many_others() {
    let opened = Opened::new().await;
    let mut all = vec![occurrence(1, "t", &[5], "a")];
    all.extend((0..10_000).map(|at| occurrence(2, &format!("u{at}"), &[5], "a")));
    all.push(occurrence(1, "t", &[5], "b"));
    opened.catalog.record_errors(&batches(vec![all])).await.expect("record");
    assert_eq!(counts(&opened.catalog).await, [(1, 2), (2, 10_000)]);
}

#[tokio::test]
async fn a_catalog_of_before_is_taken_along() {
    let opened = Opened::new().await;
    opened.catalog.record_errors(&batches(vec![vec![occurrence(1, "t", &[5], "a")]])).await.expect("record");
    opened
        .tamper("DROP TABLE error_raise; ALTER TABLE issue DROP COLUMN grouping; DROP TABLE deploy; DELETE FROM schema_version WHERE version > 1")
        .await;
    let opened = opened.reopened().await;
    let issue = opened.catalog.issue(TENANT, 1).await.expect("read").expect("known");
    assert_eq!((issue.count, issue.grouping.as_str()), (1, ""));
    let mut later = batches(vec![vec![occurrence(2, "t", &[5], "a")]]);
    later[0].position = JournalPosition(2);
    opened.catalog.record_errors(&later).await.expect("record");
    let issue = opened.catalog.issue(TENANT, 2).await.expect("read").expect("known");
    assert_eq!(issue.grouping, "br1: E in f2");
}
