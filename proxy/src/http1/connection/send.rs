//! The sending half: what is small is gathered, what is large goes out from where it is.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use super::{Connection, Outgoing};
use crate::{
    http1::Fault,
    io::ByteStream,
    message::{BodyError, BodySink, Fields},
};

/// What is gathered before it is written, in bytes: a TLS record. Also the most that waits for a slow reader.
const GATHERED: usize = 16 * 1024;

impl<S: ByteStream> BodySink for Connection<S> {
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        chunk: Option<u64>,
    ) -> Poll<Result<usize, BodyError>> {
        // The only wait; from here on at least one byte is taken.
        while self.write.len() >= GATHERED {
            ready!(self.poll_write_some(cx, &[]))?;
        }
        let data = match &mut self.outgoing {
            Outgoing::Length(left) if *left < data.len() as u64 => {
                return Poll::Ready(Err(refused(Fault::BodyTooLong)));
            }
            Outgoing::Done if !data.is_empty() => return Poll::Ready(Err(refused(Fault::BodyTooLong))),
            Outgoing::Chunked(encoder) if !data.is_empty() => {
                let len = encoder.open(data.len(), chunk, &mut self.write);
                data.get(..len).unwrap_or(data)
            }
            _ => data,
        };
        let room = GATHERED.saturating_sub(self.write.len()).max(1);
        let mut taken = 0;
        if data.len() > room
            && let Poll::Ready(written) = self.poll_write_some(cx, data)
        {
            taken = written?;
        }
        if taken == 0 {
            let some = data.get(..room).unwrap_or(data);
            self.write.extend(some);
            taken = some.len();
        }
        match &mut self.outgoing {
            Outgoing::Length(left) => {
                *left -= taken as u64;
                if *left == 0 {
                    self.outgoing = Outgoing::Done;
                }
            }
            Outgoing::Chunked(encoder) => encoder.sent(taken, &mut self.write),
            Outgoing::UntilClose | Outgoing::Done => {}
        }
        Poll::Ready(Ok(taken))
    }

    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), BodyError> {
        match &self.outgoing {
            Outgoing::Length(_) => return Err(refused(Fault::BodyTooShort)),
            Outgoing::Chunked(encoder) => encoder.end(trailers, &mut self.write).map_err(refused)?,
            Outgoing::UntilClose | Outgoing::Done => {}
        }
        self.outgoing = Outgoing::Done;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        ready!(self.poll_write_out(cx))?;
        self.stream.poll_flush(cx).map_err(BodyError::Io)
    }
}

fn refused(fault: Fault) -> BodyError {
    BodyError::Malformed(fault.words())
}

impl<S: ByteStream> Connection<S> {
    /// Writes all that was gathered.
    pub(super) fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            ready!(self.poll_write_some(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes once: what was gathered, and `data` behind it. Says how many bytes of the data were taken.
    fn poll_write_some(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let gathered = self.write.len();
        let slices = [IoSlice::new(self.write.filled()), IoSlice::new(data)];
        let slices = if data.is_empty() { slices.get(..1) } else { Some(&slices[..]) };
        let count = ready!(self.stream.poll_write(cx, slices.unwrap_or_default()))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.write.consume(count);
        Poll::Ready(Ok(count.saturating_sub(gathered)))
    }
}
