//! What queries and merges must not see of a file any more: events whose time is over.
//!
//! Whoever chooses rows of a page asks here which of them are visible; whoever goes by the summary of a page alone asks first
//! whether some of it may be hidden.

use crate::conditions::Conditions;
use crate::file::{EventFile, Tail};
use crate::json::decode_resource;
use crate::origin;
use crate::retention::{EventRules, WORDS, Words, words};
use crate::schema::{STREAM, TS, column, damaged};
use crate::summary::{PageSummary, StreamSummary};
use arrow::array::{RecordBatch, TimestampNanosecondArray, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use br_std::{Error, Result};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What hides rows of one file.
#[derive(Default)]
pub(crate) struct Mask {
    rules: Option<Arc<EventRules>>,
    /// By stream and word the number of the rule that counts.
    classes: OnceLock<HashMap<u64, [usize; WORDS]>>,
    /// It was found to hold nothing of the rules that were over for all of it then: so many.
    rules_checked: AtomicUsize,
}

impl Mask {
    pub(crate) fn new(rules: Option<Arc<EventRules>>) -> Self {
        Self { rules, ..Self::default() }
    }
}

impl EventFile {
    /// Whether each row of a page holds, and is visible, without looking.
    pub(crate) fn holds_for_all(&self, page: &PageSummary, conditions: &Conditions) -> bool {
        conditions.holds_for_all(page) && !self.may_hide(page.min_ts)
    }

    /// Whether something may be hidden of rows of which the first is of this time.
    pub(crate) fn may_hide(&self, min_ts: i64) -> bool {
        let Some(rules) = &self.mask.rules else { return false };
        let cutoffs = rules.cutoffs(self.entry.table);
        let last = self.entry.max_time.0;
        let over = cutoffs.iter().filter(|cutoff| last < **cutoff).count();
        over > self.mask.rules_checked.load(Ordering::Relaxed) || cutoffs.iter().any(|cutoff| min_ts < *cutoff && *cutoff <= last)
    }

    /// Of rows of a page, ascending, those that are visible.
    pub(crate) fn retain_visible(&self, tail: &Tail, page: usize, rows: &mut Vec<u32>) -> Result<()> {
        let Some(summary) = tail.summary.pages.get(page) else { return Ok(()) };
        let Some(rules) = self.mask.rules.as_ref().filter(|_| !rows.is_empty() && self.may_hide(summary.min_ts)) else {
            return Ok(());
        };
        let table = self.entry.table;
        let batch = self.read(tail, &[tail.page_rows(page)], &[TS, STREAM, Words::column(table)])?;
        let times: &TimestampNanosecondArray = column(&batch, TS)?;
        let streams: &UInt64Array = column(&batch, STREAM)?;
        let (words, cutoffs, classes) = (Words::new(table, &batch)?, rules.cutoffs(table), self.classes(rules, tail)?);
        let mut is_known = true;
        rows.retain(|row| {
            let row = *row as usize;
            let Some(class) = classes.get(&streams.value(row)) else {
                is_known = false;
                return false;
            };
            times.value(row) >= cutoffs[class[words.of(row)]]
        });
        if is_known {
            Ok(())
        } else {
            Err(Error::corrupt("a row is of a stream that the summary lacks").context(&self.entry.path))
        }
    }

    /// What is visible of a page that was read whole.
    pub(crate) fn visible(&self, tail: &Tail, page: usize, batch: RecordBatch) -> Result<RecordBatch> {
        let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        self.retain_visible(tail, page, &mut rows)?;
        if rows.len() == batch.num_rows() {
            return Ok(batch);
        }
        take_record_batch(&batch, &UInt32Array::from(rows)).map_err(damaged)
    }

    /// Whether nothing of a stream is visible.
    pub(crate) fn hides_stream(&self, tail: &Tail, stream: &StreamSummary) -> Result<bool> {
        let Some(rules) = &self.mask.rules else { return Ok(false) };
        if stream.max_ts >= rules.first_cutoff(self.entry.table) {
            return Ok(false);
        }
        let Some(class) = self.classes(rules, tail)?.get(&stream.id) else { return Ok(false) };
        let cutoffs = rules.cutoffs(self.entry.table);
        let has = |word: &str| self.stats.levels.contains_key(word);
        let in_use = words(self.entry.table).iter().zip(class).filter(|(word, _)| has(word));
        Ok(in_use.map(|(_, rule)| cutoffs[*rule]).all(|cutoff| stream.max_ts < cutoff))
    }

    /// Whether nothing of the file is visible.
    pub(crate) fn hides_all(&self) -> Result<bool> {
        let tail = self.tail()?;
        for stream in &tail.summary.streams {
            if !self.hides_stream(&tail, stream)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it is time to write the file anew without what is past its time: when a rule is over for all of the file, and it
    /// holds something of that rule.
    pub(crate) fn wants_rewrite(&self) -> Result<bool> {
        let Some(rules) = &self.mask.rules else { return Ok(false) };
        let last = self.entry.max_time.0;
        let over = rules.cutoffs(self.entry.table).into_iter().filter(|cutoff| last < *cutoff).count();
        if over <= self.mask.rules_checked.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let tail = self.tail()?;
        for page in 0..tail.summary.pages.len() {
            let count = tail.page_rows(page).len();
            let mut rows: Vec<u32> = (0..count as u32).collect();
            self.retain_visible(&tail, page, &mut rows)?;
            if rows.len() < count {
                return Ok(true);
            }
        }
        self.mask.rules_checked.store(over, Ordering::Relaxed);
        Ok(false)
    }

    fn classes(&self, rules: &EventRules, tail: &Tail) -> Result<&HashMap<u64, [usize; WORDS]>> {
        if let Some(known) = self.mask.classes.get() {
            return Ok(known);
        }
        let table = self.entry.table;
        let mut classes = HashMap::new();
        for stream in &tail.summary.streams {
            let labels = origin::stream_labels(&decode_resource(&stream.resource)?);
            classes.insert(stream.id, std::array::from_fn(|word| rules.rule_of(table, &labels, word)));
        }
        Ok(self.mask.classes.get_or_init(|| classes))
    }
}
