//! What streams send: heads, data, ends; and what they tell the peer by reading.

use std::io::IoSlice;

use super::{Connection, HIGH_WATER, Key, Role, Shutdown, TURN, end_flag};
use crate::{
    http2::{
        ErrorCode,
        error::{OpenError, StreamError},
        frame::{Header, LARGEST_WINDOW, LEAST_MAX_FRAME, flag, kind},
        outbox::WORTH_GIVING,
        streams::Half,
    },
    io::{Buffer, FLIGHT},
    message::{Fields, RequestHead, ResponseHead, head::MOST_KEPT},
};

/// No stream is opened while this many octets wait for the transport: requests that are taken back before they leave would
/// gather without bound.
const MOST_UNSENT: usize = 1 << 20;

/// Whether there is room for all of something.
enum Fit {
    /// There is.
    Now,
    /// There will be.
    Soon,
    /// Nobody knows when.
    InPart,
}

impl Connection {
    /// Why no stream can be opened now, if none can.
    pub fn obstacle(&self) -> Option<OpenError> {
        if self.closed().is_some() {
            Some(OpenError::Closed)
        } else if self.peer_goaway.is_some()
            || self.shutdown != Shutdown::No
            || self.worn
            || self.next_own >= LARGEST_WINDOW
            || self.role == Role::Server
        {
            Some(OpenError::GoingAway)
        } else if self.out.len() > MOST_UNSENT {
            Some(OpenError::Congested)
        } else if self.streams.open_count() >= self.peer.max_streams as usize {
            Some(OpenError::TooManyStreams)
        } else {
            None
        }
    }

    /// Opens a stream with this request; `end` if it has no body.
    pub fn open(&mut self, head: &RequestHead, end: bool) -> Result<Key, OpenError> {
        if let Some(obstacle) = self.obstacle() {
            return Err(obstacle);
        }
        let id = self.next_own;
        self.next_own += 2;
        let key = self.open_slot(id);
        let promised = self.writer.request(head);
        let slot = self.streams.get(key);
        slot.bodiless = head.method == "HEAD";
        slot.tunnel = head.method == "CONNECT";
        slot.to_send = promised;
        slot.sending = if end { Half::Ended } else { Half::Body };
        self.write_block(key, end);
        Ok(key)
    }

    /// Answers a request, for good or with an interim response; `end` if there is no body.
    pub fn send_response(&mut self, key: Key, head: &ResponseHead, end: bool) {
        let slot = self.streams.get(key);
        if !slot.open || slot.sending != Half::Head {
            return;
        }
        let end = end && !head.is_interim();
        let promised = self.writer.response(head);
        if !head.is_interim() {
            slot.sending = Half::Body;
            slot.to_send = promised.filter(|_| !slot.tunnel);
        }
        self.write_block(key, end);
        if end {
            self.ended(key);
        }
    }

