//! Growable byte buffers whose storage comes from a pool of the thread and goes back when they are empty.
//!
//! What is read is appended at the end, what was used is consumed at the front; contiguous in between. The storage is
//! always initialised memory, so that no `unsafe` is needed to read into it.

use std::{cell::RefCell, mem};

/// The smallest storage, in bytes: a head and a short body.
const SMALLEST: usize = 4 * 1024;

/// Storage above this is not kept for others, in bytes: who needs much should stay within it.
pub const LARGEST_KEPT: usize = 256 * 1024;

/// Most storage that a thread keeps for later, in bytes.
const MOST_KEPT: usize = 2 * 1024 * 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// Bytes on their way. Empty, it owns no storage.
#[derive(Default)]
pub struct Buffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { storage: Vec::new(), start: 0, end: 0 }
    }

    /// The bytes in it.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        self.storage.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes in it, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.storage.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it holds no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much storage it owns, in bytes.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// Free space at the end, at least `least` bytes. What is written to it counts only after [`Self::commit`].
    pub fn space(&mut self, least: usize) -> &mut [u8] {
        if self.storage.len() - self.end < least {
            self.make_room(least);
        }
        self.storage.get_mut(self.end..).unwrap_or_default()
    }

    /// The first `count` bytes of the free space are filled now.
    pub fn commit(&mut self, count: usize) {
        self.end = self.storage.len().min(self.end + count);
        self.give_back_if_empty();
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(space) = self.space(bytes.len()).get_mut(..bytes.len()) {
            space.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }

    /// Appends one byte.
    pub fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    /// Drops `count` bytes at the front, at most all. The storage of an empty buffer goes back to the pool.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        self.give_back_if_empty();
    }

    /// Drops what comes after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
        self.give_back_if_empty();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.end = self.start;
        self.give_back_if_empty();
    }

    /// Space that was asked for and not used goes back too.
    pub fn give_back_if_empty(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            give(mem::take(&mut self.storage));
        }
    }

    fn make_room(&mut self, least: usize) {
        let len = self.len();
        // Moving is cheaper than new storage when what is left is little.
        if self.start > 0 && self.storage.len() >= len + least && len <= self.storage.len() / 2 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, len);
            return;
        }
        let mut storage = take(len + least);
        if let (Some(to), Some(from)) = (storage.get_mut(..len), self.storage.get(self.start..self.end)) {
            to.copy_from_slice(from);
        }
        give(mem::replace(&mut self.storage, storage));
        (self.start, self.end) = (0, len);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give(mem::take(&mut self.storage));
    }
}

/// Free storage by size: powers of two from [`SMALLEST`] to [`LARGEST_KEPT`].
struct Pool {
    classes: [Vec<Vec<u8>>; 7],
    kept: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { classes: [const { Vec::new() }; 7], kept: 0 }
    }
}

/// The class of storage of exactly this size, if storage of that size is kept.
fn class_of(size: usize) -> Option<usize> {
    let is_kept = size.is_power_of_two() && (SMALLEST..=LARGEST_KEPT).contains(&size);
    is_kept.then(|| (size / SMALLEST).trailing_zeros() as usize)
}

fn take(least: usize) -> Vec<u8> {
    let size = least.max(SMALLEST).next_power_of_two();
    let kept = POOL.with_borrow_mut(|pool| {
        let found = pool.classes.get_mut(class_of(size)?)?.pop()?;
        pool.kept -= found.len();
        Some(found)
    });
    kept.unwrap_or_else(|| vec![0; size])
}

fn give(storage: Vec<u8>) {
    let Some(class) = class_of(storage.len()) else { return };
    // A thread that ends has no pool any more; then the storage is freed.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.kept + storage.len() <= MOST_KEPT {
            pool.kept += storage.len();
            if let Some(class) = pool.classes.get_mut(class) {
                class.push(storage);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_owns_nothing() {
        let mut buffer = Buffer::new();
        buffer.extend(b"hello");
        buffer.consume(2);
        assert_eq!(buffer.filled(), b"llo");
        buffer.consume(99);
        assert!(buffer.is_empty());
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn bytes_stay_in_order_through_growth_and_moves() {
        let mut buffer = Buffer::new();
        let mut expected = Vec::new();
        for round in 0..2000_u32 {
            let bytes = vec![round.to_le_bytes()[0]; (round as usize * 7) % 1500];
            buffer.extend(&bytes);
            expected.extend_from_slice(&bytes);
            let used = (round as usize * 5) % 1400;
            buffer.consume(used);
            expected.drain(..used.min(expected.len()));
            assert!(buffer.filled() == expected, "round {round}");
        }
    }

    #[test]
    fn storage_is_used_again() {
        let mut first = Buffer::new();
        first.extend(&[1; 5000]);
        let address = first.storage.as_ptr();
        first.clear();
        let mut second = Buffer::new();
        second.extend(&[2; 8000]);
        assert_eq!(second.storage.as_ptr(), address);
    }

    #[test]
    fn space_counts_only_when_committed() {
        let mut buffer = Buffer::new();
        assert!(buffer.space(100).len() >= 100);
        assert!(buffer.is_empty());
        buffer.space(3)[..3].copy_from_slice(b"abc");
        buffer.commit(3);
        assert_eq!(buffer.filled(), b"abc");
    }
}
