//! Is it alive, is it ready, and what does it count.

use crate::app::App;
use crate::error::ApiError;
use crate::params::Params;
use crate::postgres::PostgresCounters;
use crate::routes::Routes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use br_ingest::files::FileCounters;
use br_ingest::scrape::DiscoveryStatus;
use br_ingest::syslog::SyslogCounters;
use br_model::{Principal, Right};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/metrics", Right::Read, metrics)
}

/// Probes have no credential, and learn nothing but yes or no.
pub(crate) fn open_routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/-/healthy", get(|| async { "Bellrock is healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/ready", get(ready))
        .with_state(app)
}

/// Ready to take data. Queries answer from the first moment too, with what has been read back so far; who needs whole answers asks
/// with `?query=1`.
async fn ready(State(app): State<Arc<App>>, params: Params) -> Response {
    let unavailable = |reason: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    if params.get("query").is_some_and(|query| query != "0") {
        return app.partial_answers().map_or_else(|| "Bellrock is ready for queries.\n".into_response(), unavailable);
    }
    match app.intake.journal().check_accepting() {
        Ok(()) => "Bellrock is ready.\n".into_response(),
        Err(error) => unavailable(error.to_string()),
    }
}

/// Text exposition under construction.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, label_value: &str, value: impl std::fmt::Display) {
        let escaped = label_value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(self.0, "{name}{{{label}=\"{escaped}\"}} {value}");
    }

    fn of_discovery(&mut self, name: &str, status: &DiscoveryStatus, value: impl std::fmt::Display) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let (job, place) = (escape(&status.job), escape(&status.place));
        let _ = writeln!(self.0, "{name}{{scrape_job=\"{job}\",mechanism=\"{}\",place=\"{place}\"}} {value}", status.mechanism);
    }

    fn counter(&mut self, name: &str, help: &str, counter: &AtomicU64) {
        self.family(name, "counter", help).value(name, counter.load(Ordering::Relaxed));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help).value(name, value);
    }
}

async fn metrics(State(app): State<Arc<App>>, Extension(principal): Extension<Principal>) -> Response {
    if let Err(error) = app.check_operator(principal.tenant) {
        return ApiError(error).into_response();
    }
    let mut out = Exposition::default();
    out.family("bellrock_build_info", "gauge", "The version that runs.");
    out.labelled("bellrock_build_info", "version", env!("CARGO_PKG_VERSION"), 1);
    out.gauge("process_start_time_seconds", "When the process started.", app.started.as_secs_f64());
    intake(&mut out, &app);
    journal(&mut out, &app);
    let help = "1 when the start found no usable catalog, and went on from its copy or from the files alone.";
    out.gauge("bellrock_catalog_rescued", help, u8::from(!app.catalog_state.story.is_empty()));
    let door = &app.door.counters;
    out.counter("bellrock_queries_started_total", "Queries that were admitted.", &door.started);
    out.counter("bellrock_queries_failed_total", "Queries that ended with an error.", &door.failed);
    out.counter("bellrock_queries_over_limit_total", "Queries that reached a limit.", &door.over_limit);
    out.counter("bellrock_queries_refused_total", "Queries that found no place to wait.", &door.refused);
    out.counter("bellrock_queries_timed_out_total", "Queries that ran into their time limit, waiting included.", &door.timed_out);
    out.gauge("bellrock_queries_overdue", "Queries that still compute after they were told to stop.", app.door.overdue());
    out.gauge("bellrock_queries_memory_bytes", "What queries hold of limits.queries_memory.", app.door.bytes_taken());
    out.gauge("bellrock_answers_on_their_way_bytes", "What large answers hold until they are sent.", app.answers.bytes_taken());
    postgres(&mut out, &app.postgres);
    discoveries(&mut out, &app.scrape.discoveries());
    let cache = &app.range_cache.counters;
    let help = "Steps of range queries that were answered from what was known.";
    out.counter("bellrock_range_cache_steps_reused_total", help, &cache.steps_reused);
    let help = "Steps of range queries that could have been known and had to be evaluated.";
    out.counter("bellrock_range_cache_steps_evaluated_total", help, &cache.steps_evaluated);
    let help = "Range queries whose answers are not kept.";
    out.counter("bellrock_range_cache_bypassed_total", help, &cache.bypassed);
    let bytes = cache.bytes.load(Ordering::Relaxed);
    out.gauge("bellrock_range_cache_bytes", "What the kept answers of range queries hold.", bytes);
    out.0.push_str(&app.stats.exposition());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out.0).into_response()
}

