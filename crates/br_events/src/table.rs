//! `logs`, `spans` and `errors` as tables of DataFusion, over the same pruning as the other readers.

use crate::conditions::Conditions;
use crate::file::{EventFile, ranges_of};
use crate::promote::is_promotable;
use crate::schema::SERVICE;
use crate::sql_columns::{Origin, SqlColumns};
use crate::sql_filters::conditions_of;
use crate::store::{EventStore, Snapshot};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use br_model::{LogKind, TenantId};
use br_std::Result;
use br_storage::{Budget, Table, TimeRange};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Partitions of one scan.
const PARTITIONS: usize = 2;
/// Batches of a partition that wait to be taken.
const BATCHES_WAITING_MAX: usize = 2;

impl EventStore {
    /// The tables of a tenant for one SQL session: `logs`, `errors` and `spans`. What a query reads is charged to `budget`.
    pub fn tables(self: &Arc<Self>, tenant: TenantId, budget: &Arc<Budget>) -> Vec<(String, Arc<dyn TableProvider>)> {
        let table = |name: &str, table: Table, kind: Option<LogKind>| {
            let provider: Arc<dyn TableProvider> = Arc::new(EventTable::new(self.clone(), tenant, table, kind, budget.clone()));
            (name.to_owned(), provider)
        };
        vec![
            table("logs", Table::Logs, None),
            table("errors", Table::Logs, Some(LogKind::Error)),
            table("spans", Table::Spans, None),
        ]
    }
}

struct EventTable {
    store: Arc<EventStore>,
    tenant: TenantId,
    table: Table,
    kind: Option<LogKind>,
    columns: SqlColumns,
    budget: Arc<Budget>,
}

impl fmt::Debug for EventTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventTable").field("tenant", &self.tenant).field("table", &self.table).finish_non_exhaustive()
    }
}

