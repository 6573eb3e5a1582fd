//! Message bodies on their way through: streamed frame by frame, counted, never collected.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    connections::KillSwitch, forward::exchange::Exchange, headers::IdentityHeaders, inbound::FlightGuard,
    upstream::pool::Lease,
};

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The side that sends it failed.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// The decision about the request changed while it ran.
    #[error("the request is no longer allowed")]
    NoLongerAllowed,
}

impl From<Infallible> for BodyError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A request's body on its way to the upstream.
pub struct RequestBody {
    inner: Option<Incoming>,
    bytes: Arc<AtomicU64>,
    /// Identity headers have no place in trailers either.
    strips: Option<Arc<IdentityHeaders>>,
}

impl RequestBody {
    /// Streams what arrives, adds its bytes to `bytes`, and takes identity headers out of its trailers.
    #[must_use]
    pub fn new(inner: Incoming, bytes: Arc<AtomicU64>, strips: Option<Arc<IdentityHeaders>>) -> Self {
        Self { inner: Some(inner), bytes, strips }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self { inner: None, bytes: Arc::default(), strips: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let Some(frame) = ready!(Pin::new(inner).poll_frame(cx)?) else { return Poll::Ready(None) };
        if let Some(data) = frame.data_ref() {
            this.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(strip_trailers(frame, this.strips.as_deref()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A response's body on its way to whoever asked.
pub struct ResponseBody {
    source: Source,
    running: Option<Box<Running>>,
}

enum Source {
    Upstream(Incoming),
    Own(Option<Bytes>),
    /// Headers and then nothing but these, as gRPC ends a call.
    Finished,
}

/// What a response keeps until it has ended, however it ends.
pub struct Running {
    /// Everything the record needs; recorded when dropped.
    pub exchange: Exchange,
    /// The upstream connection; goes back to the pool if the response came to its end.
    pub lease: Option<Lease>,
    /// Ends the response when its decision changes.
    pub kill: Option<Arc<KillSwitch>>,
    /// Keeps the request among those that are decided again.
    pub _flight: Option<FlightGuard>,
}

impl ResponseBody {
    /// Streams what the upstream sends.
    #[must_use]
    pub fn upstream(body: Incoming, running: Running) -> Self {
        let mut this = Self { source: Source::Upstream(body), running: Some(Box::new(running)) };
        if this.is_end_stream() {
            this.complete();
        }
        this
    }

    /// An answer of our own. The exchange is recorded at once.
    #[must_use]
    pub fn own(text: Bytes) -> Self {
        Self {
            source: if text.is_empty() { Source::Finished } else { Source::Own(Some(text)) },
            running: None,
        }
    }

    fn complete(&mut self) {
        self.source = Source::Finished;
        if let Some(mut running) = self.running.take() {
            if let Some(lease) = running.lease.take() {
                lease.release();
            }
            running.exchange.completed();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let inner = match &mut this.source {
            Source::Upstream(inner) => inner,
            Source::Own(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Finished => return Poll::Ready(None),
        };
        match Pin::new(&mut *inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(running) = &mut this.running {
                    if let Some(data) = frame.data_ref() {
                        running.exchange.sent(data.len());
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        running.exchange.trailers(trailers);
                    }
                }
                if inner.is_end_stream() || frame.is_trailers() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(running) = &mut this.running {
                    running.exchange.failed_in_body(&error);
                }
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(running) = &mut this.running else { return Poll::Pending };
                let Some(kill) = &running.kill else { return Poll::Pending };
                ready!(kill.poll_killed(cx));
                running.exchange.no_longer_allowed();
                this.running = None;
                this.source = Source::Finished;
                Poll::Ready(Some(Err(BodyError::NoLongerAllowed)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Upstream(inner) => inner.is_end_stream(),
            Source::Own(text) => text.is_none(),
            Source::Finished => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Upstream(inner) => inner.size_hint(),
            Source::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Source::Finished => SizeHint::with_exact(0),
        }
    }
}

fn strip_trailers(frame: Frame<Bytes>, headers: Option<&IdentityHeaders>) -> Frame<Bytes> {
    match (frame.into_trailers(), headers) {
        (Ok(mut trailers), Some(headers)) => {
            headers.strip(&mut trailers);
            Frame::trailers(trailers)
        }
        (Ok(trailers), None) => Frame::trailers(trailers),
        (Err(frame), _) => frame,
    }
}