fn postgres(out: &mut Exposition, counters: &PostgresCounters) {
    let open = counters.open.load(Ordering::Relaxed);
    out.gauge("bellrock_postgres_connections", "Connections of PostgreSQL's protocol that are open.", open);
    out.counter("bellrock_postgres_connections_total", "Connections of PostgreSQL's protocol.", &counters.connections);
    let help = "Connections of PostgreSQL's protocol that found all places taken.";
    out.counter("bellrock_postgres_connections_refused_total", help, &counters.refused);
    let help = "Connections of PostgreSQL's protocol whose password was no known token.";
    out.counter("bellrock_postgres_unauthorized_total", help, &counters.unauthorized);
    out.counter("bellrock_postgres_queries_total", "Queries of PostgreSQL's protocol that were run.", &counters.statements);
    let help = "Statements of PostgreSQL's protocol that ended with an error.";
    out.counter("bellrock_postgres_failed_total", help, &counters.failed);
    let help = "Statements of PostgreSQL's protocol that were cancelled or ran into their time limit.";
    out.counter("bellrock_postgres_cancelled_total", help, &counters.cancelled);
}

fn discoveries(out: &mut Exposition, all: &[DiscoveryStatus]) {
    if all.is_empty() {
        return;
    }
    out.family("bellrock_discovery_targets", "gauge", "Targets that a discovery has found, before relabelling.");
    for status in all {
        out.of_discovery("bellrock_discovery_targets", status, status.targets);
    }
    out.family("bellrock_discovery_failures_total", "counter", "Looks of a discovery that failed: its targets stay as they are.");
    for status in all {
        out.of_discovery("bellrock_discovery_failures_total", status, status.failures);
    }
}

fn intake(out: &mut Exposition, app: &App) {
    let counters = &app.intake.counters;
    out.counter("bellrock_requests_total", "Requests taken in.", &counters.requests);
    out.counter("bellrock_request_body_bytes_total", "Bytes of request bodies as received.", &counters.body_bytes);
    out.counter("bellrock_samples_total", "Samples taken in.", &counters.samples);
    out.counter("bellrock_log_records_total", "Log records taken in.", &counters.records);
    out.counter("bellrock_spans_total", "Spans taken in.", &counters.spans);
    let help = "Spans that are kept and that span metrics lack, because the metrics store was behind.";
    out.counter("bellrock_spans_uncounted_total", help, &counters.spans_uncounted);
    out.counter("bellrock_error_events_total", "Error events taken in.", &counters.errors);
    out.counter("bellrock_rejected_total", "Records that were refused as wrong.", &counters.rejected);
    out.counter("bellrock_refused_overload_total", "Requests that were asked to come again.", &counters.refused_overload);
    let name = "bellrock_redacted_total";
    let help = "Values that were masked before anything was kept, by rule; in a dry run those that would have been.";
    out.family(name, "counter", help);
    for (rule, count) in app.intake.redaction.counts() {
        out.labelled(name, "rule", &rule, count);
    }
    let help = "Requests and scrapes in which there was something to mask.";
    out.counter("bellrock_redacted_bodies_total", help, &app.intake.redaction.bodies);
    let help = "1 while values are counted and left as they are.";
    out.gauge("bellrock_redaction_dry_run", help, u8::from(app.intake.redaction.is_dry_run()));
    syslog(out, &counters.syslog);
    files(out, &counters.files);
    let name = "bellrock_record_parts_cut_total";
    out.family(name, "counter", "Parts of log records and spans that were cut or left out as they came in, by reason.");
    for (reason, counter) in [
        ("line_too_long", &counters.lines_cut),
        ("attribute_too_long", &counters.attributes_cut),
        ("too_many_attributes", &counters.attributes_dropped),
        ("too_many_events_or_links", &counters.span_children_dropped),
    ] {
        out.labelled(name, "reason", reason, counter.load(Ordering::Relaxed));
    }
    let name = "bellrock_unknown_items_total";
    out.family(name, "counter", "Items of envelopes that nothing here reads, kept as they came.");
    for (kind, count) in counters.unknown_items() {
        out.labelled(name, "type", &kind, count);
    }
}

