//! Commands that ask a server.

mod client;
mod logs;
mod query;
pub(crate) mod table;

pub(crate) use client::{Client, NoAnswer, ServerArguments, WrongUsage, server_url};
pub(crate) use logs::{LogsArguments, logs};
pub(crate) use query::{IssuesArguments, QueryArguments, TracesArguments, issues, query, traces};
pub(crate) use table::{Format, Rows};
