//! The journal through its public API: order, tickets, limits, failing disks, full disks.

mod support;

use br_env::sim::Sim;
use br_env::{Disk, real};
use br_journal::{Journal, Options, State, Step};
use br_std::Kind;
use br_storage::JournalPosition;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use support::{number_of, record, replay_all, segment_paths, small};

#[test]
fn many_threads_append_and_all_comes_back_in_order() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let options = || Options { window: Duration::from_millis(1), ..small() };
    let order = parking_lot::Mutex::new(Vec::new());
    {
        let env = real::env(folder.path()).expect("env");
        let (journal, recovery) = Journal::open(env, options()).expect("open");
        assert!(recovery.was_clean && recovery.last_position == JournalPosition(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (journal, order) = (&journal, &order);
                scope.spawn(move || {
                    for number in 0..50 {
                        let record = record(thread * 1000 + number);
                        let in_order = |ticket: &br_journal::Ticket| order.lock().push((ticket.position().0, number_of(&record)));
                        let (ticket, ()) = journal.append_with(&record, in_order).expect("append");
                        futures::executor::block_on(ticket.clone()).expect("durable");
                        assert!(journal.durable_position() >= ticket.position());
                    }
                });
            }
        });
        let status = journal.status();
        assert!(status.groups_written < 200 && status.records_written == 200, "groups were formed: {status:?}");
        assert_eq!(status.queued_bytes, 0);
    }
    let (journal, recovery) = Journal::open(real::env(folder.path()).expect("env"), options()).expect("open again");
    assert!(recovery.was_clean && recovery.warnings.is_empty(), "{recovery:?}");
    let (records, damage) = replay_all(&journal, 1);
    assert!(damage.is_empty());
    let back: Vec<(u64, u64)> = records.iter().map(|(position, record)| (*position, number_of(record))).collect();
    assert_eq!(back, order.into_inner());
    let ticket = journal.append(&record(1)).expect("append");
    ticket.wait().expect("durable");
    assert_eq!(ticket.position(), JournalPosition(201));
}

#[test]
fn replay_and_truncation_go_on_while_records_come_in() {
    const RECORDS: u64 = 400;
    let folder = tempfile::tempdir().expect("temporary folder");
    let (journal, _) = Journal::open(real::env(folder.path()).expect("env"), small()).expect("open");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=RECORDS {
                let ticket = journal.append(&record(number)).expect("append");
                if number % 4 == 0 {
                    ticket.wait().expect("durable");
                }
            }
        });
        // A store that follows the journal and lets go of what it has taken in.
        let mut next = 1;
        while next <= RECORDS {
            for item in journal.replay(JournalPosition(next)) {
                let (position, found) = item.expect("nothing is damaged");
                assert_eq!((position.0, found), (next, record(next)), "in order and without a gap");
                next += 1;
            }
            journal.truncate_before(JournalPosition(next)).expect("truncate");
            std::thread::yield_now();
        }
    });
    let status = journal.status();
    assert_eq!((status.quarantined_ranges, status.durable_position), (0, JournalPosition(RECORDS)));
    assert!(status.segments <= 2, "{status:?}");
}

#[test]
fn replay_sees_what_is_durable_and_starts_where_it_is_told() {
    let sim = Sim::new(1);
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    for number in 1..=30 {
        journal.append(&record(number)).expect("append");
        if number % 5 == 0 {
            writer.step();
        }
    }
    while writer.step() == Step::Settled {}
    journal.append(&record(31)).expect("append");
    let back: Vec<u64> = replay_all(&journal, 12).0.iter().map(|(position, _)| *position).collect();
    assert_eq!(back, (12..=30).collect::<Vec<_>>(), "31 is not on the disk yet");
}

#[test]
fn too_much_at_once_is_refused_and_nothing_is_lost_by_it() {
    let sim = Sim::new(2);
    let options = Options { queued_bytes_max: 1500, body_bytes_max: 5000, ..small() };
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), options).expect("open");
    let sized = |bytes: usize| br_journal::Record { body: Bytes::from(vec![7; bytes]), is_compressed: true, ..record(0) };
    assert_eq!(journal.append(&sized(5001)).err().map(|error| error.kind()), Some(Kind::OverLimit));
    let large = journal.append(&sized(5000)).expect("a record larger than the queue goes alone");
    assert_eq!(journal.append(&sized(1)).err().map(|error| error.kind()), Some(Kind::Retry));
    writer.step();
    large.wait().expect("durable");
    let next = journal.append(&sized(1)).expect("there is room again");
    assert_eq!(next.position(), JournalPosition(2), "what was refused took no position");
}

