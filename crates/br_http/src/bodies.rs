//! Bodies on their way in: each within a size and a time, all together within a size.
//!
//! Without this a few thousand connections that say `Content-Length: 16000000` and then send slowly would hold all memory.

use axum::body::Body;
use br_ingest::intake::AcceptError;
use br_std::Error;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all bodies that are being received may take together, in KiB.
const ROOM_KIB: usize = 256 << 10;
/// A sender that is silent for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The longest that one body may take.
const TIME_MAX: Duration = Duration::from_mins(1);

/// The room that bodies share.
#[derive(Clone)]
pub struct Bodies {
    room: Arc<Semaphore>,
    silence_max: Duration,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM_KIB)), silence_max: SILENCE_MAX }
    }
}

/// A body that was received whole. Its room is free again when this is dropped.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Receives a body of `bytes_max` at the most.
    pub(crate) async fn receive(&self, body: Body, bytes_max: usize) -> Result<Received, AcceptError> {
        let mut parts = self.parts(body);
        let mut whole = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(part) = parts.next().await {
            let (bytes, permit) = part?;
            if whole.len() + bytes.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            whole.extend_from_slice(&bytes);
            match &mut room {
                Some(room) => room.merge(permit),
                None => room = Some(permit),
            }
        }
        Ok(Received { bytes: whole.freeze(), _room: room })
    }

    /// The same body, which breaks off where a limit is reached. Its parts count as long as it is read.
    pub(crate) fn limit(&self, body: Body) -> Body {
        let held: Option<OwnedSemaphorePermit> = None;
        let parts = unfold((self.parts(body), held), |(mut parts, mut held)| async move {
            let part = parts.next().await?;
            let part = part.map(|(bytes, permit)| {
                match &mut held {
                    Some(held) => held.merge(permit),
                    None => held = Some(permit),
                }
                bytes
            });
            Some((part, (parts, held)))
        });
        Body::from_stream(parts)
    }

    /// The body as it comes; each part takes its room until its permit is dropped.
    pub(crate) fn parts(&self, body: Body) -> BoxStream<'static, Result<(Bytes, OwnedSemaphorePermit), AcceptError>> {
        let (room, silence_max) = (self.room.clone(), self.silence_max);
        let end = tokio::time::Instant::now() + TIME_MAX;
        let state = Some(body.into_data_stream());
        unfold(state, move |stream| {
            let room = room.clone();
            async move {
                let mut stream = stream?;
                let patience = end.min(tokio::time::Instant::now() + silence_max);
                let outcome = match tokio::time::timeout_at(patience, stream.next()).await {
                    Ok(None) => return None,
                    Ok(Some(Ok(bytes))) => take_room(room, &bytes).map(|permit| (bytes, permit)),
                    Ok(Some(Err(error))) => Err(AcceptError::malformed(format!("the body broke off: {error}"))),
                    Err(_) => Err(Error::retry(format!(
                        "the body did not come: at most {} s of silence, {} s in all",
                        silence_max.as_secs(),
                        TIME_MAX.as_secs()
                    ))
                    .into()),
                };
                let rest = outcome.is_ok().then_some(stream);
                Some((outcome, rest))
            }
        })
        .boxed()
    }
}

fn take_room(room: Arc<Semaphore>, bytes: &Bytes) -> Result<OwnedSemaphorePermit, AcceptError> {
    let kib = u32::try_from(bytes.len().div_ceil(1 << 10)).unwrap_or(u32::MAX);
    room.try_acquire_many_owned(kib).map_err(|_| {
        Error::retry(format!("{} MiB of bodies are on their way already: try again in a moment", ROOM_KIB >> 10)).into()
    })
}

pub(crate) fn too_large(bytes_max: usize) -> AcceptError {
    AcceptError::too_large(format!("the body is larger than {} MiB: send smaller batches, or raise limits.body", bytes_max >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_have_a_size_each_and_a_room_together() {
        let bodies = Bodies::default();
        assert!(bodies.receive(Body::from(vec![0; 2049]), 2048).await.is_err());
        let received = bodies.receive(Body::from(vec![0; 2048]), 2048).await.map_err(|error| error.to_string()).expect("within");
        assert_eq!((received.bytes.len(), bodies.room.available_permits()), (2048, ROOM_KIB - 2));
        let taken = bodies.room.clone().try_acquire_many_owned((ROOM_KIB - 3) as u32).expect("the rest but one");
        let error = bodies.receive(Body::from(vec![0; 2048]), 2048).await.err().expect("no room").to_string();
        assert!(error.contains("try again"), "{error}");
        drop((received, taken));
        assert_eq!(bodies.room.available_permits(), ROOM_KIB, "given back");
    }

    #[tokio::test]
    async fn a_sender_that_falls_silent_is_not_waited_for() {
        let silent =
            futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{")) }).chain(futures::stream::pending());
        let bodies = Bodies { silence_max: Duration::from_millis(10), ..Bodies::default() };
        let error = bodies.receive(Body::from_stream(silent), 2048).await.err().expect("silence").to_string();
        assert!(error.contains("of silence"), "{error}");
        assert_eq!(bodies.room.available_permits(), ROOM_KIB, "given back");
    }
}
