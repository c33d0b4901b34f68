//! `logs`, `errors`, `events`, `spans` and `traces` as tables of DataFusion, over the same pruning as the other readers.

use crate::attributes::AttributesReader;
use crate::conditions::Conditions;
use crate::sql_columns::{Origin, SqlColumns};
use crate::sql_filters::conditions_of;
use crate::sql_scan::EventScan;
use crate::sql_views::traces;
use crate::store::EventStore;
use crate::summary::FileStats;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use br_model::{LogKind, TenantId};
use br_storage::{Budget, Table, TimeRange};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hashbrown::HashSet;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

impl EventStore {
    /// The tables of a tenant for one SQL session: `logs`, of these `errors` and `events`, `spans`, and the `traces` that they make.
    /// What a query reads is charged to `budget`.
    pub fn tables(self: &Arc<Self>, tenant: TenantId, budget: &Arc<Budget>) -> Vec<(String, Arc<dyn TableProvider>)> {
        let logs = self.columns(tenant, Table::Logs);
        let spans = self.columns(tenant, Table::Spans);
        let table = |table: Table, kind: Option<LogKind>, columns: &SqlColumns| -> Arc<dyn TableProvider> {
            let (store, columns, budget) = (self.clone(), columns.clone(), budget.clone());
            Arc::new(EventTable { store, tenant, table, kind, columns, budget })
        };
        let spans = table(Table::Spans, None, &spans);
        let mut tables = vec![
            ("logs".to_owned(), table(Table::Logs, None, &logs)),
            ("errors".to_owned(), table(Table::Logs, Some(LogKind::Error), &logs)),
            ("events".to_owned(), table(Table::Logs, Some(LogKind::Event), &logs)),
            ("spans".to_owned(), spans.clone()),
        ];
        // It is made of columns that all spans have.
        if let Ok(traces) = traces(spans) {
            tables.push(("traces".to_owned(), traces));
        }
        tables
    }

    /// What columns a table has, by the keys that its records have.
    fn columns(&self, tenant: TenantId, table: Table) -> SqlColumns {
        let snapshot = self.snapshot(tenant, table);
        let (mut resource_keys, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        for file in &snapshot.files {
            resource_keys.extend(file.stats.resource_keys.iter().cloned());
            keys_in_file(&file.stats, &mut attributes);
        }
        for batch in &snapshot.batches {
            keys_in_memory(batch, &mut resource_keys, &mut attributes);
        }
        let resource_keys: Vec<String> = resource_keys.into_iter().collect();
        let attributes: Vec<(String, u8)> = attributes.into_iter().collect();
        SqlColumns::new(table, &resource_keys, &attributes)
    }
}

/// Keys and types of attributes that a file has.
fn keys_in_file(stats: &FileStats, attributes: &mut BTreeSet<(String, u8)>) {
    let fits = stats.keys.iter().filter(|(key, ..)| key.len() <= KEY_BYTES_MAX);
    attributes.extend(fits.map(|(key, letter, _)| (key.clone(), *letter as u8)));
}

/// Longer keys have no column.
const KEY_BYTES_MAX: usize = 256;

/// Keys that a batch in memory has, all of them: those of a file are listed too, and a column that comes and goes is none.
fn keys_in_memory(batch: &RecordBatch, resource_keys: &mut BTreeSet<String>, attributes: &mut BTreeSet<(String, u8)>) {
    if let Ok(mut resources) = crate::origin::resources(batch) {
        let mut last = None;
        for row in 0..batch.num_rows() {
            let Ok(resource) = resources.get(row) else { continue };
            if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &resource)) {
                resource_keys.extend(resource.attributes.iter().map(|(key, _)| key.clone()));
                last = Some(resource);
            }
        }
    }
    let mut found: HashSet<(&str, u8)> = HashSet::new();
    if let Ok(reader) = AttributesReader::new(batch) {
        // What is wrong with a row shows where it is read.
        let _ = reader.each_in_map(|key, letter| {
            found.insert((key, letter));
        });
    }
    let mut sorted: Vec<(&str, u8)> = found.into_iter().filter(|(key, _)| key.len() <= KEY_BYTES_MAX).collect();
    sorted.sort_unstable();
    attributes.extend(sorted.into_iter().map(|(key, letter)| (key.to_owned(), letter)));
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
        let snapshot = self.store.snapshot(self.tenant, self.table);
        Ok(Arc::new(EventScan::new(snapshot, columns, conditions, limit, self.budget.clone()).map_err(sql_error)?))
    }
}

/// An error on its way through DataFusion; the caller finds ours inside.
pub(crate) fn sql_error(error: br_std::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl SqlColumns {
    /// How the column of this name is made.
    pub(crate) fn origin(&self, name: &str) -> Option<&Origin> {
        self.schema.index_of(name).ok().and_then(|at| self.origins.get(at))
    }
}