#[test]
fn tickets_of_a_journal_whose_writer_goes_are_settled() {
    let sim = Sim::new(3);
    let (journal, writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    let ticket = journal.append(&record(1)).expect("append");
    drop(writer);
    assert_eq!(ticket.wait().err().map(|error| error.kind()), Some(Kind::Closed));
    assert_eq!(journal.append(&record(2)).err().map(|error| error.kind()), Some(Kind::Closed));
    assert_eq!(journal.status().state, State::Closed);
}

#[test]
fn close_settles_what_was_taken_and_refuses_the_rest() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (journal, _) = Journal::open(real::env(folder.path()).expect("env"), small()).expect("open");
    let tickets: Vec<_> = (1..=20).map(|number| journal.append(&record(number)).expect("append")).collect();
    journal.close();
    for ticket in tickets {
        ticket.wait().expect("durable");
    }
    assert_eq!(journal.append(&record(1)).err().map(|error| error.kind()), Some(Kind::Closed));
}

#[cfg(not(feature = "no_fsync"))]
#[test]
fn a_failed_sync_moves_the_group_to_a_new_segment() {
    let sim = Sim::new(4);
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    for number in 1..=3 {
        journal.append(&record(number)).expect("append");
        writer.step();
    }
    sim.disk.fail_sync_after(0);
    let ticket = journal.append(&record(4)).expect("append");
    writer.step();
    ticket.wait().expect("durable in the new segment");
    let status = journal.status();
    assert_eq!((status.poisoned_segments, status.failed_records, status.state), (1, 0, State::Accepting));
    assert_eq!(segment_paths(&sim).len(), 2);
    sim.disk.power_cut(&*sim.rng);
    let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open again");
    let back: Vec<u64> = replay_all(&journal, 1).0.iter().map(|(position, _)| *position).collect();
    assert_eq!(back, [1, 2, 3, 4]);
}

#[test]
fn a_full_disk_fails_what_waits_refuses_the_rest_and_heals() {
    let sim = Sim::new(5);
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    journal.append(&record(1)).expect("append");
    writer.step();
    let used = sim.disk.size(&segment_paths(&sim)[0]).expect("size");
    sim.disk.set_capacity(Some(used + 10));
    let doomed = journal.append(&record(2)).expect("append");
    writer.step();
    assert_eq!(doomed.wait().err().map(|error| error.kind()), Some(Kind::Retry));
    assert!(matches!(journal.status().state, State::ReadOnly { .. }));
    assert_eq!(journal.append(&record(3)).err().map(|error| error.kind()), Some(Kind::Retry));
    assert_eq!(journal.check_accepting().err().map(|error| error.kind()), Some(Kind::Retry));
    writer.step();
    assert!(matches!(journal.status().state, State::ReadOnly { .. }), "still full");
    sim.disk.set_capacity(None);
    sim.clock.advance(Duration::from_secs(10));
    writer.step();
    let ticket = journal.append(&record(4)).expect("accepting again");
    writer.step();
    ticket.wait().expect("durable");
    let back: Vec<u64> = replay_all(&journal, 1).0.iter().map(|(_, record)| number_of(record)).collect();
    assert_eq!(back, [1, 4]);
}

#[test]
fn the_watermark_refuses_before_the_disk_is_full() {
    let sim = Sim::new(6);
    let options = Options { free_bytes_min: 100_000, ..small() };
    sim.disk.set_capacity(Some(101_000));
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), options).expect("open");
    let mut tickets = Vec::new();
    for number in 1..=20 {
        writer.step();
        tickets.extend(journal.append(&record(number)));
    }
    while writer.step() == Step::Settled {}
    assert!(!tickets.is_empty() && tickets.len() < 20);
    assert!(tickets.iter().all(|ticket| matches!(ticket.try_wait(), Some(Ok(())))), "what was taken is kept");
    assert!(matches!(journal.status().state, State::DiskFull { .. }));
    sim.disk.set_capacity(Some(1_000_000));
    writer.step();
    assert_eq!(journal.status().state, State::Accepting);
}

#[test]
fn the_ballast_goes_overboard_when_the_disk_is_full_and_comes_back() {
    let sim = Sim::new(7);
    let options = Options { ballast_bytes: 3 << 20, ..small() };
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), options).expect("open");
    for _ in 0..3 {
        assert_eq!(writer.step(), Step::Idle);
    }
    assert!(journal.status().has_ballast);
    let used: u64 =
        sim.disk.list("journal").expect("list").iter().map(|name| sim.disk.size(&format!("journal/{name}")).expect("size")).sum();
    sim.disk.set_capacity(Some(used + 10));
    let ticket = journal.append(&record(1)).expect("append");
    writer.step();
    ticket.wait().expect("the ballast made room");
    assert!(!journal.status().has_ballast);
    sim.disk.set_capacity(None);
    sim.clock.advance(Duration::from_secs(61));
    for _ in 0..4 {
        writer.step();
    }
    assert!(journal.status().has_ballast);
}

