//! A connection's two directions, each with its bounds.

use br_wire::postgres::{Fault, Message, Opening, Severity};
use br_wire::{Result, WireError};
use bytes::{Buf, BytesMut};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// A message may have this many bytes: more than the text of a query and its parameters need.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// A message before anybody knows who speaks.
const FIRST_MESSAGE_BYTES_MAX: usize = 10_000;
/// While a statement runs, so much of what a client says after it is read ahead.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// What is written is sent in pieces of about this size.
const OUT_BYTES: usize = 64 << 10;
/// A client that takes nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_mins(1);

/// Why a statement ends before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told, and the connection goes on.
    Fault(Fault),
    /// The connection is over.
    Gone,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) struct Wire {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    incoming: BytesMut,
    pub(super) out: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Answers are small and asked for one by one.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self { reader, writer, incoming: BytesMut::new(), out: Vec::new() }
    }

    pub(super) async fn opening(&mut self) -> Result<Option<Opening>> {
        loop {
            if let Some((opening, length)) = br_wire::postgres::opening(&self.incoming)? {
                self.incoming.advance(length);
                return Ok(Some(opening));
            }
            if self.read().await.is_err() {
                return Ok(None);
            }
        }
    }

    pub(super) async fn first_message(&mut self) -> Result<Option<Message>> {
        self.message_within(FIRST_MESSAGE_BYTES_MAX).await
    }

    /// Nothing at the end of the connection.
    pub(super) async fn message(&mut self) -> Result<Option<Message>> {
        self.message_within(MESSAGE_BYTES_MAX).await
    }

    async fn message_within(&mut self, bytes_max: usize) -> Result<Option<Message>, WireError> {
        loop {
            if let Some((message, length)) = br_wire::postgres::message(&self.incoming, bytes_max)? {
                self.incoming.advance(length);
                return Ok(Some(message));
            }
            if self.read().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> Result<(), Stop> {
        match self.reader.read_buf(&mut self.incoming).await {
            Ok(0) | Err(_) => Err(Stop::Gone),
            Ok(_) => Ok(()),
        }
    }

    /// Whether a whole message is here already.
    pub(super) fn has_message(&self) -> bool {
        let length = self.incoming.get(1..5).and_then(|length| length.first_chunk::<4>());
        length.is_some_and(|length| self.incoming.len() > u32::from_be_bytes(*length) as usize)
    }

    /// Ends when the client goes away; what it says meanwhile is kept for later.
    pub(super) async fn gone(&mut self) {
        while self.incoming.len() < AHEAD_BYTES_MAX {
            if self.read().await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Sends what has been written once it is worth it.
    pub(super) async fn flush_full(&mut self) -> Result<(), Stop> {
        if self.out.len() < OUT_BYTES { Ok(()) } else { self.flush().await }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        let written = timeout(WRITE_WITHIN, self.writer.write_all(&self.out)).await;
        self.out.clear();
        if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(Stop::Gone) }
    }

    /// The last words of a connection.
    pub(super) async fn refuse(&mut self, state: &'static str, message: impl Into<String>) {
        br_wire::postgres::error(&mut self.out, Severity::Fatal, &Fault::new(state, message));
        let _ = self.flush().await;
    }
}
