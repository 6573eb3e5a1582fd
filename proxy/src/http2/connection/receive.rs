//! Frames that come (RFC 9113 §6), but for the heads that they carry.

use super::{Connection, LARGEST_WINDOW, Role, reading::Payload};
use crate::{
    http2::{
        ErrorCode,
        error::{ConnectionError, StreamError, Violation},
        frame::{HEADER, Header, LEAST_MAX_FRAME, MOST_MAX_FRAME, PREFACE, flag, kind},
        settings,
        streams::{Closed, Half, Key, want},
    },
    io::Buffer,
};

/// Frames that are acted on as a whole are no longer than this, in octets; heads have a bound of their own.
const LONGEST_CONTROL: usize = LEAST_MAX_FRAME as usize;

/// A payload takes the whole buffer with it, instead of being copied out of it, if it is at least this long and what
/// follows it is not longer than a quarter of it.
const WORTH_SWAPPING: usize = 4096;

impl Connection {
    /// Takes what the peer sent, all of it but the beginning of a frame that is not complete, and what there is no time for in
    /// this turn, and what follows when a pause is due.
    ///
    /// # Errors
    /// The peer broke a rule that ends the connection.
    pub fn receive(&mut self, input: &mut Buffer) -> Result<(), Violation> {
        self.is_behind = false;
        while !input.is_empty() && !self.tired {
            if self.reading.preface > 0 {
                self.preface(input)?;
            } else if let Some(payload) = self.reading.payload {
                self.payload(payload, input);
            } else if self.work == 0 {
                self.is_behind = true;
                break;
            } else if self.frame(input)? {
                self.work = self.work.saturating_sub(1);
            } else {
                break;
            }
            if self.exhausted {
                return Err(Violation::flood("too many streams that had to be reset"));
            }
        }
        Ok(())
    }

    fn preface(&mut self, input: &mut Buffer) -> Result<(), Violation> {
        let expected = PREFACE.get(PREFACE.len() - self.reading.preface..).unwrap_or_default();
        let count = expected.len().min(input.len());
        if expected.get(..count) != input.filled().get(..count) {
            return Err(Violation::protocol("what came first is not the preface of HTTP/2"));
        }
        self.reading.preface -= count;
        input.consume(count);
        Ok(())
    }

    /// Takes the next frame, or the header of one whose payload is passed on. Says whether there was one.
    fn frame(&mut self, input: &mut Buffer) -> Result<bool, Violation> {
        let Some(header) = Header::read(input.filled()) else { return Ok(false) };
        if header.length > self.settings.max_frame.clamp(LEAST_MAX_FRAME, MOST_MAX_FRAME) as usize {
            return Err(Violation::size("a frame is larger than SETTINGS_MAX_FRAME_SIZE"));
        }
        if !self.reading.settings_seen && header.kind != kind::SETTINGS {
            return Err(Violation::protocol("the first frame is not SETTINGS"));
        }
        if let Some(head) = &self.reading.head
            && (header.kind != kind::CONTINUATION || header.stream != head.stream)
        {
            return Err(Violation::protocol("a frame in the middle of a head"));
        }
        match header.kind {
            kind::DATA => return self.data(header, input),
            kind::HEADERS | kind::CONTINUATION if header.length > self.settings.longest_block() => {
                return Err(Violation::flood(
                    "a head that is much larger than SETTINGS_MAX_HEADER_LIST_SIZE",
                ));
            }
            kind::HEADERS | kind::CONTINUATION => {}
            kind::PRIORITY..=kind::WINDOW_UPDATE if header.length > LONGEST_CONTROL => {
                return Err(Violation::size("a control frame that is too large"));
            }
            kind::PRIORITY..=kind::WINDOW_UPDATE => {}
            _ => {
                self.endure(1, "too many frames of unknown types")?;
                input.consume(HEADER);
                self.reading.payload =
                    Some(Payload { stream: None, left: header.length, padding: 0, end: false });
                return Ok(true);
            }
        }
        let Some(payload) = input.filled().get(HEADER..HEADER + header.length) else { return Ok(false) };
        match header.kind {
            kind::HEADERS => self.headers(header, payload)?,
            kind::CONTINUATION => self.continuation(header, payload)?,
            kind::PRIORITY => self.priority(header, payload)?,
            kind::RST_STREAM => self.reset_by_peer(header, payload)?,
            kind::SETTINGS => self.peer_settings(header, payload)?,
            kind::PUSH_PROMISE => return Err(Violation::protocol("a PUSH_PROMISE that nobody may send")),
            kind::PING => self.ping(header, payload)?,
            kind::GOAWAY => self.goaway(header, payload)?,
            _ => self.window_update(header, payload)?,
        }
        input.consume(HEADER + header.length);
        Ok(true)
    }