#[test]
fn a_start_on_a_full_disk_reads_and_accepts_when_there_is_room() {
    let sim = support::sim_with_records(8, 10);
    sim.disk.set_capacity(Some(0));
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    assert!(matches!(journal.status().state, State::ReadOnly { .. }));
    assert_eq!(replay_all(&journal, 1).0.len(), 10);
    sim.disk.set_capacity(None);
    sim.clock.advance(Duration::from_secs(1));
    writer.step();
    let ticket = journal.append(&record(11)).expect("append");
    writer.step();
    assert_eq!((ticket.position(), ticket.wait().is_ok()), (JournalPosition(11), true));
}

#[test]
fn truncation_keeps_what_is_needed() {
    let sim = support::sim_with_records(9, 60);
    let (journal, _writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    let before = journal.status();
    let freed = journal.truncate_before(JournalPosition(40)).expect("truncate");
    let after = journal.status();
    assert!(freed > 0 && after.bytes == before.bytes - freed && after.segments < before.segments);
    assert_eq!(after.start, JournalPosition(40));
    let back: Vec<u64> = replay_all(&journal, 40).0.iter().map(|(position, _)| *position).collect();
    assert_eq!(back, (40..=60).collect::<Vec<_>>());
    assert_eq!(journal.truncate_before(JournalPosition(10)).expect("going back does nothing"), 0);
    let (_, _, recovery) = Journal::open_unattended(sim.env.clone(), small()).expect("open again");
    assert_eq!((recovery.start, recovery.warnings), (JournalPosition(40), vec![]));
}

#[test]
fn positions_go_on_from_what_the_stores_know() {
    let sim = Sim::new(10);
    let options = Options { position_floor: JournalPosition(500), ..small() };
    let (journal, mut writer, recovery) = Journal::open_unattended(sim.env.clone(), options).expect("open");
    assert_eq!(recovery.last_position, JournalPosition(500));
    let ticket = journal.append(&record(1)).expect("append");
    writer.step();
    assert_eq!(ticket.position(), JournalPosition(501));
}

#[test]
fn an_unclean_end_is_told_from_a_clean_one() {
    let sim = Sim::new(11);
    let (journal, writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    drop((journal, writer));
    let (journal, mut writer, recovery) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    assert!(!recovery.was_clean);
    journal.close();
    assert_eq!(writer.step(), Step::Closed);
    let (_, _, recovery) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    assert!(recovery.was_clean);
}

#[test]
fn a_large_record_is_kept_whole() {
    let sim = Sim::new(12);
    let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), small()).expect("open");
    let body: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let large = br_journal::Record { body: Bytes::from(body), ..record(1) };
    for record in [record(1), large.clone(), record(3)] {
        journal.append(&record).expect("append");
        writer.step();
    }
    let back = replay_all(&journal, 2).0;
    assert!(back.len() == 2 && back[0].1 == large);
    let _shared_by_threads: Arc<dyn Send> = Arc::new(journal);
}

#[test]
fn a_segment_that_is_ended_can_be_cut_without_waiting_until_it_is_full() {
    for comes_more in [false, true] {
        let sim = Sim::new(10);
        let options = || Options { segment_bytes_max: 1 << 20, ..small() };
        let (journal, mut writer, _) = Journal::open_unattended(sim.env.clone(), options()).expect("open");
        let append = |journal: &Journal, writer: &mut br_journal::Writer| {
            let ticket = journal.append(&record(1)).expect("append");
            writer.step();
            ticket.position()
        };
        let last = append(&journal, &mut writer);
        assert_eq!((journal.truncate_before(last.next()).expect("truncate"), journal.first_kept()), (0, last));
        journal.end_segment();
        if comes_more {
            append(&journal, &mut writer);
        } else {
            writer.step();
        }
        assert!(journal.truncate_before(last.next()).expect("truncate") > 0, "more has come: {comes_more}");
        assert_eq!(journal.first_kept(), last.next());
        journal.end_segment();
        writer.step();
        writer.step();
        let next = append(&journal, &mut writer);
        let (again, _writer, recovery) = Journal::open_unattended(sim.env.clone(), options()).expect("open again");
        assert!(recovery.warnings.is_empty(), "{:?}", recovery.warnings);
        assert_eq!(replay_all(&again, 1).0.last().map(|(position, _)| *position), Some(next.0));
    }
}
