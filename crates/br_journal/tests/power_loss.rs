//! Lives of a journal on a disk that loses what was not synced, cut at any call of the disk: what was acknowledged comes back
//! once, in order, byte for byte. `BELLROCK_SEEDS` sets the number of seeds.

mod support;

use br_env::Rng;
use br_env::sim::Sim;
use br_journal::{Journal, Ticket};
use br_storage::JournalPosition;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::{Fuse, FuseDisk, number_of, pick, record, replay_all, small};

/// What the senders of all lives know.
#[derive(Default)]
struct Senders {
    next_number: u64,
    /// Number of the record by its position.
    acknowledged: BTreeMap<u64, u64>,
    /// Positions before this one were given up by the stores.
    needed_from: u64,
}

/// Returns how many acknowledged records were lost.
fn lives(seed: u64) -> u64 {
    let sim = Sim::new(seed);
    let mut senders = Senders { needed_from: 1, ..Senders::default() };
    let (mut lost, mut is_scrambled) = (0, false);
    for _ in 0..4 {
        let fuse = live_until_the_power_goes(&sim, &mut senders);
        sim.disk.power_cut(&*sim.rng);
        // With the feature nothing is synced, and scrambling would hit everything.
        is_scrambled |= !cfg!(feature = "no_fsync") && sim.rng.below(3) == 0 && fuse.scramble_unsynced(&sim);
        lost += count_lost(&sim, &senders, is_scrambled);
    }
    lost
}

fn live_until_the_power_goes(sim: &Sim, senders: &mut Senders) -> Arc<Fuse> {
    let (env, fuse) = FuseDisk::env(sim, pick(&*sim.rng, 0, 120));
    let Ok((journal, mut writer, _)) = Journal::open_unattended(env, small()) else {
        return fuse;
    };
    if sim.rng.below(3) == 0 {
        sim.disk.fail_sync_after(sim.rng.below(20));
    }
    let mut waiting: Vec<(Ticket, u64)> = Vec::new();
    for _ in 0..pick(&*sim.rng, 1, 60) {
        for _ in 0..sim.rng.below(4) {
            senders.next_number += 1;
            if let Ok(ticket) = journal.append(&record(senders.next_number)) {
                waiting.push((ticket, senders.next_number));
            }
        }
        if sim.rng.below(3) > 0 {
            writer.step();
        }
        for (ticket, number) in &waiting {
            if matches!(ticket.try_wait(), Some(Ok(()))) {
                senders.acknowledged.insert(ticket.position().0, *number);
            }
        }
        waiting.retain(|(ticket, _)| ticket.try_wait().is_none());
        if sim.rng.below(40) == 0 && journal.durable_position().0 > 5 {
            // What is cut off need not come back, whether the call succeeds or the power goes in it.
            senders.needed_from = senders.needed_from.max(journal.durable_position().0 - 4);
            let _ = journal.truncate_before(JournalPosition(senders.needed_from));
        }
    }
    fuse
}

fn count_lost(sim: &Sim, senders: &Senders, is_scrambled: bool) -> u64 {
    let (journal, _writer, recovery) =
        Journal::open_unattended(sim.env.clone(), small()).expect("a power cut never stops a start");
    let (records, damage) = replay_all(&journal, senders.needed_from);
    assert!(is_scrambled || damage.is_empty(), "a power cut is no damage: {damage:?}");
    let found: BTreeMap<u64, u64> = records.iter().map(|(position, record)| (*position, number_of(record))).collect();
    assert_eq!(found.len(), records.len());
    for (_, found) in &records {
        assert_eq!(found, &record(number_of(found)), "byte for byte");
    }
    let mut numbers: Vec<u64> = found.values().copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), found.len(), "no record comes back twice");
    let needed = senders.acknowledged.range(senders.needed_from..);
    let lost = needed.filter(|(position, number)| found.get(position) != Some(number)).count() as u64;
    if lost == 0 {
        let last = found.keys().next_back().copied().unwrap_or(0);
        assert!(recovery.last_position.0 >= last, "the next position is beyond all that is there");
    }
    lost
}

#[test]
fn what_was_acknowledged_comes_back_once() {
    let seeds: u64 = std::env::var("BELLROCK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(600);
    let lost: u64 = (0..seeds).map(lives).sum();
    if cfg!(feature = "no_fsync") {
        assert!(lost > 0, "without syncs this test must find losses");
    } else {
        assert_eq!(lost, 0);
    }
}
