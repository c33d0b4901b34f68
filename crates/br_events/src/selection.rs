//! Which rows of the `logs` table a query is given: by conditions on columns, by tests of the line, by what its hints leave possible.

use crate::attributes::AttributesReader;
use crate::conditions::Conditions;
use crate::counts::bounds_of;
use crate::file::{EventFile, Tail, ranges_of};
use crate::log_rows::{is_labelled, needs_column};
use crate::logs_codec::trace_id;
use crate::numbers::{Name, NumberBetween};
use crate::schema::{BODY, SPAN_ID, TRACE_ID, column, damaged};
use crate::summary::{KEYS_MAX, PageSummary};
use crate::terms::Terms;
use crate::{line_tests, origin, terms};
use arrow::array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use br_model::TraceId;
use br_std::{Nanos, Result};
use br_storage::{Derived, LinePattern, LineTest, LinesSeen, LogHint, LogNeeds, LogQuery, Table, TimeNeed, TimeRange};
use hashbrown::HashSet;
use memchr::memmem::Finder;
use std::sync::Arc;

/// The columns that a query's hints are about.
pub(crate) fn conditions_of(query: &LogQuery) -> Conditions {
    let mut conditions = Conditions::new(Table::Logs, query.range);
    conditions.streams.clone_from(&query.streams);
    conditions.kind = query.kind;
    for hint in &query.hints {
        match hint {
            LogHint::TraceId(id) if !id.is_none() => conditions = conditions.with_trace_id(*id),
            LogHint::SeverityAtLeast(severity) => conditions.low = Some(i64::from(severity.0)),
            LogHint::NumberBetween { name, .. } if is_derived(name) || name == TRACE_ID => {}
            LogHint::NumberBetween { name, low, high } => {
                conditions.numbers.push(NumberBetween { name: Name::Label(name.clone()), low: *low, high: *high });
            }
            hint => conditions.terms.add(&terms_of(hint)),
        }
    }
    conditions
}

/// What must be in the filter of a page that has a row of a hint. Nothing where filters do not know it.
fn terms_of(hint: &LogHint) -> Terms {
    match hint {
        LogHint::LineContains(text) => terms::substring_terms(text),
        LogHint::LineHasWords(text) => terms::phrase_terms(text),
        // These are attributes for the reader only, or derived; the filters do not know them.
        LogHint::AttributeEquals { name, .. } if is_derived(name) => Terms::default(),
        LogHint::AttributeEquals { value, .. } if value.is_empty() => Terms::default(),
        LogHint::AttributeEquals { name, value } => terms::pair_term(name, value).into_iter().collect(),
        LogHint::TraceId(id) if !id.is_none() => [terms::trace_term(*id)].into_iter().collect(),
        LogHint::TraceId(_) | LogHint::SeverityAtLeast(_) | LogHint::NumberBetween { .. } | LogHint::AnyOf(_) => Terms::default(),
    }
}

fn is_derived(name: &str) -> bool {
    [SPAN_ID, Derived::SEVERITY_TEXT, "level", Derived::DETECTED_LEVEL].contains(&name)
}

/// One of several ways in which a row may satisfy a hint.
struct Alternative {
    terms: Terms,
    check: Check,
}

/// How a single row is looked at.
enum Check {
    Line(Box<Finder<'static>>),
    Trace(TraceId),
    /// An attribute of record or resource of this label name: whether there is one is known of pages, not looked up in rows.
    Label(String),
    Unknown,
}

impl Alternative {
    fn new(hint: &LogHint) -> Self {
        let line = |text: &[u8]| Check::Line(Box::new(Finder::new(text).into_owned()));
        let check = match hint {
            LogHint::LineContains(text) => line(text.as_bytes()),
            LogHint::LineHasWords(text) => terms::words(text).max_by_key(|word| word.len()).map_or(Check::Unknown, line),
            LogHint::TraceId(id) => Check::Trace(*id),
            LogHint::AttributeEquals { name, .. } => Check::Label(name.clone()),
            LogHint::SeverityAtLeast(_) | LogHint::NumberBetween { .. } | LogHint::AnyOf(_) => Check::Unknown,
        };
        Self { terms: terms_of(hint), check }
    }

