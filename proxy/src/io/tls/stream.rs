//! One end of a TLS connection whose handshake is over.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use rustls::{AlertDescription, ContentType};

use super::{
    after::{self, AfterHandshake, Told},
    record::{self, Keys},
};
use crate::io::{Buffer, ByteStream, FLIGHT, Socket, buffer};

/// Sealed bytes wait for the socket up to about here, in bytes; then writing waits too. The last record of a [`FLIGHT`] still
/// begins below it.
pub(super) const MOST_WAITING: usize = FLIGHT - 1024;

/// A record with less than this, in bytes, is not filled by copying what would fill records of its own: sealing one more
/// costs less.
const WORTH_FILLING: usize = 1024;

/// One end of a TLS connection whose handshake is over.
pub struct TlsStream {
    pub(super) socket: Socket,
    /// Records as they came, from the first one that was not opened yet.
    pub(super) incoming: Buffer,
    /// Sealed records, and at the end the one that is being filled.
    pub(super) outgoing: Buffer,
    /// Bytes of content in the record being filled.
    pub(super) filling: Option<usize>,
    pub(super) opening: Keys,
    pub(super) sealing: Keys,
    pub(super) after: AfterHandshake,
    /// The last flight of our handshake waits in `outgoing`, and the other side may be waiting for it.
    pub(super) owes_flight: bool,
    pub(super) reading: Reading,
    /// Nothing more may be sent.
    pub(super) is_closed: bool,
}

/// How reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Open,
    /// The other side has said that nothing more comes.
    Ended,
    /// It was ended by this alert: theirs or ours.
    Failed {
        alert: AlertDescription,
        ours: bool,
    },
}

impl TlsStream {
    /// Opens what is complete, up to about `limit` bytes of content.
    fn open(&mut self, into: &mut Buffer, limit: usize) -> Result<(), AlertDescription> {
        let before = into.len();
        while self.reading == Reading::Open && into.len() - before < limit {
            let Some(record) = record::first(self.incoming.filled())? else { break };
            let length = record.len();
            if into.len() == before {
                // Once for all records that will follow, so that what was opened need not be moved.
                into.space(self.incoming.len().min(limit.saturating_add(record::MAX_RECORD)));
            }
            let opened = self.opening.open(record, into)?;
            self.incoming.consume(length);
            if opened.kind == ContentType::ApplicationData && opened.len > 0 {
                self.after.data_came()?;
                into.commit(opened.len);
                continue;
            }
            let content = into.space(opened.len).get(..opened.len).unwrap_or_default();
            let told = self.after.receive(opened.kind, content, &mut self.opening);
            into.give_back_if_empty();
            match told? {
                Told::Nothing => {}
                Told::Closed => self.reading = Reading::Ended,
                Told::Failed(alert) => self.reading = Reading::Failed { alert, ours: false },
            }
        }
        Ok(())
    }

    /// Ends the connection with an alert, as far as it still can be sent.
    fn fail(&mut self, cx: &mut Context<'_>, alert: AlertDescription) {
        self.reading = Reading::Failed { alert, ours: true };
        self.incoming.clear();
        if !self.is_closed && self.finish_record().is_ok() {
            let _ = self.sealing.seal(ContentType::Alert, &after::fatal(alert), &mut self.outgoing);
            // The failure is told in any case.
            let _ = self.poll_send(cx);
        }
        self.is_closed = true;
    }

    /// Seals the record being filled.
    fn finish_record(&mut self) -> io::Result<()> {
        let Some(content) = self.filling.take() else { return Ok(()) };
        self.sealing.seal_begun(content, &mut self.outgoing).map_err(|_| no_keys())
    }

    /// Before a record is begun: new keys, when the other side asked for them or ours have served long enough.
    fn renew_keys(&mut self) -> io::Result<()> {
        if self.after.owes_key_update() || self.sealing.is_worn() {
            self.after.update_sealing(&mut self.sealing, &mut self.outgoing).ok_or_else(no_keys)?;
        }
        Ok(())
    }

