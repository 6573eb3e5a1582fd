//! Bodies as a flow of parts: what one side of an exchange gives and the other takes.
//!
//! Both codecs implement both traits for both roles, so that one pump serves every pair of them.

use std::{
    io,
    task::{Context, Poll},
};

use super::Fields;

/// What a body continues with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes, in [`BodySource::data`]; never none.
    Data {
        /// When these bytes begin a chunk of HTTP/1.1, the size of that whole chunk; so that its bounds can be kept.
        chunk: Option<u64>,
    },
    /// The end, with the fields in [`BodySource::trailers`].
    Trailers,
    /// The end.
    End,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side closed its connection, or its half of it, before the body was complete.
    #[error("the connection was closed in the middle of the message")]
    Closed,
    /// The transport failed.
    #[error("the connection failed in the middle of the message: {0}")]
    Io(#[from] io::Error),
    /// What came is not HTTP, or not allowed; the words say what and where.
    #[error("{0}")]
    Malformed(&'static str),
    /// The other side reset the stream with this code (RFC 9113 §7).
    #[error("the stream was reset with the HTTP/2 error code {0:#x}")]
    Reset(u32),
}

/// The receiving end of a body.
pub trait BodySource {
    /// The next part. After [`Part::Data`], what [`Self::data`] holds must be consumed, at least in part, before the next
    /// call tells something new; what was left comes again (with `chunk: None`).
    ///
    /// # Errors
    /// Why there will be no more.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>>;

    /// The bytes of the part.
    fn data(&self) -> &[u8];

    /// The first `count` bytes have been taken care of.
    fn consume(&mut self, count: usize);

    /// The fields after the body, once [`Part::Trailers`] was told.
    fn trailers(&mut self) -> &mut Fields;
}

/// The sending end of a body.
pub trait BodySink {
    /// Takes bytes, as many as it can now and at least one when `Ready`. They may wait inside until
    /// [`Self::poll_flush`]. `chunk` is what [`Part::Data`] said of them.
    ///
    /// # Errors
    /// Why no more can be sent.
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        chunk: Option<u64>,
    ) -> Poll<Result<usize, BodyError>>;

    /// Ends the body, with fields after it where the protocol has a place for them. Queues only; flush after it.
    ///
    /// # Errors
    /// Why it cannot be ended: for example fewer bytes came than the head promised.
    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), BodyError>;

    /// Hands on what waits inside.
    ///
    /// # Errors
    /// Why no more can be sent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;
}
