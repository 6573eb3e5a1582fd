//! Ends, regular and not: of streams, and of the connection (RFC 9113 §5.4, §6.8).

use super::{Connection, Role, SPARE_HEADS, Shutdown};
use crate::{
    http2::{
        ErrorCode,
        error::{ConnectionError, StreamError, Violation},
        frame::kind,
        streams::{Closed, Half, Key, want},
    },
    message::{RequestHead, ResponseHead},
};

/// What our PING says while we wait to be sure that the peer knows that we go.
const LAST_CALL: [u8; 8] = *b"svidecar";

/// What `GOAWAY` says as long as any stream is still served.
const ANY_STREAM: u32 = i32::MAX.cast_unsigned();

impl Connection {
    /// Both halves of a stream came to their end.
    pub(super) fn completed(&mut self, key: Key) {
        self.resets.earn(1);
        self.close_stream(key, Closed::Ended);
    }

    /// A stream ends before its time, for whoever holds it and on the wire.
    pub(super) fn fail_stream(&mut self, key: Key, error: StreamError, how: Closed) {
        let slot = self.streams.get(key);
        slot.error.get_or_insert(error);
        self.close_stream(key, how);
        self.wake(key, want::READ | want::WRITE | want::RESET);
    }

    /// The peer broke a rule that ends the stream.
    pub(super) fn stream_fault(&mut self, key: Key, code: ErrorCode, why: &'static str) {
        let id = self.streams.get(key).id;
        self.send_reset(id, code);
        // Of a server it is the answer to a stream that we have opened ourselves.
        if self.role == Role::Server {
            self.tire(1);
        }
        self.fail_stream(key, StreamError::Malformed(why), Closed::ByUs);
    }

    /// The peer makes us work for nothing. One that speaks for many is read on after a pause.
    pub(super) fn tire(&mut self, cost: u32) {
        if !self.resets.spend(cost) {
            self.tired |= self.settings.paces;
            self.exhausted |= !self.settings.paces;
        }
    }

    /// Resets a stream on the wire: now, or as soon as the peer bears it.
    fn send_reset(&mut self, id: u32, code: ErrorCode) {
        if self.own_resets.as_mut().is_none_or(|resets| resets.spend(1)) {
            return self.write_reset(id, code);
        }
        self.worn = true;
        self.owed.push_back(id);
    }

    /// Resets what waits for it and may be reset now.
    pub(super) fn pay_owed(&mut self) {
        while let Some(id) = self.owed.front().copied()
            && self.own_resets.as_mut().is_none_or(|resets| resets.spend(1))
        {
            self.owed.pop_front();
            self.write_reset(id, ErrorCode::CANCEL);
        }
    }

    /// The same for a stream of which only the number is known.
    pub(super) fn fault_of(&mut self, id: u32, code: ErrorCode, why: &'static str) -> Result<(), Violation> {
        match self.streams.find(id) {
            Some(key) => {
                self.stream_fault(key, code, why);
                Ok(())
            }
            None if self.graveyard.find(id) == Ok(Closed::ByUs) => self.endure(1, why),
            // There is no stream to be reset: the connection takes its place (RFC 9113 §5.4).
            None => Err(Violation::new(code, why)),
        }
    }

    /// A stream that was never begun was reset.
    pub(super) fn bury_refused(&mut self, id: u32) {
        self.tire(1);
        self.graveyard.bury(id, Closed::ByUs);
    }

    /// DATA or HEADERS on a stream that is not open: too late, or wrong.
    pub(super) fn late_frame(&mut self, id: u32) -> Result<(), Violation> {
        if self.is_idle(id) {
            return Err(Violation::protocol("a frame on a stream that is idle"));
        }
        if self.is_beyond_last(id) {
            // It was on its way when the peer had not heard which stream is the last (RFC 9113 §6.8).
            return self.endure(1, "too many frames on streams after the last one");
        }
        match self.graveyard.find(id) {
            // Our callers gave up, as many as they like, and the server answers what it has not heard of yet.
            Ok(Closed::ByUs) | Err(true) if self.role == Role::Client => Ok(()),
            // It was on its way when the peer had not heard of the reset.
            Ok(Closed::ByUs) => self.endure(1, "too many frames on streams that were reset"),
            Ok(Closed::Ended) => {
                Err(Violation::new(ErrorCode::STREAM_CLOSED, "a frame on a stream that both sides ended"))
            }
            Ok(Closed::ByPeer) | Err(true) => {
                self.write_reset(id, ErrorCode::STREAM_CLOSED);
                self.tire(1);
                Ok(())
            }
            Err(false) => Err(Violation::protocol("a frame on a stream whose number was passed over")),
        }
    }

    /// We reset a stream.
    pub fn reset(&mut self, key: Key, code: ErrorCode) {
        let slot = self.streams.get(key);
        if slot.open {
            let id = slot.id;
            self.send_reset(id, code);
            self.fail_stream(key, StreamError::Cancelled, Closed::ByUs);
            self.notify();
        }
    }

