//! The beginning of a connection: who is there.

use super::session::Session;
use super::wire::Wire;
use super::{Registration, Shared};
use br_model::{Principal, Right};
use br_query::sql::postgres::{SERVER_VERSION, SETTINGS};
use br_wire::postgres::{self as protocol, Message, Opening, Startup, TransactionState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// From the connection to the password.
const OPENING_WITHIN: Duration = Duration::from_secs(10);
/// A client asks for encryption of one kind and of the other, then does without.
const REQUESTS_MAX: usize = 2;

pub(super) async fn connection(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut wire = Wire::new(stream);
    let opened = tokio::select! {
        opened = tokio::time::timeout(OPENING_WITHIN, open(&mut wire, &shared)) => opened,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    match opened {
        Ok(Some((principal, startup))) => {
            let registration = shared.register();
            greet(&mut wire, &startup, &registration);
            Session::new(wire, registration, principal, &startup, stopped).run().await;
        }
        Ok(None) => {}
        Err(_) => wire.refuse("08P01", format!("no startup within {} seconds", OPENING_WITHIN.as_secs())).await,
    }
}

/// Nothing when the connection has had its answer.
async fn open(wire: &mut Wire, shared: &Shared) -> Option<(Principal, Startup)> {
    let startup = startup(wire, shared).await?;
    let auth = &shared.app.auth;
    let principal = if auth.is_open() {
        auth.principal_of("")
    } else {
        wire.out.extend(protocol::PASSWORD_WANTED);
        wire.flush().await.ok()?;
        match wire.first_message().await {
            Ok(Some(Message::Password(password))) => auth.principal_of(&password),
            Ok(Some(_)) => {
                wire.refuse("08P01", "a password was expected").await;
                return None;
            }
            Ok(None) => return None,
            Err(error) => {
                wire.refuse("08P01", error.to_string()).await;
                return None;
            }
        }
    };
    let Ok(principal) = principal else {
        shared.app.postgres.unauthorized.fetch_add(1, Ordering::Relaxed);
        wire.refuse("28P01", "the password is no known token (the name of the user does not count)").await;
        return None;
    };
    if !principal.role.may(Right::Read) {
        let role = format!("{:?}", principal.role).to_lowercase();
        wire.refuse("28000", format!("{:?} may not read: its role is {role}, and this takes the role viewer", principal.name))
            .await;
        return None;
    }
    Some((principal, startup))
}

async fn startup(wire: &mut Wire, shared: &Shared) -> Option<Startup> {
    for _ in 0..=REQUESTS_MAX {
        match wire.opening().await {
            Ok(Some(Opening::Tls | Opening::Gss)) => {
                // Neither is spoken here: a client that insists goes away.
                wire.out.push(b'N');
                wire.flush().await.ok()?;
            }
            Ok(Some(Opening::Cancel { process, secret })) => {
                shared.cancel(process, secret);
                return None;
            }
            Ok(Some(Opening::Startup(startup))) => return Some(startup),
            Ok(None) => return None,
            Err(error) => {
                wire.refuse("08P01", error.to_string()).await;
                return None;
            }
        }
    }
    wire.refuse("08P01", "a startup packet was expected").await;
    None
}

/// What every client is told of its server, in the spelling that drivers look for.
const TOLD: &[(&str, &str)] = &[
    ("client_encoding", "client_encoding"),
    ("DateStyle", "datestyle"),
    ("default_transaction_read_only", "default_transaction_read_only"),
    ("in_hot_standby", "in_hot_standby"),
    ("integer_datetimes", "integer_datetimes"),
    ("IntervalStyle", "intervalstyle"),
    ("is_superuser", "is_superuser"),
    ("server_encoding", "server_encoding"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("TimeZone", "timezone"),
];

fn greet(wire: &mut Wire, startup: &Startup, registration: &Registration) {
    let out = &mut wire.out;
    let names = startup.parameters.iter().map(|(name, _)| name.as_str());
    let unknown: Vec<&str> = names.filter(|name| name.starts_with("_pq_.")).collect();
    if startup.minor_version > 0 || !unknown.is_empty() {
        protocol::negotiate_version(out, &unknown);
    }
    out.extend(protocol::AUTHENTICATION_OK);
    for (shown, name) in TOLD {
        if let Some((_, value)) = SETTINGS.iter().find(|(known, _)| known == name) {
            protocol::parameter_status(out, shown, value);
        }
    }
    let version = format!("{SERVER_VERSION} (Bellrock {})", env!("CARGO_PKG_VERSION"));
    protocol::parameter_status(out, "server_version", &version);
    protocol::key_data(out, registration.process, registration.secret);
    protocol::ready(out, TransactionState::Idle);
}
