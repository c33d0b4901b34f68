//! Flush, compaction and retention: exactly once, whatever is repeated or comes from two sides.

mod support;

use br_catalog::{Catalog, Store};
use br_std::{Kind, Nanos};
use br_storage::{FileEntry, JournalPosition, Table};
use std::time::Duration;
use support::{Opened, TENANT, file, paths, seconds};

fn at(position: u64) -> JournalPosition {
    JournalPosition(position)
}

#[tokio::test]
async fn a_flush_publishes_files_and_moves_the_position_in_one() {
    let opened = Opened::new().await;
    let lease = opened.lease().await;
    let files = [file(Table::Logs, "l1"), file(Table::Spans, "s1")];
    let added = opened.catalog.commit_flush(Store::Events, &lease, at(0), at(40), &files).await.expect("commit");
    let opened = opened.reopened().await;
    let catalog = &opened.catalog;
    assert_eq!(catalog.files(Table::Logs).await.expect("files"), [FileEntry { id: added[0].id, ..files[0].clone() }]);
    assert_eq!(catalog.files(Table::Spans).await.expect("files"), [FileEntry { id: added[1].id, ..files[1].clone() }]);
    assert!(catalog.files(Table::Metrics).await.expect("files").is_empty());
    assert_eq!(catalog.progress(Store::Events).await.expect("progress"), at(40));
    assert_eq!(catalog.progress(Store::Metrics).await.expect("progress"), at(0));
    assert_eq!(catalog.highest_progress().await.expect("progress"), at(40));
}

#[tokio::test]
async fn a_flush_that_is_repeated_counts_once_and_a_stale_one_not_at_all() {
    let opened = Opened::new().await;
    let (catalog, lease) = (&opened.catalog, opened.lease().await);
    let files = [file(Table::Metrics, "m1")];
    let first = catalog.commit_flush(Store::Metrics, &lease, at(0), at(10), &files).await.expect("commit");
    let version = catalog.manifest_version().await.expect("version");
    let again = catalog.commit_flush(Store::Metrics, &lease, at(0), at(10), &files).await.expect("repeat");
    assert_eq!(first, again);
    assert_eq!(catalog.manifest_version().await.expect("version"), version);
    for (from, to) in [(0, 10), (0, 20), (5, 15), (11, 12)] {
        let other = [file(Table::Metrics, "other")];
        let refused = catalog.commit_flush(Store::Metrics, &lease, at(from), at(to), &other).await.expect_err("stale");
        assert_eq!(refused.kind(), Kind::FixRequest, "{refused}");
    }
    let backwards = catalog.commit_flush(Store::Metrics, &lease, at(10), at(9), &[]).await.expect_err("backwards");
    assert_eq!(backwards.kind(), Kind::FixRequest);
    assert_eq!(paths(&catalog.files(Table::Metrics).await.expect("files")), ["m1"]);
    assert_eq!(catalog.progress(Store::Metrics).await.expect("progress"), at(10));
    catalog.commit_flush(Store::Metrics, &lease, at(10), at(20), &[]).await.expect("nothing but the position");
    assert_eq!(catalog.progress(Store::Metrics).await.expect("progress"), at(20));
}

#[tokio::test]
async fn a_flush_that_fails_half_way_leaves_nothing() {
    let opened = Opened::new().await;
    let (catalog, lease) = (&opened.catalog, opened.lease().await);
    let files = [file(Table::Metrics, "same"), file(Table::Metrics, "same")];
    let refused = catalog.commit_flush(Store::Metrics, &lease, at(0), at(10), &files).await.expect_err("a path twice");
    assert_eq!(refused.kind(), Kind::FixRequest);
    assert!(refused.message().contains("same"));
    let foreign = [file(Table::Logs, "l")];
    assert!(catalog.commit_flush(Store::Metrics, &lease, at(0), at(10), &foreign).await.is_err());
    assert!(catalog.files(Table::Metrics).await.expect("files").is_empty());
    assert_eq!(catalog.progress(Store::Metrics).await.expect("progress"), at(0));
}

