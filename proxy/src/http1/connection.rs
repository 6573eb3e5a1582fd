//! One connection that carries HTTP/1 messages, one after the other, in either role.
//!
//! Owns the bytes that were read and not yet used, and those that are to be written. Used by one task; has no timer and
//! decides nothing about a message: when to go on, to answer, or to close is its caller's to say.

#[cfg(test)]
mod tests;

mod receive;
mod send;

use std::{
    io,
    task::{Context, Poll, ready},
};

use super::{Fault, Framing, Limits, chunked, parse, write};
use crate::{
    io::{Buffer, ByteStream},
    message::{Fields, RequestHead, ResponseHead},
};

/// The most that is read at once, in bytes. How much of it is worth to ask for, the stream learns.
const LARGEST_READ: usize = 128 * 1024;

/// What is read ahead behind a whole message, in bytes, to see its sender's end: one who pipelines sends no more than that
/// before it has an answer, and of one who does, the stream tells the end.
const MOST_AHEAD: usize = 16 * 1024;

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The other side closed before its head was complete.
    #[error("the connection was closed before the head of a message was complete")]
    Closed,
    /// The transport failed.
    #[error("the connection failed before the head of a message was complete: {0}")]
    Io(#[from] io::Error),
    /// What came is refused.
    #[error(transparent)]
    Refused(#[from] Fault),
}

/// What happened on a connection from which nothing is expected.
#[derive(Debug)]
pub enum Idle {
    /// Bytes have come, and wait. Nothing that happens after them is noticed.
    Bytes,
    /// The other side sends nothing more.
    Closed,
    /// The transport failed.
    Failed(io::Error),
}

/// A connection.
pub struct Connection<S> {
    stream: S,
    limits: Limits,
    read: Buffer,
    write: Buffer,
    /// How much of an incomplete head was looked at.
    seen: usize,
    /// The other side sends nothing more.
    ended: bool,
    incoming: Incoming,
    /// How many bytes in `read` are of the part that was last told.
    part: usize,
    outgoing: Outgoing,
    /// Few bodies have any.
    trailers: Option<Box<Fields>>,
}

/// The body that is being received.
enum Incoming {
    Length(u64),
    Chunked(chunked::Decoder),
    UntilClose,
    Done,
}

/// The body that is being sent.
enum Outgoing {
    Length(u64),
    Chunked(chunked::Encoder),
    UntilClose,
    Done,
}

impl<S: ByteStream> Connection<S> {
    /// A connection on which no message has begun.
    pub const fn new(stream: S, limits: Limits) -> Self {
        Self::resume(stream, Buffer::new(), limits)
    }

    /// The same, of which some bytes were read already.
    pub const fn resume(stream: S, read: Buffer, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            read,
            write: Buffer::new(),
            seen: 0,
            ended: false,
            incoming: Incoming::Done,
            part: 0,
            outgoing: Outgoing::Done,
            trailers: None,
        }
    }

    /// The next request's head. `false`: the other side has closed, and no byte of a request has come.
    ///
    /// # Errors
    /// Why there is none. After it the connection is good for an answer at most.
    pub fn poll_request_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead,
    ) -> Poll<Result<bool, HeadError>> {
        match ready!(self.poll_head(cx, |bytes, limits| parse::request(bytes, limits, head))) {
            Ok(()) => Poll::Ready(Ok(true)),
            Err(HeadError::Closed) if !self.head_started() => Poll::Ready(Ok(false)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The next response's head, which may be an interim one.
    ///
    /// # Errors
    /// Why there is none. Then nothing more can be read; [`Self::head_started`] says whether some of it came.
    pub fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), HeadError>> {
        self.poll_head(cx, |bytes, limits| parse::response(bytes, limits, head))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        mut parse: impl FnMut(&[u8], Limits) -> Result<Option<usize>, Fault>,
    ) -> Poll<Result<(), HeadError>> {
        loop {
            let bytes = self.read.filled();
            // At the end, and at the limit, what is there is looked at for the reason why it is no head.
            let may_be_one = if self.ended || bytes.len() >= self.limits.bytes {
                !bytes.is_empty()
            } else {
                bytes.len() > self.seen && (self.seen == 0 || parse::may_be_complete(bytes, self.seen))
            };
            if may_be_one && let Some(size) = parse(bytes, self.limits)? {
                self.seen = 0;
                self.read.consume(size);
                return Poll::Ready(Ok(()));
            }
            self.seen = bytes.len();
            if self.ended {
                return Poll::Ready(Err(HeadError::Closed));
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Whether bytes wait that nobody has asked for yet.
    pub const fn has_buffered(&self) -> bool {
        !self.read.is_empty()
    }

    /// How many bytes wait.
    pub const fn buffered(&self) -> usize {
        self.read.len()
    }

    /// The longest head that it takes, in bytes.
    pub const fn longest_head(&self) -> usize {
        self.limits.bytes
    }

    /// Whether a head has begun to come; empty lines do not count.
    pub fn head_started(&self) -> bool {
        self.read.filled().iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Says how the body is framed that follows the head that was read; [`BodySource`](crate::message::BodySource) gives it.
    pub fn receive_body(&mut self, framing: Framing) {
        self.part = 0;
        self.incoming = match framing {
            Framing::None | Framing::Length(0) => Incoming::Done,
            Framing::Length(length) => Incoming::Length(length),
            Framing::Chunked => Incoming::Chunked(chunked::Decoder::default()),
            Framing::UntilClose => Incoming::UntilClose,
        };
    }

    /// Appends a request's head to what is to be written; [`BodySink`](crate::message::BodySink) takes the body.
    pub fn queue_request_head(&mut self, head: &RequestHead, framing: Framing) {
        write::request(head, framing, &mut self.write);
        self.send_body(framing);
    }

    /// Appends a response's head to what is to be written; [`BodySink`](crate::message::BodySink) takes the body. Any number
    /// of interim heads may come before the final one.
    pub fn queue_response_head(&mut self, head: &ResponseHead, framing: Framing) {
        write::response(head, framing, &mut self.write);
        self.send_body(framing);
    }

    fn send_body(&mut self, framing: Framing) {
        self.outgoing = match framing {
            Framing::None | Framing::Length(0) => Outgoing::Done,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked => Outgoing::Chunked(chunked::Encoder::default()),
            Framing::UntilClose => Outgoing::UntilClose,
        };
    }

    /// Whether the last message was received to its end.
    pub const fn is_received(&self) -> bool {
        matches!(self.incoming, Incoming::Done)
    }

    /// Whether the last message was queued to its end.
    pub const fn is_sent(&self) -> bool {
        matches!(self.outgoing, Outgoing::Done)
    }

    /// Whether another message can follow in both directions: what was begun has come to its end, nothing unasked has come,
    /// and the other side has not closed. Whether it wants to go on, [`framing::persists`](super::framing::persists) says.
    pub const fn is_reusable(&self) -> bool {
        self.is_received() && self.is_sent() && self.read.is_empty() && self.write.is_empty() && !self.ended
    }

    /// Notices what happens while nothing is expected of a server in the pool. Reads ahead once at most.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Idle> {
        if !self.read.is_empty() {
            return Poll::Ready(Idle::Bytes);
        }
        if self.ended {
            return Poll::Ready(Idle::Closed);
        }
        Poll::Ready(match ready!(self.poll_fill(cx)) {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Bytes,
            Err(error) => Idle::Failed(error),
        })
    }

    /// Ready when the client is gone: it sends nothing more, or its connection has failed. One that has closed its half and
    /// still reads the other cannot be told from one that gave up (RFC 9112 §9.6 leaves that to us), and many give up.
    ///
    /// Of a body that came in part, nothing is read: it waits for who wants it. Bytes that came already are no end.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_received() && !self.ended && self.read.len() < MOST_AHEAD {
            match ready!(self.stream.poll_fill(cx, &mut self.read, MOST_AHEAD)) {
                Ok(count) => self.ended = count == 0,
                Err(_) => return Poll::Ready(()),
            }
        }
        if self.ended { Poll::Ready(()) } else { self.stream.poll_ended(cx) }
    }

    /// Flushes, and tells the other side that nothing more comes; reading goes on.
    ///
    /// # Errors
    /// The connection failed.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        self.stream.poll_shutdown(cx)
    }

    /// Makes the end an abortion that the other side cannot take for a regular one.
    pub fn reset(&mut self) {
        self.stream.reset();
    }

    /// What carries the bytes.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// For a switch of protocols: what carries the bytes, and those that were read already. What was queued must have been
    /// flushed before.
    pub fn into_parts(self) -> (S, Buffer) {
        (self.stream, self.read)
    }

    /// Reads once. `0` is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = ready!(self.stream.poll_fill(cx, &mut self.read, LARGEST_READ))?;
        self.ended = count == 0;
        Poll::Ready(Ok(count))
    }
}
