//! A query under way: the engine makes rows on its own threads, the connection sends them on.
//!
//! Between the two are a few chunks of rows. A client that reads slowly holds back the engine, not its own rows in memory; the time
//! limit of queries goes on meanwhile.

use super::Shared;
use super::wire::{Stop, Wire};
use br_model::TenantId;
use br_query::door::Language;
use br_query::sql::postgres::{Column, Identity, Parameter, Rows, SqlFault, encode, state_of};
use br_std::Error;
use br_storage::{Budget, CancelReason};
use br_wire::postgres::{self as protocol, Fault, Severity, is_binary};
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Chunks of rows between the engine and the connection.
const CHUNKS: usize = 2;

/// What to run.
pub(super) struct Order {
    pub(super) tenant: TenantId,
    pub(super) sql: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) result_formats: Vec<bool>,
    pub(super) identity: Identity,
}

pub(super) struct Running {
    /// Ends with the warnings of the answer.
    task: Option<JoinHandle<br_std::Result<Vec<String>>>>,
    chunks: mpsc::Receiver<Rows>,
    /// A chunk of which some rows are sent.
    rest: Option<(Rows, usize)>,
    pub(super) columns: Vec<Column>,
    /// Of the client's own choice.
    deadline: Option<Instant>,
    pub(super) rows: u64,
}

/// Dropping it stops the query.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What ends a wait besides what is waited for.
pub(super) struct Interrupts<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) cancelled: &'a mut watch::Receiver<u64>,
}

impl Interrupts<'_> {
    async fn unless<T>(&mut self, deadline: Option<Instant>, wanted: impl Future<Output = T>) -> Result<T, Stop> {
        let timed_out = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            wanted = wanted => Ok(wanted),
            Ok(()) = self.cancelled.changed() => Err(Fault::new("57014", "canceling statement due to user request").into()),
            () = timed_out => Err(Fault::new("57014", "canceling statement due to statement timeout").into()),
            () = self.wire.gone() => Err(Stop::Gone),
        }
    }
}

type Head = Result<Vec<Column>, Fault>;

impl Running {
    /// Plans and starts; the columns are known then.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        order: Order,
        timeout: Option<Duration>,
        interrupts: &mut Interrupts<'_>,
    ) -> Result<Self, Stop> {
        let (head, begun) = oneshot::channel();
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let app = shared.app.clone();
        let task = tokio::spawn(async move {
            let (tenant, text, engine) = (order.tenant, order.sql.clone(), app.sql.clone());
            let work = async move |budget: Arc<Budget>| {
                let answer =
                    engine.postgres_query(order.tenant, &order.sql, &order.parameters, &order.identity, budget.clone()).await;
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(fault) => return Err(tell(head, fault)),
                };
                let columns = br_query::sql::postgres::columns(&answer.schema);
                let formats: Vec<bool> = (0..columns.len()).map(|at| is_binary(&order.result_formats, at)).collect();
                let _ = head.send(Ok(columns));
                let mut batches = answer.batches;
                while let Some(batch) = batches.next().await {
                    let (batch, mut at) = (batch?, 0);
                    while at < batch.num_rows() {
                        let (rows, next) = encode(&batch, at, &formats)?;
                        at = next;
                        sender.send(rows).await.map_err(|_| CancelReason::Caller.error())?;
                    }
                }
                Ok(budget.damage().warnings())
            };
            app.door.run_async(tenant, Language::Sql, &text, &app.sql_workers, work).await
        });
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut running = Self { task: Some(task), chunks, rest: None, columns: Vec::new(), deadline, rows: 0 };
        shared.app.postgres.statements.fetch_add(1, Ordering::Relaxed);
        let head: Result<Head, _> = interrupts.unless(deadline, begun).await?;
        match head {
            Ok(columns) => running.columns = columns?,
            // It did not come so far: its time was over, or there was no place for it.
            Err(_) => return Err(running.outcome().await.err().unwrap_or(Stop::Gone)),
        }
        Ok(running)
    }

    /// Sends up to `rows_max` rows, 0 for all; returns whether there may be more. Warnings are sent behind the last.
    pub(super) async fn send(&mut self, rows_max: u32, interrupts: &mut Interrupts<'_>) -> Result<bool, Stop> {
        let mut left = if rows_max == 0 { usize::MAX } else { rows_max as usize };
        loop {
            if let Some((rows, from)) = &mut self.rest {
                let to = rows.ends.len().min(from.saturating_add(left));
                let end_of = |row: usize| row.checked_sub(1).map_or(0, |before| rows.ends[before]);
                interrupts.wire.out.extend(&rows.bytes[end_of(*from)..end_of(to)]);
                left -= to - *from;
                self.rows += (to - *from) as u64;
                *from = to;
                if to == rows.ends.len() {
                    self.rest = None;
                }
                interrupts.wire.flush_full().await?;
                if left == 0 {
                    return Ok(true);
                }
            }
            match interrupts.unless(self.deadline, self.chunks.recv()).await? {
                Some(rows) => self.rest = Some((rows, 0)),
                None => break,
            }
        }
        for warning in self.outcome().await? {
            protocol::error(&mut interrupts.wire.out, Severity::Warning, &Fault::new("01000", warning));
        }
        Ok(false)
    }

    async fn outcome(&mut self) -> Result<Vec<String>, Stop> {
        // Kept here while it is waited for: it is aborted with the rest.
        let Some(task) = &mut self.task else { return Ok(Vec::new()) };
        let outcome = task.await;
        self.task = None;
        match outcome {
            Ok(Ok(warnings)) => Ok(warnings),
            Ok(Err(error)) => Err(Fault::new(state_of(&error), error.message()).into()),
            Err(error) => Err(Fault::new("XX000", format!("the query failed inside: {error}")).into()),
        }
    }
}

/// The client gets the whole of what is wrong, the door its kind.
fn tell(head: oneshot::Sender<Head>, fault: SqlFault) -> Error {
    let told = Fault { state: fault.state, message: fault.error.message().to_owned(), position: fault.position };
    let _ = head.send(Err(told));
    fault.error
}
