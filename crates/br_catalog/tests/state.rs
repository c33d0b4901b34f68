//! Ledger, outbox, issues, state, tokens, and what a damaged file says.
#![allow(clippy::disallowed_methods, reason = "the database's file is looked at and damaged from outside")]

mod support;

use br_catalog::{
    Catalog, Change, ErrorBatch, ErrorOccurrence, IssueFilter, IssueStatus, LedgerFilter, NewLedgerEntry, NewOutboxItem,
    OutboxState,
};
use br_model::{Principal, Role, TenantId};
use br_std::Kind;
use br_storage::JournalPosition;
use support::{Opened, TENANT, seconds};

fn entry(kind: &str, subject: &str) -> NewLedgerEntry {
    NewLedgerEntry {
        at: seconds(1),
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        body: format!("{{\"of\": \"{subject}\"}}"),
    }
}

fn message(key: &str, not_before: i64) -> NewOutboxItem {
    let (dedup_key, channel) = (key.to_owned(), "slack".to_owned());
    NewOutboxItem { dedup_key, channel, payload: "{}".to_owned(), not_before: seconds(not_before) }
}

async fn kinds(catalog: &Catalog, filter: LedgerFilter, limit: u32) -> Vec<String> {
    let entries = catalog.ledger(TENANT, &filter, limit).await.expect("ledger");
    entries.into_iter().map(|entry| entry.kind).collect()
}

#[tokio::test]
async fn the_ledger_is_filtered_by_kind_subject_and_id() {
    let opened = Opened::new().await;
    let entries =
        [entry("alert.fired", "a"), entry("alert.resolved", "a"), entry("incident.opened", "i"), entry("alert.fired", "b")];
    let ids = opened.catalog.append_ledger(TENANT, &entries, &[], seconds(1)).await.expect("append").ledger_ids;
    opened.catalog.append_ledger(TenantId(2), &entries[..1], &[], seconds(1)).await.expect("append");
    let opened = opened.reopened().await;
    let catalog = &opened.catalog;
    let all = LedgerFilter::default();
    assert_eq!(kinds(catalog, all.clone(), 10).await.len(), 4);
    assert_eq!(kinds(catalog, LedgerFilter { kind_prefix: "alert.".to_owned(), ..all.clone() }, 10).await.len(), 3);
    assert_eq!(kinds(catalog, LedgerFilter { kind_prefix: "al%".to_owned(), ..all.clone() }, 10).await.len(), 0);
    let of_a = LedgerFilter { subject: Some("a".to_owned()), ..all.clone() };
    assert_eq!(kinds(catalog, of_a, 10).await, ["alert.fired", "alert.resolved"]);
    let later = LedgerFilter { after_id: ids[1], ..all.clone() };
    assert_eq!(kinds(catalog, later, 1).await, ["incident.opened"]);
    let newest = LedgerFilter { newest_first: true, ..all };
    assert_eq!(kinds(catalog, newest, 2).await, ["alert.fired", "incident.opened"]);
    assert_eq!(catalog.verify_ledger().await.expect("whole"), 5);
}

#[tokio::test]
async fn tampering_with_the_ledger_shows() {
    for sql in [
        "UPDATE ledger SET body = '{}' WHERE id = 3",
        "UPDATE ledger SET at = at + 1 WHERE id = 1",
        "UPDATE ledger SET kind = 'alert.firedx', subject = substr(subject, 2) WHERE id = 2",
        "DELETE FROM ledger WHERE id = 2",
        "DELETE FROM ledger WHERE id = (SELECT MAX(id) FROM ledger)",
        "DELETE FROM ledger",
        "UPDATE ledger SET tenant = 9 WHERE id = 4",
        "INSERT INTO ledger (tenant, at, kind, subject, body, prev_hash, hash) VALUES (7, 0, 'k', 's', '{}', '', 'x')",
        "UPDATE ledger_head SET entries = entries + 1",
    ] {
        let opened = Opened::new().await;
        let entries: Vec<_> = (0..5).map(|at| entry("alert.fired", &format!("s{at}"))).collect();
        opened.catalog.append_ledger(TENANT, &entries[..2], &[], seconds(1)).await.expect("append");
        opened.catalog.append_ledger(TENANT, &entries[2..], &[], seconds(1)).await.expect("append");
        assert_eq!(opened.catalog.verify_ledger().await.expect("whole"), 5);
        opened.tamper(sql).await;
        assert_eq!(opened.catalog.verify_ledger().await.map_err(|error| error.kind()), Err(Kind::Corrupt), "{sql}");
    }
}

