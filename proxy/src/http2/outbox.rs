//! What waits for the transport: octets as they were written, and between them whole buffers that were given instead of
//! being copied.
//!
//! Owns their order and their places. Never looks into a frame.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    iter, mem,
    task::{Poll, ready},
};

use crate::io::Buffer;

/// Octets that are given are worth a place of their own from here on; fewer are copied.
pub const WORTH_GIVING: usize = 8 << 10;

/// Pieces that are handed to the transport at once.
const MOST_SLICES: usize = 8;

/// Octets on their way to the transport.
#[derive(Default)]
pub struct Outbox {
    /// Before `tail`; none is empty.
    pieces: VecDeque<Buffer>,
    /// What is written is appended here.
    tail: Buffer,
    /// Octets in all of them.
    len: usize,
    /// Octets that went to the transport before.
    sent: u64,
    /// What was written to `tail` since it was empty, in octets: as much storage is taken at once the next time.
    written: usize,
}

impl Outbox {
    /// How many octets wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of the octet that is written next, counted from the first one ever.
    pub const fn end(&self) -> u64 {
        self.sent + self.len as u64
    }

    /// Appends octets.
    pub fn extend(&mut self, octets: &[u8]) {
        if self.tail.is_empty() {
            let expected = mem::take(&mut self.written);
            self.tail.space(expected.max(octets.len()));
        }
        self.tail.extend(octets);
        self.written += octets.len();
        self.len += octets.len();
    }

    /// Appends a whole buffer.
    pub fn give(&mut self, octets: Buffer) {
        self.len += octets.len();
        let written = mem::take(&mut self.tail);
        self.pieces.extend([written, octets].into_iter().filter(|piece| !piece.is_empty()));
    }

    /// The octet at a place, if it still waits.
    pub fn at(&mut self, place: u64) -> Option<&mut u8> {
        let mut index = usize::try_from(place.checked_sub(self.sent)?).ok()?;
        for piece in self.pieces.iter_mut().chain(iter::once(&mut self.tail)) {
            match index.checked_sub(piece.len()) {
                Some(behind) => index = behind,
                None => return piece.filled_mut().get_mut(index),
            }
        }
        None
    }

    /// Has `write` take the first octets, and forgets as many as it took.
    pub fn poll_hand_on(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let waiting = self.pieces.iter().chain(iter::once(&self.tail)).filter(|piece| !piece.is_empty());
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(piece.filled());
            used += 1;
        }
        let count = ready!(write(slices.get(..used).unwrap_or_default()))?;
        self.forget(count);
        Poll::Ready(Ok(count))
    }

    /// A copy of all that waits.
    #[cfg(test)]
    pub fn copy(&self) -> Vec<u8> {
        self.pieces.iter().chain(iter::once(&self.tail)).flat_map(Buffer::filled).copied().collect()
    }

    /// Forgets the first octets.
    pub fn forget(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.sent += count as u64;
        let mut left = count;
        while let Some(piece) = self.pieces.front_mut() {
            let whole = piece.len();
            piece.consume(left);
            if !piece.is_empty() {
                return;
            }
            left -= whole;
            self.pieces.pop_front();
        }
        self.tail.consume(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(octets: &[u8]) -> Buffer {
        let mut buffer = Buffer::new();
        buffer.extend(octets);
        buffer
    }

    /// Hands on at most so many octets.
    fn take(outbox: &mut Outbox, most: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        let result = outbox.poll_hand_on(|slices| {
            for slice in slices {
                taken.extend_from_slice(&slice[..slice.len().min(most - taken.len())]);
            }
            Poll::Ready(Ok(taken.len()))
        });
        assert!(matches!(result, Poll::Ready(Ok(count)) if count == taken.len()));
        taken
    }

    #[test]
    fn what_is_written_and_what_is_given_leave_in_order() {
        let mut outbox = Outbox::default();
        outbox.extend(b"head");
        outbox.give(buffer(b"given"));
        outbox.give(buffer(b""));
        outbox.give(buffer(b"more"));
        outbox.extend(b"tail");
        assert_eq!((outbox.len(), outbox.end()), (17, 17));
        let mut all = Vec::new();
        for most in [1, 2, 3, 4, 3, 9] {
            all.extend(take(&mut outbox, most));
        }
        assert_eq!(all, b"headgivenmoretail");
        assert!(outbox.is_empty());
        assert_eq!((outbox.len(), outbox.end()), (0, 17));
        assert!(outbox.pieces.is_empty() && outbox.tail.capacity() == 0);
    }

    #[test]
    fn places_stay_while_their_octets_wait() {
        let mut outbox = Outbox::default();
        outbox.extend(b"ab");
        outbox.give(buffer(b"cd"));
        let place = outbox.end();
        outbox.extend(b"ef");
        assert_eq!(take(&mut outbox, 3), b"abc");
        *outbox.at(place + 1).unwrap() = b'X';
        assert!(outbox.at(place - 2).is_none() && outbox.at(place + 2).is_none());
        assert_eq!(take(&mut outbox, 9), b"deX");
        assert!(outbox.at(place + 1).is_none());
    }

    #[test]
    fn more_pieces_than_fit_leave_in_several_goes() {
        let mut outbox = Outbox::default();
        for octet in 0..20 {
            outbox.give(buffer(&[octet]));
        }
        let mut all = Vec::new();
        while !outbox.is_empty() {
            all.extend(take(&mut outbox, usize::MAX));
        }
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}
