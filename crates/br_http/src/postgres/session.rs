//! What one client has said: its settings, its prepared statements, its portals, its transaction.
//!
//! A transaction is only remembered, for drivers that ask how theirs stands: there is nothing to commit.

use super::commands::{Command, command_of};
use super::running::{Interrupts, Order, Running};
use super::wire::{Stop, Wire};
use super::{Registration, Shared};
use br_model::Principal;
use br_query::door::Language;
use br_query::sql::postgres::{Described, Identity, Parameter, SETTINGS};
use br_wire::postgres::{self as protocol, Bind, Fault, Message, Severity, Startup, Target, TransactionState, is_binary, split};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// What a client may keep here: settings, prepared statements and portals, each of them; and the bytes of one kind together.
const KEPT_MAX: usize = 256;
const KEPT_BYTES_MAX: usize = 1 << 20;
/// A connection that asks nothing for so long ends.
const IDLE_WITHIN: Duration = Duration::from_hours(1);
/// `text`, for what is answered here.
const TEXT: u32 = 25;

struct Prepared {
    sql: String,
    command: Command,
    types: Vec<u32>,
}

struct Portal {
    statement: Arc<Prepared>,
    parameters: Vec<Parameter>,
    result_formats: Vec<bool>,
    /// Once it has been described or executed.
    running: Option<Running>,
    is_done: bool,
}

impl Portal {
    fn bytes(&self) -> usize {
        self.parameters.iter().filter_map(|parameter| parameter.bytes.as_ref()).map(Vec::len).sum()
    }
}

pub(super) struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    registration: Registration,
    principal: Principal,
    identity: Identity,
    stopped: watch::Receiver<bool>,
    transaction: TransactionState,
    settings: BTreeMap<String, String>,
    statements: BTreeMap<String, Arc<Prepared>>,
    portals: BTreeMap<String, Portal>,
    /// After an error of the extended protocol everything up to the next Sync is passed over.
    is_skipping: bool,
}

