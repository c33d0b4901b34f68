//! Answers on their way out: all together within a size, each at a least pace.
//!
//! Without this a few clients that ask for much and then do not read would hold all memory, for as long as they like.

use axum::body::{Body, HttpBody};
use axum::http::header;
use axum::response::Response;
use br_std::{Error, Result};
use br_storage::SharedMemory;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Smaller ones are bounded by the number of connections.
const SMALL_BYTES: u64 = 16 << 10;
/// A large answer goes to the connection in pieces of this size, which shows how fast it is read.
const PIECE_BYTES: usize = 64 << 10;
/// How often the pace is looked at.
const PACE_WINDOW: Duration = Duration::from_secs(30);
/// A client that takes less of an answer in one window is gone. The kernel holds some megabytes besides.
const PACE_BYTES_MIN: u64 = 64 << 10;

/// The room that large answers share.
#[derive(Clone)]
pub struct Answers {
    room: Arc<SharedMemory>,
}

/// A part of the room, for as long as this lives.
pub(crate) struct Room {
    of: Arc<SharedMemory>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.give_back(self.bytes);
    }
}

/// Ends the connection on which a request came.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<Notify>);

impl Cut {
    pub(crate) async fn wanted(&self) {
        self.0.notified().await;
    }
}

impl Answers {
    pub fn new(bytes_max: u64) -> Self {
        Self { room: SharedMemory::new(bytes_max) }
    }

    pub(crate) fn bytes_taken(&self) -> u64 {
        self.room.bytes_taken()
    }

    /// Room for an answer that has been made, or why it cannot be sent.
    pub(crate) fn take(&self, bytes: u64) -> Result<Room> {
        if self.room.take(bytes) {
            return Ok(Room { of: self.room.clone(), bytes });
        }
        Err(Error::retry(format!(
            "answers on their way to clients hold {} of {} MiB, and this one has {} MiB: try again in a moment, ask for less, or \
             raise limits.queries_memory",
            self.room.bytes_taken() >> 20,
            self.room.bytes_max() >> 20,
            bytes >> 20
        )))
    }

    /// The same answer within the limits. Without a connection that could be cut only the room counts.
    pub(crate) fn limit(&self, answer: Response, cut: Option<Cut>) -> Result<Response> {
        let bytes = answer.body().size_hint().exact();
        if bytes.is_some_and(|bytes| bytes <= SMALL_BYTES) || is_grpc(&answer) {
            return Ok(answer);
        }
        let room = bytes.map(|bytes| self.take(bytes)).transpose()?;
        let pace = Arc::new(Pace::default());
        if let Some(cut) = cut {
            let watching = tokio::spawn(watch(Arc::downgrade(&pace), cut));
            let _ = pace.watching.set(watching.abort_handle());
        }
        Ok(answer.map(|inner| Body::new(Paced { inner, rest: Bytes::new(), room, pace })))
    }
}

/// Answers over gRPC are words about what was sent, and come without a size.
fn is_grpc(answer: &Response) -> bool {
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"))
}

/// How far an answer has come.
#[derive(Default)]
struct Pace {
    watching: OnceLock<AbortHandle>,
    bytes_taken: AtomicU64,
    /// The next part is still being made: the client has read what there was.
    is_awaited: AtomicBool,
}

/// The last byte has gone.
impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(watching) = self.watching.get() {
            watching.abort();
        }
    }
}

/// Cuts the connection when an answer stands still.
async fn watch(pace: Weak<Pace>, cut: Cut) {
    let mut before = 0;
    loop {
        tokio::time::sleep(PACE_WINDOW).await;
        let Some(pace) = pace.upgrade() else { return };
        let taken = pace.bytes_taken.load(Ordering::Relaxed);
        if taken - before < PACE_BYTES_MIN && !pace.is_awaited.load(Ordering::Relaxed) {
            tracing::warn!(event = "SlowClientCut", "a client took {} bytes of its answer in {PACE_WINDOW:?}", taken - before);
            cut.0.notify_one();
            return;
        }
        before = taken;
    }
}

/// What the connection holds of an answer. The room is free when the last piece has gone.
struct Held {
    bytes: Bytes,
    _room: Option<Room>,
    _pace: Arc<Pace>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Paced {
    inner: Body,
    rest: Bytes,
    room: Option<Room>,
    pace: Arc<Pace>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            self.pace.is_awaited.store(true, Ordering::Relaxed);
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
            self.pace.is_awaited.store(false, Ordering::Relaxed);
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => {
                    let room = self.room.take();
                    self.rest = Bytes::from_owner(Held { bytes, _room: room, _pace: self.pace.clone() });
                }
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        self.pace.bytes_taken.fetch_add(length as u64, Ordering::Relaxed);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest + inner.lower());
        if let Some(upper) = inner.upper() {
            hint.set_upper(rest + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use futures::StreamExt;

    #[tokio::test]
    async fn large_answers_share_a_room_until_their_last_byte_has_gone() {
        let answers = Answers::new(300 << 10);
        let large = || vec![7_u8; 200 << 10].into_response();
        let first = answers.limit(large(), None).expect("there is room");
        assert_eq!(first.body().size_hint().exact(), Some(200 << 10));
        let error = answers.limit(large(), None).expect_err("there is none");
        assert!(error.kind() == br_std::Kind::Retry && error.message().contains("limits.queries_memory"), "{error}");
        answers.limit("small".into_response(), None).expect("small ones are always sent");
        let mut pieces = first.into_body().into_data_stream();
        let mut held = Vec::new();
        while let Some(piece) = pieces.next().await {
            held.push(piece.expect("whole"));
        }
        assert_eq!(held.iter().map(Bytes::len).sum::<usize>(), 200 << 10);
        drop(pieces);
        held.truncate(1);
        assert_eq!(answers.bytes_taken(), 200 << 10, "the connection still holds a piece");
        drop(held);
        assert_eq!(answers.bytes_taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_does_not_read_is_cut() {
        let answers = Answers::new(1 << 30);
        let is_cut = async |cut: &Cut| tokio::time::timeout(3 * PACE_WINDOW, cut.wanted()).await.is_ok();
        let cut = Cut::default();
        let unread = answers.limit(vec![7_u8; 1 << 20].into_response(), Some(cut.clone())).expect("room");
        assert!(is_cut(&cut).await);
        drop(unread);

        let cut = Cut::default();
        let slow = answers.limit(vec![7_u8; 1 << 20].into_response(), Some(cut.clone())).expect("room");
        let mut pieces = slow.into_body().into_data_stream();
        let reads = async {
            while pieces.next().await.is_some() {
                tokio::time::sleep(PACE_WINDOW / 2).await;
            }
        };
        tokio::select! { () = reads => {} () = cut.wanted() => panic!("it reads") }

        let cut = Cut::default();
        let begun = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"begun")) });
        let endless = Body::from_stream(begun.chain(futures::stream::pending()));
        let mut pieces =
            answers.limit(endless.into_response(), Some(cut.clone())).expect("no size").into_body().into_data_stream();
        assert!(pieces.next().await.is_some());
        tokio::select! { _ = pieces.next() => panic!("endless"), cut = is_cut(&cut) => assert!(!cut, "there is nothing to read") }
    }
}
