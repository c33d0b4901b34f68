//! What queries and merges must not see of a file any more: events whose time is over, or that were erased.
//!
//! Whoever chooses rows of a page asks here which of them are visible; whoever goes by the summary of a page alone asks first
//! whether some of it may be hidden.

use crate::conditions::Conditions;
use crate::erasure::{Erased, Reach};
use crate::file::{EventFile, Tail};
use crate::json::decode_resource;
use crate::origin;
use crate::retention::{EventRules, WORDS, Words, words};
use crate::schema::{NAME, SERVICE, STREAM, TS, column, damaged};
use crate::summary::{PageSummary, StreamSummary};
use arrow::array::{RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use br_std::{Error, Result};
use br_storage::JournalPosition;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
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
    erasures: RwLock<Vec<Arc<Hidden>>>,
}

/// An erasure that the file may hold something of.
struct Hidden {
    erased: Erased,
    /// The pages that may.
    pages: OnceLock<HashSet<usize>>,
    /// By page the rows that are erased.
    rows: Mutex<HashMap<usize, Arc<Vec<u32>>>>,
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
        if !self.mask.erasures.read().is_empty() {
            return true;
        }
        let Some(rules) = &self.mask.rules else { return false };
        let cutoffs = rules.cutoffs(self.entry.table);
        let last = self.entry.max_time.0;
        let over = cutoffs.iter().filter(|cutoff| last < **cutoff).count();
        over > self.mask.rules_checked.load(Ordering::Relaxed) || cutoffs.iter().any(|cutoff| min_ts < *cutoff && *cutoff <= last)
    }

    /// Of rows of a page, ascending, those that are visible.
    pub(crate) fn retain_visible(&self, tail: &Tail, page: usize, rows: &mut Vec<u32>) -> Result<()> {
        self.retain_in_time(tail, page, rows)?;
        let hidden = self.mask.erasures.read().clone();
        for hidden in &hidden {
            if rows.is_empty() {
                break;
            }
            let erased = self.erased_rows(tail, page, hidden)?;
            if !erased.is_empty() {
                rows.retain(|row| erased.binary_search(row).is_err());
            }
        }
        Ok(())
    }

    fn retain_in_time(&self, tail: &Tail, page: usize, rows: &mut Vec<u32>) -> Result<()> {
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

    /// Hides what is erased from now on, if it can be in here.
    pub(crate) fn hide(&self, erased: &Erased) {
        let mut erasures = self.mask.erasures.write();
        let is_known = erasures.iter().any(|known| known.erased.position == erased.position);
        if self.reach().is_concerned(erased.position) && !is_known {
            let hidden = Hidden { erased: erased.clone(), pages: OnceLock::new(), rows: Mutex::default() };
            erasures.push(Arc::new(hidden));
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        let [last_record, erased_to] = [self.stats.last_record, self.stats.erased_to].map(JournalPosition);
        Reach { last_record, erased_to }
    }

    fn hidden_by(&self, position: JournalPosition) -> Option<Arc<Hidden>> {
        self.mask.erasures.read().iter().find(|hidden| hidden.erased.position == position).cloned()
    }

    /// Whether an erasure may concern the file.
    pub(crate) fn hides_by(&self, position: JournalPosition) -> bool {
        self.hidden_by(position).is_some()
    }

    /// Whether the file holds a record of an erasure.
    pub(crate) fn holds_erased(&self, position: JournalPosition) -> Result<bool> {
        let Some(hidden) = self.hidden_by(position) else { return Ok(false) };
        let tail = self.tail()?;
        for page in 0..tail.summary.pages.len() {
            if !self.erased_rows(&tail, page, &hidden)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// It was found to hold nothing of an erasure.
    pub(crate) fn is_clean_of(&self, position: JournalPosition) {
        self.mask.erasures.write().retain(|hidden| hidden.erased.position != position);
    }

    /// The rows of a page that are erased, ascending.
    fn erased_rows(&self, tail: &Tail, page: usize, hidden: &Hidden) -> Result<Arc<Vec<u32>>> {
        let (table, erasure) = (self.entry.table, &hidden.erased.erasure);
        let pages = if let Some(pages) = hidden.pages.get() {
            pages
        } else {
            let conditions = erasure.conditions(table);
            let found = if self.may_hold(&conditions) { self.pages(tail, &conditions)?.pages } else { Vec::new() };
            hidden.pages.get_or_init(|| found.into_iter().collect())
        };
        if !pages.contains(&page) {
            return Ok(Arc::default());
        }
        if let Some(known) = hidden.rows.lock().get(&page) {
            return Ok(known.clone());
        }
        let batch = self.read_selected(tail, &[tail.page_rows(page)], |_| true)?;
        let rows = Arc::new(erasure.rows(table, &batch)?);
        hidden.rows.lock().insert(page, rows.clone());
        Ok(rows)
    }

    /// The ids of the streams of which something is visible; `None` where that is all of them.
    pub(crate) fn visible_streams(&self, tail: &Tail) -> Result<Option<HashSet<u64>>> {
        if !self.may_hide(self.entry.min_time.0) {
            return Ok(None);
        }
        let mut visible = HashSet::new();
        for stream in &tail.summary.streams {
            if !self.hides_stream(tail, stream)? {
                visible.insert(stream.id);
            }
        }
        if !self.mask.erasures.read().is_empty() {
            let mut seen = HashSet::new();
            self.each_visible(tail, &[STREAM], |batch, row| {
                seen.insert(column::<UInt64Array>(batch, STREAM)?.value(row));
                Ok(())
            })?;
            visible.retain(|stream| seen.contains(stream));
        }
        Ok(Some(visible))
    }

    /// The names that spans of a service have, those that were erased left out.
    pub(crate) fn visible_operations(&self, tail: &Tail, service: &str) -> Result<Vec<String>> {
        if self.mask.erasures.read().is_empty() {
            return Ok(tail.summary.operations.get(service).cloned().unwrap_or_default());
        }
        let mut names: BTreeSet<String> = BTreeSet::new();
        self.each_visible(tail, &[SERVICE, NAME], |batch, row| {
            let name = column::<StringArray>(batch, NAME)?.value(row);
            if column::<StringArray>(batch, SERVICE)?.value(row) == service && !names.contains(name) {
                names.insert(name.to_owned());
            }
            Ok(())
        })?;
        Ok(names.into_iter().collect())
    }

    /// Calls `each` for all rows that are visible.
    fn each_visible(&self, tail: &Tail, columns: &[&str], mut each: impl FnMut(&RecordBatch, usize) -> Result<()>) -> Result<()> {
        for page in 0..tail.summary.pages.len() {
            let range = tail.page_rows(page);
            let mut rows: Vec<u32> = (0..range.len() as u32).collect();
            self.retain_visible(tail, page, &mut rows)?;
            let batch = self.read(tail, &[range], columns)?;
            rows.into_iter().try_for_each(|row| each(&batch, row as usize))?;
        }
        Ok(())
    }

    /// Whether nothing of a stream is in time.
    fn hides_stream(&self, tail: &Tail, stream: &StreamSummary) -> Result<bool> {
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
            self.retain_in_time(&tail, page, &mut rows)?;
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