impl Session {
    pub(super) fn new(
        wire: Wire,
        registration: Registration,
        principal: Principal,
        startup: &Startup,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let user = principal.name.clone();
        let identity = Identity { user, version: env!("CARGO_PKG_VERSION").to_owned(), process: registration.process };
        let given = startup.parameters.iter().filter(|(name, _)| !matches!(name.as_str(), "user" | "database" | "options"));
        let settings = given.map(|(name, value)| (name.to_lowercase(), value.clone())).take(KEPT_MAX).collect();
        Self {
            shared: registration.shared.clone(),
            wire,
            registration,
            principal,
            identity,
            stopped,
            transaction: TransactionState::Idle,
            settings,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            is_skipping: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        loop {
            // Answers to what comes in one go leave in one go.
            let flushed = if self.wire.has_message() { self.wire.flush_full().await } else { self.wire.flush().await };
            if flushed.is_err() {
                return;
            }
            let message = tokio::select! {
                message = tokio::time::timeout(IDLE_WITHIN, self.wire.message()) => Some(message),
                _ = stopped.wait_for(|stopped| *stopped) => None,
            };
            let Some(message) = message else {
                return self.wire.refuse("57P01", "the server is shutting down").await;
            };
            let outcome = match message {
                Ok(Ok(Some(Message::Terminate) | None)) => return,
                Ok(Ok(Some(message))) => self.take(message).await,
                Ok(Err(error)) => return self.wire.refuse("08P01", error.to_string()).await,
                Err(_) => return self.wire.refuse("57P05", "nothing was asked for an hour").await,
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Answers a message; only the end of the connection comes back as an error.
    async fn take(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Query(sql) => {
                self.is_skipping = false;
                return self.simple(&sql).await;
            }
            Message::Sync => {
                self.is_skipping = false;
                if self.transaction == TransactionState::Idle {
                    self.portals.clear();
                }
                protocol::ready(&mut self.wire.out, self.transaction);
                return Ok(());
            }
            Message::Flush => return self.wire.flush().await,
            _ if self.is_skipping => return Ok(()),
            _ => {}
        }
        match self.extended(message).await {
            Err(Stop::Fault(fault)) => {
                self.is_skipping = true;
                self.fail(&fault);
                Ok(())
            }
            other => other,
        }
    }

    fn fail(&mut self, fault: &Fault) {
        let counters = &self.shared.app.postgres;
        counters.failed.fetch_add(1, Ordering::Relaxed);
        if fault.state == "57014" {
            counters.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        protocol::error(&mut self.wire.out, Severity::Error, fault);
        if self.transaction == TransactionState::Open {
            self.transaction = TransactionState::Failed;
        }
    }

    async fn simple(&mut self, sql: &str) -> Result<(), Stop> {
        self.portals.remove("");
        let statements = split(sql);
        if statements.is_empty() {
            self.wire.out.extend(protocol::EMPTY_QUERY);
        }
        for statement in statements {
            match self.simple_statement(statement).await {
                Ok(()) => {}
                Err(Stop::Fault(mut fault)) => {
                    // Positions count from the beginning of the whole text.
                    let before = sql[..statement.as_ptr() as usize - sql.as_ptr() as usize].chars().count();
                    fault.position = fault.position.map(|position| position + before);
                    self.fail(&fault);
                    break;
                }
                Err(Stop::Gone) => return Err(Stop::Gone),
            }
        }
        protocol::ready(&mut self.wire.out, self.transaction);
        Ok(())
    }

    async fn simple_statement(&mut self, sql: &str) -> Result<(), Stop> {
        let prepared = Prepared { sql: sql.to_owned(), command: command_of(sql), types: Vec::new() };
        let mut portal = Portal {
            statement: Arc::new(prepared),
            parameters: Vec::new(),
            result_formats: Vec::new(),
            running: None,
            is_done: false,
        };
        self.describe_portal(&mut portal, false).await?;
        self.execute(&mut portal, 0).await
    }

    async fn extended(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Parse { name, query, parameter_types } => self.parse(name, &query, parameter_types)?,
            Message::Bind(bind) => self.bind(bind)?,
            Message::Describe(Target::Statement(name)) => self.describe_statement(&name).await?,
            Message::Describe(Target::Portal(name)) => {
                let mut portal = self.take_portal(&name)?;
                self.describe_portal(&mut portal, true).await?;
                self.portals.insert(name, portal);
            }
            Message::Execute { portal: name, rows_max } => {
                let mut portal = self.take_portal(&name)?;
                self.execute(&mut portal, rows_max).await?;
                self.portals.insert(name, portal);
            }
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                self.wire.out.extend(protocol::CLOSE_COMPLETE);
            }
            Message::FunctionCall => return Err(Fault::new("0A000", "functions are called in SELECT only").into()),
            Message::Password(_) => return Err(Fault::new("08P01", "nobody asked for a password").into()),
            // COPY is refused; what a client sends for it all the same is passed over.
            _ => {}
        }
        Ok(())
    }

    fn take_portal(&mut self, name: &str) -> Result<Portal, Fault> {
        self.portals.remove(name).ok_or_else(|| Fault::new("34000", format!("portal {name:?} does not exist")))
    }

    fn parse(&mut self, name: String, sql: &str, types: Vec<u32>) -> Result<(), Fault> {
        let statements = split(sql);
        if statements.len() > 1 {
            return Err(Fault::new("42601", "a prepared statement is one statement: this text has more"));
        }
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Fault::new("42P05", format!("prepared statement {name:?} already exists")));
        }
        let bytes: usize = self.statements.values().map(|statement| statement.sql.len()).sum();
        if self.statements.len() >= KEPT_MAX || bytes + sql.len() > KEPT_BYTES_MAX {
            return Err(Fault::new("53400", format!("{} statements are prepared: DEALLOCATE some", self.statements.len())));
        }
        let command = if statements.is_empty() { Command::Nothing("") } else { command_of(sql) };
        // A semicolon at the end is none of the engine's.
        let sql = statements.first().copied().unwrap_or_default().to_owned();
        self.statements.insert(name, Arc::new(Prepared { sql, command, types }));
        self.wire.out.extend(protocol::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Fault> {
        let statement = self.statement(&bind.statement)?;
        let parameters = bind.parameters.into_iter().enumerate().map(|(at, bytes)| Parameter {
            oid: statement.types.get(at).copied().unwrap_or(0),
            is_binary: is_binary(&bind.parameter_formats, at),
            bytes,
        });
        let parameters = parameters.collect();
        let portal = Portal { statement, parameters, result_formats: bind.result_formats, running: None, is_done: false };
        self.keep_portal(bind.portal, portal)?;
        self.wire.out.extend(protocol::BIND_COMPLETE);
        Ok(())
    }

    fn keep_portal(&mut self, name: String, portal: Portal) -> Result<(), Fault> {
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(Fault::new("42P03", format!("cursor {name:?} already exists")));
        }
        let bytes: usize = self.portals.values().map(Portal::bytes).sum();
        if self.portals.len() >= KEPT_MAX || bytes + portal.bytes() > KEPT_BYTES_MAX {
            return Err(Fault::new("53400", format!("{} portals are open: close some", self.portals.len())));
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>, Fault> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| Fault::new("26000", format!("prepared statement {name:?} does not exist")))
    }

    async fn describe_statement(&mut self, name: &str) -> Result<(), Stop> {
        let statement = self.statement(name)?;
        if !matches!(statement.command, Command::Query(_)) {
            protocol::parameter_description(&mut self.wire.out, &statement.types);
            self.columns_of_command(&statement.command);
            return Ok(());
        }
        let described = self.described(&statement).await?;
        protocol::parameter_description(&mut self.wire.out, &described.parameters);
        let columns = described.columns.iter().map(|column| (column.name.as_str(), column.oid, column.size, false));
        protocol::row_description(&mut self.wire.out, columns);
        // What has been told is what the client will send.
        let Prepared { sql, command, .. } = &*statement;
        let known = Prepared { sql: sql.clone(), command: command.clone(), types: described.parameters };
        self.statements.insert(name.to_owned(), Arc::new(known));
        Ok(())
    }

    async fn described(&mut self, statement: &Prepared) -> Result<Described, Stop> {
        let (app, tenant, identity) = (self.shared.app.clone(), self.principal.tenant, self.identity.clone());
        let (engine, sql, types) = (app.sql.clone(), statement.sql.clone(), statement.types.clone());
        let (sender, told) = oneshot::channel();
        let work = async move |budget| {
            // The door knows errors by their kind; the client is told all.
            let described = engine.postgres_describe(tenant, &sql, &types, &identity, budget).await;
            let _ = sender.send(described);
            Ok(())
        };
        let outcome = app.door.run_async(tenant, Language::Sql, &statement.sql, &app.sql_workers, work).await;
        if let Err(error) = outcome {
            return Err(Fault::new(br_query::sql::postgres::state_of(&error), error.message()).into());
        }
        match told.await {
            Ok(Ok(described)) => Ok(described),
            Ok(Err(fault)) => {
                Err(Fault { state: fault.state, message: fault.error.message().to_owned(), position: fault.position }.into())
            }
            Err(_) => Err(Stop::Gone),
        }
    }

    /// Tells the columns; a simple query has nothing to be told where there are none.
    async fn describe_portal(&mut self, portal: &mut Portal, is_asked: bool) -> Result<(), Stop> {
        if let Command::Query(_) = portal.statement.command {
            self.start(portal).await?;
            if let Some(running) = &portal.running {
                tell_columns(&mut self.wire, running, &portal.result_formats);
            }
        } else if let Command::Fetch { name, .. } = &portal.statement.command {
            let mut cursor = self.take_portal(name)?;
            self.start(&mut cursor).await?;
            if let Some(running) = &cursor.running {
                tell_columns(&mut self.wire, running, &cursor.result_formats);
            }
            self.portals.insert(name.clone(), cursor);
        } else if is_asked || matches!(portal.statement.command, Command::Show(_)) {
            self.columns_of_command(&portal.statement.command);
        }
        Ok(())
    }

    fn columns_of_command(&mut self, command: &Command) {
        match command {
            Command::Show(name) => protocol::row_description(&mut self.wire.out, [(name.as_str(), TEXT, -1, false)].into_iter()),
            _ => self.wire.out.extend(protocol::NO_DATA),
        }
    }

    async fn start(&mut self, portal: &mut Portal) -> Result<(), Stop> {
        if portal.running.is_some() || portal.is_done {
            return Ok(());
        }
        self.check_transaction()?;
        let order = Order {
            tenant: self.principal.tenant,
            sql: portal.statement.sql.clone(),
            parameters: portal.parameters.clone(),
            result_formats: portal.result_formats.clone(),
            identity: self.identity.clone(),
        };
        let timeout = self.settings.get("statement_timeout").and_then(|value| milliseconds(value)).filter(|time| !time.is_zero());
        self.registration.cancelled.mark_unchanged();
        let mut interrupts = Interrupts { wire: &mut self.wire, cancelled: &mut self.registration.cancelled };
        portal.running = Some(Running::start(&self.shared, order, timeout, &mut interrupts).await?);
        Ok(())
    }

    fn check_transaction(&self) -> Result<(), Fault> {
        if self.transaction == TransactionState::Failed {
            return Err(Fault::new("25P02", "the transaction has failed: nothing is answered until its ROLLBACK"));
        }
        Ok(())
    }

    async fn execute(&mut self, portal: &mut Portal, rows_max: u32) -> Result<(), Stop> {
        let Command::Query(tag) = portal.statement.command else {
            let parameters = std::mem::take(&mut portal.parameters);
            return match portal.statement.command.clone() {
                Command::Fetch { name, rows_max } => self.fetch(&name, rows_max).await,
                Command::Declare { name, query } => self.declare(name, query, parameters).map_err(Stop::Fault),
                command => self.command(command),
            };
        };
        self.start(portal).await?;
        if let Some(mut running) = portal.running.take() {
            let has_more = self.send(&mut running, rows_max).await?;
            if has_more {
                portal.running = Some(running);
                self.wire.out.extend(protocol::PORTAL_SUSPENDED);
                return Ok(());
            }
            portal.is_done = true;
            complete(&mut self.wire, tag, running.rows);
            return Ok(());
        }
        complete(&mut self.wire, tag, 0);
        Ok(())
    }

    async fn send(&mut self, running: &mut Running, rows_max: u32) -> Result<bool, Stop> {
        let mut interrupts = Interrupts { wire: &mut self.wire, cancelled: &mut self.registration.cancelled };
        running.send(rows_max, &mut interrupts).await
    }

    /// Rows of a cursor.
    async fn fetch(&mut self, name: &str, rows_max: Option<u32>) -> Result<(), Stop> {
        self.check_transaction()?;
        let mut portal = self.take_portal(name)?;
        self.registration.cancelled.mark_unchanged();
        self.start(&mut portal).await?;
        let before = portal.running.as_ref().map_or(0, |running| running.rows);
        let mut fetched = 0;
        if let Some(mut running) = portal.running.take() {
            let has_more = rows_max == Some(0) || self.send(&mut running, rows_max.unwrap_or(0)).await?;
            fetched = running.rows - before;
            portal.is_done = !has_more;
            // Kept without more rows too: the next FETCH tells the same columns.
            portal.running = Some(running);
        }
        self.portals.insert(name.to_owned(), portal);
        protocol::command_complete(&mut self.wire.out, &format!("FETCH {fetched}"));
        Ok(())
    }

    /// What concerns the connection.
    fn command(&mut self, command: Command) -> Result<(), Stop> {
        if !matches!(command, Command::Commit | Command::Rollback | Command::RollbackTo) {
            self.check_transaction()?;
        }
        let tag = match command {
            Command::Begin => {
                self.transaction = TransactionState::Open;
                "BEGIN"
            }
            Command::Commit => {
                let has_failed = self.transaction == TransactionState::Failed;
                self.end_transaction();
                if has_failed { "ROLLBACK" } else { "COMMIT" }
            }
            Command::Rollback => {
                self.end_transaction();
                "ROLLBACK"
            }
            Command::RollbackTo => {
                if self.transaction == TransactionState::Failed {
                    self.transaction = TransactionState::Open;
                }
                "ROLLBACK"
            }
            Command::Set { name, value } => {
                self.set(&name, value)?;
                "SET"
            }
            Command::Reset(name) => {
                self.settings.remove(&name);
                "RESET"
            }
            Command::ResetAll => {
                self.settings.clear();
                "RESET"
            }
            Command::DiscardAll => {
                self.settings.clear();
                self.statements.clear();
                self.portals.clear();
                "DISCARD ALL"
            }
            Command::Deallocate(name) => {
                forget(&mut self.statements, name);
                "DEALLOCATE"
            }
            Command::Close(name) => {
                forget(&mut self.portals, name);
                "CLOSE CURSOR"
            }
            Command::Show(name) => return self.show(&name).map_err(Stop::Fault),
            Command::Nothing("") => {
                self.wire.out.extend(protocol::EMPTY_QUERY);
                return Ok(());
            }
            Command::Nothing(tag) => tag,
            Command::Refused(fault) => return Err(fault.into()),
            Command::Query(_) | Command::Fetch { .. } | Command::Declare { .. } => {
                return Err(Fault::new("XX000", "this has rows, and was taken for a command without").into());
            }
        };
        protocol::command_complete(&mut self.wire.out, tag);
        Ok(())
    }

    fn end_transaction(&mut self) {
        self.transaction = TransactionState::Idle;
        self.portals.clear();
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Fault> {
        if name == "client_encoding" && !["utf8", "utf-8", "unicode", "default"].contains(&value.to_lowercase().as_str()) {
            return Err(Fault::new("22023", format!("client_encoding {value:?}: all text here is UTF8")));
        }
        if name == "statement_timeout" && milliseconds(&value).is_none() {
            return Err(Fault::new("22023", format!("statement_timeout {value:?} is no time such as 500 or 5s")));
        }
        let writes = ["default_transaction_read_only", "transaction_read_only"].contains(&name);
        if writes && matches!(value.to_lowercase().as_str(), "off" | "false" | "no" | "0") {
            return Err(Fault::new("25006", "cannot set transaction read-write mode: SQL here reads and never writes"));
        }
        if self.settings.len() >= KEPT_MAX && !self.settings.contains_key(name) {
            return Err(Fault::new("53400", format!("{KEPT_MAX} settings are set")));
        }
        if value.eq_ignore_ascii_case("default") {
            self.settings.remove(name);
        } else {
            self.settings.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn show(&mut self, name: &str) -> Result<(), Fault> {
        let known = SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let value = self.settings.get(name).map(String::as_str).or(known);
        let value = value.ok_or_else(|| Fault::new("42704", format!("unrecognized configuration parameter {name:?}")))?;
        let length = value.len() as u32;
        let out = &mut self.wire.out;
        out.push(b'D');
        out.extend((length + 10).to_be_bytes());
        out.extend(1_u16.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(value.as_bytes());
        protocol::command_complete(out, "SHOW");
        Ok(())
    }

    fn declare(&mut self, name: String, query: String, parameters: Vec<Parameter>) -> Result<(), Fault> {
        self.check_transaction()?;
        if self.transaction == TransactionState::Idle {
            return Err(Fault::new("25P01", "a cursor lives in a transaction: BEGIN first"));
        }
        let command = command_of(&query);
        if !matches!(command, Command::Query(_)) {
            return Err(Fault::new("42601", "a cursor is declared for a SELECT"));
        }
        let statement = Arc::new(Prepared { sql: query, command, types: Vec::new() });
        let portal = Portal { statement, parameters, result_formats: Vec::new(), running: None, is_done: false };
        self.keep_portal(name, portal)?;
        protocol::command_complete(&mut self.wire.out, "DECLARE CURSOR");
        Ok(())
    }
}

fn tell_columns(wire: &mut Wire, running: &Running, result_formats: &[bool]) {
    let columns = running.columns.iter().enumerate();
    let columns = columns.map(|(at, column)| (column.name.as_str(), column.oid, column.size, is_binary(result_formats, at)));
    protocol::row_description(&mut wire.out, columns);
}

fn complete(wire: &mut Wire, tag: &str, rows: u64) {
    let tag = if tag == "SELECT" { format!("SELECT {rows}") } else { tag.to_owned() };
    protocol::command_complete(&mut wire.out, &tag);
}

/// One, or all.
fn forget<T>(kept: &mut BTreeMap<String, T>, name: Option<String>) {
    match name {
        Some(name) => drop(kept.remove(&name)),
        None => kept.clear(),
    }
}

/// `500`, `5s`, `2min`, as PostgreSQL writes times.
fn milliseconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(factor)?))
}
