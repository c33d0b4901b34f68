//! SQL over the stores: read-only, one session for each query, within limits.

mod bounded;
mod encode;
mod histogram;
mod memory;
mod metrics_table;
pub mod postgres;
mod rows;
mod shape;
mod short_forms;
mod watched;

pub use encode::{ArrowStream, write_csv, write_json_lines};
pub use histogram::histogram_json;
pub use rows::{write_columns, write_json_rows};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use br_model::TenantId;
use br_std::{Error, Kind, Result};
use br_storage::{Budget, MetricSource};
use datafusion::catalog::TableProvider;
use datafusion::common::config::Dialect;
use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::registry::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{SetExpr, Statement};
use futures::StreamExt;
use futures::stream::BoxStream;
use memory::BudgetedPool;
use metrics_table::MetricsTable;
use std::sync::Arc;

/// The tables of a tenant for one query, besides `metrics`.
pub type TablesOf = dyn Fn(TenantId, &Arc<Budget>) -> Vec<(String, Arc<dyn TableProvider>)> + Send + Sync;
/// A tenant's series.
pub type MetricsOf = dyn Fn(TenantId) -> Arc<dyn MetricSource> + Send + Sync;

/// The stack that a thread needs on which [`SqlEngine::query`] is polled: the deepest statement that is allowed fits, in a build
/// without optimizations too. It is address space; memory is only what is used of it.
pub const STACK_BYTES: usize = 64 << 20;

/// What DataFusion calls the catalog in which the tables are.
const CATALOG: &str = "datafusion";

/// What one SQL query may use.
#[derive(Clone, Debug)]
pub struct SqlLimits {
    /// Memory of the operators (sorts, joins, aggregates), which counts against the query's budget too. They do not spill.
    pub memory_bytes_max: usize,
    /// Bytes of the query's text. A literal is copied for each row of a batch: this bounds what it becomes.
    pub text_bytes_max: usize,
    /// Rows of the answer; the stream ends with an error beyond it.
    pub rows_max: u64,
    /// Partitions of a plan.
    pub partitions: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self { memory_bytes_max: 256 << 20, text_bytes_max: 64 << 10, rows_max: 1_000_000, partitions: 2 }
    }
}

/// The answer: its columns, and its rows as they come.
pub struct SqlAnswer {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

/// Answers SQL.
pub struct SqlEngine {
    tables: Arc<TablesOf>,
    metrics: Arc<MetricsOf>,
    functions: Vec<ScalarUDF>,
    rewrites: Vec<Arc<dyn FunctionRewrite + Send + Sync>>,
    limits: SqlLimits,
}

impl SqlEngine {
    pub fn new(tables: Arc<TablesOf>, metrics: Arc<MetricsOf>, functions: Vec<ScalarUDF>, limits: SqlLimits) -> Self {
        Self { tables, metrics, functions, rewrites: Vec::new(), limits }
    }

    /// With rules on how expressions are to be read before their types are checked.
    #[must_use]
    pub fn with_rewrites(mut self, rewrites: Vec<Arc<dyn FunctionRewrite + Send + Sync>>) -> Self {
        self.rewrites = rewrites;
        self
    }

    /// Plans a query and starts it. SELECT, EXPLAIN, SHOW and DESCRIBE only: anything else is refused, and so is text with
    /// more than one statement. Rows are read as the stream is polled; `budget` stops it.
    pub async fn query(&self, tenant: TenantId, sql: &str, budget: Arc<Budget>) -> Result<SqlAnswer> {
        self.check_length(sql)?;
        let session = self.session(tenant, &budget, CATALOG)?;
        let stream = run(&session, sql, &budget).await.map_err(|error| query_error(&error))?;
        Ok(answer(stream, budget, self.limits.rows_max))
    }

    fn check_length(&self, sql: &str) -> Result<()> {
        if sql.len() > self.limits.text_bytes_max {
            return Err(Error::over_limit(format!("the query has more than {} bytes", self.limits.text_bytes_max)));
        }
        Ok(())
    }

    /// The tables of a tenant, in the schema `public` of `catalog`.
    fn session(&self, tenant: TenantId, budget: &Arc<Budget>, catalog: &str) -> Result<SessionContext> {
        let config = SessionConfig::new().with_information_schema(true).with_target_partitions(self.limits.partitions);
        let mut config = config.with_default_catalog_and_schema(catalog, "public");
        let options = config.options_mut();
        options.sql_parser.dialect = Dialect::PostgreSQL;
        options.execution.parquet.pushdown_filters = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(BudgetedPool::new(self.limits.memory_bytes_max, budget.clone())))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(|error| query_error(&error))?;
        let mut session = SessionContext::new_with_config_rt(config, runtime);
        bounded::bound_functions(&session);
        for function in &self.functions {
            session.register_udf(function.clone());
        }
        for rewrite in &self.rewrites {
            session.register_function_rewrite(rewrite.clone()).map_err(|error| query_error(&error))?;
        }
        let mut tables = (self.tables)(tenant, budget);
        let metrics = MetricsTable::new((self.metrics)(tenant), budget.clone());
        tables.push(("metrics".to_owned(), Arc::new(metrics)));
        for (name, table) in tables {
            session.register_table(name, table).map_err(|error| query_error(&error))?;
        }
        Ok(session)
    }
}

