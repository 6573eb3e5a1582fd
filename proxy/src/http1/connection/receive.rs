//! The receiving half: bodies handed out where they were read.

use std::task::{Context, Poll, ready};

use super::{Connection, Incoming};
use crate::{
    http1::chunked::Step,
    io::ByteStream,
    message::{BodyError, BodySource, Fields, Part},
};

impl<S: ByteStream> BodySource for Connection<S> {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
        loop {
            if let Some(part) = self.next_part()? {
                return Poll::Ready(Ok(part));
            }
            if !self.ended {
                ready!(self.poll_fill(cx))?;
            }
            if self.ended {
                if !matches!(self.incoming, Incoming::UntilClose) {
                    return Poll::Ready(Err(BodyError::Closed));
                }
                self.incoming = Incoming::Done;
            }
        }
    }

    fn data(&self) -> &[u8] {
        self.read.filled().get(..self.part).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.part);
        self.read.consume(count);
        self.part -= count;
        match &mut self.incoming {
            Incoming::Length(left) => {
                *left -= count as u64;
                if *left == 0 {
                    self.incoming = Incoming::Done;
                }
            }
            Incoming::Chunked(decoder) => decoder.took(count),
            Incoming::UntilClose | Incoming::Done => {}
        }
    }

    fn trailers(&mut self) -> &mut Fields {
        self.trailers.get_or_insert_default()
    }
}

impl<S: ByteStream> Connection<S> {
    /// What the bytes that are there tell. `None`: nothing yet.
    fn next_part(&mut self) -> Result<Option<Part>, BodyError> {
        self.part = 0;
        let mut begins = None;
        self.part = match &mut self.incoming {
            Incoming::Done => return Ok(Some(Part::End)),
            Incoming::UntilClose => self.read.len(),
            Incoming::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len()),
            Incoming::Chunked(decoder) => {
                // Lives only while it is needed: a body rarely has trailers, a connection often has a body.
                let mut trailers = Fields::new();
                let step = decoder
                    .step(&mut self.read, self.limits, &mut trailers)
                    .map_err(|fault| BodyError::Malformed(fault.words()))?;
                match step {
                    Step::More => 0,
                    Step::Data { chunk, len } => {
                        begins = chunk;
                        len
                    }
                    Step::End if trailers.is_empty() => {
                        self.incoming = Incoming::Done;
                        return Ok(Some(Part::End));
                    }
                    Step::End => {
                        *self.trailers.get_or_insert_default().as_mut() = trailers;
                        self.incoming = Incoming::Done;
                        return Ok(Some(Part::Trailers));
                    }
                }
            }
        };
        Ok((self.part > 0).then_some(Part::Data { chunk: begins }))
    }
}
