//! Tables that are made of others.

use crate::schema::{DURATION, NAME, SERVICE, STATUS, TRACE_ID, TS};
use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::Result;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::{count, first_value, max, min, sum};
use datafusion::logical_expr::{LogicalPlanBuilder, cast, col, lit, when};
use std::sync::Arc;

const PARENT: &str = "parent_span_id";

/// `traces`: of the spans of each trace when it began, how many nanoseconds it took to the last end, how many spans and failed
/// spans it has, and name and service of its root: of a span without a parent, or else of the first.
pub(crate) fn traces(spans: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let begins = || cast(col(TS), DataType::Int64);
    let is_error = when(col(STATUS).eq(lit("error")), lit(1_i64)).otherwise(lit(0_i64))?;
    let root_first = || vec![col(PARENT).is_null().sort(false, false), col(TS).sort(true, false)];
    let plan = LogicalPlanBuilder::scan("spans", provider_as_source(spans), None)?
        .filter(col(TRACE_ID).is_not_null())?
        .project(vec![
            col(TRACE_ID),
            col(TS),
            col(PARENT),
            col(NAME),
            col(SERVICE),
            begins().alias("begins"),
            (begins() + col(DURATION)).alias("ends"),
            is_error.alias("is_error"),
        ])?
        .aggregate(
            vec![col(TRACE_ID)],
            vec![
                min(col(TS)).alias("start"),
                min(col("begins")).alias("first"),
                max(col("ends")).alias("last"),
                count(lit(1_i64)).alias("spans"),
                sum(col("is_error")).alias("errors"),
                first_value(col(NAME), root_first()).alias("root_name"),
                first_value(col(SERVICE), root_first()).alias("root_service"),
            ],
        )?
        .project(vec![
            col(TRACE_ID),
            col("start"),
            (col("last") - col("first")).alias(DURATION),
            col("spans"),
            col("errors"),
            col("root_name"),
            col("root_service"),
        ])?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
