//! What callers have sent and is not answered yet: how much of it there may be, and whose.
//!
//! Owns the memory that requests take, from their first byte until the answer is there, shared by who sends them. It must never
//! look at what is sent.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use svidecar_id::SpiffeId;
use svidecar_process::{
    shares::{Share, Shares},
    source::Source,
};
use tonic::{Status, body::Body};

use crate::peer::Peer;

/// Bytes of requests of members of the trust domain.
const OF_MEMBERS: usize = 256 << 20;

/// Bytes of requests of those who have shown no SVID.
const OF_STRANGERS: usize = 16 << 20;

/// Most bytes of a request to a method that is for anybody: an attestation, or the wish for our bundle.
pub const MAX_OPEN_REQUEST: usize = 64 << 10;

/// What is taken of a budget at a time.
const STEP: usize = 16 << 10;

/// The budgets.
#[derive(Clone)]
pub struct Memory {
    members: Shares<SpiffeId>,
    strangers: Shares<Source>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { members: Shares::new(OF_MEMBERS), strangers: Shares::new(OF_STRANGERS) }
    }
}

/// A piece of a budget.
enum Piece {
    Member { _share: Share<SpiffeId> },
    Stranger { _share: Share<Source> },
}

impl Memory {
    /// The meter of one request; none for an administrator of this machine.
    pub fn meter(&self, peer: &Peer, is_open: bool) -> Option<Arc<Meter>> {
        let payer = match peer {
            Peer::Local { .. } => return None,
            Peer::Remote { svid: Some(svid), .. } => Payer::Member(self.members.clone(), svid.id.clone()),
            Peer::Remote { address, svid: None, .. } => {
                Payer::Stranger(self.strangers.clone(), Source::from(address.ip()))
            }
        };
        let most = if is_open { MAX_OPEN_REQUEST } else { usize::MAX };
        Some(Arc::new(Meter { payer, most, taken: Mutex::default() }))
    }
}

enum Payer {
    Member(Shares<SpiffeId>, SpiffeId),
    Stranger(Shares<Source>, Source),
}

/// What one request has taken; given back when it is dropped.
pub struct Meter {
    payer: Payer,
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    received: usize,
    pieces: Vec<Piece>,
}

impl Meter {
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.received = taken.received.saturating_add(bytes);
        if taken.received > self.most {
            return Err(Status::out_of_range(format!(
                "a request to this method has at most {} bytes",
                self.most
            )));
        }
        while taken.pieces.len() * STEP < taken.received {
            let piece = self.payer.take().ok_or_else(|| {
                Status::resource_exhausted(
                    "this caller has sent more that is not answered yet than it may; send less at once",
                )
            })?;
            taken.pieces.push(piece);
        }
        Ok(())
    }
}

impl Payer {
    fn take(&self) -> Option<Piece> {
        match self {
            Self::Member(shares, id) => {
                shares.take(id.clone(), STEP).map(|share| Piece::Member { _share: share })
            }
            Self::Stranger(shares, source) => {
                shares.take(*source, STEP).map(|share| Piece::Stranger { _share: share })
            }
        }
    }
}

/// The body of a request, counted as it comes.
pub struct Metered {
    body: Body,
    meter: Arc<Meter>,
}

impl Metered {
    /// Counts `body` by `meter`.
    pub fn body(body: Body, meter: Arc<Meter>) -> Body {
        Body::new(Self { body, meter })
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.meter.take(data.len())
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tonic::Code;

    use super::*;

    fn stranger(host: u8) -> Peer {
        Peer::Remote { address: ([10, 0, 0, host], 1).into(), svid: None, membership: None }
    }

    #[test]
    fn one_stranger_does_not_take_what_another_needs() {
        let memory = Memory::default();
        let mut held = Vec::new();
        let refused = loop {
            let meter = memory.meter(&stranger(1), true).unwrap();
            match meter.take(MAX_OPEN_REQUEST) {
                Ok(()) => held.push(meter),
                Err(status) => break status,
            }
        };
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(held.len() * MAX_OPEN_REQUEST < OF_STRANGERS);
        memory.meter(&stranger(2), true).unwrap().take(MAX_OPEN_REQUEST).unwrap();
        drop(held);
        assert_eq!(memory.strangers.taken(), 0);
    }

    #[test]
    fn a_request_that_anybody_may_make_is_small_and_one_of_this_machine_is_not_counted() {
        let memory = Memory::default();
        let meter = memory.meter(&stranger(1), true).unwrap();
        meter.take(MAX_OPEN_REQUEST).unwrap();
        assert_eq!(meter.take(1).unwrap_err().code(), Code::OutOfRange);
        assert!(memory.meter(&Peer::Local { uid: 0, pid: None }, false).is_none());
    }
}