#[tokio::test]
async fn a_change_happens_whole_or_not_at_all() {
    let opened = Opened::new().await;
    let too_large = "x".repeat(17 << 20).into_bytes();
    let change = |value: Vec<u8>| Change {
        ledger: vec![entry("alert.fired", "a")],
        outbox: vec![message("a", 0)],
        state: vec![("rule/a".to_owned(), value)],
    };
    let refused =
        opened.catalog.commit_change(TENANT, &change(too_large), seconds(1)).await.expect_err("the last part is too large");
    assert_eq!(refused.kind(), Kind::OverLimit);
    let opened = opened.reopened().await;
    let catalog = &opened.catalog;
    assert!(kinds(catalog, LedgerFilter::default(), 10).await.is_empty());
    assert!(catalog.due(seconds(9), 10).await.expect("due").is_empty());
    catalog.commit_change(TENANT, &change(b"firing".to_vec()), seconds(1)).await.expect("commit");
    assert_eq!(kinds(catalog, LedgerFilter::default(), 10).await.len(), 1);
    assert_eq!(catalog.due(seconds(9), 10).await.expect("due").len(), 1);
    assert_eq!(catalog.state("rule/a").await.expect("state").as_deref(), Some(&b"firing"[..]));
    assert_eq!(catalog.verify_ledger().await.expect("whole"), 1);
}

#[tokio::test]
async fn a_change_that_is_given_up_half_way_leaves_nothing() {
    let opened = Opened::new().await;
    let catalog = &opened.catalog;
    let entries: Vec<_> = (0..200).map(|at| entry("alert.fired", &at.to_string())).collect();
    let mut given_up = 0;
    for micros in [50, 200, 500, 1000, 2000, 4000] {
        let messages = [message(&micros.to_string(), 0)];
        let append = catalog.append_ledger(TENANT, &entries, &messages, seconds(1));
        given_up += i32::from(tokio::time::timeout(std::time::Duration::from_micros(micros), append).await.is_err());
        let (ledger, outbox) = (catalog.verify_ledger().await.expect("whole"), catalog.due(seconds(9), 100).await.expect("due"));
        assert_eq!(ledger, 200 * outbox.len() as u64, "both or neither");
    }
    assert!(given_up > 0);
}

