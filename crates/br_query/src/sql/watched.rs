//! Plans that stop when they are told to, and that hold together with rows made out of nothing.
//!
//! DataFusion's tasks stop where they wait. A join makes its rows without waiting: from two tables of a few thousand rows it can
//! compute for minutes between two polls of its inputs. So each join is watched: every batch that leaves it, and every batch of
//! pairs that its filter tests, first looks at the budget.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use br_storage::Budget;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as SqlResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Rows of a batch where a plan pairs all rows with all others: each batch is one look at the budget, and one row of the one side
/// is written out once for each row of it.
pub(super) const PAIRING_BATCH_ROWS: usize = 256;

/// Whether a plan pairs rows without an equality between them.
pub(super) fn is_pairing(plan: &Arc<dyn ExecutionPlan>) -> SqlResult<bool> {
    plan.exists(|node| Ok(node.downcast_ref::<CrossJoinExec>().is_some() || node.downcast_ref::<NestedLoopJoinExec>().is_some()))
}

/// Puts a watch on all joins of a plan, and refuses those that would repeat lists and maps.
pub(super) fn watch(plan: Arc<dyn ExecutionPlan>, budget: &Arc<Budget>) -> SqlResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if let Some(join) = node.downcast_ref::<CrossJoinExec>() {
            refuse_nested(&join.left().schema())?;
            return Ok(Transformed::yes(Watched::over(node, budget)));
        }
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            refuse_nested(&join.left().schema())?;
            let filter = join.filter().map(|filter| watch_filter(filter, budget));
            let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?;
            return Ok(Transformed::yes(Watched::over(Arc::new(join), budget)));
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            let filter = Some(watch_filter(filter, budget));
            let join = HashJoinExecBuilder::from(join).with_filter(filter).build()?;
            return Ok(Transformed::yes(Watched::over(Arc::new(join), budget)));
        }
        let multiplies = node.children().len() > 1 || node.children().is_empty() || node.name() == "UnnestExec";
        if multiplies && node.name() != "AnalyzeExec" {
            return Ok(Transformed::yes(Watched::over(node, budget)));
        }
        Ok(Transformed::no(node))
    })
    .data()
}

/// A join without equality writes the columns of one side's row out once for each row of the other. For a list or a map, arrow
/// reserves room for the whole column each time: hundreds of gigabytes, outside the memory pool.
fn refuse_nested(schema: &Schema) -> SqlResult<()> {
    let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) else { return Ok(()) };
    Err(DataFusionError::Plan(format!(
        "column {:?} is a list or a map, which a join without an equality cannot repeat: select the columns you need, or join ON a.x = b.x",
        field.name()
    )))
}

fn watch_filter(filter: &JoinFilter, budget: &Arc<Budget>) -> JoinFilter {
    let inner = filter.expression().clone();
    let watched = Arc::new(WatchedExpr { inner, budget: budget.clone() });
    JoinFilter::new(watched, filter.column_indices().to_vec(), filter.schema().clone())
}

fn checked(budget: &Budget) -> SqlResult<()> {
    budget.check().map_err(|error| DataFusionError::External(Box::new(error)))
}

/// Passes batches on while the budget allows it.
#[derive(Debug)]
struct Watched {
    input: Arc<dyn ExecutionPlan>,
    budget: Arc<Budget>,
}

impl Watched {
    fn over(input: Arc<dyn ExecutionPlan>, budget: &Arc<Budget>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, budget: budget.clone() })
    }
}

impl DisplayAs for Watched {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &'static str {
        "Watched"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> SqlResult<TreeNodeRecursion>,
    ) -> SqlResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| self.input.clone());
        Ok(Self::over(input, &self.budget))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> SqlResult<SendableRecordBatchStream> {
        let inner = self.input.execute(partition, context)?;
        let budget = self.budget.clone();
        let schema = inner.schema();
        let checked = inner.map(move |batch| {
            checked(&budget)?;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, checked)))
    }
}

/// Looks at the budget before it evaluates.
#[derive(Debug)]
struct WatchedExpr {
    inner: Arc<dyn PhysicalExpr>,
    budget: Arc<Budget>,
}

impl fmt::Display for WatchedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for WatchedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for WatchedExpr {}

impl Hash for WatchedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for WatchedExpr {
    fn data_type(&self, schema: &Schema) -> SqlResult<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> SqlResult<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> SqlResult<ColumnarValue> {
        checked(&self.budget)?;
        self.inner.evaluate(batch)
    }

    fn return_field(&self, schema: &Schema) -> SqlResult<FieldRef> {
        self.inner.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> SqlResult<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| self.inner.clone());
        Ok(Arc::new(Self { inner, budget: self.budget.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
