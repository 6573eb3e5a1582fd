//! One stream, as the task that serves it holds it.

use std::{
    io::IoSlice,
    task::{Context, Poll},
};

use super::{
    ErrorCode, OpenError, Session, StreamError,
    session::Pulse,
    streams::{Half, Key, want},
};
use crate::{
    io::Buffer,
    message::{BodyError, BodySink, BodySource, Fields, Part, RequestHead, ResponseHead},
};

impl Session {
    /// The next request that has come, with its stream.
    #[must_use]
    pub fn accept(&self) -> Option<(RequestHead, Stream)> {
        let (head, key) = self.0.borrow_mut().connection.next_request()?;
        Some((head, Stream::new(self.clone(), key)))
    }

    /// Opens a stream with this request; `end` if it has no body. Names go out in lower case, and fields of one connection
    /// of HTTP/1.1 not at all; `:authority` is [`RequestHead::host`].
    ///
    /// # Errors
    /// Nothing was sent; the request may go another way.
    pub fn open(&self, head: &RequestHead, end: bool) -> Result<Stream, OpenError> {
        let mut inner = self.0.borrow_mut();
        let is_first = inner.connection.streams.open_count() == 0;
        let key = inner.connection.open(head, end)?;
        if is_first && inner.pulse == Pulse::Heard {
            inner.pulse = Pulse::Quiet;
        }
        drop(inner);
        Ok(Stream::new(self.clone(), key))
    }
}

/// A stream. Dropped before both sides have ended it, it is reset: with `NO_ERROR` if a server has answered in full, else
/// with `CANCEL`. One task uses it at a time.
pub struct Stream {
    pub(super) session: Session,
    pub(super) key: Key,
    /// What was received and is being read.
    data: Buffer,
    trailers: Fields,
}

impl Stream {
    pub(super) const fn new(session: Session, key: Key) -> Self {
        Self { session, key, data: Buffer::new(), trailers: Fields::new() }
    }