    /// Sends data, as much of it as there is room for: none if it has to wait.
    pub fn send_data(&mut self, key: Key, data: &[IoSlice<'_>]) -> Result<usize, StreamError> {
        let total = data.iter().map(|piece| piece.len()).sum::<usize>();
        let count = self.room_of(key)?.min(total);
        let (mut left, mut frame) = (count, 0);
        for piece in data {
            let mut rest = piece.get(..piece.len().min(left)).unwrap_or_default();
            while !rest.is_empty() {
                if frame == 0 {
                    frame = left.min(self.peer.max_frame);
                    self.begin_frame(key, kind::DATA, 0, frame);
                }
                let (now, later) = rest.split_at(rest.len().min(frame));
                self.out.extend(now);
                (frame, left, rest) = (frame - now.len(), left - now.len(), later);
            }
        }
        self.count_sent(key, count)?;
        Ok(count)
    }

    /// Sends data that is given. What is large goes to one of us as one frame and is not copied; it waits for room where
    /// that is about to come. Otherwise this is [`Self::send_data`].
    pub fn give_data(&mut self, key: Key, data: &mut Buffer) -> Result<usize, StreamError> {
        let count = data.len();
        // Others are given frames that all of them take, and storage that is mostly empty would be bound for little.
        let is_long = self.settings.max_frame > LEAST_MAX_FRAME && count <= self.peer.max_frame.min(FLIGHT);
        let fit = match is_long && count >= WORTH_GIVING.max(data.capacity() / 4) {
            true => self.fit(key, count)?,
            false => Fit::InPart,
        };
        match fit {
            Fit::Now => {
                self.begin_frame(key, kind::DATA, 0, count);
                self.out.give(std::mem::take(data));
                self.count_sent(key, count)?;
                Ok(count)
            }
            Fit::Soon => Ok(0),
            Fit::InPart => {
                let sent = self.send_data(key, &[IoSlice::new(data.filled())])?;
                data.consume(sent);
                Ok(sent)
            }
        }
    }

    /// Whether this much fits. If it will soon, the stream is woken then.
    fn fit(&mut self, key: Key, count: usize) -> Result<Fit, StreamError> {
        let wanted = count as i64;
        if self.room_of(key)? >= count {
            return Ok(Fit::Now);
        }
        let slot = self.streams.get(key);
        let window = self.windows.of(slot.send_credit);
        if window < wanted {
            // Most of the window is on its way, so its reader is about to open it again: one of us does at half of it.
            let is_mostly_used = window <= self.windows.of(slot.most_send_credit) / 4;
            return Ok(if is_mostly_used { Fit::Soon } else { Fit::InPart });
        }
        if !self.line.is_empty() || self.send_window < wanted {
            return Ok(Fit::InPart);
        }
        // The transport is about to take what fills the outbox.
        slot.in_line = true;
        self.line.push_back(key);
        Ok(Fit::Soon)
    }

    /// Whether the transport takes what is written, so that something may be written which no window holds back. If it does
    /// not, the stream stands in line from here on.
    pub fn has_room(&mut self, key: Key) -> Result<bool, StreamError> {
        let is_full = self.out.len() >= HIGH_WATER;
        let slot = self.streams.get(key);
        if let Some(error) = &slot.error {
            return Err(error.clone());
        }
        if is_full && !slot.in_line {
            slot.in_line = true;
            self.line.push_back(key);
        }
        Ok(!is_full)
    }

    /// How much the stream may send now. If it may not, but others may, it stands in line from here on.
    fn room_of(&mut self, key: Key) -> Result<usize, StreamError> {
        let room = self.room();
        let in_turn = if self.line.is_empty() { HIGH_WATER } else { TURN };
        let slot = self.streams.get(key);
        if let Some(error) = &slot.error {
            return Err(error.clone());
        }
        if !slot.open || slot.sending != Half::Body {
            return Err(StreamError::Malformed("data where the message has none"));
        }
        let window = usize::try_from(self.windows.of(slot.send_credit)).unwrap_or(0);
        if window == 0 && !slot.among_blocked {
            slot.among_blocked = true;
            self.blocked.push_back(key);
        }
        if window > 0 && room == 0 && !slot.in_line {
            slot.in_line = true;
            self.line.push_back(key);
        }
        Ok(window.min(room).min(in_turn))
    }

    /// Begins a frame of the stream that has room.
    fn begin_frame(&mut self, key: Key, kind: u8, flags: u8, length: usize) {
        let at = self.out.end();
        let slot = self.streams.get(key);
        slot.last_frame = at;
        let stream = slot.id;
        self.write_header(Header { length, kind, flags, stream });
    }

    /// This much data of the stream was written.
    fn count_sent(&mut self, key: Key, count: usize) -> Result<(), StreamError> {
        let slot = self.streams.get(key);
        // Who only asks again has not moved.
        slot.stalled &= count == 0;
        slot.send_credit -= count as i64;
        self.send_window -= count as i64;
        if let Some(left) = &mut slot.to_send {
            *left = left
                .checked_sub(count as u64)
                .ok_or(StreamError::Malformed("a body that is longer than its content-length"))?;
        }
        if count > 0 {
            self.patience.earn(4);
            self.notify();
        }
        Ok(())
    }

    /// Ends what the stream sends.
    pub fn end(&mut self, key: Key, trailers: Option<&Fields>) -> Result<(), StreamError> {
        let slot = self.streams.get(key);
        if let Some(error) = &slot.error {
            return Err(error.clone());
        }
        if !slot.open || slot.sending != Half::Body {
            return Ok(());
        }
        if slot.to_send.is_some_and(|left| left > 0) {
            return Err(StreamError::Malformed("a body that is shorter than its content-length"));
        }
        match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => {
                self.writer.trailers(trailers);
                self.write_block(key, true);
            }
            None => self.write_end(key),
        }
        self.ended(key);
        Ok(())
    }

    /// `END_STREAM` goes into the last frame of the stream if that still waits, else into an empty one of its own.
    fn write_end(&mut self, key: Key) {
        let flags = self.streams.get(key).last_frame + 4;
        match self.out.at(flags) {
            Some(flags) => *flags |= flag::END_STREAM,
            None => self.begin_frame(key, kind::DATA, flag::END_STREAM, 0),
        }
    }

    fn ended(&mut self, key: Key) {
        let slot = self.streams.get(key);
        slot.sending = Half::Ended;
        if slot.receiving == Half::Ended {
            self.completed(key);
        }
        self.notify();
    }

    /// Writes the field block as HEADERS, and CONTINUATION where it is longer than a frame.
    fn write_block(&mut self, key: Key, end: bool) {
        let block = std::mem::take(&mut self.writer.block);
        let first = block.len().min(self.peer.max_frame);
        let (now, mut rest) = block.split_at(first);
        let all = if rest.is_empty() { flag::END_HEADERS } else { 0 };
        self.begin_frame(key, kind::HEADERS, end_flag(end) | all, now.len());
        self.out.extend(now);
        let stream = self.streams.get(key).id;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.peer.max_frame));
            let all = if later.is_empty() { flag::END_HEADERS } else { 0 };
            self.write_frame(kind::CONTINUATION, all, stream, now);
            rest = later;
        }
        if block.capacity() <= MOST_KEPT {
            self.writer.block = block;
        }
        self.notify();
    }

    /// The holder of the stream has read this much; `all` if that was all there is.
    pub fn release_window(&mut self, key: Key, count: usize, all: bool) {
        let slot = self.streams.get(key);
        if !slot.open || slot.receiving == Half::Ended {
            return;
        }
        let growth = (all && slot.data.is_empty()).then_some(&mut self.growth);
        if let Some(increment) = slot.receive_window.release(count, growth) {
            let id = slot.id;
            self.write_window_update(id, increment);
            self.notify();
        }
    }

    /// The next request that came and that its client has not taken back since.
    pub fn next_request(&mut self) -> Option<(RequestHead, Key)> {
        loop {
            let (head, key) = self.requests.pop_front()?;
            if self.streams.get(key).error.is_none() {
                return Some((head, key));
            }
            self.streams.release(key);
            self.recycle_request(head);
        }
    }

    /// Writes a reset for a stream whose holder cannot go on.
    pub fn abort(&mut self, key: Key) {
        let code = match (self.streams.get(key).tunnel, self.role) {
            (true, Role::Server) => ErrorCode::CONNECT_ERROR,
            _ => ErrorCode::CANCEL,
        };
        self.reset(key, code);
    }
}