/// Rows as they come, with the limits kept.
fn answer(stream: SendableRecordBatchStream, budget: Arc<Budget>, rows_max: u64) -> SqlAnswer {
    let schema = stream.schema();
    let mut rows = 0;
    let batches = stream.map(move |batch| {
        budget.check()?;
        let batch = batch.map_err(|error| query_error(&error))?;
        rows += batch.num_rows() as u64;
        if rows > rows_max {
            return Err(Error::over_limit(format!("the answer has more than {rows_max} rows: add a LIMIT or aggregate")));
        }
        Ok(batch)
    });
    SqlAnswer { schema, batches: batches.boxed() }
}

async fn run(session: &SessionContext, sql: &str, budget: &Arc<Budget>) -> Result<SendableRecordBatchStream, DataFusionError> {
    shape::check_depth(sql)?;
    let state = session.state();
    let mut statement = state.sql_to_statement(sql, &Dialect::PostgreSQL)?;
    check_statement(&statement)?;
    short_forms::expand(&mut statement);
    let plan = state.statement_to_plan(statement).await?;
    verify(&plan)?;
    run_plan(session, plan, budget).await
}

/// Only what reads, and no more of it than is bearable.
fn verify(plan: &LogicalPlan) -> Result<(), DataFusionError> {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)?;
    shape::check_plan(plan)
}

async fn run_plan(
    session: &SessionContext,
    plan: LogicalPlan,
    budget: &Arc<Budget>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let frame = session.execute_logical_plan(plan).await?;
    let context = frame.task_ctx();
    let plan = frame.create_physical_plan().await?;
    let config = context.session_config().clone();
    let context = if watched::is_pairing(&plan)? {
        context.with_session_config(config.with_batch_size(watched::PAIRING_BATCH_ROWS))
    } else {
        context
    };
    execute_stream(watched::watch(plan, budget)?, Arc::new(context))
}

/// Only what reads. An EXPLAIN is checked for what it explains by [`SQLOptions::verify_plan`].
fn check_statement(statement: &ParsedStatement) -> Result<(), DataFusionError> {
    let reads = match statement {
        ParsedStatement::Statement(statement) => {
            shape::check_tables(statement)?;
            matches!(
                &**statement,
                // A query may end in a statement that writes what it has found.
                Statement::Query(query) if !matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_))
            ) || matches!(
                **statement,
                Statement::Explain { .. }
                    | Statement::ExplainTable { .. }
                    | Statement::ShowTables { .. }
                    | Statement::ShowColumns { .. }
                    | Statement::ShowVariable { .. }
                    | Statement::ShowFunctions { .. }
            )
        }
        ParsedStatement::Explain(explain) => return check_statement(&explain.statement),
        _ => false,
    };
    if reads {
        return Ok(());
    }
    Err(DataFusionError::Plan("only SELECT, EXPLAIN, SHOW and DESCRIBE are allowed: SQL here reads and never writes".to_owned()))
}

/// What the user should do about an error of DataFusion. Our own errors, from inside a table, come out as they went in.
fn query_error(error: &DataFusionError) -> Error {
    let root = error.find_root();
    if let DataFusionError::External(source) = root
        && let Some(own) = source.downcast_ref::<Error>()
    {
        return Error::new(own.kind(), own.message().to_owned());
    }
    let message = unknown_column(root).unwrap_or_else(|| root.strip_backtrace());
    let place = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| span.start);
    let message = match place {
        Some(place) => format!("{message} (line {}, column {})", place.line, place.column),
        None => message,
    };
    match root {
        DataFusionError::ResourcesExhausted(_) => Error::new(
            Kind::OverLimit,
            format!("the query needs more memory than it may use: narrow the time range or aggregate less ({message})"),
        ),
        DataFusionError::Internal(_) => wrong_pattern(&message).unwrap_or_else(|| Error::corrupt(message)),
        _ => Error::fix_request(message),
    }
}

/// Where columns are looked for in the answer and in the tables, DataFusion names those that are in both twice.
fn unknown_column(root: &DataFusionError) -> Option<String> {
    let DataFusionError::SchemaError(error, _) = root else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = &**error else { return None };
    let mut known: Vec<Column> = Vec::new();
    for column in valid_fields {
        if !known.iter().any(|other| other.flat_name() == column.flat_name()) {
            known.push(column.clone());
        }
    }
    Some(format!("Schema error: {}", SchemaError::FieldNotFound { field: field.clone(), valid_fields: known }))
}

/// Where a comparison with a regular expression compiles it, what is wrong with it comes as a bug of DataFusion.
fn wrong_pattern(message: &str) -> Option<Error> {
    let at = message.find("Regular expression did not compile")?;
    Some(Error::fix_request(message[at..].lines().next().unwrap_or_default().to_owned()))
}