    /// Takes content into records, at most one record full.
    fn push(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() >= record::MAX_CONTENT && self.filling.is_some_and(|filled| filled < WORTH_FILLING) {
            self.finish_record()?;
        }
        if self.filling.is_none() {
            self.renew_keys()?;
            if let Some(whole) = bytes.get(..record::MAX_CONTENT) {
                self.sealing
                    .seal(ContentType::ApplicationData, whole, &mut self.outgoing)
                    .map_err(|_| no_keys())?;
                return Ok(whole.len());
            }
            record::begin(&mut self.outgoing);
        }
        let filled = self.filling.unwrap_or_default();
        let part = bytes.get(..record::MAX_CONTENT - filled).unwrap_or(bytes);
        self.outgoing.extend(part);
        self.filling = Some(filled + part.len());
        if filled + part.len() == record::MAX_CONTENT {
            self.finish_record()?;
        }
        Ok(part.len())
    }

    /// Sends all sealed records.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let waiting = IoSlice::new(self.outgoing.filled());
            let count = ready!(ByteStream::poll_write(&mut self.socket, cx, &[waiting]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.consume(count);
        }
        self.owes_flight = false;
        Poll::Ready(Ok(()))
    }

    fn check_open(&self) -> io::Result<()> {
        match self.reading {
            Reading::Failed { alert, ours } => Err(failure(alert, ours)),
            _ if self.is_closed => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }
}

impl ByteStream for TlsStream {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let before = into.len();
        loop {
            if let Err(alert) = self.open(into, limit.max(1)) {
                into.give_back_if_empty();
                self.fail(cx, alert);
            }
            if into.len() > before {
                // A failure behind these bytes is told the next time.
                return Poll::Ready(Ok(into.len() - before));
            }
            match self.reading {
                Reading::Open => {}
                Reading::Ended => return Poll::Ready(Ok(0)),
                Reading::Failed { alert, ours } => return Poll::Ready(Err(failure(alert, ours))),
            }
            if self.owes_flight
                && let Poll::Ready(Err(error)) = ByteStream::poll_flush(self, cx)
            {
                return Poll::Ready(Err(error));
            }
            if ready!(self.socket.poll_fill(cx, &mut self.incoming, buffer::LARGEST_KEPT))? == 0 {
                // Without a close_notify somebody on the way may have cut the connection (RFC 8446 §6.1).
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed without TLS's close_notify",
                )));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check_open()?;
        if self.outgoing.len() >= MOST_WAITING {
            self.finish_record()?;
            ready!(self.poll_send(cx))?;
        }
        let room = MOST_WAITING - self.outgoing.len();
        let total = from.iter().map(|slice| slice.len()).sum::<usize>().min(room);
        let records = total / record::MAX_CONTENT + 1;
        let sealed = total + records * (record::MAX_RECORD - record::MAX_CONTENT);
        // Once for all of them.
        self.outgoing.space(sealed.min(room));
        let mut taken = 0;
        for slice in from {
            let mut rest = slice.get(..).unwrap_or_default();
            while !rest.is_empty() && self.outgoing.len() < MOST_WAITING {
                let count = self.push(rest)?;
                taken += count;
                rest = rest.get(count..).unwrap_or_default();
            }
        }
        self.outgoing.give_back_if_empty();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish_record()?;
        self.poll_send(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closed {
            self.finish_record()?;
            self.sealing
                .seal(ContentType::Alert, &after::CLOSE_NOTIFY, &mut self.outgoing)
                .map_err(|_| no_keys())?;
            self.is_closed = true;
        }
        ready!(self.poll_send(cx))?;
        ByteStream::poll_shutdown(&mut self.socket, cx)
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reading == Reading::Open { self.socket.poll_ended(cx) } else { Poll::Ready(()) }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_broken(cx)
    }

    fn reset(&mut self) {
        self.is_closed = true;
        self.outgoing.clear();
        self.filling = None;
        self.socket.reset();
    }
}

/// What the caller gets to read of an alert.
fn failure(alert: AlertDescription, ours: bool) -> io::Error {
    if ours {
        let words = format!("the other side broke the TLS protocol; ended with the alert {alert:?}");
        return io::Error::new(io::ErrorKind::InvalidData, words);
    }
    io::Error::other(rustls::Error::AlertReceived(alert))
}

/// Keys that are used up and cannot be renewed: never with rustls' key schedule.
fn no_keys() -> io::Error {
    io::Error::other("the TLS keys of the connection are used up")
}
