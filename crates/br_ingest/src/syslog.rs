//! Syslog listeners: TCP with either framing, the same under TLS, and UDP.
//!
//! The protocol has no acknowledgement. Over TCP a server that is behind is felt as a connection that does not take more; over UDP
//! what finds no room is dropped and counted. Messages of all senders go into the journal together, a few times a second.

use crate::intake::{AcceptError, Incoming, Intake};
use crate::tracebacks::{Message, Tracebacks};
use br_journal::Protocol;
use br_model::TenantId;
use br_std::{Error, Kind, Result};
use br_wire::syslog::{Splitter, put_frame};
use bytes::Bytes;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Bound sockets, and whose the messages are.
pub struct SyslogListeners {
    pub tcp: Option<TcpListener>,
    pub tls: Option<(TcpListener, Arc<ServerConfig>)>,
    pub udp: Option<UdpSocket>,
    pub tenant: TenantId,
    /// The IANA name of the time zone of messages that name none; empty for UTC.
    pub zone: String,
}

/// Counts for `/metrics`.
#[derive(Debug, Default)]
pub struct SyslogCounters {
    pub messages: AtomicU64,
    /// Datagrams that found no room.
    pub dropped: AtomicU64,
    /// The journal would not have them, or the server ended before it had.
    pub not_accepted: AtomicU64,
    pub cut: AtomicU64,
    pub broken_streams: AtomicU64,
    pub handshakes_failed: AtomicU64,
    pub connections: AtomicU64,
}

/// Open connections of one listener; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// What one connection reads at once.
const READ_BYTES: usize = 16 << 10;
/// A message; a longer one is cut. It leaves room for the head of a line of the longest kind.
const MESSAGE_BYTES_MAX: usize = (256 << 10) + 4096;
/// What waits for the journal, of all senders, in KiB.
const WAITING_KIB: u32 = 16 << 10;
/// Messages that wait for the journal.
const WAITING_MAX: usize = 16 << 10;
/// One request: so many bytes, or what came within so much time.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_WITHIN: Duration = Duration::from_millis(200);
/// Until a request that was not taken is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A handshake that takes longer is none.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After a failed accept, which is mostly for want of descriptors.
const ACCEPT_PATIENCE: Duration = Duration::from_millis(100);

/// What connections share.
#[derive(Clone)]
struct Shared {
    intake: Arc<Intake>,
    out: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// Listens until told to stop, then lets the journal have what was received.
pub async fn serve(listeners: SyslogListeners, intake: Arc<Intake>, stopped: watch::Receiver<bool>) {
    let (out, waiting) = mpsc::channel(WAITING_MAX);
    let room = Arc::new(Semaphore::new(WAITING_KIB as usize));
    let shared = Shared { intake: intake.clone(), out, room, stopped: stopped.clone() };
    let mut tasks = JoinSet::new();
    let SyslogListeners { tcp, tls, udp, tenant, zone } = listeners;
    if let Some(listener) = tcp {
        tasks.spawn(accept_all(listener, None, shared.clone()));
    }
    if let Some((listener, config)) = tls {
        tasks.spawn(accept_all(listener, Some(TlsAcceptor::from(config)), shared.clone()));
    }
    if let Some(socket) = udp {
        tasks.spawn(datagrams(socket, shared.clone()));
    }
    // The batches end when nobody is left who could send.
    drop(shared);
    Batches { waiting, intake, tenant, zone, stopped }.run().await;
    while tasks.join_next().await.is_some() {}
}

async fn accept_all(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Shared) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopped = shared.stopped.clone();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                connections.spawn(connection(stream, peer, place, tls.clone(), shared.clone()));
            }
            Err(error) => {
                tracing::error!(event = "SyslogAcceptError", "{error}");
                tokio::time::sleep(ACCEPT_PATIENCE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address.ip(), place))
}

async fn connection(stream: TcpStream, peer: IpAddr, _place: OwnedSemaphorePermit, tls: Option<TlsAcceptor>, shared: Shared) {
    let counters = &shared.intake.counters.syslog;
    counters.connections.fetch_add(1, Ordering::Relaxed);
    match tls {
        None => read(stream, peer, &shared).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => read(stream, peer, &shared).await,
            outcome => {
                let reason = outcome.map_or_else(
                    |_| "it took too long".to_owned(),
                    |failed| failed.err().map_or_else(String::new, |error| error.to_string()),
                );
                tracing::warn!(event = "SyslogHandshakeError", %peer, "{reason}");
                counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            }
        },
    }
    counters.connections.fetch_sub(1, Ordering::Relaxed);
}

