//! Whole log records, as they were sent: for reading single errors and events.

use crate::file::ranges_of;
use crate::logs_codec::LogReader;
use crate::selection::conditions_of;
use crate::store::EventStore;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use br_model::{LogRecord, Resource, Scope, TenantId};
use br_std::{Error, Result};
use br_storage::{Budget, Direction, LogQuery, Table};
use std::sync::Arc;

/// A record with where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLog {
    pub resource: Arc<Resource>,
    pub scope: Arc<Scope>,
    pub record: LogRecord,
}

impl EventStore {
    /// The records that `query` asks for, whole, in its order, `rows_max` at most. Rows that fail its hints may be among them.
    /// All that match are held before they are cut: meant for queries that find few, such as the errors of one group.
    pub fn records(&self, tenant: TenantId, query: &LogQuery, rows_max: usize, budget: &Budget) -> Result<Vec<StoredLog>> {
        let conditions = conditions_of(query);
        let snapshot = self.snapshot(tenant, Table::Logs);
        let mut found = Found { records: Vec::new(), budget, charged: 0 };
        for batch in &snapshot.batches {
            let rows = UInt32Array::from(conditions.rows_in_memory(batch)?);
            found.add(&take_record_batch(batch, &rows).map_err(crate::schema::damaged)?)?;
        }
        for file in snapshot.files.iter().filter(|file| file.may_hold(&conditions)) {
            let read = || -> Result<Vec<RecordBatch>> {
                let tail = file.tail()?;
                let pages = file.pages(&tail, &conditions)?;
                let mut batches = Vec::new();
                for page in pages.pages {
                    budget.check()?;
                    let (_, rows) = file.matching_rows(&tail, page, &conditions, pages.streams.as_ref())?;
                    let ranges = ranges_of(&tail.page_rows(page), &rows);
                    batches.push(file.read_selected(&tail, &ranges, |_| true)?);
                }
                Ok(batches)
            };
            match read() {
                Ok(batches) => batches.iter().try_for_each(|batch| found.add(batch))?,
                Err(error) if file.is_damaged(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut records = std::mem::take(&mut found.records);
        records.sort_by_key(|stored| stored.record.timestamp);
        if query.direction == Direction::Backward {
            records.reverse();
        }
        records.truncate(rows_max);
        Ok(records)
    }
}

/// What has been found, charged to the budget for as long as it is gathered.
struct Found<'a> {
    records: Vec<StoredLog>,
    budget: &'a Budget,
    charged: u64,
}

impl Found<'_> {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let bytes = batch.get_array_memory_size() as u64;
        self.charged += bytes;
        self.budget.charge(bytes)?;
        self.budget.scanned(batch.num_rows() as u64);
        let mut reader = LogReader::new(batch)?;
        for row in 0..batch.num_rows() {
            let (resource, scope, record) = reader.record(row)?;
            self.records.push(StoredLog { resource, scope, record });
        }
        Ok(())
    }
}

impl Drop for Found<'_> {
    fn drop(&mut self) {
        self.budget.release(self.charged);
    }
}
