//! As much of a WebSocket client as following the live tail takes: it costs little beside the server that is measured.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(super) struct Socket {
    stream: BufReader<TcpStream>,
    message: Vec<u8>,
}

const TEXT: u8 = 1;
const CONTINUED: u8 = 0;
const CLOSE: u8 = 8;
const HEAD_BYTES_MAX: usize = 16 << 10;

impl Socket {
    /// `url` begins with `http://`, as the server's address does.
    pub(super) async fn open(url: &str, path: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").context("an address without TLS")?;
        let mut stream = TcpStream::connect(host).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut stream = BufReader::with_capacity(256 << 10, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
            if head.len() > HEAD_BYTES_MAX {
                bail!("{path}: no answer to an upgrade");
            }
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            bail!("{path} answered {}", String::from_utf8_lossy(&head));
        }
        Ok(Self { stream, message: Vec::new() })
    }

    /// The next text; `None` when the server closes.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>> {
        self.message.clear();
        loop {
            let [first, second] = [self.stream.read_u8().await?, self.stream.read_u8().await?];
            let length = match second & 0x7f {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                short => u64::from(short),
            };
            let before = self.message.len();
            self.message.resize(before + usize::try_from(length)?, 0);
            self.stream.read_exact(&mut self.message[before..]).await?;
            match first & 0xf {
                TEXT | CONTINUED if first & 0x80 != 0 => return Ok(Some(&self.message)),
                TEXT | CONTINUED => {}
                CLOSE => return Ok(None),
                // A ping: the answer is only for proxies.
                _ => self.message.truncate(before),
            }
        }
    }
}
