//! Connections: so many at once, each within a time for its headers, all ended in order.
//!
//! Without bounds a few thousand connections that say nothing take every file descriptor, and with them the files of the store.

use crate::answers::Cut;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Layer;

/// How long a connection may take for the headers of its next request; idle ones end after it too.
const HEADERS_WITHIN: Duration = Duration::from_secs(75);
/// The same when more than half of the places are taken.
const HEADERS_WITHIN_PRESSED: Duration = Duration::from_secs(5);
/// HTTP/2 has no idle time of its own: a peer that does not answer a ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const STREAMS_MAX: u32 = 200;
/// What a client of HTTP/2 says first.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a connection that has begun to say which version it speaks.
const PREFACE_BEAT: Duration = Duration::from_millis(20);
/// After a failed accept, which is mostly for want of descriptors.
const ACCEPT_PATIENCE: Duration = Duration::from_millis(100);

/// Serves until told to stop, then lets the requests under way end.
pub async fn serve(listener: TcpListener, router: Router, connections_max: usize, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(event = "AcceptError", "{error}");
                tokio::time::sleep(ACCEPT_PATIENCE).await;
                continue;
            }
        };
        let is_pressed = places.available_permits() < connections_max / 2;
        let headers_within = if is_pressed { HEADERS_WITHIN_PRESSED } else { HEADERS_WITHIN };
        connections.spawn(connection(stream, place, router.clone(), headers_within, stopped.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A place first: a connection that finds none waits in the kernel's queue and takes no descriptor.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    router: Router,
    headers_within: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are small and asked for one by one.
    let _ = stream.set_nodelay(true);
    let spoken = tokio::select! {
        spoken = tokio::time::timeout(headers_within, first_words(&stream)) => spoken,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    if !matches!(spoken, Ok(Ok(()))) {
        return;
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(headers_within);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL).max_concurrent_streams(STREAMS_MAX);
    http2.enable_connect_protocol();
    let cut = Cut::default();
    let service = TowerToHyperService::new(Extension(cut.clone()).layer(router));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // An error is the peer's: it went away, or spoke no HTTP, and has been answered as far as it can be.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = cut.wanted() => return,
        _ = stopped.wait_for(|stopped| *stopped) => serving.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = serving => {}
        () = cut.wanted() => {}
    }
}

/// Waits until the version is clear: the server behind waits for it without a limit.
async fn first_words(stream: &TcpStream) -> std::io::Result<()> {
    let mut words = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut words).await?;
        if length == 0 || length == words.len() || !HTTP2_PREFACE.starts_with(&words[..length]) {
            return Ok(());
        }
        tokio::time::sleep(PREFACE_BEAT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn served(connections_max: usize) -> (std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        (address, stop, tokio::spawn(serve(listener, router, connections_max, stopped)))
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("open");
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer).await.expect("answered");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_say_nothing_make_place_for_others() {
        let (address, _stop, _server) = served(4).await;
        let mut silent = Vec::new();
        for words in [&b""[..], b"GET / HT", b"PRI * HT", b"GET / HTTP/1.1\r\nx: "] {
            let mut stream = TcpStream::connect(address).await.expect("listens");
            stream.write_all(words).await.expect("open");
            silent.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.expect("queued");
        assert!(ask(&mut stream).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_the_listener() {
        let (address, stop, server) = served(4).await;
        let mut stream = TcpStream::connect(address).await.expect("listens");
        assert!(ask(&mut stream).await.ends_with("here"));
        stop.send(true).expect("it listens");
        server.await.expect("no panic");
        assert_eq!(stream.read(&mut [0; 8]).await.expect("closed in order"), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