async fn removed(catalog: &Catalog, before: Nanos) -> Vec<String> {
    let found = catalog.files_to_delete(before, 10).await.expect("removed");
    found.into_iter().map(|(file, _)| file.path).collect()
}

#[tokio::test]
async fn changes_of_a_table_lead_from_one_state_to_the_next() {
    let opened = Opened::new().await;
    let (catalog, lease) = (&opened.catalog, opened.lease().await);
    let start = catalog.table_changes(TENANT, Table::Logs, 0).await.expect("changes");
    assert_eq!((start.added.len(), start.removed.len()), (0, 0));
    let files = [file(Table::Logs, "a"), file(Table::Logs, "b"), file(Table::Spans, "s")];
    let added = catalog.commit_flush(Store::Events, &lease, at(0), at(9), &files).await.expect("flush");
    let flushed = catalog.table_changes(TENANT, Table::Logs, start.change).await.expect("changes");
    assert_eq!((paths(&flushed.added), flushed.removed.len()), (vec!["a", "b"], 0));
    catalog.commit_compaction(&lease, &[added[0].id, added[1].id], &[file(Table::Logs, "ab")], seconds(5)).await.expect("merge");
    let merged = catalog.table_changes(TENANT, Table::Logs, flushed.change).await.expect("changes");
    assert_eq!((paths(&merged.added), paths(&merged.removed)), (vec!["ab"], vec!["a", "b"]));
    let all = catalog.table_changes(TENANT, Table::Logs, 0).await.expect("changes");
    assert_eq!((paths(&all.added), all.removed.len()), (vec!["ab"], 0), "what came and went is not told");
    assert_eq!(paths(&catalog.files_at(TENANT, Table::Logs, flushed.change).await.expect("files")), ["a", "b"]);
    assert_eq!(paths(&catalog.files_at(TENANT, Table::Logs, merged.change).await.expect("files")), ["ab"]);
    assert_eq!(catalog.tables().await.expect("tables"), [(TENANT, Table::Logs), (TENANT, Table::Spans)]);
}

#[tokio::test]
async fn of_two_compactions_of_one_input_one_counts() {
    let opened = Opened::new().await;
    let (catalog, lease) = (&opened.catalog, opened.lease().await);
    let files = ["a", "b", "c"].map(|path| file(Table::Logs, path));
    let ids: Vec<i64> = catalog
        .commit_flush(Store::Events, &lease, at(0), at(9), &files)
        .await
        .expect("flush")
        .iter()
        .map(|file| file.id)
        .collect();
    let one = [file(Table::Logs, "ab")];
    let first = catalog.commit_compaction(&lease, &ids[..2], &one, seconds(5)).await.expect("compaction");
    let version = catalog.manifest_version().await.expect("version");
    let again = catalog.commit_compaction(&lease, &ids[..2], &one, seconds(6)).await.expect("repeat");
    assert_eq!(first, again);
    let other = [file(Table::Logs, "bc")];
    let refused = catalog.commit_compaction(&lease, &ids[1..], &other, seconds(7)).await.expect_err("b is gone");
    assert_eq!(refused.kind(), Kind::FixRequest);
    let foreign = [file(Table::Spans, "s")];
    assert!(catalog.commit_compaction(&lease, &ids[2..], &foreign, seconds(7)).await.is_err(), "logs do not become spans");
    assert_eq!(paths(&catalog.files(Table::Logs).await.expect("files")), ["c", "ab"]);
    assert_eq!(catalog.manifest_version().await.expect("version"), version, "what was refused changed nothing");
    assert_eq!(removed(catalog, seconds(6)).await, ["a", "b"]);
}