    /// RFC 9113 §6.1.
    fn data(&mut self, header: Header, input: &mut Buffer) -> Result<bool, Violation> {
        let mut padding = 0;
        let mut before = HEADER;
        if header.has(flag::PADDED) {
            let Some(octet) = input.filled().get(HEADER) else { return Ok(false) };
            (padding, before) = (usize::from(*octet), HEADER + 1);
        }
        let Some(left) = header.length.checked_sub(padding + before - HEADER) else {
            return Err(Violation::protocol("padding that is as long as the frame"));
        };
        if header.stream == 0 {
            return Err(Violation::protocol("DATA on stream 0"));
        }
        self.connection_window(header.length)?;
        let end = header.has(flag::END_STREAM);
        if left > 0 {
            self.patience.earn(4);
            self.progress = self.progress.wrapping_add(1);
        } else if !end {
            self.endure(2, "too many DATA frames without data")?;
        }
        let stream = match self.streams.find(header.stream) {
            Some(key) => self.begin_data(key, header.length, left),
            None => {
                self.late_frame(header.stream)?;
                None
            }
        };
        input.consume(before);
        let stream = stream.map(|_| header.stream);
        let payload = Payload { stream, left, padding, end };
        self.reading.payload = Some(payload);
        if header.length == before - HEADER {
            self.payload(payload, input);
        }
        Ok(true)
    }