    /// Its number in the connection.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.session.0.borrow_mut().connection.streams.get(self.key).id
    }

    /// The connection that it is part of.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Whether nothing comes any more, and nothing waits to be read: after the head, that there is no body.
    #[must_use]
    pub fn end_of_stream_in_head(&self) -> bool {
        let mut inner = self.session.0.borrow_mut();
        let slot = inner.connection.streams.get(self.key);
        slot.receiving == Half::Ended
            && slot.data.is_empty()
            && slot.trailers.is_empty()
            && self.data.is_empty()
    }

    /// Octets of body that the head announced and that have not come yet.
    #[must_use]
    pub fn announced_length(&self) -> Option<u64> {
        self.session.0.borrow_mut().connection.streams.get(self.key).to_receive
    }

    /// Whether the request is larger than the settings allow: its head is not complete, and it is to be answered with 431.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.session.0.borrow_mut().connection.streams.get(self.key).too_large
    }

    /// The next head of the response: interim ones first (RFC 9110 §15.2), then the final one. What `head` held before is
    /// forgotten.
    ///
    /// # Errors
    /// Why there will be none.
    pub fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), StreamError>> {
        let mut inner = self.session.0.borrow_mut();
        let slot = inner.connection.streams.get(self.key);
        if let Some(next) = slot.heads.pop_front() {
            let last = std::mem::replace(head, next);
            inner.connection.recycle_response(last);
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &slot.error {
            return Poll::Ready(Err(error.clone()));
        }
        slot.wait(cx, want::READ);
        Poll::Pending
    }

    /// Answers: with any number of interim responses, then a final one; `end` if that has no body. What comes after the
    /// final one is ignored.
    pub fn send_response_head(&mut self, head: &ResponseHead, end: bool) {
        self.session.0.borrow_mut().connection.send_response(self.key, head, end);
    }

    /// Waits until so little waits for the transport that something may be added which no window holds back: another
    /// interim response.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut inner = self.session.0.borrow_mut();
        if inner.connection.has_room(self.key)? {
            return Poll::Ready(Ok(()));
        }
        inner.connection.streams.get(self.key).wait(cx, want::WRITE);
        Poll::Pending
    }

    /// Waits until the stream ends before its time.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut inner = self.session.0.borrow_mut();
        let slot = inner.connection.streams.get(self.key);
        if let Some(error) = &slot.error {
            return Poll::Ready(error.clone());
        }
        slot.wait(cx, want::RESET);
        Poll::Pending
    }

    /// Waits until the peer has ended its half of the stream, whether what came was read or not, or the stream ends before
    /// its time.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.session.0.borrow_mut();
        let slot = inner.connection.streams.get(self.key);
        if slot.error.is_some() || slot.receiving == Half::Ended {
            return Poll::Ready(());
        }
        slot.wait(cx, want::RESET | want::END);
        Poll::Pending
    }

    /// Ends the stream before its time, both ways.
    pub fn reset(&mut self, code: ErrorCode) {
        self.session.0.borrow_mut().connection.reset(self.key, code);
    }

    /// Gives back the head of the request, so that its memory serves the next one.
    pub fn recycle(&self, head: RequestHead) {
        self.session.recycle(head);
    }

    /// Makes [`Self::data`](BodySource::data) hold what came, if anything did. `Ok(false)` is the end.
    pub(super) fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        if !self.data.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let mut inner = self.session.0.borrow_mut();
        let slot = inner.connection.streams.get(self.key);
        if !slot.data.is_empty() {
            std::mem::swap(&mut self.data, &mut slot.data);
            return Poll::Ready(Ok(true));
        }
        if slot.receiving == Half::Ended {
            return Poll::Ready(Ok(false));
        }
        if let Some(error) = &slot.error {
            return Poll::Ready(Err(error.clone()));
        }
        slot.wait(cx, want::READ);
        Poll::Pending
    }

    /// Sends data, as much as there is room for.
    pub(super) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<Result<usize, StreamError>> {
        let mut inner = self.session.0.borrow_mut();
        let sent = inner.connection.send_data(self.key, data)?;
        if sent == 0 && data.iter().any(|piece| !piece.is_empty()) {
            inner.connection.streams.get(self.key).wait(cx, want::WRITE);
            return Poll::Pending;
        }
        Poll::Ready(Ok(sent))
    }

    /// Sends data that is given, as much as there is room for; what is large is not copied.
    pub(super) fn poll_give(
        &mut self,
        cx: &Context<'_>,
        data: &mut Buffer,
    ) -> Poll<Result<usize, StreamError>> {
        let mut inner = self.session.0.borrow_mut();
        let sent = inner.connection.give_data(self.key, data)?;
        if sent == 0 && !data.is_empty() {
            inner.connection.streams.get(self.key).wait(cx, want::WRITE);
            return Poll::Pending;
        }
        Poll::Ready(Ok(sent))
    }

    /// Takes what was received as a whole; the peer may send as much again.
    pub(super) fn take_received(&mut self) -> Buffer {
        let data = std::mem::take(&mut self.data);
        self.session.0.borrow_mut().connection.release_window(self.key, data.len(), true);
        data
    }
}

impl BodySource for Stream {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
        Poll::Ready(match std::task::ready!(self.poll_received(cx)) {
            Ok(true) => Ok(Part::Data { chunk: None }),
            Ok(false) => {
                let mut inner = self.session.0.borrow_mut();
                let slot = inner.connection.streams.get(self.key);
                if slot.trailers.is_empty() {
                    return Poll::Ready(Ok(Part::End));
                }
                self.trailers.clear();
                std::mem::swap(&mut self.trailers, &mut slot.trailers);
                Ok(Part::Trailers)
            }
            Err(error) => Err(error.into()),
        })
    }

    fn data(&self) -> &[u8] {
        self.data.filled()
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.data.len());
        self.data.consume(count);
        let all = self.data.is_empty();
        self.session.0.borrow_mut().connection.release_window(self.key, count, all);
    }

    fn trailers(&mut self) -> &mut Fields {
        &mut self.trailers
    }
}

impl BodySink for Stream {
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        _chunk: Option<u64>,
    ) -> Poll<Result<usize, BodyError>> {
        self.poll_send(cx, &[IoSlice::new(data)]).map_err(BodyError::from)
    }

    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), BodyError> {
        Ok(self.session.0.borrow_mut().connection.end(self.key, trailers)?)
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        // What was written leaves with the driver's next turn.
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.0.borrow_mut().connection.release(self.key);
    }
}
