//! One body on its way from the side that sends it to the side that wants it: part by part, counted, never collected.
//!
//! What cannot be sent now stays where it is, so that a slow reader slows its writer and nobody else.

use std::task::{Context, Poll, ready};

use crate::{
    http1::Framing,
    message::{BodyError, BodySink, BodySource, Fields, Part},
};

/// What a body may move before other tasks get their turn, in bytes.
const TURN: usize = 256 * 1024;

/// How far a body has come.
pub struct Flow {
    state: State,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Moving,
    /// Told and not taken yet.
    Held(Option<u64>),
    /// All is queued; the last of it waits to leave.
    Leaving,
    Done,
}

/// Which side broke a body off.
#[derive(Debug)]
pub enum FlowError {
    /// The side that sends it.
    Source(BodyError),
    /// The side that it goes to.
    Sink(BodyError),
}

impl Flow {
    /// A body that is framed so. One that can have no byte ends with its head, which only has to leave.
    #[must_use]
    pub const fn of(framing: Framing) -> Self {
        let state = if framing.is_empty() { State::Leaving } else { State::Moving };
        Self { state, bytes: 0 }
    }

    /// Whether all of it was handed on.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing of it was taken from its source yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.bytes == 0 && matches!(self.state, State::Moving | State::Held(_))
    }

    /// Whether it is its source that it waits for, if it waits: not for who takes what has come.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.state == State::Moving
    }

    /// Bytes that were handed on.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves on as far as it goes now, and hands on what is queued before it waits. `on_trailers` sees the fields after the
    /// body, and may change them.
    ///
    /// # Errors
    /// Which side broke off, and why.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl BodySource,
        sink: &mut impl BodySink,
        on_trailers: impl FnOnce(&mut Fields),
    ) -> Poll<Result<(), FlowError>> {
        let mut turn = TURN;
        loop {
            match self.state {
                State::Moving => match source.poll_part(cx).map_err(FlowError::Source)? {
                    Poll::Pending => {
                        let _ = sink.poll_flush(cx).map_err(FlowError::Sink)?;
                        return Poll::Pending;
                    }
                    Poll::Ready(Part::Data { chunk }) => self.state = State::Held(chunk),
                    Poll::Ready(Part::Trailers) => {
                        on_trailers(source.trailers());
                        sink.end(Some(source.trailers())).map_err(FlowError::Sink)?;
                        self.state = State::Leaving;
                        return self.poll_leave(cx, sink);
                    }
                    Poll::Ready(Part::End) => {
                        sink.end(None).map_err(FlowError::Sink)?;
                        self.state = State::Leaving;
                    }
                },
                State::Held(chunk) => {
                    let data = source.data();
                    let taken = ready!(sink.poll_data(cx, data, chunk).map_err(FlowError::Sink))?;
                    source.consume(taken);
                    self.bytes = self.bytes.wrapping_add(taken);
                    self.state = State::Moving;
                    turn = turn.saturating_sub(taken);
                    if turn == 0 {
                        cx.waker().wake_by_ref();
                        let _ = sink.poll_flush(cx).map_err(FlowError::Sink)?;
                        return Poll::Pending;
                    }
                }
                State::Leaving => return self.poll_leave(cx, sink),
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>, sink: &mut impl BodySink) -> Poll<Result<(), FlowError>> {
        ready!(sink.poll_flush(cx).map_err(FlowError::Sink))?;
        self.state = State::Done;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn};

    use super::*;

    /// A body that was written down, and then asks to be waited for.
    struct Script {
        parts: VecDeque<(Part, Vec<u8>)>,
        data: Vec<u8>,
        trailers: Fields,
    }

    impl Script {
        fn new<const N: usize>(parts: [(Part, &str); N]) -> Self {
            let parts = parts.into_iter().map(|(part, data)| (part, data.as_bytes().to_vec())).collect();
            Self { parts, data: Vec::new(), trailers: [("x-sum", "1")].into_iter().collect() }
        }
    }

    impl BodySource for Script {
        fn poll_part(&mut self, _: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
            if !self.data.is_empty() {
                return Poll::Ready(Ok(Part::Data { chunk: None }));
            }
            match self.parts.pop_front() {
                Some((part, data)) => {
                    self.data = data;
                    Poll::Ready(Ok(part))
                }
                None => Poll::Ready(Err(BodyError::Closed)),
            }
        }

        fn data(&self) -> &[u8] {
            &self.data
        }

        fn consume(&mut self, count: usize) {
            self.data.drain(..count);
        }

        fn trailers(&mut self) -> &mut Fields {
            &mut self.trailers
        }
    }

    /// Takes two bytes at a time, and every other time none.
    #[derive(Default)]
    struct Narrow {
        taken: Vec<(Vec<u8>, Option<u64>)>,
        trailers: Option<Fields>,
        flushed: bool,
        is_full: bool,
    }

    impl BodySink for Narrow {
        fn poll_data(
            &mut self,
            cx: &mut Context<'_>,
            data: &[u8],
            chunk: Option<u64>,
        ) -> Poll<Result<usize, BodyError>> {
            self.is_full = !self.is_full;
            if self.is_full {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = data.len().min(2);
            self.taken.push((data[..count].to_vec(), chunk));
            Poll::Ready(Ok(count))
        }

        fn end(&mut self, trailers: Option<&Fields>) -> Result<(), BodyError> {
            self.trailers = trailers.cloned();
            Ok(())
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
            self.flushed = true;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_part_is_told_with_its_first_bytes_and_trailers_can_be_changed() {
        let chunk = |size| Part::Data { chunk: Some(size) };
        let mut source = Script::new([(chunk(3), "abc"), (chunk(9), "d"), (Part::Trailers, "")]);
        let (mut sink, mut flow) = (Narrow::default(), Flow::of(Framing::Chunked));
        let moved = poll_fn(|cx| {
            flow.poll(cx, &mut source, &mut sink, |trailers| {
                trailers.remove("x-sum");
            })
        });
        moved.await.unwrap();
        let expected: [(&[u8], _); 3] = [(b"ab", Some(3)), (b"c", None), (b"d", Some(9))];
        assert!(sink.taken.iter().map(|(data, chunk)| (&data[..], *chunk)).eq(expected));
        assert!(sink.trailers.unwrap().is_empty() && sink.flushed);
        assert!(flow.is_done() && flow.bytes() == 4);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_says_which_side_broke() {
        let mut source = Script::new([(Part::Data { chunk: None }, "abc")]);
        let (mut sink, mut flow) = (Narrow::default(), Flow::of(Framing::Chunked));
        assert!(flow.is_untouched());
        let broken = poll_fn(|cx| flow.poll(cx, &mut source, &mut sink, |_| {})).await;
        assert!(matches!(broken, Err(FlowError::Source(BodyError::Closed))), "{broken:?}");
        assert!(!flow.is_untouched());
    }
}