    /// Nobody holds the stream any more.
    pub fn release(&mut self, key: Key) {
        let role = self.role;
        let slot = self.streams.get(key);
        // A server that has answered in full needs no more of the request (RFC 9113 §8.1).
        let answered = role == Role::Server && slot.sending == Half::Ended;
        let (in_line, among_blocked) = (slot.in_line, slot.among_blocked);
        if in_line {
            self.line.retain(|waiting| *waiting != key);
        }
        if among_blocked {
            self.blocked.retain(|waiting| *waiting != key);
        }
        self.reset(key, if answered { ErrorCode::NO_ERROR } else { ErrorCode::CANCEL });
        self.streams.release(key);
    }

    /// Resets the streams that had no room to write since the last call, but for tunnels. Returns how many there were.
    pub fn reset_stalled(&mut self) -> usize {
        let mut stalled = Vec::new();
        for (key, slot) in self.streams.iter_open().filter(|(_, slot)| !slot.tunnel) {
            if slot.is_blocked() && slot.stalled {
                stalled.push((key, slot.id));
            }
            slot.stalled = slot.is_blocked();
        }
        for (key, id) in &stalled {
            self.send_reset(*id, ErrorCode::ENHANCE_YOUR_CALM);
            self.fail_stream(*key, StreamError::Stalled, Closed::ByUs);
        }
        self.notify();
        stalled.len()
    }

    /// Begins the regular end: no new streams, the running ones go on.
    pub fn shut_down(&mut self) {
        if self.shutdown != Shutdown::No {
            return;
        }
        match self.role {
            Role::Client => {
                self.shutdown = Shutdown::Final(0);
                self.write_goaway(0, ErrorCode::NO_ERROR, "");
            }
            Role::Server => {
                self.shutdown = Shutdown::Announced;
                self.write_goaway(ANY_STREAM, ErrorCode::NO_ERROR, "");
                self.write_frame(kind::PING, 0, 0, &LAST_CALL);
            }
        }
        self.notify();
    }

    /// Asks the peer for an answer (RFC 9113 §6.7).
    pub fn ask(&mut self, payload: &[u8; 8]) {
        self.write_frame(kind::PING, 0, 0, payload);
        self.notify();
    }

    /// The peer has seen what we sent before our PING: it opens no more streams.
    pub(super) fn ping_answered(&mut self, payload: &[u8]) {
        if payload == LAST_CALL && self.shutdown == Shutdown::Announced {
            self.shutdown = Shutdown::Final(self.last_peer);
            self.write_goaway(self.last_peer, ErrorCode::NO_ERROR, "");
        }
    }

    /// Whether a stream of the peer comes after the last one that is served.
    pub(super) fn is_beyond_last(&self, id: u32) -> bool {
        matches!(self.shutdown, Shutdown::Final(last) if id > last)
    }

    /// Whether the regular end has come: asked for, and nothing runs any more.
    pub fn is_finished(&self) -> bool {
        matches!(self.shutdown, Shutdown::Final(_)) && self.streams.open_count() == 0
    }

    /// The peer processes no stream after this one.
    pub(super) fn unprocessed_after(&mut self, last: u32) {
        let after = self.streams.iter_open().filter(|(_, slot)| slot.id > last);
        for key in after.map(|(key, _)| key).collect::<Vec<_>>() {
            self.fail_stream(key, StreamError::Unprocessed, Closed::ByPeer);
        }
    }

    /// Tells the peer which rule it broke, as the last that it hears.
    pub fn violated(&mut self, violation: Violation) {
        self.write_goaway(self.last_peer, violation.code, violation.why);
        self.fail(ConnectionError::Violation(violation));
    }

    /// The peer closed its end of the transport.
    pub fn peer_closed(&mut self, inside_frame: bool) {
        let error = match self.peer_goaway.take() {
            Some(ConnectionError::GoAway { code: ErrorCode::NO_ERROR, .. }) | None => {
                let cut = inside_frame || self.streams.open_count() > 0;
                if cut { ConnectionError::Cut } else { ConnectionError::Closed }
            }
            Some(error) => error,
        };
        self.fail(error);
    }

    /// The connection is over, for everyone who has to do with it.
    pub fn fail(&mut self, error: ConnectionError) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(error.clone());
        for key in self.streams.iter_open().map(|(key, _)| key).collect::<Vec<_>>() {
            self.fail_stream(key, StreamError::Connection(error.clone()), Closed::ByPeer);
        }
        self.notify();
    }

    /// Why the connection is over.
    pub const fn closed(&self) -> Option<&ConnectionError> {
        self.closed.as_ref()
    }

    /// Keeps the memory of a head for the next one.
    pub fn recycle_request(&mut self, mut head: RequestHead) {
        if self.spare_requests.len() < SPARE_HEADS {
            head.clear();
            head.shrink();
            self.spare_requests.push(head);
        }
    }

    /// Keeps the memory of a head for the next one.
    pub fn recycle_response(&mut self, mut head: ResponseHead) {
        if self.spare_responses.len() < SPARE_HEADS {
            head.clear();
            head.shrink();
            self.spare_responses.push(head);
        }
    }
}
