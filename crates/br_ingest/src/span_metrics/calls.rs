//! The calls between services: a client's span and the server's span that is its child are one call.
//!
//! The two may come in any order and in requests of their own: the one that came first waits for the other. What waits when the server
//! stops waits in vain.

use super::durations::Durations;
use super::{OTHER, Written, shortened};
use br_model::{AttributeValue, MetricType, Span, SpanId, SpanKind, SpanStatus, TraceId, Value};
use br_std::Nanos;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long one half of a call waits for the other.
const WAIT: Duration = Duration::from_secs(10);
/// Halves of a tenant that wait.
const WAITING_MAX: usize = 100_000;
/// Calls of a tenant that are told apart since the start, and services; what is beyond is between others.
const CALLS_MAX: usize = 20_000;
const SERVICES_MAX: usize = 5000;
/// Who calls where nobody says who does.
const USER: &str = "user";

#[derive(Clone, PartialEq, Eq, Hash)]
struct Call {
    client: Arc<str>,
    server: Arc<str>,
    connection: &'static str,
}

#[derive(Default)]
struct Seen {
    count: u64,
    failed: u64,
    /// As the two sides saw it; one has no length where it has no span.
    client: Durations,
    server: Durations,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Client,
    Server,
}

/// A half by its side, its trace, and the span of the client.
type HalfKey = (Side, TraceId, SpanId);

struct Half {
    service: Arc<str>,
    /// Of a client: whom it calls, in its own words.
    peer: Option<Arc<str>>,
    secs: f64,
    is_failed: bool,
    is_message: bool,
}

#[derive(Default)]
pub(super) struct Calls {
    seen: HashMap<Call, Seen>,
    halves: HashMap<HalfKey, Half>,
    /// In the order in which they came, those among them that found their other half.
    order: VecDeque<(Nanos, HalfKey)>,
    /// Those that were seen since the start.
    known: HashSet<Call>,
    /// Names of services, each once.
    services: HashSet<Arc<str>>,
    /// By service and side: those that found no other half.
    unpaired: HashMap<(Arc<str>, Side), u64>,
    /// Halves that found no room.
    dropped: u64,
}

impl Calls {
    pub(super) fn observe(&mut self, service: &str, span: &Span, received: Nanos) {
        let (side, client_span) = match span.kind {
            SpanKind::Client | SpanKind::Producer => (Side::Client, span.span_id),
            SpanKind::Server | SpanKind::Consumer if is_shared(span) => (Side::Server, span.span_id),
            SpanKind::Server | SpanKind::Consumer => (Side::Server, span.parent_span_id),
            SpanKind::Internal | SpanKind::Unspecified => return,
        };
        let half = Half {
            service: self.name(service),
            peer: if side == Side::Client { self.peer(span) } else { None },
            secs: span.duration_nanos() as f64 / 1e9,
            is_failed: span.status == SpanStatus::Error,
            is_message: matches!(span.kind, SpanKind::Producer | SpanKind::Consumer),
        };
        if side == Side::Client
            && let Some(database) = database_of(span)
        {
            let server = self.name(database);
            self.count(Call { client: half.service.clone(), server, connection: "database" }, Some(&half), None);
            return;
        }
        if side == Side::Server && client_span.is_none() {
            let client = self.name(USER);
            self.count(Call { client, server: half.service.clone(), connection: "virtual_node" }, None, Some(&half));
            return;
        }
        if span.trace_id.is_none() {
            return;
        }
        let (of_client, of_server) = ((Side::Client, span.trace_id, client_span), (Side::Server, span.trace_id, client_span));
        let other = self.halves.remove(if side == Side::Client { &of_server } else { &of_client });
        match (other, side) {
            (Some(server), Side::Client) => self.pair(&half, &server),
            (Some(client), Side::Server) => self.pair(&client, &half),
            (None, _) if self.halves.len() >= WAITING_MAX => self.dropped += 1,
            (None, _) => {
                let key = if side == Side::Client { of_client } else { of_server };
                // The same span again changes nothing.
                if self.halves.insert(key, half).is_none() {
                    self.order.push_back((received, key));
                }
                // Most of them have found their other half long before they are at the front.
                if self.order.len() > 2 * WAITING_MAX {
                    let halves = &self.halves;
                    self.order.retain(|(_, key)| halves.contains_key(key));
                }
            }
        }
    }