/// Reads messages until the stream ends, makes no sense any more, or the server stops.
async fn read(mut stream: impl AsyncRead + Unpin, peer: IpAddr, shared: &Shared) {
    let name: Arc<str> = peer.to_canonical().to_string().into();
    let counters = &shared.intake.counters.syslog;
    let mut stopped = shared.stopped.clone();
    let mut splitter = Splitter::new(MESSAGE_BYTES_MAX);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = tokio::select! {
            length = stream.read(&mut buffer) => length.unwrap_or(0),
            _ = stopped.wait_for(|stopped| *stopped) => 0,
        };
        splitter.push(&buffer[..length]);
        let cut = splitter.cut();
        loop {
            let message = match splitter.next_message() {
                Ok(Some(message)) => message.to_vec(),
                Ok(None) => break,
                Err(wrong) => {
                    tracing::warn!(event = "SyslogStreamError", %peer, "{wrong}: the connection is closed");
                    counters.broken_streams.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            };
            shared.hand_over(&name, message).await;
        }
        counters.cut.fetch_add(splitter.cut() - cut, Ordering::Relaxed);
        if length == 0 {
            break;
        }
    }
    if let Some(last) = splitter.last().map(<[u8]>::to_vec) {
        shared.hand_over(&name, last).await;
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(WAITING_KIB).clamp(1, WAITING_KIB)
}

impl Shared {
    /// Waits for room: the sender feels it.
    async fn hand_over(&self, peer: &Arc<str>, bytes: Vec<u8>) {
        self.intake.counters.syslog.messages.fetch_add(1, Ordering::Relaxed);
        let Ok(room) = self.room.clone().acquire_many_owned(kib(bytes.len())).await else { return };
        let message = Message { peer: peer.clone(), bytes, room: Some(room) };
        if self.out.send(message).await.is_err() {
            self.intake.counters.syslog.not_accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nobody waits for a datagram: without room it is lost.
    fn hand_over_now(&self, peer: IpAddr, bytes: &[u8]) {
        let counters = &self.intake.counters.syslog;
        counters.messages.fetch_add(1, Ordering::Relaxed);
        let room = self.room.clone().try_acquire_many_owned(kib(bytes.len())).ok();
        let sent = room.and_then(|room| {
            let peer = peer.to_canonical().to_string().into();
            self.out.try_send(Message { peer, bytes: bytes.to_vec(), room: Some(room) }).ok()
        });
        if sent.is_none() {
            counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn datagrams(socket: UdpSocket, shared: Shared) {
    let mut stopped = shared.stopped.clone();
    // A datagram is no larger.
    let mut buffer = vec![0; 64 << 10];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        match received {
            Ok((length, address)) => shared.hand_over_now(address.ip(), &buffer[..length]),
            Err(error) => {
                tracing::error!(event = "SyslogReceiveError", "{error}");
                tokio::time::sleep(ACCEPT_PATIENCE).await;
            }
        }
    }
}

/// Collects messages and has them journaled.
struct Batches {
    waiting: mpsc::Receiver<Message>,
    intake: Arc<Intake>,
    tenant: TenantId,
    zone: String,
    stopped: watch::Receiver<bool>,
}

impl Batches {
    async fn run(mut self) {
        let mut tracebacks = Tracebacks::new(self.intake.now());
        let mut has_more = true;
        while has_more {
            let mut ready = Vec::new();
            has_more = self.gather(&mut tracebacks, &mut ready).await;
            if ready.is_empty() {
                continue;
            }
            let mut body = Vec::with_capacity(ready.iter().map(|message| message.bytes.len() + 64).sum());
            for message in &ready {
                put_frame(&mut body, &message.peer, &message.bytes);
            }
            // Their rooms are held until the journal has them: that is what bounds what waits.
            self.journal(body.into(), ready.len()).await;
        }
    }

    /// What comes within the time of a batch, from the first message on. False when no more will come.
    async fn gather(&mut self, tracebacks: &mut Tracebacks, ready: &mut Vec<Message>) -> bool {
        let mut until: Option<Instant> = None;
        let mut bytes = 0;
        loop {
            let known = ready.len();
            let due = [until, tracebacks.due()].into_iter().flatten().min();
            let received = match due {
                Some(due) => tokio::time::timeout_at(due, self.waiting.recv()).await,
                None => Ok(self.waiting.recv().await),
            };
            let now = Instant::now();
            match received {
                Ok(Some(message)) => tracebacks.push(message, now, ready),
                Ok(None) => {
                    tracebacks.finish(ready);
                    return false;
                }
                Err(_) => tracebacks.expire(now, ready),
            }
            bytes += ready[known..].iter().map(|message| message.bytes.len()).sum::<usize>();
            let is_late = !ready.is_empty() && now >= *until.get_or_insert(now + BATCH_WITHIN);
            if is_late || bytes >= BATCH_BYTES {
                return true;
            }
        }
    }

    /// Tries until it is taken; a server that ends tries once more.
    async fn journal(&self, body: Bytes, messages: usize) {
        loop {
            let is_last = *self.stopped.borrow();
            let Err(error) = self.intake.accept(self.incoming(body.clone())).await else { return };
            let is_temporary = matches!(&error, AcceptError::Other(error) if error.kind() == Kind::Retry);
            if is_last || !is_temporary {
                tracing::error!(event = "SyslogLostError", messages, "{error}");
                self.intake.counters.syslog.not_accepted.fetch_add(messages as u64, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn incoming(&self, body: Bytes) -> Incoming {
        let zone = Some(self.zone.clone()).filter(|zone| !zone.is_empty());
        Incoming {
            tenant: self.tenant,
            protocol: Protocol::SYSLOG,
            content_type: String::new(),
            content_encoding: String::new(),
            context: zone.map(|zone| ("zone".to_owned(), zone)).into_iter().collect(),
            body,
        }
    }
}

/// The files of a TLS listener, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Its certificate, with those in between behind it.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Who signs the certificates of senders; without it they need none.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::from_pem_slice(&read_file(&self.key)?).map_err(|error| wrong(&self.key, &error))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.cert, &error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| wrong(file, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(file, &error))?)
            }
        };
        let config = builder.with_single_cert(certificates(&self.cert)?, key).map_err(|error| wrong(&self.cert, &error))?;
        Ok(Arc::new(config))
    }
}

fn wrong(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::fix_request(format!("{}: {error}", file.display()))
}

#[allow(clippy::disallowed_methods, reason = "certificates lie outside the data directory")]
fn read_file(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| Error::from(error).context(file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read_file(file)?).collect();
    match read {
        Ok(found) if found.is_empty() => Err(wrong(file, &"there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(file, &error)),
    }
}
