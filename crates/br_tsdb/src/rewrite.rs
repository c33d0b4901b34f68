//! Deleting series, and writing files anew without what was deleted or whose time is over.

use crate::block::file::BlockFile;
use crate::changes::Change;
use crate::deletion::{Deletion, Foreseen, Tombstone};
use crate::flush::SealedHead;
use crate::head::TenantHead;
use crate::index::Resolved;
use crate::plan::CompactionJob;
use crate::retention::{RetentionRule, RetentionRules};
use crate::store::Tsdb;
use crate::verdicts::Verdicts;
use br_model::TenantId;
use br_std::{Error, Nanos, Result};
use br_storage::{Budget, JournalPosition, Matcher};
use parking_lot::{RwLock, RwLockUpgradableReadGuard};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Deletions of one tenant that wait for their files.
const TOMBSTONES_MAX: usize = 1000;
/// Sections that are looked at in one go.
const SECTIONS_PER_READ: usize = 32;

impl Tsdb {
    /// From now on series are kept as these rules say.
    pub fn set_retention(&self, rules: RetentionRules) {
        *self.shared.in_force.retention.write() = Some(rules);
    }

    /// Asks the expressions of a deletion about the values that the head has: [`Tsdb::delete`] asks them nothing. An error when that
    /// takes more than the budget has.
    pub fn foresee(&self, tenant: TenantId, deletion: &Deletion, budget: &Budget) -> Result<Foreseen> {
        let mut known = Vec::new();
        if let Some(head) = self.shared.head(tenant) {
            for matchers in &deletion.selectors {
                let mut verdicts = Verdicts::new(matchers, budget)?;
                drop(verdicts.resolve_where(&head, |head| head.has_newest(deletion))?);
                known.push(verdicts.into_known());
            }
        }
        Ok(Foreseen { known })
    }

    /// An error when so many deletions wait for their files that another has to wait too.
    pub fn check_deletion(&self, tenant: TenantId) -> Result<()> {
        let waiting = self.shared.in_force.tombstones.read().keys().filter(|(of, _)| *of == tenant).count();
        if waiting < TOMBSTONES_MAX {
            return Ok(());
        }
        Err(Error::over_limit(format!(
            "{waiting} deletions wait to be carried out on files: clean the tombstones, then try again"
        )))
    }

    /// Deletes what was appended before this record of the journal. Called as [`Tsdb::append`] is, by the same thread; `foreseen` may
    /// be empty.
    ///
    /// What was open is sealed first, so that no part holds records of both sides: the caller writes the seal as any other.
    pub fn delete(
        &self,
        tenant: TenantId,
        position: JournalPosition,
        deletion: Deletion,
        foreseen: Foreseen,
        now: Nanos,
    ) -> Option<SealedHead> {
        let head = self.shared.head(tenant);
        let has_open = head.as_ref().is_some_and(|head| head.read().has_open(deletion.from_ms, deletion.to_ms));
        let before = JournalPosition(position.0.saturating_sub(1));
        let sealed = if has_open { self.seal(before) } else { None };
        if let Some(head) = head {
            forget_newest(&head, &deletion, foreseen);
        }
        self.shared.pass(position, now);
        self.restore_tombstone(Tombstone { tenant, position, deletion });
        sealed
    }

    /// Takes back what a former life of the store had deleted and not carried out.
    pub fn restore_tombstone(&self, tombstone: Tombstone) {
        let key = (tombstone.tenant, tombstone.position);
        let _changing = self.shared.changing(tombstone.tenant, Change::from(tombstone.deletion.from_ms));
        self.shared.in_force.tombstones.write().insert(key, Arc::new(tombstone));
    }

    /// Deletions that are not carried out on all files yet: they have to be restored after a restart.
    pub fn tombstones(&self) -> Vec<Arc<Tombstone>> {
        self.shared.in_force.tombstones.read().values().cloned().collect()
    }

    /// The next file to be written anew without what is hidden in it; [`Tsdb::compact`] does it. Deletions that no file holds
    /// any more are dropped. Reads of files what it needs to tell.
    pub fn plan_rewrite(&self) -> Result<Option<CompactionJob>> {
        for tombstone in self.tombstones() {
            if let Some(job) = self.plan_deletion(&tombstone)? {
                return Ok(Some(job));
            }
        }
        let Some(rules) = self.shared.in_force.retention.read().clone() else { return Ok(None) };
        let now_ms = rules.now_ms();
        for file in self.shared.files.all() {
            if self.has_expired(&file, &rules, now_ms)? {
                return Ok(Some(job_of(&file)));
            }
        }
        Ok(None)
    }

