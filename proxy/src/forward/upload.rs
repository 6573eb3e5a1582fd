//! A request's body on its way to the upstream, which may want no more of it and still answer.

use std::task::{Context, Poll};

use super::flow::{Flow, FlowError};
use crate::{
    http1::Framing,
    message::{BodyError, BodySink, BodySource, Fields},
    upstream::retry::SentBody,
};

/// How far the body of a request has come.
pub struct Upload {
    flow: Flow,
    is_empty: bool,
    is_broken: bool,
    listens: bool,
}

impl Upload {
    /// A body that is framed so, of which nothing was sent yet.
    #[must_use]
    pub const fn of(framing: Framing) -> Self {
        Self { flow: Flow::of(framing), is_empty: framing.is_empty(), is_broken: false, listens: false }
    }

    /// Whether it waits for more of the client, and so sees the client's end by itself. Not while the upstream takes no
    /// more, and not before the first byte was asked for.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.listens
    }

    /// Whether the upstream takes no more of it; its response may say why.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether nothing more of it moves.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_broken || self.flow.is_done()
    }

    /// What became of it so far.
    #[must_use]
    pub fn sent(&self) -> SentBody {
        match (self.is_empty, self.flow.is_untouched()) {
            (true, _) => SentBody::Empty,
            (false, true) => SentBody::Untouched,
            (false, false) => SentBody::Begun,
        }
    }

    /// Bytes that were handed on.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.flow.bytes()
    }

    /// Moves on as far as it goes now. `on_trailers` sees the fields after the body, and may change them.
    ///
    /// # Errors
    /// Why the client gives no more.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl BodySource,
        upstream: &mut impl BodySink,
        on_trailers: impl FnOnce(&mut Fields),
    ) -> Result<(), BodyError> {
        if self.is_over() {
            self.listens = false;
            return Ok(());
        }
        let moved = self.flow.poll(cx, client, upstream, on_trailers);
        self.listens = moved.is_pending() && self.flow.wants_more();
        match moved {
            Poll::Ready(Err(FlowError::Source(error))) => return Err(error),
            Poll::Ready(Err(FlowError::Sink(_))) => self.is_broken = true,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }
}
