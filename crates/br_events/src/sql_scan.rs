//! Reading a table for DataFusion: the newest part first, and no further than a sort with a limit still wants rows.

use crate::conditions::Conditions;
use crate::file::{EventFile, ranges_of};
use crate::schema::{SERVICE, TS, column};
use crate::sql_columns::SqlColumns;
use crate::sql_filters::nanos;
use crate::store::Snapshot;
use crate::table::sql_error;
use arrow::array::{RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use br_std::Result;
use br_storage::Budget;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as SqlResult, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, IsNullExpr, Literal};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use std::fmt;
use std::sync::Arc;

/// Partitions of one scan.
const PARTITIONS: usize = 2;
/// Batches of a partition that wait to be taken.
const BATCHES_WAITING_MAX: usize = 2;

#[derive(Clone)]
enum Part {
    Memory(RecordBatch),
    File(Arc<EventFile>),
}

impl Part {
    /// The times of its first and its last row.
    fn times(&self) -> Result<(i64, i64)> {
        match self {
            Self::File(file) => Ok((file.entry.min_time.0, file.entry.max_time.0)),
            Self::Memory(batch) => {
                let times: &TimestampNanosecondArray = column(batch, TS)?;
                let bound = |time: Option<i64>| time.unwrap_or(0);
                Ok((bound(arrow::compute::min(times)), bound(arrow::compute::max(times))))
            }
        }
    }
}

/// The rows of a table that can satisfy the filters.
#[derive(Clone)]
pub(crate) struct EventScan {
    scan: Scan,
    /// The newest first.
    partitions: Vec<Arc<Vec<Part>>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl EventScan {
    pub(crate) fn new(
        snapshot: Snapshot,
        columns: SqlColumns,
        conditions: Conditions,
        limit: Option<usize>,
        budget: Arc<Budget>,
    ) -> Result<Self> {
        let files = snapshot.files.into_iter().filter(|file| file.may_hold(&conditions)).map(Part::File);
        let mut parts = Vec::new();
        for part in files.chain(snapshot.batches.into_iter().map(Part::Memory)) {
            parts.push((part.times()?.1, part));
        }
        parts.sort_by_key(|(last, _)| std::cmp::Reverse(*last));
        let mut partitions: Vec<Vec<Part>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
        for (at, (_, part)) in parts.into_iter().enumerate() {
            partitions[at % PARTITIONS].push(part);
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(columns.schema.clone()),
            Partitioning::UnknownPartitioning(PARTITIONS),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let scan = Scan { columns, conditions: Arc::new(conditions), wanted: Vec::new(), budget };
        let partitions = partitions.into_iter().map(Arc::new).collect();
        Ok(Self { scan, partitions, limit, properties: Arc::new(properties) })
    }
}

impl fmt::Debug for EventScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventScan").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl DisplayAs for EventScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: usize = self.partitions.iter().map(|parts| parts.len()).sum();
        write!(f, "EventScan: parts={parts}")?;
        match self.limit {
            Some(limit) => write!(f, ", fetch={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for EventScan {
    fn name(&self) -> &'static str {
        "EventScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        each: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> SqlResult<TreeNodeRecursion>,
    ) -> SqlResult<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for filter in &self.scan.wanted {
            recursion = recursion.visit_sibling(|| each(filter))?;
        }
        Ok(recursion)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> SqlResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    /// A sort with a limit says while it runs which rows it still wants; they are used to skip and applied there again.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        found: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> SqlResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let unsupported = vec![PushedDown::No; found.parent_filters.len()];
        let outcome = FilterPushdownPropagation::with_parent_pushdown_result(unsupported);
        let filters = found.parent_filters.into_iter().map(|found| found.filter);
        let dynamic: Vec<Arc<dyn PhysicalExpr>> = filters.filter(|filter| filter.is::<DynamicFilterPhysicalExpr>()).collect();
        if !matches!(phase, FilterPushdownPhase::Post) || dynamic.is_empty() {
            return Ok(outcome);
        }
        let mut scan = self.clone();
        scan.scan.wanted.extend(dynamic);
        Ok(outcome.with_updated_node(Arc::new(scan)))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> SqlResult<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStream::builder(self.scan.columns.schema.clone(), BATCHES_WAITING_MAX);
        let sender = builder.tx();
        let (scan, parts, mut left) = (self.scan.clone(), self.partitions[partition].clone(), self.limit.unwrap_or(usize::MAX));
        builder.spawn_blocking(move || {
            for part in parts.iter() {
                // The receiver is gone when nobody wants more rows, such as after a LIMIT.
                let mut give = |batch: RecordBatch| {
                    let batch = batch.slice(0, batch.num_rows().min(left));
                    left -= batch.num_rows();
                    sender.blocking_send(Ok(batch)).is_ok() && left > 0
                };
                if !scan.part(part, &mut give).map_err(sql_error)? {
                    break;
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

#[derive(Clone)]
struct Scan {
    columns: SqlColumns,
    conditions: Arc<Conditions>,
    /// What is known of the rows that are still wanted, while the query runs.
    wanted: Vec<Arc<dyn PhysicalExpr>>,
    budget: Arc<Budget>,
}

impl Scan {
    /// Whether a row between these times may be wanted.
    fn wants(&self, (first, last): (i64, i64)) -> bool {
        self.wanted.iter().all(|filter| match bound_of(filter) {
            Some((Operator::Gt, time)) => last > time,
            Some((Operator::GtEq, time)) => last >= time,
            Some((Operator::Lt, time)) => first < time,
            Some((Operator::LtEq, time)) => first <= time,
            _ => true,
        })
    }

    /// Gives the rows of a part; false when no more are wanted.
    fn part(&self, part: &Part, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<bool> {
        self.budget.check()?;
        if !self.wanted.is_empty() && !self.wants(part.times()?) {
            return Ok(true);
        }
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
        let mut found = file.pages(&tail, &self.conditions)?;
        if !self.wanted.is_empty() {
            found.pages.sort_by_key(|page| std::cmp::Reverse(tail.summary.pages[*page].max_ts));
        }
        self.budget.expect_parts(found.pages.len() as u64)?;
        for page in found.pages {
            self.budget.parts_done(1);
            self.budget.check()?;
            let summary = &tail.summary.pages[page];
            if !self.wants((summary.min_ts, summary.max_ts)) {
                continue;
            }
            let page_rows = tail.page_rows(page);
            self.budget.scanned(page_rows.len() as u64);
            let ranges = if file.holds_for_all(summary, &self.conditions) {
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

/// The bound on the time that a filter is about, where it is about nothing else: `ts IS NULL OR ts > …`, as a sort makes it.
fn bound_of(filter: &Arc<dyn PhysicalExpr>) -> Option<(Operator, i64)> {
    let current = filter.downcast_ref::<DynamicFilterPhysicalExpr>()?.current().ok()?;
    bound(&current)
}

fn bound(expr: &Arc<dyn PhysicalExpr>) -> Option<(Operator, i64)> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let is_null = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<IsNullExpr>().is_some_and(|null| is_time(null.arg()));
    match binary.op() {
        Operator::Or if is_null(binary.left()) => bound(binary.right()),
        Operator::Or if is_null(binary.right()) => bound(binary.left()),
        op if is_time(binary.left()) => Some((*op, nanos(binary.right().downcast_ref::<Literal>()?.value())?)),
        _ => None,
    }
}

fn is_time(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some_and(|column| column.name() == TS)
}