    fn plan_deletion(&self, tombstone: &Tombstone) -> Result<Option<CompactionJob>> {
        let Deletion { from_ms, to_ms, .. } = tombstone.deletion;
        // The head is asked first: what it publishes meanwhile is then found among the files.
        let held = |head: &TenantHead| head.holds_before(tombstone.position, from_ms, to_ms);
        let is_in_memory = self.shared.head(tombstone.tenant).is_some_and(|head| held(&head.read()));
        for file in self.shared.files.of_tenant(tombstone.tenant) {
            if !file.is_sound() || !file.reach.is_concerned(tombstone) || !file.may_hold(from_ms, to_ms) {
                continue;
            }
            for matchers in &tombstone.deletion.selectors {
                if self.holds(&file, matchers, from_ms, to_ms, |_| true)? {
                    return Ok(Some(job_of(&file)));
                }
            }
        }
        let is_damaged = |file: &Arc<BlockFile>| !file.is_sound() && file.reach.is_concerned(tombstone);
        let may_come_back = self.shared.files.of_tenant(tombstone.tenant).iter().any(is_damaged);
        if !is_in_memory && !may_come_back {
            self.shared.in_force.tombstones.write().remove(&(tombstone.tenant, tombstone.position));
        }
        Ok(None)
    }

    /// Whether a file holds series of which every sample in it is past its time.
    fn has_expired(&self, file: &BlockFile, rules: &RetentionRules, now_ms: i64) -> Result<bool> {
        let max_ms = file.entry.max_time.as_millis();
        let over: BTreeSet<usize> = {
            let is_over =
                |at: usize, rule: &RetentionRule| max_ms < rule.cutoff_ms(now_ms) && (file.rollup.is_raw() || !rules.is_rest(at));
            rules.rules().filter(|(at, rule)| is_over(*at, rule)).map(|(at, _)| at).collect()
        };
        if over.len() <= file.rules_checked() || !file.is_sound() {
            return Ok(false);
        }
        for (at, rule) in rules.rules().filter(|(at, _)| over.contains(at)) {
            if self.holds(file, &rule.matchers, i64::MIN, i64::MAX, |labels| rules.rule_of(labels) == at)? {
                return Ok(true);
            }
        }
        file.set_rules_checked(over.len());
        Ok(false)
    }

    /// Whether a file has rows in the range of a series that matches.
    fn holds(
        &self,
        file: &BlockFile,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        is_meant: impl Fn(&br_model::Labels) -> bool,
    ) -> Result<bool> {
        let files = &self.shared.files;
        let Some(open) = files.open(file)? else { return Ok(false) };
        let budget = Budget::unlimited();
        let mut verdicts = Verdicts::new(matchers, &budget)?;
        for numbers in open.directory.find(matchers).chunks(SECTIONS_PER_READ) {
            let Some(sections) = files.sections(file, &open, numbers)? else { return Ok(false) };
            for index in sections {
                let found = index.select(&mut verdicts, from_ms, to_ms)?;
                if found.iter().any(|id| is_meant(&index.table.labels(id))) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// What a deletion means to the head. All that comes in waits for this, so expressions are not asked: of values that were not
/// foreseen, as in a replay, all series are treated as those of a store that was started anew are.
fn forget_newest(head: &RwLock<TenantHead>, deletion: &Deletion, foreseen: Foreseen) {
    let mut foreseen = foreseen.known.into_iter();
    for matchers in &deletion.selectors {
        // Its expressions were compiled when it was made, and nothing cancels this.
        let budget = Budget::unlimited();
        let Ok(verdicts) = Verdicts::foreseen(matchers, &budget, foreseen.next()) else { continue };
        let locked = head.upgradable_read();
        if !locked.has_newest(deletion) {
            return;
        }
        if let Resolved::Series(found) = locked.index().resolve(&verdicts) {
            RwLockUpgradableReadGuard::upgrade(locked).forget_newest(&found, deletion);
        }
    }
}

/// One file, to be written again as it is, without what is hidden.
fn job_of(file: &BlockFile) -> CompactionJob {
    let entry = &file.entry;
    CompactionJob {
        tenant: entry.tenant,
        inputs: vec![entry.clone()],
        window: entry.window,
        window_secs: entry.window_secs,
        level: entry.level.max(1),
        output_bytes_max: u64::MAX,
        rollup: file.rollup.clone(),
    }
}