    /// Counts what comes against the window of the connection, which is so large that it is told only now and then.
    fn connection_window(&mut self, count: usize) -> Result<(), Violation> {
        let left = u32::try_from(count).ok().and_then(|count| self.receive_left.checked_sub(count));
        let Some(left) = left else {
            return Err(Violation::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "more data than the connection's window",
            ));
        };
        self.receive_left = left;
        if left < LARGEST_WINDOW / 2 {
            self.write_window_update(0, LARGEST_WINDOW - left);
            self.receive_left = LARGEST_WINDOW;
        }
        Ok(())
    }

    /// Whether this data belongs to the stream: if so, its key.
    fn begin_data(&mut self, key: Key, length: usize, left: usize) -> Option<Key> {
        let slot = self.streams.get(key);
        let fault = if slot.receiving == Half::Ended {
            (ErrorCode::STREAM_CLOSED, "data after the end of the stream")
        } else if slot.receiving == Half::Head {
            (ErrorCode::PROTOCOL_ERROR, "data before a head")
        } else if !slot.receive_window.take(length) {
            (ErrorCode::FLOW_CONTROL_ERROR, "more data than the stream's window")
        } else {
            match slot.to_receive {
                Some(promised) if promised < left as u64 => {
                    (ErrorCode::PROTOCOL_ERROR, "a body that is longer than its content-length")
                }
                Some(promised) => {
                    slot.to_receive = Some(promised - left as u64);
                    return self.take_padding(key, length - left);
                }
                None => return self.take_padding(key, length - left),
            }
        };
        self.stream_fault(key, fault.0, fault.1);
        None
    }

    /// Padding is read as it comes.
    fn take_padding(&mut self, key: Key, count: usize) -> Option<Key> {
        if count > 0 {
            self.release_window(key, count, false);
        }
        Some(key)
    }

    /// Passes on what is there of a payload.
    fn payload(&mut self, mut payload: Payload, input: &mut Buffer) {
        let count = payload.left.min(input.len());
        let stream = payload.stream.and_then(|id| self.streams.find(id));
        match stream {
            Some(key) if count > 0 => {
                let slot = self.streams.get(key);
                let rest = input.len() - count;
                if slot.data.is_empty() && count >= WORTH_SWAPPING && rest <= count / 4 {
                    let mut tail = Buffer::new();
                    tail.extend(input.filled().get(count..).unwrap_or_default());
                    input.truncate(count);
                    slot.data = std::mem::replace(input, tail);
                } else {
                    slot.data.extend(input.filled().get(..count).unwrap_or_default());
                    input.consume(count);
                }
                self.wake(key, want::READ);
            }
            _ => input.consume(count),
        }
        payload.left -= count;
        if payload.left == 0 {
            let count = payload.padding.min(input.len());
            input.consume(count);
            payload.padding -= count;
        }
        self.reading.payload = Some(payload).filter(|payload| payload.left + payload.padding > 0);
        if self.reading.payload.is_none()
            && payload.end
            && let Some(key) = stream
        {
            self.end_received(key);
        }
    }

    /// The peer ended its half of the stream.
    pub(super) fn end_received(&mut self, key: Key) {
        let slot = self.streams.get(key);
        if slot.to_receive.is_some_and(|left| left > 0) {
            let why = "a body that is shorter than its content-length";
            return self.stream_fault(key, ErrorCode::PROTOCOL_ERROR, why);
        }
        slot.receiving = Half::Ended;
        if slot.sending == Half::Ended {
            self.completed(key);
        }
        self.wake(key, want::READ | want::END);
    }

    /// RFC 9113 §6.3: nobody orders anything by it, but what it must not say is still refused.
    fn priority(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let stream = header.stream;
        if stream == 0 {
            return Err(Violation::protocol("PRIORITY on stream 0"));
        }
        self.endure(1, "too many PRIORITY frames")?;
        match payload {
            &[s3, s2, s1, s0, _] if u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]) == stream => {
                self.fault_of(stream, ErrorCode::PROTOCOL_ERROR, "a stream that depends on itself")
            }
            [_, _, _, _, _] => Ok(()),
            _ => {
                self.fault_of(stream, ErrorCode::FRAME_SIZE_ERROR, "a PRIORITY frame of another size than 5")
            }
        }
    }

    /// RFC 9113 §6.4.
    fn reset_by_peer(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let &[c3, c2, c1, c0] = payload else {
            return Err(Violation::size("an RST_STREAM frame of another size than 4"));
        };
        if self.is_idle(header.stream) {
            return Err(Violation::protocol("RST_STREAM on a stream that is idle"));
        }
        let Some(key) = self.streams.find(header.stream) else {
            return self.endure(1, "too many RST_STREAM frames");
        };
        let code = ErrorCode(u32::from_be_bytes([c3, c2, c1, c0]));
        let error = match (self.role, code) {
            (Role::Client, ErrorCode::REFUSED_STREAM) => StreamError::Unprocessed,
            _ => StreamError::Reset(code),
        };
        // A client that opens streams only to take them back makes us work for nothing (CVE-2023-44487).
        if self.role == Role::Server {
            self.tire(1);
            if self.exhausted {
                return Err(Violation::flood("too many streams that were reset by the peer"));
            }
        }
        self.fail_stream(key, error, Closed::ByPeer);
        Ok(())
    }

    /// RFC 9113 §6.5.
    fn peer_settings(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream != 0 {
            return Err(Violation::protocol("SETTINGS on a stream"));
        }
        if header.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Violation::size("an acknowledgement of SETTINGS with a payload"));
            }
            return self.endure(1, "too many acknowledgements of SETTINGS");
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Violation::size("SETTINGS of a size that is not a multiple of 6"));
        }
        if self.reading.settings_seen {
            self.endure(10, "too many SETTINGS frames")?;
        }
        self.reading.settings_seen = true;
        let before = self.peer.stream_window;
        self.peer.update(payload, self.role)?;
        self.writer.resize(self.peer.header_table as usize);
        if self.peer.stream_window != before {
            self.change_windows(self.peer.stream_window > before)?;
        }
        self.out.extend(&settings::acknowledgement());
        self.woken = true;
        Ok(())
    }

    /// RFC 9113 §6.9.2: every stream begins with another window now, those that are open as well.
    fn change_windows(&mut self, is_larger: bool) -> Result<(), Violation> {
        let (streams, mut looked_at) = (&mut self.streams, 0);
        let is_possible = self.windows.begin_with(self.peer.stream_window, || {
            looked_at = streams.kept_count();
            streams.iter_open().map(|(_, slot)| slot.send_credit).max().unwrap_or(0)
        });
        if !is_possible {
            return Err(Violation::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "SETTINGS_INITIAL_WINDOW_SIZE makes a window larger than it can be",
            ));
        }
        if is_larger {
            self.to_visit = self.blocked.len();
        }
        // No peer comes near the largest window again and again by chance.
        let cost = u32::try_from(looked_at / 32).unwrap_or(u32::MAX);
        self.endure(cost, "windows that are changed around the largest that there can be")
    }

    /// RFC 9113 §6.7.
    fn ping(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream != 0 {
            return Err(Violation::protocol("PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(Violation::size("a PING frame of another size than 8"));
        }
        self.endure(1, "too many PING frames")?;
        if header.has(flag::ACK) {
            self.ping_answered(payload);
        } else {
            self.write_frame(kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    /// RFC 9113 §6.8.
    fn goaway(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream != 0 {
            return Err(Violation::protocol("GOAWAY on a stream"));
        }
        let Some((&[l3, l2, l1, l0, c3, c2, c1, c0], debug)) = payload.split_first_chunk() else {
            return Err(Violation::size("a GOAWAY frame that is shorter than 8"));
        };
        self.endure(10, "too many GOAWAY frames")?;
        let last = u32::from_be_bytes([l3 & 0x7f, l2, l1, l0]);
        let code = ErrorCode(u32::from_be_bytes([c3, c2, c1, c0]));
        let words = debug.get(..debug.len().min(256)).unwrap_or_default();
        self.peer_goaway = Some(ConnectionError::GoAway {
            code,
            debug: String::from_utf8_lossy(words).escape_debug().collect::<String>().into(),
        });
        if self.role == Role::Client {
            self.unprocessed_after(last);
        }
        Ok(())
    }

    /// RFC 9113 §6.9.
    fn window_update(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let &[i3, i2, i1, i0] = payload else {
            return Err(Violation::size("a WINDOW_UPDATE frame of another size than 4"));
        };
        let increment = i64::from(u32::from_be_bytes([i3 & 0x7f, i2, i1, i0]));
        self.endure(1, "too many WINDOW_UPDATE frames")?;
        if header.stream == 0 {
            if increment == 0 {
                return Err(Violation::protocol("a WINDOW_UPDATE of nothing"));
            }
            self.send_window += increment;
            if self.send_window > LARGEST_WINDOW.into() {
                let why = "WINDOW_UPDATE makes the connection's window larger than it can be";
                return Err(Violation::new(ErrorCode::FLOW_CONTROL_ERROR, why));
            }
            return Ok(());
        }
        let Some(key) = self.streams.find(header.stream) else {
            let idle = self.is_idle(header.stream);
            return if idle {
                Err(Violation::protocol("WINDOW_UPDATE on a stream that is idle"))
            } else {
                Ok(())
            };
        };
        let slot = self.streams.get(key);
        slot.send_credit += increment;
        slot.most_send_credit = slot.most_send_credit.max(slot.send_credit);
        let credit = slot.send_credit;
        if increment == 0 {
            self.stream_fault(key, ErrorCode::PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing");
        } else if !self.windows.raised(credit) {
            let why = "WINDOW_UPDATE makes the stream's window larger than it can be";
            self.stream_fault(key, ErrorCode::FLOW_CONTROL_ERROR, why);
        } else if self.windows.of(credit) > 0 {
            self.wake(key, want::WRITE);
        }
        Ok(())
    }
}