#[tokio::test]
async fn the_outbox_gives_out_what_is_due_and_never_the_same_key_twice() {
    let opened = Opened::new().await;
    let messages = [message("late", 50), message("early", 10), message("early", 10)];
    let ids = opened.catalog.append_ledger(TENANT, &[], &messages, seconds(1)).await.expect("queue").outbox_ids;
    assert!(ids[0].is_some() && ids[1].is_some() && ids[2].is_none());
    let opened = opened.reopened().await;
    let catalog = &opened.catalog;
    let keys = async |now| {
        let due = catalog.due(seconds(now), 10).await.expect("due");
        due.into_iter().map(|item| (item.dedup_key, item.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(catalog.next_due().await.expect("next"), Some(seconds(10)));
    assert!(keys(9).await.is_empty());
    assert_eq!(keys(60).await, [("early".to_owned(), 0), ("late".to_owned(), 0)]);
    let (late, early) = (ids[0].expect("queued"), ids[1].expect("queued"));
    catalog.failed(early, seconds(70), "429").await.expect("failed");
    assert_eq!(keys(60).await, [("late".to_owned(), 0)]);
    assert_eq!(keys(70).await, [("late".to_owned(), 0), ("early".to_owned(), 1)]);
    catalog.delivered(early, seconds(71)).await.expect("delivered");
    assert_eq!(catalog.delivered(early, seconds(72)).await.map_err(|error| error.kind()), Err(Kind::NotFound));
    assert_eq!(catalog.failed(early, seconds(72), "x").await.map_err(|error| error.kind()), Err(Kind::NotFound));
    catalog.dead(late, seconds(73), "no such channel").await.expect("dead");
    let counts = catalog.outbox_counts().await.expect("counts");
    assert_eq!((counts.pending, counts.dead, counts.oldest_pending), (0, 1, None));
    let dead = catalog.outbox(TENANT, OutboxState::Dead, 10).await.expect("dead");
    assert_eq!((dead[0].last_error.as_str(), dead[0].attempts), ("no such channel", 1));
    catalog.revive(late, seconds(80)).await.expect("revive");
    assert_eq!(keys(80).await, [("late".to_owned(), 1)]);
    let again = catalog.append_ledger(TENANT, &[], &[message("early", 0)], seconds(90)).await.expect("queue");
    assert_eq!(again.outbox_ids, [None], "also when it was delivered");
    assert_eq!(catalog.forget_delivered(seconds(100)).await.expect("forget"), 1);
}

fn occurrence(issue: u64, at: i64, release: &str) -> ErrorOccurrence {
    ErrorOccurrence {
        issue,
        at: seconds(at),
        title: format!("ValueError: at {at}"),
        error_type: "ValueError".to_owned(),
        service: "shop".to_owned(),
        release: release.to_owned(),
        ..ErrorOccurrence::default()
    }
}

fn batch(position: u64, occurrences: Vec<ErrorOccurrence>) -> ErrorBatch {
    ErrorBatch { tenant: TENANT, position: JournalPosition(position), occurrences }
}

#[tokio::test]
async fn issues_count_once_over_a_replay_and_come_back_when_they_recur() {
    const ISSUE: u64 = u64::MAX - 3;
    let opened = Opened::new().await;
    let batches = [batch(5, vec![occurrence(ISSUE, 10, "1.0"), occurrence(ISSUE, 8, "")]), batch(9, vec![occurrence(7, 11, "")])];
    let recorded = opened.catalog.record_errors(&batches).await.expect("record");
    assert_eq!(recorded.new, [(TENANT, ISSUE), (TENANT, 7)]);
    let opened = opened.reopened().await;
    let catalog = &opened.catalog;
    assert_eq!(catalog.errors_recorded().await.expect("position"), JournalPosition(9));
    assert_eq!(catalog.record_errors(&batches).await.expect("replay"), br_catalog::RecordedErrors::default());
    let issue = catalog.issue(TENANT, ISSUE).await.expect("issue").expect("known");
    assert_eq!((issue.count, issue.first_seen, issue.last_seen), (2, seconds(8), seconds(10)));
    assert_eq!(
        (issue.title.as_str(), issue.last_release.as_str()),
        ("ValueError: at 10", "1.0"),
        "a late one does not rename it"
    );
    assert_eq!(catalog.issue(TenantId(2), ISSUE).await.expect("of another tenant"), None);

    let resolved = catalog.set_issue_status(TENANT, ISSUE, IssueStatus::Resolved, seconds(20)).await.expect("resolve");
    assert_eq!(resolved.status, IssueStatus::Resolved);
    let late = catalog.record_errors(&[batch(10, vec![occurrence(ISSUE, 19, "")])]).await.expect("record");
    assert!(late.regressed.is_empty(), "it happened before the fix");
    let back =
        catalog.record_errors(&[batch(11, vec![occurrence(ISSUE, 21, "1.1"), occurrence(ISSUE, 22, "")])]).await.expect("record");
    assert_eq!(back.regressed, [(TENANT, ISSUE)], "once");
    let issue = catalog.issue(TENANT, ISSUE).await.expect("issue").expect("known");
    assert!(issue.is_regressed && issue.status == IssueStatus::Open && issue.count == 5 && issue.last_release == "1.1");

    catalog.set_issue_status(TENANT, 7, IssueStatus::Ignored, seconds(30)).await.expect("ignore");
    let ignored = catalog.record_errors(&[batch(12, vec![occurrence(7, 40, "")])]).await.expect("record");
    assert!(ignored.regressed.is_empty() && ignored.new.is_empty());
    let open = IssueFilter { status: Some(IssueStatus::Open), service: Some("shop".to_owned()), seen_since: None };
    let ids = |issues: Vec<br_catalog::Issue>| issues.iter().map(|issue| issue.id).collect::<Vec<_>>();
    assert_eq!(ids(catalog.issues(TENANT, &open, 10).await.expect("issues")), [ISSUE]);
    assert_eq!(ids(catalog.issues(TENANT, &IssueFilter::default(), 10).await.expect("issues")), [7, ISSUE]);
    let missing = catalog.set_issue_status(TENANT, 1, IssueStatus::Open, seconds(1)).await.map_err(|error| error.kind());
    assert_eq!(missing, Err(Kind::NotFound));
}

#[tokio::test]
async fn long_texts_of_issues_are_cut_between_characters() {
    let opened = Opened::new().await;
    let long = ErrorOccurrence { title: "é".repeat(5000), value: "x".repeat(1 << 20), ..occurrence(1, 1, "") };
    opened.catalog.record_errors(&[batch(1, vec![long])]).await.expect("record");
    let issue = opened.catalog.issue(TENANT, 1).await.expect("issue").expect("known");
    assert!(issue.title.len() <= 4096 && issue.title.starts_with('é') && issue.value.len() == 4096);
}

#[tokio::test]
async fn issues_that_nobody_has_seen_for_long_are_forgotten() {
    let opened = Opened::new().await;
    let occurrences = vec![occurrence(1, 100, ""), occurrence(2, 100, ""), occurrence(2, 300, "")];
    opened.catalog.record_errors(&[batch(1, occurrences)]).await.expect("record");
    assert_eq!(opened.catalog.expire_issues(seconds(200)).await.expect("expire"), 1);
    assert_eq!(opened.catalog.issue(TENANT, 1).await.expect("read"), None);
    assert!(opened.catalog.issue(TENANT, 2).await.expect("read").is_some());
}

#[tokio::test]
async fn state_and_tokens_are_kept() {
    let opened = Opened::new().await;
    for (key, value) in [("rule/a", "1"), ("rule/b", "2"), ("rule_c", "3"), ("rule/a", "4")] {
        opened.catalog.put_state(key, value.as_bytes()).await.expect("put");
    }
    let principal = |name: &str, role| Principal { tenant: TENANT, role, name: name.to_owned() };
    let secret = "a secret that is long enough";
    opened.catalog.add_token(secret, &principal("ci", Role::Ingest), seconds(1)).await.expect("add");
    let opened = opened.reopened().await;
    let catalog = &opened.catalog;
    let states = catalog.states("rule/", 10).await.expect("states");
    assert_eq!(states, [("rule/a".to_owned(), b"4".to_vec()), ("rule/b".to_owned(), b"2".to_vec())]);
    assert!(catalog.remove_state("rule/a").await.expect("remove") && !catalog.remove_state("rule/a").await.expect("again"));
    assert_eq!(catalog.state("rule/a").await.expect("state"), None);

    assert_eq!(catalog.principal(secret).await.expect("principal"), Some(principal("ci", Role::Ingest)));
    assert_eq!(catalog.principal("another secret, just as long").await.expect("principal"), None);
    for (secret, name) in [("short", "x"), (secret, "other name"), ("a third secret that is long", "ci")] {
        let refused = catalog.add_token(secret, &principal(name, Role::Admin), seconds(1)).await.map_err(|error| error.kind());
        assert_eq!(refused, Err(Kind::FixRequest), "{name}");
    }
    assert_eq!(catalog.tokens().await.expect("tokens").len(), 1);
    let database = std::fs::read(catalog.path()).expect("read");
    let journal = std::fs::read(format!("{}-wal", catalog.path().display())).unwrap_or_default();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!holds(&database) && !holds(&journal), "the secret itself is nowhere");
    catalog.remove_token(TENANT, "ci").await.expect("remove");
    assert_eq!(catalog.principal(secret).await.expect("principal"), None);
    assert_eq!(catalog.remove_token(TENANT, "ci").await.map_err(|error| error.kind()), Err(Kind::NotFound));
}

#[tokio::test]
async fn a_damaged_file_is_named_with_the_way_out() {
    for harm in ["no database", "zeroed page", "cut"] {
        let opened = Opened::new().await;
        for at in 0..50 {
            opened.catalog.put_state(&format!("key {at}"), &[7; 2000]).await.expect("put");
        }
        let path = opened.catalog.path().to_owned();
        opened.catalog.close().await;
        let mut bytes = std::fs::read(&path).expect("read");
        match harm {
            "no database" => bytes[..100].fill(b'x'),
            "zeroed page" => bytes[4096..].fill(0),
            _ => bytes.truncate(bytes.len() / 2),
        }
        std::fs::write(&path, bytes).expect("write");
        let error = Catalog::open(&path).await.map(|_| ()).expect_err(harm);
        assert_eq!(error.kind(), Kind::Corrupt, "{harm}: {error}");
        assert!(error.message().contains("catalog.db is damaged") && error.message().contains("the next start"), "{error}");
    }
}

#[tokio::test]
async fn a_later_release_is_not_mistaken_and_a_copy_is_whole() {
    let opened = Opened::new().await;
    opened.catalog.append_ledger(TENANT, &[entry("alert.fired", "a")], &[], seconds(1)).await.expect("append");
    let copy = opened.folder.path().join("copy.db");
    opened.catalog.copy_to(&copy).await.expect("copy");
    let copied = Catalog::open(&copy).await.expect("open the copy");
    assert_eq!(copied.verify_ledger().await.expect("whole"), 1);
    assert!(opened.catalog.copy_to(&copy).await.is_err(), "a copy never overwrites");
    opened.tamper("INSERT INTO schema_version (version) VALUES (99)").await;
    let path = opened.catalog.path().to_owned();
    opened.catalog.close().await;
    let refused = Catalog::open(&path).await.map(|_| ()).expect_err("too new");
    assert!(refused.kind() == Kind::FixRequest && refused.message().contains("99"), "{refused}");
    let closed = opened.catalog.put_state("a", b"b").await.map_err(|error| error.kind());
    assert_eq!(closed, Err(Kind::Closed));
}

#[tokio::test]
async fn erased_texts_leave_the_tables_and_the_files_and_the_ledger_stays_whole() {
    let opened = Opened::new().await;
    let catalog = &opened.catalog;
    let body = |name: &str| format!("{{\"errors\":[{{\"title\":\"no such {name}\",\"count\":4711}}],\"rest\":1}}");
    let of = |name: &str| NewLedgerEntry { body: body(name), ..entry("alert.fired", "a") };
    catalog.append_ledger(TENANT, &[of("person-1"), of("person-2")], &[message("a", 0)], seconds(1)).await.expect("append");
    catalog.append_ledger(TenantId(TENANT.0 + 1), &[of("person-1")], &[], seconds(1)).await.expect("append");
    let occurrence = ErrorOccurrence {
        issue: 1,
        title: "LookupError: no such person-1".to_owned(),
        value: "no such person-1".to_owned(),
        ..ErrorOccurrence::default()
    };
    let batch = ErrorBatch { tenant: TENANT, position: JournalPosition(1), occurrences: vec![occurrence] };
    catalog.record_errors(&[batch]).await.expect("recorded");
    let texts = ["person-1".to_owned(), "4711".to_owned()];
    assert_eq!(catalog.scrub(TENANT, &texts).await.expect("scrubbed"), 4);
    assert_eq!(catalog.scrub(TENANT, &texts).await.expect("scrubbed"), 0, "there is nothing left");
    let bodies: Vec<String> =
        catalog.ledger(TENANT, &LedgerFilter::default(), 9).await.expect("read").into_iter().map(|entry| entry.body).collect();
    let erased = |name: &str| body(name).replace("4711", "\"[erased]\"");
    let sorted = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON").to_string();
    assert_eq!(bodies, [sorted(&erased("[erased]")), sorted(&erased("person-2"))]);
    let issue = catalog.issue(TENANT, 1).await.expect("read").expect("known");
    assert_eq!((issue.title.as_str(), issue.value.as_str()), ("LookupError: no such [erased]", "no such [erased]"));
    assert_eq!(catalog.verify_ledger().await.expect("whole"), 3);
    assert_eq!(catalog.scrub(TenantId(TENANT.0 + 1), &texts).await.expect("scrubbed"), 1);
    catalog.compact_files().await.expect("compacted");
    for file in std::fs::read_dir(opened.folder.path()).expect("listed") {
        let bytes = std::fs::read(file.expect("listed").path()).expect("read");
        assert!(!bytes.windows(8).any(|window| window == b"person-1"));
    }
    opened.tamper("UPDATE ledger SET body = replace(body, '[erased]', 'somebody') WHERE id = 1").await;
    assert_eq!(
        catalog.verify_ledger().await.map_err(|error| error.kind()),
        Err(Kind::Corrupt),
        "what was erased from is kept as well"
    );
}