    /// Whether it says anything about a page or a row.
    fn is_known(&self) -> bool {
        !self.terms.is_empty() || matches!(self.check, Check::Line(_) | Check::Trace(_))
    }
}

/// What a query selects, and what it needs of it.
pub(crate) struct Selection {
    pub(crate) conditions: Conditions,
    pub(crate) needs: LogNeeds,
    times: TimeNeed,
    tests: Vec<LineTest>,
    /// Of each of these, one must hold.
    either: Vec<Vec<Alternative>>,
}

/// A file whose pages are known.
pub(crate) struct OpenFile {
    pub(crate) file: Arc<EventFile>,
    pub(crate) tail: Arc<Tail>,
    /// Those that can hold a row, ascending.
    pub(crate) pages: Vec<usize>,
    pub(crate) streams: Option<HashSet<u64>>,
    /// By condition and alternative the pages that can hold such a row; `None` for all.
    possible: Vec<Vec<Option<HashSet<usize>>>>,
}

impl OpenFile {
    pub(crate) fn summary(&self, page: usize) -> &PageSummary {
        &self.tail.summary.pages[page]
    }
}

impl Selection {
    pub(crate) fn new(query: &LogQuery) -> Self {
        let is_tested = |text: &str| {
            query.line_tests.iter().any(|test| match test.any_of.as_slice() {
                [LinePattern::Contains(finder)] => !test.is_negated && finder.needle() == text.as_bytes(),
                _ => false,
            })
        };
        let alternatives = |hint: &LogHint| -> Vec<Alternative> {
            match hint {
                LogHint::LineContains(text) if is_tested(text) => Vec::new(),
                // The pages are chosen by the conditions already.
                LogHint::LineContains(_) | LogHint::LineHasWords(_) => {
                    vec![Alternative { terms: Terms::default(), ..Alternative::new(hint) }]
                }
                LogHint::AnyOf(hints) => hints.iter().map(Alternative::new).collect(),
                LogHint::AttributeEquals { .. }
                | LogHint::TraceId(_)
                | LogHint::SeverityAtLeast(_)
                | LogHint::NumberBetween { .. } => Vec::new(),
            }
        };
        let either = query.hints.iter().map(alternatives);
        Self {
            conditions: conditions_of(query),
            needs: query.needs.clone(),
            times: query.times,
            tests: query.line_tests.clone(),
            either: either.filter(|either| !either.is_empty() && either.iter().all(Alternative::is_known)).collect(),
        }
    }

