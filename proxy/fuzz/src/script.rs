//! A peer that does what it is told: its bytes come in pieces of chosen sizes, and what it gets is kept.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

use svidecar::io::{Buffer, ByteStream};

/// One end of a connection whose other end follows a script.
pub struct Script {
    input: Vec<u8>,
    at: usize,
    pieces: Vec<u8>,
    turn: usize,
    /// Whether the peer stays when it has said all.
    pub stays: bool,
    /// What the peer was sent.
    pub output: Vec<u8>,
}

impl Script {
    /// The peer sends `input`, then closes. Each read brings as many bytes as the next of `pieces` says; a zero, no bytes
    /// this time. No pieces: all at once.
    pub fn new(input: Vec<u8>, pieces: &[u8]) -> Self {
        Self { input, at: 0, pieces: pieces.to_vec(), turn: 0, stays: false, output: Vec::new() }
    }

    /// Sends more.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }
}

impl ByteStream for Script {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let rest = &self.input[self.at..];
        if rest.is_empty() {
            return if self.stays { Poll::Pending } else { Poll::Ready(Ok(0)) };
        }
        let turn = self.turn.checked_rem(self.pieces.len());
        self.turn += 1;
        let piece = match turn.and_then(|turn| self.pieces.get_mut(turn)) {
            None => usize::MAX,
            Some(piece @ 0) => {
                // Only the first time: nothing but zeros would never say anything.
                *piece = 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(piece) => usize::from(*piece),
        };
        let count = piece.min(limit).min(rest.len());
        into.extend(&rest[..count]);
        self.at += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        from.iter().for_each(|slice| self.output.extend_from_slice(slice));
        Poll::Ready(Ok(from.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self) {}
}

/// Asks again and again until there is an answer. Everything here is ready, or will be when asked again.
pub fn ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return value;
        }
    }
}
