//! The streams of a connection: what is known of each, and where it is found by the number that frames name it with.
//!
//! A stream stays as long as someone holds it, even when it is closed on the wire; its memory serves the next one.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    task::{Context, Waker},
};

use super::{error::StreamError, flow::ReceiveWindow};
use crate::{
    io::Buffer,
    message::{Fields, ResponseHead, head::MOST_KEPT},
};

/// Streams whose memory is kept while none is there.
const MOST_IDLE: usize = 64;

/// Where a stream is kept.
pub type Key = usize;

/// How far one direction of a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Half {
    /// The (final) head is still to come.
    #[default]
    Head,
    /// The head is through.
    Body,
    /// `END_STREAM` is through.
    Ended,
}

/// What the holder of a stream waits for.
pub mod want {
    /// Something to read: a head, data, the end.
    pub const READ: u8 = 1;
    /// Room to write.
    pub const WRITE: u8 = 2;
    /// The end before its time.
    pub const RESET: u8 = 4;
    /// The end of what comes, whether it was read or not.
    pub const END: u8 = 8;
}

/// One stream.
#[derive(Default)]
pub struct Slot {
    /// The number on the wire.
    pub id: u32,
    /// Frames of it still come and go.
    pub open: bool,
    /// What comes.
    pub receiving: Half,
    /// What goes.
    pub sending: Half,
    /// Why it ended before its time.
    pub error: Option<StreamError>,
    /// It is, or will be, a tunnel: nothing but DATA after the head.
    pub tunnel: bool,
    /// The request is HEAD: what comes has no body, whatever its length says.
    pub bodiless: bool,
    /// The request is larger than we take.
    pub too_large: bool,
    /// What came and was not read.
    pub data: Buffer,
    /// What came after the body; empty if nothing did.
    pub trailers: Fields,
    /// Heads of responses that came and were not read.
    pub heads: VecDeque<ResponseHead>,
    /// Octets of body that still have to come, where the head said how many.
    pub to_receive: Option<u64>,
    /// Octets of body that still have to go, where the head said how many.
    pub to_send: Option<u64>,
    /// What the peer may send.
    pub receive_window: ReceiveWindow,
    /// What we may send, beyond what every stream begins with; see [`SendWindows`](super::flow::SendWindows).
    pub send_credit: i64,
    /// The most that it was.
    pub most_send_credit: i64,
    /// Where the header of its last frame is, in octets since the connection began.
    pub last_frame: u64,
    /// It waits in line for room in the connection.
    pub in_line: bool,
    /// It is among those that a larger window of every stream may help.
    pub among_blocked: bool,
    /// It waited for room already when the streams were looked through last.
    pub stalled: bool,
    waker: Option<Waker>,
    wants: u8,
}

impl Slot {
    /// The task of `cx` is woken when something of `wants` happens. One task uses a stream at a time.
    pub fn wait(&mut self, cx: &Context<'_>, wants: u8) {
        self.wants |= wants;
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Something of `what` happened. Says whether someone waited for it.
    pub fn wake(&mut self, what: u8) -> bool {
        if self.wants & what == 0 {
            return false;
        }
        self.wants = 0;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        true
    }

    /// Whether it has something to send and the peer, or the connection, gives it no room.
    pub const fn is_blocked(&self) -> bool {
        self.open && self.wants & want::WRITE != 0
    }

    /// As new, but with the memory that it has.
    fn recycle(&mut self) {
        let Self { data, trailers, heads, waker, error, .. } = self;
        data.clear();
        trailers.clear();
        if trailers.memory() > MOST_KEPT {
            *trailers = Fields::new();
        }
        heads.clear();
        (*waker, *error) = (None, None);
        (self.open, self.wants) = (false, 0);
    }

    /// The first state, where [`Self::recycle`] has not seen to it.
    fn begin(&mut self, id: u32, receive_window: ReceiveWindow) {
        (self.id, self.open) = (id, true);
        (self.receiving, self.sending) = (Half::Head, Half::Head);
        (self.tunnel, self.bodiless, self.too_large) = (false, false, false);
        (self.to_receive, self.to_send) = (None, None);
        self.receive_window = receive_window;
        (self.send_credit, self.most_send_credit) = (0, 0);
        (self.last_frame, self.in_line, self.among_blocked, self.stalled) = (0, false, false, false);
    }
}

/// All streams of a connection.
#[derive(Default)]
pub struct Streams {
    slots: Vec<Slot>,
    free: Vec<Key>,
    by_id: HashMap<u32, Key, BuildHasherDefault<IdHasher>>,
    /// What a key leads to that nobody was given: closed, and without effect.
    nobody: Slot,
    /// How often one of them was looked at.
    #[cfg(test)]
    pub visits: usize,
}

impl Streams {
    /// A new stream, open.
    pub fn open(&mut self, id: u32, receive_window: ReceiveWindow) -> Key {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.by_id.insert(id, key);
        self.get(key).begin(id, receive_window);
        key
    }