    fn name(&mut self, service: &str) -> Arc<str> {
        let service = shortened(service);
        if let Some(known) = self.services.get(service) {
            return known.clone();
        }
        let name: Arc<str> = if self.services.len() < SERVICES_MAX { service } else { OTHER }.into();
        self.services.insert(name.clone());
        name
    }

    /// Whom a client calls, should that one never say so itself.
    fn peer(&mut self, span: &Span) -> Option<Arc<str>> {
        let peer = ["peer.service", "service.peer.name"].into_iter().find_map(|key| span.attributes.get_str(key));
        peer.filter(|peer| !peer.is_empty()).map(|peer| self.name(peer))
    }

    fn pair(&mut self, client: &Half, server: &Half) {
        let connection = if client.is_message || server.is_message { "messaging_system" } else { "" };
        let call = Call { client: client.service.clone(), server: server.service.clone(), connection };
        self.count(call, Some(client), Some(server));
    }

    fn count(&mut self, call: Call, client: Option<&Half>, server: Option<&Half>) {
        let call = if self.known.contains(&call) {
            call
        } else if self.known.len() < CALLS_MAX {
            self.known.insert(call.clone());
            call
        } else {
            Call { client: OTHER.into(), server: OTHER.into(), connection: call.connection }
        };
        let seen = self.seen.entry(call).or_default();
        let sides = || client.iter().chain(&server);
        seen.count += 1;
        seen.failed += u64::from(sides().any(|half| half.is_failed));
        if let Some(client) = client {
            seen.client.observe(client.secs);
        }
        if let Some(server) = server {
            seen.server.observe(server.secs);
        }
    }

    /// Halves whose time is over: a client may have said whom it called.
    fn give_up(&mut self, now: Nanos) {
        while let Some((received, key)) = self.order.front().copied()
            && (received + WAIT < now || !self.halves.contains_key(&key))
        {
            self.order.pop_front();
            let Some(half) = self.halves.remove(&key) else { continue };
            if let Some(server) = half.peer.clone() {
                self.count(Call { client: half.service.clone(), server, connection: "virtual_node" }, Some(&half), None);
            } else {
                *self.unpaired.entry((half.service, key.0)).or_default() += 1;
            }
        }
    }

    pub(super) fn write(&mut self, now: Nanos, written: &mut Written) {
        const CALLS: &str = "traces_service_graph_request_total";
        const FAILED: &str = "traces_service_graph_request_failed_total";
        const SERVER: &str = "traces_service_graph_request_server_seconds";
        const CLIENT: &str = "traces_service_graph_request_client_seconds";
        const UNPAIRED: &str = "traces_service_graph_unpaired_spans_total";
        const DROPPED: &str = "traces_service_graph_dropped_spans_total";
        self.give_up(now);
        if !self.seen.is_empty() {
            written.describe(CALLS, MetricType::Counter, "Calls of a service by another.", "");
            written.describe(FAILED, MetricType::Counter, "Calls that failed on one of the two sides.", "");
            written.describe(SERVER, MetricType::Histogram, "Durations of calls as the server saw them.", "seconds");
            written.describe(CLIENT, MetricType::Histogram, "Durations of calls as the client saw them.", "seconds");
        }
        for (Call { client, server, connection }, seen) in self.seen.drain() {
            let labels = [("client", &*client), ("server", &*server), ("connection_type", connection)];
            written.push_count(CALLS, &labels, seen.count);
            written.push_count(FAILED, &labels, seen.failed);
            for (name, durations) in [(CLIENT, seen.client), (SERVER, seen.server)] {
                if durations.count() > 0 {
                    written.push(name, &labels, Value::Histogram(durations.histogram().into()));
                }
            }
        }
        for ((service, side), count) in self.unpaired.drain() {
            let label = if side == Side::Client { "client" } else { "server" };
            written.push_count(UNPAIRED, &[(label, &*service)], count);
        }
        written.push_count(DROPPED, &[], std::mem::take(&mut self.dropped));
    }
}

/// Zipkin's way: the server's half has the id of the client's.
fn is_shared(span: &Span) -> bool {
    matches!(span.attributes.get("zipkin.shared"), Some(AttributeValue::Bool(true)))
}

/// What a client's span says of the database that it asks.
fn database_of(span: &Span) -> Option<&str> {
    let is_database = ["db.system.name", "db.system"].into_iter().find_map(|key| span.attributes.get_str(key));
    let system = is_database.filter(|system| !system.is_empty())?;
    let named = ["db.namespace", "db.name"].into_iter().find_map(|key| span.attributes.get_str(key));
    Some(named.filter(|name| !name.is_empty()).unwrap_or(system))
}
