//! One end of a connection, plain or in TLS: sends bytes as they are, reads messages strictly.

use std::{io, time::Duration};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::message::{Body, Broken, Framing, Head, Message, malformed, parse_fields};
use crate::support::soon;

/// Longest head, chunk line or trailer section that is read.
const MAX_LINES: usize = 1 << 20;

pub struct Wire {
    stream: Either<TcpStream, TlsStream<TcpStream>>,
    /// Read from the stream and not yet consumed.
    buffer: Vec<u8>,
    /// Whether a test fails when it waits long for bytes.
    hurried: bool,
}

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN; within TLS after a close_notify.
    Closed,
    /// FIN without a close_notify: whoever reads cannot know that it has everything (RFC 8446 §6.1).
    Truncated,
    /// RST.
    Reset,
}

impl Wire {
    pub const fn plain(stream: TcpStream) -> Self {
        Self { stream: Either::Left(stream), buffer: Vec::new(), hurried: true }
    }

    pub const fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Either::Right(stream), buffer: Vec::new(), hurried: true }
    }

    /// Waits for bytes for as long as it takes, as an app does.
    #[must_use]
    pub fn unhurried(self) -> Self {
        Self { hurried: false, ..self }
    }

    /// Sends all of it. The other side must be there to take it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends as much as the other side takes.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        soon("the other side to take bytes", async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        })
        .await
    }

    /// Sends a pattern again and again until the other side takes no more for a while; returns how much it took.
    pub async fn send_until_stuck(&mut self, pattern: &[u8], stuck_for: Duration) -> usize {
        let mut sent = 0;
        loop {
            let rest = &pattern[sent % pattern.len()..];
            match tokio::time::timeout(stuck_for, self.stream.write(rest)).await {
                Ok(Ok(count)) => sent += count,
                Ok(Err(_)) | Err(_) => return sent,
            }
        }
    }

    /// Half-closes: nothing more will be sent.
    pub async fn finish(&mut self) {
        soon("the half-close", self.stream.shutdown()).await.unwrap();
    }

    /// Waits until the other side has ended the connection, in whatever way, and reads nothing.
    pub async fn gone(&self) {
        let socket = match &self.stream {
            Either::Left(plain) => plain,
            Either::Right(tls) => tls.get_ref().0,
        };
        // Of urgent data the poller is not asked: what is left is the end.
        soon("the end of a connection", socket.ready(Interest::PRIORITY)).await.unwrap();
    }

    /// Ends the connection with an RST.
    pub fn reset(self) {
        let socket = match &self.stream {
            Either::Left(plain) => plain,
            Either::Right(tls) => tls.get_ref().0,
        };
        socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The next message's head.
    pub async fn head(&mut self) -> Head {
        self.try_head().await.unwrap_or_else(|broken| panic!("no head: {broken}"))
    }

    /// The next response's head, past those of interim responses.
    pub async fn final_head(&mut self) -> Head {
        loop {
            let head = self.head().await;
            if head.status() >= 200 || head.status() == 101 {
                return head;
            }
        }
    }

    pub async fn try_head(&mut self) -> Result<Head, Broken> {
        let raw = self.until("a head", b"\r\n\r\n").await?;
        Head::parse(&raw)
    }

    /// The next request, whole.
    pub async fn request(&mut self) -> Message {
        self.try_request().await.unwrap_or_else(|broken| panic!("no request: {broken}"))
    }

    pub async fn try_request(&mut self) -> Result<Message, Broken> {
        let head = self.try_head().await?;
        let framing = head.request_framing()?;
        let body = self.try_body(framing).await?;
        Ok(Message { head, body })
    }

    /// The next response to a request of `method`, whole.
    pub async fn response(&mut self, method: &str) -> Message {
        self.try_response(method).await.unwrap_or_else(|broken| panic!("no response: {broken}"))
    }

    pub async fn try_response(&mut self, method: &str) -> Result<Message, Broken> {
        let head = self.try_head().await?;
        let framing = head.response_framing(method)?;
        let body = self.try_body(framing).await?;
        Ok(Message { head, body })
    }

    /// The body that follows a head.
    pub async fn try_body(&mut self, framing: Framing) -> Result<Body, Broken> {
        let mut body = Body::empty(framing);
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                body.bytes = self.exactly("a body", usize::try_from(length).unwrap()).await?;
            }
            Framing::Chunked => {
                while let Some(chunk) = self.chunk().await? {
                    body.chunks.push(chunk.len());
                    body.bytes.extend(chunk);
                }
                body.trailers = self.trailers().await?;
            }
            Framing::UntilClose => {
                body.bytes = match self.rest().await {
                    (bytes, End::Closed) => bytes,
                    (bytes, End::Truncated) => {
                        return Err(Broken::Cut(format!("a body after {} bytes", bytes.len())));
                    }
                    (_, End::Reset) => return Err(Broken::Reset),
                };
            }
        }
        Ok(body)
    }

    /// The next chunk; nothing for the last one.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let line = self.until("a chunk's size", b"\r\n").await?;
        let digits = &line[..line.len() - 2];
        if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return malformed(format!("chunk line {:?}", String::from_utf8_lossy(&line)));
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        if size == 0 {
            return Ok(None);
        }
        let chunk = self.exactly("a chunk", size).await?;
        match self.exactly("the end of a chunk", 2).await?.as_slice() {
            b"\r\n" => Ok(Some(chunk)),
            other => malformed(format!("{other:?} after a chunk")),
        }
    }

    /// What follows the last chunk.
    pub async fn trailers(&mut self) -> Result<super::message::Fields, Broken> {
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\n") && raw != b"\r\n" {
            raw.extend(self.until("trailers", b"\r\n").await?);
        }
        parse_fields(&raw)
    }

    /// Exactly that many bytes.
    pub async fn exactly(&mut self, what: &str, count: usize) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() < count {
            let have = self.buffer.len();
            self.more(what).await.map_err(|broken| match broken {
                Broken::Cut(what) => Broken::Cut(format!("{what} after {have} of {count} bytes")),
                other => other,
            })?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Everything up to and with `mark`.
    async fn until(&mut self, what: &str, mark: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut searched = 0_usize;
        loop {
            let from = searched.saturating_sub(mark.len());
            if let Some(at) = self.buffer[from..].windows(mark.len()).position(|window| window == mark) {
                let rest = self.buffer.split_off(from + at + mark.len());
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            searched = self.buffer.len();
            if searched > MAX_LINES {
                return malformed(format!("{what} has no end"));
            }
            self.more(what).await?;
        }
    }

    /// Reads on.
    async fn more(&mut self, what: &str) -> Result<(), Broken> {
        match self.read().await {
            Ok(()) => Ok(()),
            Err(End::Reset) => Err(Broken::Reset),
            Err(End::Closed | End::Truncated) => {
                Err(Broken::Cut(if self.buffer.is_empty() { "nothing".to_owned() } else { what.to_owned() }))
            }
        }
    }

    /// Adds what comes next to the buffer.
    async fn read(&mut self) -> Result<(), End> {
        let reading = self.stream.read_buf(&mut self.buffer);
        let read = if self.hurried { soon("bytes or the end", reading).await } else { reading.await };
        match read {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(End::Truncated),
            Err(_) => Err(End::Reset),
        }
    }

    /// Whether bytes, or the end, are there now.
    pub async fn has_bytes(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        // Polled once: what the reactor has not seen by now is not there.
        tokio::task::yield_now().await;
        let read = std::pin::pin!(self.stream.read_buf(&mut self.buffer)).now_or_never();
        read.is_some()
    }

    /// Everything until the other side ends the connection.
    pub async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.read().await {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// The other side ends the connection, and sends nothing before.
    pub async fn end(&mut self) -> End {
        let (bytes, end) = self.rest().await;
        assert!(bytes.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&bytes));
        end
    }
}