    /// Finds the pages of a file that can hold a row; `None` when the file is damaged, which is reported.
    pub(crate) fn open(&self, file: &Arc<EventFile>) -> Result<Option<Arc<OpenFile>>> {
        match self.find_pages(file) {
            Ok(open) => Ok(Some(Arc::new(open))),
            Err(error) if file.is_damaged(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a file's counts say all that is asked of the rows of a minute.
    pub(crate) fn is_counted(&self, file: &EventFile) -> bool {
        let Some(names) = self.needs.metadata.as_ref().filter(|_| self.needs.can_group()) else { return false };
        // Counts know nothing of what was hidden since.
        if file.may_hide(file.entry.min_time.0) {
            return false;
        }
        let keys = &file.stats.keys;
        let is_key = |name: &str| keys.len() >= KEYS_MAX || keys.iter().any(|(key, ..)| is_labelled(key, name));
        let is_other = |name: &str| [Derived::SEVERITY_TEXT, TRACE_ID, SPAN_ID].contains(&name) || is_key(name);
        self.conditions.is_of_streams_and_times() && !self.reads_lines() && !names.iter().any(|name| is_other(name))
    }

    /// Whether the rows of a minute are all in the range, and need not be told apart.
    pub(crate) fn is_whole(&self, minute: i64) -> bool {
        let ((start, end), range) = (bounds_of(minute), self.conditions.range);
        range.contains(Nanos(start.saturating_add(1))) && range.contains(Nanos(end)) && self.times.are_alike(start, end)
    }

    fn find_pages(&self, file: &Arc<EventFile>) -> Result<OpenFile> {
        let tail = file.tail()?;
        let found = file.pages(&tail, &self.conditions)?;
        let mut pages = found.pages;
        let mut possible = Vec::new();
        for either in &self.either {
            let mut of_each = Vec::new();
            for alternative in either {
                of_each.push(if alternative.terms.is_empty() || pages.is_empty() {
                    None
                } else {
                    let mut conditions = Conditions::new(Table::Logs, TimeRange::ALL);
                    conditions.terms.clone_from(&alternative.terms);
                    Some(file.pages(&tail, &conditions)?.pages.into_iter().collect::<HashSet<usize>>())
                });
            }
            pages.retain(|page| of_each.iter().any(|pages| pages.as_ref().is_none_or(|pages| pages.contains(page))));
            possible.push(of_each);
        }
        Ok(OpenFile { file: file.clone(), tail, pages, streams: found.streams, possible })
    }

    /// The checks that rows of a page must pass: of each list one.
    fn page_checks(&self, open: &OpenFile, page: usize) -> Vec<Vec<&Check>> {
        let mut checks = Vec::new();
        for (either, possible) in self.either.iter().zip(&open.possible) {
            let is_possible = |pages: &Option<HashSet<usize>>| pages.as_ref().is_none_or(|pages| pages.contains(&page));
            let left = either.iter().zip(possible).filter(|(_, pages)| is_possible(pages));
            let left: Vec<&Check> = left.map(|(alternative, _)| &alternative.check).collect();
            if left.iter().all(|check| matches!(check, Check::Line(_) | Check::Trace(_))) {
                checks.push(left);
            }
        }
        checks
    }

    /// The same for a batch in memory, which has no filter.
    fn batch_checks(&self, batch: &RecordBatch) -> Result<Vec<Vec<&Check>>> {
        let mut checks = Vec::new();
        for either in &self.either {
            let mut left = Vec::new();
            let mut is_known = true;
            for alternative in either {
                match &alternative.check {
                    Check::Label(name) => is_known &= !has_label(batch, name)?,
                    Check::Unknown => is_known = false,
                    check => left.push(check),
                }
            }
            if is_known {
                checks.push(left);
            }
        }
        Ok(checks)
    }

    /// The rows of a page that are selected, and the times of all its rows where `with_times`.
    pub(crate) fn page_rows(&self, open: &OpenFile, page: usize, with_times: bool, seen: &mut LinesSeen) -> Result<PageRows> {
        let range = open.tail.page_rows(page);
        let (times, rows) = if open.file.holds_for_all(open.summary(page), &self.conditions) && !with_times {
            (None, (0..range.len() as u32).collect())
        } else {
            let (batch, rows) = open.file.matching_rows(&open.tail, page, &self.conditions, open.streams.as_ref())?;
            (Some(batch), rows)
        };
        let checks = self.page_checks(open, page);
        seen.lines += rows.len() as u64;
        if rows.is_empty() || (self.tests.is_empty() && checks.is_empty()) {
            return Ok(PageRows { rows, times, tested: None });
        }
        let reads_body = !self.tests.is_empty() || checks.iter().flatten().any(|check| matches!(check, Check::Line(_)));
        let mut columns = if reads_body { vec![BODY] } else { Vec::new() };
        if checks.iter().flatten().any(|check| matches!(check, Check::Trace(_))) {
            columns.push(TRACE_ID);
        }
        let batch = open.file.read(&open.tail, &ranges_of(&range, &rows), &columns)?;
        let mut places: Vec<u32> = (0..rows.len() as u32).collect();
        self.retain(&checks, &batch, &mut places, seen)?;
        let kept = places.iter().map(|place| rows[*place as usize]).collect();
        let tested = reads_body.then_some((batch, places));
        Ok(PageRows { rows: kept, times, tested })
    }

    /// The rows of a batch in memory that are selected. Where lines are looked at, `seen` counts them.
    pub(crate) fn batch_rows(&self, batch: &RecordBatch, seen: &mut LinesSeen) -> Result<Vec<u32>> {
        let mut rows = self.conditions.rows_in_memory(batch)?;
        seen.lines += rows.len() as u64;
        if !rows.is_empty() && self.reads_lines() {
            let checks = self.batch_checks(batch)?;
            self.retain(&checks, batch, &mut rows, seen)?;
        }
        Ok(rows)
    }

    /// Whether lines are looked at to tell whether a row is selected.
    pub(crate) fn reads_lines(&self) -> bool {
        !self.tests.is_empty() || !self.either.is_empty()
    }

    fn retain(&self, checks: &[Vec<&Check>], batch: &RecordBatch, rows: &mut Vec<u32>, seen: &mut LinesSeen) -> Result<()> {
        if !self.tests.is_empty() || checks.iter().flatten().any(|check| matches!(check, Check::Line(_))) {
            let bodies: &StringArray = column(batch, BODY)?;
            seen.bytes += rows.iter().map(|row| bodies.value_length(*row as usize) as u64).sum::<u64>();
            line_tests::retain(&self.tests, bodies, rows);
        }
        for either in checks {
            let finders: Vec<&Finder<'static>> = either.iter().filter_map(|check| finder(check)).collect();
            if finders.len() == either.len() {
                line_tests::retain_containing(&finders, column(batch, BODY)?, rows);
                continue;
            }
            let ids: &FixedSizeBinaryArray = column(batch, TRACE_ID)?;
            let bodies: Option<&StringArray> = if finders.is_empty() { None } else { Some(column(batch, BODY)?) };
            rows.retain(|row| {
                let row = *row as usize;
                let in_line = || {
                    bodies.is_some_and(|bodies| finders.iter().any(|finder| finder.find(bodies.value(row).as_bytes()).is_some()))
                };
                either.iter().any(|check| matches!(check, Check::Trace(id) if trace_id(ids, row) == *id)) || in_line()
            });
        }
        Ok(())
    }

    /// The rows of a page with all columns that are needed.
    pub(crate) fn read(&self, open: &OpenFile, page: usize, found: PageRows) -> Result<RecordBatch> {
        let ranges = ranges_of(&open.tail.page_rows(page), &found.rows);
        let tested = found.tested.filter(|_| needs_column(&self.needs, BODY));
        let wants = |name: &str| needs_column(&self.needs, name) && (name != BODY || tested.is_none());
        let batch = open.file.read_selected(&open.tail, &ranges, wants)?;
        let Some((tested, places)) = tested else { return Ok(batch) };
        let bodies = tested.column_by_name(BODY).ok_or_else(|| br_std::Error::corrupt("column body is missing"))?;
        let bodies = take(bodies, &UInt32Array::from(places), None).map_err(damaged)?;
        let mut fields: Vec<Arc<Field>> = batch.schema_ref().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(BODY, bodies.data_type().clone(), false)));
        let mut arrays = batch.columns().to_vec();
        arrays.push(bodies);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(damaged)
    }
}

/// The selected rows of a page.
pub(crate) struct PageRows {
    /// Ascending numbers within the page.
    pub(crate) rows: Vec<u32>,
    /// All rows of the page with at least their times, where it had to be looked at.
    pub(crate) times: Option<RecordBatch>,
    /// What was read to test the lines, and where the selected rows stand in it.
    tested: Option<(RecordBatch, Vec<u32>)>,
}

impl PageRows {
    /// Whether lines were read.
    pub(crate) fn is_tested(&self) -> bool {
        self.tested.is_some()
    }

    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |batch: &RecordBatch| batch.get_array_memory_size() as u64;
        self.times.as_ref().map_or(0, bytes) + self.tested.as_ref().map_or(0, |(batch, _)| bytes(batch))
    }
}

fn finder(check: &Check) -> Option<&Finder<'static>> {
    match check {
        Check::Line(finder) => Some(finder),
        _ => None,
    }
}

/// Whether a record or a resource of the batch has an attribute of this label name.
fn has_label(batch: &RecordBatch, name: &str) -> Result<bool> {
    let is_named = |key: &str| is_labelled(key, name);
    if AttributesReader::new(batch)?.has_key(is_named) {
        return Ok(true);
    }
    let mut resources = origin::resources(batch)?;
    for row in 0..batch.num_rows() {
        if resources.get(row)?.attributes.iter().any(|(key, _)| is_named(key)) {
            return Ok(true);
        }
    }
    Ok(false)
}