fn syslog(out: &mut Exposition, counters: &SyslogCounters) {
    out.counter("bellrock_syslog_messages_total", "Syslog messages that were received.", &counters.messages);
    let name = "bellrock_syslog_lost_total";
    out.family(name, "counter", "Syslog messages that were received and not kept, by reason.");
    for (reason, counter) in [("no_room_for_datagram", &counters.dropped), ("not_accepted", &counters.not_accepted)] {
        out.labelled(name, "reason", reason, counter.load(Ordering::Relaxed));
    }
    out.counter("bellrock_syslog_messages_cut_total", "Syslog messages that were cut for their length.", &counters.cut);
    out.counter("bellrock_syslog_streams_broken_total", "Connections that sent what is no syslog.", &counters.broken_streams);
    out.counter("bellrock_syslog_handshakes_failed_total", "TLS connections that came to nothing.", &counters.handshakes_failed);
    out.gauge("bellrock_syslog_connections", "Open syslog connections.", counters.connections.load(Ordering::Relaxed));
}

fn files(out: &mut Exposition, counters: &FileCounters) {
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    out.gauge("bellrock_files_followed", "Log files that are followed.", now(&counters.followed));
    out.gauge("bellrock_files_open", "Log files that are held open.", now(&counters.open));
    out.gauge("bellrock_files_left_alone", "Log files that are packed, and left alone.", now(&counters.left_alone));
    out.gauge("bellrock_file_behind_bytes", "Bytes of log files that have not been read.", now(&counters.behind_bytes));
    out.counter("bellrock_file_lines_total", "Lines read from log files.", &counters.lines);
    out.counter("bellrock_file_records_total", "Records made of lines of log files.", &counters.records);
    out.counter("bellrock_file_rotations_total", "Log files that lost their name.", &counters.rotations);
    let help = "Log files that were cut or written anew, and are read from their beginning again.";
    out.counter("bellrock_file_truncations_total", help, &counters.truncations);
    let help = "Bytes of log files that went with their file before they were read.";
    out.counter("bellrock_file_missed_bytes_total", help, &counters.missed_bytes);
    let name = "bellrock_file_lines_mended_total";
    out.family(name, "counter", "Lines of log files that were not as they should be and are kept all the same, by reason.");
    for (reason, counter) in [("not_text", &counters.mended), ("not_of_container", &counters.unwrapped)] {
        out.labelled(name, "reason", reason, now(counter));
    }
    out.counter("bellrock_file_read_errors_total", "Failed reads of log files.", &counters.unreadable);
    out.counter("bellrock_file_waits_total", "Times that log files waited because no more was taken in.", &counters.waits);
    let help = "Records of log files that were refused, most of them because they are too old.";
    out.counter("bellrock_file_records_refused_total", help, &counters.refused);
    let help = "Times that it was written down how far log files were read.";
    out.counter("bellrock_file_positions_written_total", help, &counters.positions_written);
    out.counter("bellrock_file_positions_failed_total", "Times that this failed.", &counters.positions_failed);
}

fn journal(out: &mut Exposition, app: &App) {
    let status = app.intake.journal().status();
    out.gauge("bellrock_journal_position", "The last position given out.", status.last_position.0);
    out.gauge("bellrock_journal_durable_position", "The last position on stable storage.", status.durable_position.0);
    out.gauge("bellrock_journal_bytes", "Bytes in all segments.", status.bytes);
    out.gauge("bellrock_journal_segments", "Segments.", status.segments);
    out.gauge("bellrock_journal_quarantined_ranges", "Damaged ranges that were met.", status.quarantined_ranges);
    out.gauge("bellrock_journal_poisoned_segments", "Segments given up after a failed write or sync.", status.poisoned_segments);
    out.gauge(
        "bellrock_journal_accepting",
        "1 while records are taken in.",
        u8::from(status.state == br_journal::State::Accepting),
    );
    out.gauge(
        "bellrock_replay_done",
        "1 once the journal has been read back since the start.",
        u8::from(app.intake.is_caught_up()),
    );
    let lanes = &app.intake.lanes;
    let name = "bellrock_applied_position";
    out.family(name, "gauge", "How far a store has taken in the journal.");
    for (lane, handle) in [("metrics", &lanes.metrics), ("events", &lanes.events), ("issues", &lanes.issues)] {
        out.labelled(name, "store", lane, handle.applied().0);
    }
    let name = "bellrock_records_lost_total";
    out.family(name, "counter", "Records in the journal that are not in a store.");
    for (lane, handle) in [("metrics", &lanes.metrics), ("events", &lanes.events), ("issues", &lanes.issues)] {
        for (reason, count) in handle.losses() {
            let _ = writeln!(out.0, "{name}{{store=\"{lane}\",reason=\"{reason}\"}} {count}");
        }
    }
}
