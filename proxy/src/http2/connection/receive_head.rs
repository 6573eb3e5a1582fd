//! Heads that come: requests, responses, trailers (RFC 9113 §6.2, §6.10, §8.1).

use super::{Connection, Role, reading::PartialHead};
use crate::http2::{
    ErrorCode,
    error::Violation,
    flow::ReceiveWindow,
    frame::{Header, flag},
    head::{Discard, Problem, RequestReader, ResponseReader, TrailersReader},
    hpack::BadBlock,
    streams::{Half, Key, want},
};

/// CONTINUATION frames that a head may have, however short they are.
const MOST_CONTINUATIONS: u32 = 64;

/// What a head costs of the work of a turn: most of them begin a task.
const HEAD_WORK: u32 = 15;

/// Interim responses that may wait to be read: one more than a request is passed on, so that its reader can say why it is refused.
const MOST_INTERIM: usize = 17;

impl Connection {
    /// RFC 9113 §6.2.
    pub(super) fn headers(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream == 0 {
            return Err(Violation::protocol("HEADERS on stream 0"));
        }
        let mut block = payload;
        let mut padding = 0;
        if header.has(flag::PADDED) {
            let (octet, rest) = block.split_first().ok_or(Violation::size("HEADERS without its padding"))?;
            (padding, block) = (usize::from(*octet), rest);
        }
        if header.has(flag::PRIORITY) {
            let (&[s3, s2, s1, s0, _], rest) =
                block.split_first_chunk().ok_or(Violation::size("HEADERS without its priority"))?;
            block = rest;
            if u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]) == header.stream {
                // The stream ends here, the tables of the connection go on.
                self.discard(block)?;
                return self.fault_of_new(header.stream, "a stream that depends on itself");
            }
        }
        let length = block.len().checked_sub(padding);
        let block = length
            .and_then(|length| block.get(..length))
            .ok_or(Violation::protocol("padding that is as long as the frame"))?;
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.head(header.stream, end, block);
        }
        self.reading.head =
            Some(PartialHead { stream: header.stream, end, block: block.to_vec(), frames: 0 });
        Ok(())
    }

    /// RFC 9113 §6.10.
    pub(super) fn continuation(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let longest = self.settings.longest_block();
        let Some(mut head) = self.reading.head.take() else {
            return Err(Violation::protocol("a CONTINUATION that continues nothing"));
        };
        head.frames += 1;
        if head.frames > MOST_CONTINUATIONS || head.block.len() + payload.len() > longest {
            return Err(Violation::flood("a head in too many or too long CONTINUATION frames"));
        }
        head.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.head(head.stream, head.end, &head.block);
        }
        self.reading.head = Some(head);
        Ok(())
    }

    fn head(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Violation> {
        self.progress = self.progress.wrapping_add(1);
        self.work = self.work.saturating_sub(HEAD_WORK);
        match (self.streams.find(id), self.role) {
            (Some(key), role) => match (self.streams.get(key).receiving, role) {
                (Half::Head, Role::Client) => self.response(key, end, block),
                (Half::Body, _) => self.trailers(key, end, block),
                _ => {
                    self.discard(block)?;
                    self.stream_fault(key, ErrorCode::STREAM_CLOSED, "a head after the end of the stream");
                    Ok(())
                }
            },
            (None, Role::Server) if self.is_idle(id) && id % 2 == 1 => self.request(id, end, block),
            (None, _) => {
                self.late_frame(id)?;
                self.discard(block)
            }
        }
    }

    fn request(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Violation> {
        self.last_peer = id;
        if self.is_beyond_last(id) {
            self.endure(1, "too many streams after the last one")?;
            return self.discard(block);
        }
        // Those that were reset, but are still held by their tasks, count as well.
        let most = self.settings.max_streams as usize;
        if self.streams.open_count() >= most || self.streams.kept_count() >= 2 * most {
            self.discard(block)?;
            return self.refuse_new(id, ErrorCode::REFUSED_STREAM);
        }
        let mut head = self.spare_requests.pop().unwrap_or_default();
        let mut reader = RequestReader::new(&mut head, self.limits);
        lost(self.decoder.decode(block, &mut reader))?;
        let (promised, too_large) = match reader.finish(self.settings.connect_protocol) {
            Ok(promised) => (promised, false),
            Err(Problem::TooLarge) => (None, true),
            Err(Problem::Malformed(_)) => {
                self.recycle_request(head);
                return self.refuse_new(id, ErrorCode::PROTOCOL_ERROR);
            }
        };
        if end && promised.is_some_and(|length| length > 0) {
            self.recycle_request(head);
            return self.refuse_new(id, ErrorCode::PROTOCOL_ERROR);
        }
        if too_large && self.settings.paces {
            self.tire(50);
        } else if too_large {
            self.endure(50, "too many heads that are larger than SETTINGS_MAX_HEADER_LIST_SIZE")?;
        }
        let tunnel = head.method == "CONNECT";
        let key = self.open_slot(id);
        let slot = self.streams.get(key);
        slot.receiving = if end { Half::Ended } else { Half::Body };
        slot.to_receive = promised.filter(|_| !tunnel);
        (slot.tunnel, slot.too_large) = (tunnel, too_large);
        self.requests.push_back((head, key));
        self.patience.earn(4);
        self.woken = true;
        Ok(())
    }

    fn response(&mut self, key: Key, end: bool, block: &[u8]) -> Result<(), Violation> {
        let mut head = self.spare_responses.pop().unwrap_or_default();
        let mut reader = ResponseReader::new(&mut head, self.limits);
        lost(self.decoder.decode(block, &mut reader))?;
        let promised = reader.finish();
        let slot = self.streams.get(key);
        let interim = head.is_interim();
        let why = match promised {
            Err(Problem::Malformed(why)) => Some(why),
            Err(Problem::TooLarge) => Some("a response head that is larger than what we take"),
            Ok(_) if interim && end => Some("an interim response that ends the stream"),
            Ok(_) if interim && slot.heads.len() >= MOST_INTERIM => Some("too many interim responses"),
            Ok(_) => None,
        };
        if let Some(why) = why {
            self.recycle_response(head);
            self.stream_fault(key, ErrorCode::PROTOCOL_ERROR, why);
            return Ok(());
        }
        self.patience.earn(4);
        if !interim {
            let bodiless = slot.bodiless || matches!(head.status, 204 | 304);
            slot.tunnel &= (200..300).contains(&head.status);
            slot.to_receive =
                if bodiless { Some(0) } else { promised.unwrap_or(None).filter(|_| !slot.tunnel) };
            slot.receiving = Half::Body;
        }
        slot.heads.push_back(head);
        if end {
            self.end_received(key);
        } else {
            self.wake(key, want::READ);
        }
        Ok(())
    }

    fn trailers(&mut self, key: Key, end: bool, block: &[u8]) -> Result<(), Violation> {
        let slot = self.streams.get(key);
        let mut reader = TrailersReader::new(&mut slot.trailers, self.limits);
        lost(self.decoder.decode(block, &mut reader))?;
        let why = match reader.finish() {
            Err(Problem::Malformed(why)) => Some(why),
            Err(Problem::TooLarge) => Some("trailers that are larger than what we take"),
            Ok(()) if !end => Some("a head in the middle of a body"),
            Ok(()) if slot.tunnel => Some("trailers in a tunnel"),
            Ok(()) => None,
        };
        match why {
            Some(why) => self.stream_fault(key, ErrorCode::PROTOCOL_ERROR, why),
            None => self.end_received(key),
        }
        Ok(())
    }

    /// Keeps the tables in step with a block that nobody wants.
    fn discard(&mut self, block: &[u8]) -> Result<(), Violation> {
        lost(self.decoder.decode(block, &mut Discard))
    }

    /// A stream in its first state.
    pub(super) fn open_slot(&mut self, id: u32) -> Key {
        self.streams.open(id, ReceiveWindow::new(self.settings.stream_window))
    }

    /// Resets a stream that is not begun.
    fn refuse_new(&mut self, id: u32, code: ErrorCode) -> Result<(), Violation> {
        self.write_reset(id, code);
        self.bury_refused(id);
        Ok(())
    }

    fn fault_of_new(&mut self, id: u32, why: &'static str) -> Result<(), Violation> {
        if self.role == Role::Server && id % 2 == 1 && self.is_idle(id) {
            self.last_peer = id;
            return self.refuse_new(id, ErrorCode::PROTOCOL_ERROR);
        }
        self.fault_of(id, ErrorCode::PROTOCOL_ERROR, why)
    }
}

fn lost(decoded: Result<(), BadBlock>) -> Result<(), Violation> {
    decoded.map_err(|BadBlock(why)| Violation::new(ErrorCode::COMPRESSION_ERROR, why))
}