    /// The stream that is kept here.
    pub fn get(&mut self, key: Key) -> &mut Slot {
        #[cfg(test)]
        (self.visits += 1);
        self.slots.get_mut(key).unwrap_or(&mut self.nobody)
    }

    /// The open stream of this number.
    pub fn find(&self, id: u32) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.by_id.len()
    }

    /// How many are kept, open or held.
    pub fn kept_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Frames of it come and go no more.
    pub fn close(&mut self, key: Key) {
        let slot = self.get(key);
        slot.open = false;
        let id = slot.id;
        self.by_id.remove(&id);
    }

    /// Nobody holds it any more.
    pub fn release(&mut self, key: Key) {
        self.get(key).recycle();
        self.free.push(key);
        if self.free.len() == self.slots.len() && self.slots.len() > MOST_IDLE {
            *self = Self::default();
        }
    }

    /// All that are open.
    pub fn iter_open(&mut self) -> impl Iterator<Item = (Key, &mut Slot)> {
        #[cfg(test)]
        (self.visits += self.slots.len());
        self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.open)
    }
}

/// Numbers of streams are dense and given out in order: one multiplication spreads them.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// How a stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Both sides ended it.
    Ended,
    /// The peer reset it.
    ByPeer,
    /// We reset it: frames of it may be on their way.
    ByUs,
}

/// The streams that were closed last, so that late frames are told from wrong ones.
pub struct Graveyard {
    last: [(u32, Closed); 64],
    next: usize,
    /// The highest number that is not remembered any more.
    forgotten: u32,
}

impl Graveyard {
    /// Nobody died yet.
    pub const fn new() -> Self {
        Self { last: [(0, Closed::Ended); 64], next: 0, forgotten: 0 }
    }

    /// Remembers one.
    pub fn bury(&mut self, id: u32, how: Closed) {
        if let Some(place) = self.last.get_mut(self.next) {
            self.forgotten = self.forgotten.max(place.0);
            *place = (id, how);
        }
        self.next = (self.next + 1) % self.last.len();
    }

    /// How a stream was closed: `Err(true)` if it may have been forgotten, `Err(false)` if it never was.
    pub fn find(&self, id: u32) -> Result<Closed, bool> {
        let found = self.last.iter().find(|(buried, _)| *buried == id);
        found.map(|(_, how)| *how).ok_or(id <= self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_unusually_large_is_given_back() {
        let mut streams = Streams::default();
        let open = |streams: &mut Streams, id| streams.open(id, ReceiveWindow::new(1));
        let key = open(&mut streams, 1);
        streams.get(key).trailers.push(b"x-long", &[b'x'; 2 * MOST_KEPT]);
        streams.close(key);
        streams.release(key);
        assert!(streams.get(key).trailers.memory() <= MOST_KEPT);

        let keys: Vec<_> = (1..1000).map(|id| open(&mut streams, id * 2 + 1)).collect();
        for key in keys {
            streams.close(key);
            streams.release(key);
        }
        assert!(streams.slots.capacity() + streams.free.capacity() + streams.by_id.capacity() <= MOST_IDLE);
        let key = open(&mut streams, 3001);
        assert_eq!((streams.find(3001), streams.kept_count()), (Some(key), 1));
    }
}
