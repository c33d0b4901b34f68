//! SQL as clients of PostgreSQL ask it: with parameters, catalog tables, and rows in PostgreSQL's formats.

mod catalog;
mod faults;
mod parameters;
mod rewrite;
mod values;

pub use catalog::SETTINGS;
pub use faults::{SqlFault, state_of};
pub use parameters::Parameter;
pub use values::{Column, Rows, columns, encode};

use super::{SqlAnswer, SqlEngine, check_statement, run_plan, shape};
use br_model::TenantId;
use br_std::Error;
use br_storage::Budget;
use datafusion::common::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use rewrite::Rewrite;
use std::sync::Arc;

/// The version whose catalog and functions clients may expect.
pub const SERVER_VERSION: &str = "14.0";

/// Who a client is for the functions that say so.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub user: String,
    /// Ours.
    pub version: String,
    /// The number by which a client cancels what it asks here.
    pub process: i32,
}

/// What a statement takes and gives.
pub struct Described {
    /// The type of each parameter.
    pub parameters: Vec<u32>,
    pub columns: Vec<Column>,
}

impl SqlEngine {
    /// Plans a query and starts it, as [`SqlEngine::query`] does, with values for its parameters. The number of rows has no limit:
    /// whoever reads the stream keeps none of them.
    pub async fn postgres_query(
        &self,
        tenant: TenantId,
        sql: &str,
        parameters: &[Parameter],
        identity: &Identity,
        budget: Arc<Budget>,
    ) -> Result<SqlAnswer, SqlFault> {
        let fault = |error: DataFusionError| SqlFault::of(&error, sql);
        let session = self.postgres_session(tenant, sql, identity, &budget).await?;
        let plan = plan(&session, sql, &Rewrite::with_values(parameters).map_err(SqlFault::from)?).await.map_err(fault)?;
        let stream = run_plan(&session, plan, &budget).await.map_err(fault)?;
        Ok(super::answer(stream, budget, u64::MAX))
    }

    /// What a statement takes and gives, before its parameters are known. `types` are those that the client has named; 0 is none.
    pub async fn postgres_describe(
        &self,
        tenant: TenantId,
        sql: &str,
        types: &[u32],
        identity: &Identity,
        budget: Arc<Budget>,
    ) -> Result<Described, SqlFault> {
        let session = self.postgres_session(tenant, sql, identity, &budget).await?;
        let open = plan(&session, sql, &Rewrite::with_open_parameters()).await;
        let (plan, inferred) = match open {
            Ok(plan) => {
                let inferred = parameters::inferred(&plan).map_err(|error| SqlFault::of(&error, sql))?;
                (plan, inferred)
            }
            // Where a type is needed to go on, such as for the argument of a function, the client's word or text is taken.
            Err(first) => {
                let rewrite = Rewrite::with_nulls(types);
                match plan(&session, sql, &rewrite).await {
                    Ok(plan) => (plan, Vec::new()),
                    Err(_) => return Err(SqlFault::of(&first, sql)),
                }
            }
        };
        let count = rewrite::parameters_of(sql).max(types.len());
        let parameters = (0..count).map(|at| {
            let named = types.get(at).copied().filter(|oid| *oid != 0);
            named.or_else(|| inferred.get(at).copied().flatten()).unwrap_or(values::TEXT)
        });
        Ok(Described { parameters: parameters.collect(), columns: columns(plan.schema().as_arrow()) })
    }

    async fn postgres_session(
        &self,
        tenant: TenantId,
        sql: &str,
        identity: &Identity,
        budget: &Arc<Budget>,
    ) -> Result<SessionContext, SqlFault> {
        self.check_length(sql)?;
        let session = self.session(tenant, budget, catalog::DATABASE)?;
        // What a time with a zone is cast to: the stores' times are in UTC.
        session.state_ref().write().config_mut().options_mut().execution.time_zone = Some("UTC".to_owned());
        catalog::register(&session, sql, identity).await.map_err(|error| SqlFault::of(&error, sql))?;
        Ok(session)
    }
}

async fn plan(session: &SessionContext, sql: &str, rewrite: &Rewrite) -> Result<LogicalPlan, DataFusionError> {
    shape::check_depth(sql)?;
    let state = session.state();
    let mut statement: Statement = state.sql_to_statement(sql, &super::Dialect::PostgreSQL)?;
    check_statement(&statement)?;
    rewrite.apply(&mut statement)?;
    let plan = state.statement_to_plan(statement).await?;
    super::verify(&plan)?;
    Ok(plan)
}

impl From<Error> for SqlFault {
    fn from(error: Error) -> Self {
        Self { state: state_of(&error), error, position: None }
    }
}