#[tokio::test]
async fn concurrent_compactions_and_retention_never_double_or_revive_a_file() {
    let opened = Opened::new().await;
    let (catalog, lease) = (&opened.catalog, opened.lease().await);
    for round in 0..20 {
        let inputs = [0, 1].map(|at| file(Table::Spans, &format!("{round}-{at}")));
        let from = catalog.progress(Store::Events).await.expect("progress");
        let added = catalog.commit_flush(Store::Events, &lease, from, from.next(), &inputs).await.expect("flush");
        let ids: Vec<i64> = added.iter().map(|file| file.id).collect();
        let outputs = ["x", "y"].map(|name| [file(Table::Spans, &format!("{round}-{name}"))]);
        let (one, two, removed) = tokio::join!(
            catalog.commit_compaction(&lease, &ids, &outputs[0], seconds(1)),
            catalog.commit_compaction(&lease, &ids, &outputs[1], seconds(1)),
            catalog.remove_files(&ids, seconds(1)),
        );
        let winners = usize::from(one.is_ok()) + usize::from(two.is_ok()) + usize::from(removed.expect("retention") == 2);
        assert_eq!(winners, 1, "round {round}");
        let live = catalog.files(Table::Spans).await.expect("files");
        assert!(live.iter().filter(|file| file.path.starts_with(&format!("{round}-"))).count() <= 1);
    }
}

#[tokio::test]
async fn removed_files_are_forgotten_after_their_deletion_only() {
    let opened = Opened::new().await;
    let (catalog, lease) = (&opened.catalog, opened.lease().await);
    let files = [file(Table::Metrics, "old"), file(Table::Metrics, "new")];
    let ids: Vec<i64> = catalog
        .commit_flush(Store::Metrics, &lease, at(0), at(1), &files)
        .await
        .expect("flush")
        .iter()
        .map(|file| file.id)
        .collect();
    assert_eq!(catalog.remove_files(&ids[..1], seconds(100)).await.expect("remove"), 1);
    assert_eq!(catalog.remove_files(&ids[..1], seconds(200)).await.expect("again"), 0);
    assert!(removed(catalog, seconds(100)).await.is_empty());
    assert_eq!(removed(catalog, seconds(101)).await, ["old"], "grace is over");
    assert_eq!(catalog.forget_files(&ids).await.expect("forget"), 1, "a live file is not forgotten");
    assert_eq!(paths(&catalog.files(Table::Metrics).await.expect("files")), ["new"]);
    let asked = ["old", "new", "stray"].map(str::to_owned);
    assert_eq!(catalog.unknown_paths(&asked).await.expect("unknown"), ["old", "stray"]);
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing() {
    let opened = Opened::new().await;
    let catalog = &opened.catalog;
    let minute = Duration::from_mins(1);
    let acquire = async |holder, now| catalog.acquire_lease("writer", holder, seconds(now), minute).await.expect("acquire");
    let old = acquire("one", 0).await.expect("free");
    assert_eq!(acquire("two", 59).await, None, "held");
    let old = catalog.renew_lease(&old, seconds(50), minute).await.expect("renew");
    assert_eq!(acquire("two", 109).await, None, "renewed");
    let new = acquire("two", 110).await.expect("run out");
    assert!(new.epoch > old.epoch);
    let files = [file(Table::Metrics, "m")];
    let refused = catalog.commit_flush(Store::Metrics, &old, at(0), at(1), &files).await.expect_err("fenced");
    assert_eq!(refused.kind(), Kind::Unauthorized);
    assert_eq!(catalog.renew_lease(&old, seconds(111), minute).await.map_err(|error| error.kind()), Err(Kind::Unauthorized));
    catalog.release_lease(&old).await.expect("does nothing");
    catalog.commit_flush(Store::Metrics, &new, at(0), at(1), &files).await.expect("the holder may");
    let restarted = acquire("two", 112).await.expect("a restart of the holder need not wait");
    assert!(catalog.commit_flush(Store::Metrics, &new, at(1), at(2), &[]).await.is_err(), "its earlier life is shut out");
    catalog.release_lease(&restarted).await.expect("release");
    assert!(acquire("one", 113).await.is_some());
}
