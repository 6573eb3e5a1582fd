//! The side that asked: one request of a connection of HTTP/1 or of a stream of HTTP/2, and the way back.

use std::task::{Context, Poll};

use super::caller::Caller;
use crate::{
    http1::Framing,
    http2::ErrorCode,
    message::{BodyError, BodySink, BodySource, ResponseHead},
    runtime::connections::Ending,
    upstream::facts::ConnectionFacts,
};

/// The side of an exchange that asked.
pub trait Downstream {
    /// What the request's body comes from, and the response's goes to.
    type Codec: BodySource + BodySink;

    /// Both bodies.
    fn codec(&mut self) -> &mut Self::Codec;

    /// How the request's body is framed.
    fn request_framing(&self) -> Framing;

    /// Queues an interim head, where the version of the request knows any.
    fn send_interim(&mut self, head: &ResponseHead);

    /// Ready when what was queued has left so far that one more interim head may be queued.
    ///
    /// # Errors
    /// Why no more can be sent.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;

    /// Queues the final head of a response whose body came, or comes, framed so. `close`: it is the last one of its
    /// connection.
    fn send_head(&mut self, head: &mut ResponseHead, framing: Framing, close: bool);

    /// Ready when nobody waits for the response any more. To be asked whenever nothing else looks at what the client sends.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when the connection is to be cut now, or the one to the upstream that the request goes over.
    fn poll_cut(
        &mut self,
        cx: &mut Context<'_>,
        caller: &Caller,
        upstream: Option<&ConnectionFacts>,
    ) -> Poll<Ending>;

    /// Makes the end of the response one that cannot be taken for a regular one; `code` says why, where there is a place for
    /// it.
    fn abort(&mut self, code: ErrorCode);
}