impl EventTable {
    fn new(store: Arc<EventStore>, tenant: TenantId, table: Table, kind: Option<LogKind>, budget: Arc<Budget>) -> Self {
        let snapshot = store.snapshot(tenant, table);
        let (mut resource_keys, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        for file in &snapshot.files {
            resource_keys.extend(file.stats.resource_keys.iter().cloned());
            let promotable = file.stats.keys.iter().filter(|(key, letter, _)| is_promotable(key, *letter as u8));
            attributes.extend(promotable.map(|(key, letter, _)| (key.clone(), *letter as u8)));
        }
        for batch in &snapshot.batches {
            keys_in_memory(batch, &mut resource_keys, &mut attributes);
        }
        let resource_keys: Vec<String> = resource_keys.into_iter().collect();
        let attributes: Vec<(String, u8)> = attributes.into_iter().collect();
        let columns = SqlColumns::new(table, &resource_keys, &attributes);
        Self { store, tenant, table, kind, columns, budget }
    }
}

/// Rows at the start of each batch in memory that are looked at for keys.
const SAMPLE_ROWS: usize = 64;

/// What keys a batch in memory has. A sample does: a key that it misses is still in the map column.
fn keys_in_memory(batch: &RecordBatch, resource_keys: &mut BTreeSet<String>, attributes: &mut BTreeSet<(String, u8)>) {
    let rows = batch.num_rows().min(SAMPLE_ROWS);
    if let Ok(mut resources) = crate::origin::resources(batch) {
        for resource in (0..rows).filter_map(|row| resources.get(row).ok()) {
            resource_keys.extend(resource.attributes.iter().map(|(key, _)| key.clone()));
        }
    }
    if let Ok(reader) = crate::attributes::AttributesReader::new(batch) {
        for entry in (0..rows).filter_map(|row| reader.entries(row).ok()).flatten() {
            if is_promotable(entry.key, entry.letter) {
                attributes.insert((entry.key.to_owned(), entry.letter));
            }
        }
    }
}

#[async_trait]
impl TableProvider for EventTable {
    fn schema(&self) -> SchemaRef {
        self.columns.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters only skip here; DataFusion applies them again.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> SqlResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.columns.origins.len()).collect();
        let columns = self.columns.project(projection.unwrap_or(&all)).map_err(sql_error)?;
        let mut conditions = Conditions::new(self.table, TimeRange::ALL);
        conditions.kind = self.kind;
        conditions_of(filters, &self.columns, &mut conditions);
        let Snapshot { batches, files } = self.store.snapshot(self.tenant, self.table);
        let mut parts: Vec<Vec<Part>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
        let files = files.into_iter().filter(|file| file.may_hold(&conditions)).map(Part::File);
        for (at, part) in files.chain(batches.into_iter().map(Part::Memory)).enumerate() {
            parts[at % PARTITIONS].push(part);
        }
        let conditions = Arc::new(conditions);
        let partitions = parts.into_iter().map(|parts| -> Arc<dyn PartitionStream> {
            let (columns, conditions) = (columns.clone(), conditions.clone());
            Arc::new(Partition { parts: Arc::new(parts), columns, conditions, budget: self.budget.clone() })
        });
        let plan = StreamingTableExec::try_new(columns.schema.clone(), partitions.collect(), None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// An error on its way through DataFusion; the caller finds ours inside.
pub(crate) fn sql_error(error: br_std::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[derive(Clone)]
enum Part {
    Memory(RecordBatch),
    File(Arc<EventFile>),
}

struct Partition {
    parts: Arc<Vec<Part>>,
    columns: SqlColumns,
    conditions: Arc<Conditions>,
    budget: Arc<Budget>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.columns.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(self.columns.schema.clone(), BATCHES_WAITING_MAX);
        let sender = builder.tx();
        let scan = Scan { columns: self.columns.clone(), conditions: self.conditions.clone(), budget: self.budget.clone() };
        let parts = self.parts.clone();
        builder.spawn_blocking(move || {
            for part in parts.iter() {
                // The receiver is gone when nobody wants more rows, such as after a LIMIT.
                let mut give = |batch: RecordBatch| sender.blocking_send(Ok(batch)).is_ok();
                if !scan.part(part, &mut give).map_err(sql_error)? {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}

struct Scan {
    columns: SqlColumns,
    conditions: Arc<Conditions>,
    budget: Arc<Budget>,
}

impl Scan {
    /// Gives the rows of a part; false when no more are wanted.
    fn part(&self, part: &Part, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<bool> {
        self.budget.check()?;
        match part {
            Part::Memory(batch) => {
                self.budget.scanned(batch.num_rows() as u64);
                let rows = self.conditions.rows_in_memory(batch)?;
                if rows.is_empty() {
                    return Ok(true);
                }
                let whole = rows.len() == batch.num_rows();
                let kept = if whole { batch.clone() } else { take(batch, rows)? };
                Ok(give(self.columns.make(&kept)?))
            }
            Part::File(file) => match self.file(file, give) {
                Err(error) if file.is_damaged(&error) => Ok(true),
                outcome => outcome,
            },
        }
    }

    fn file(&self, file: &EventFile, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<bool> {
        let tail = file.tail()?;
        let found = file.pages(&tail, &self.conditions)?;
        self.budget.expect_parts(found.pages.len() as u64)?;
        for page in found.pages {
            self.budget.parts_done(1);
            self.budget.check()?;
            let page_rows = tail.page_rows(page);
            self.budget.scanned(page_rows.len() as u64);
            let ranges = if self.conditions.holds_for_all(&tail.summary.pages[page]) {
                vec![page_rows]
            } else {
                let (_, rows) = file.matching_rows(&tail, page, &self.conditions, found.streams.as_ref())?;
                ranges_of(&page_rows, &rows)
            };
            if ranges.is_empty() {
                continue;
            }
            // A count needs no column, but rows: the service is the cheapest.
            let needs_any = !self.columns.origins.is_empty();
            let wants = |name: &str| if needs_any { self.columns.needs(name) } else { name == SERVICE };
            let batch = file.read_selected(&tail, &ranges, wants)?;
            if !give(self.columns.make(&batch)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn take(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    take_record_batch(batch, &UInt32Array::from(rows)).map_err(crate::schema::damaged)
}

impl SqlColumns {
    /// How the column of this name is made.
    pub(crate) fn origin(&self, name: &str) -> Option<&Origin> {
        self.schema.index_of(name).ok().and_then(|at| self.origins.get(at))
    }
}
