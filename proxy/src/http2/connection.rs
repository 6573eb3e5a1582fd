//! The protocol of one connection, without I/O: octets of the peer go in by [`Connection::receive`], octets for the peer
//! gather in its [`Outbox`], and streams are read and written in between.
//!
//! Owns all that both sides agreed on. Never reads or writes a socket, never waits; wakes those who do.

mod finish;
mod reading;
mod receive;
mod receive_head;
mod send;

use std::{collections::VecDeque, sync::Arc, task::Waker};

use self::reading::Reading;
use super::{
    ErrorCode, Role, Settings,
    error::{ConnectionError, Violation},
    flow::{Growth, ReceiveWindow, SendWindows},
    frame::{self, Header, LARGEST_WINDOW, flag, kind},
    head::{HeadWriter, Limits},
    hpack,
    outbox::Outbox,
    patience::{Patience, Pool},
    settings::{self, PeerSettings},
    streams::{Closed, Graveyard, Key, Streams, want},
};
use crate::{
    io::FLIGHT,
    message::{RequestHead, ResponseHead},
};

/// The dynamic table that we keep for the peer's fields, in octets: what every peer expects.
const TABLE: usize = 4096;

/// DATA waits when this many octets wait for the transport. With the heads that still may come, the storage stays one that
/// the pool keeps.
const HIGH_WATER: usize = 2 * (FLIGHT + frame::HEADER);

/// What one stream may add in one turn while others wait in line, in octets.
const TURN: usize = 32 << 10;

/// Streams without a window that are looked at in one turn, after the peer opened the windows of all.
const VISITS: usize = 64;

/// What frames may cost that are taken in one turn: one a frame, and more where it says so. Then those who were woken, and other
/// connections, have theirs.
const TURN_WORK: u32 = 4096;

/// Heads that are kept to be used again.
const SPARE_HEADS: usize = 64;

/// Streams that we reset at once, where their number matters: tonic's servers take 20 that they have not looked at.
const MOST_OWN_RESETS: u32 = 16;

/// And how many more each second: Netty's servers take 200 in 30 s.
const OWN_RESETS_PER_SECOND: u32 = 5;

/// The window of a connection before anything was said (RFC 9113 §6.9.2), in octets.
const FIRST_WINDOW: u32 = 65_535;

/// One connection.
pub(super) struct Connection {
    role: Role,
    settings: Settings,
    limits: Limits,
    peer: PeerSettings,
    /// What waits for the transport.
    pub out: Outbox,
    decoder: hpack::Decoder,
    writer: HeadWriter,
    reading: Reading,
    pub streams: Streams,
    graveyard: Graveyard,
    /// The last stream that the peer opened.
    last_peer: u32,
    /// The next stream that we open.
    next_own: u32,
    /// What we may send on the connection.
    send_window: i64,
    /// What we may send on streams.
    windows: SendWindows,
    /// What the peer may send on the connection.
    pub receive_left: u32,
    growth: Growth,
    /// Streams that wait for room in `out` or in `send_window`, in turn.
    line: VecDeque<Key>,
    /// Streams whose own window is too small. A larger one of every stream is told them in turn.
    blocked: VecDeque<Key>,
    /// How many of them are yet to be told.
    to_visit: usize,
    /// Requests that came and were not taken.
    requests: VecDeque<(RequestHead, Key)>,
    spare_requests: Vec<RequestHead>,
    spare_responses: Vec<ResponseHead>,
    /// For frames that bring nobody anything.
    patience: Patience,
    /// For streams that end before their time.
    resets: Patience,
    /// `resets` gave out where nothing could be said.
    exhausted: bool,
    /// `resets` gave out, and the peer is read on after a pause.
    tired: bool,
    /// For streams that we reset, where their number matters to the peer.
    own_resets: Option<Patience>,
    /// Streams that are still to be reset, once `own_resets` allows it.
    owed: VecDeque<u32>,
    /// As many streams were reset as the peer bears.
    worn: bool,
    shutdown: Shutdown,
    /// What the peer said when it said that it goes.
    peer_goaway: Option<ConnectionError>,
    /// Why this connection takes part in nothing any more.
    closed: Option<ConnectionError>,
    driver: Option<Waker>,
    notified: bool,
    /// Someone was woken, or is to be started, since the turn began.
    pub woken: bool,
    /// Changes with each complete head, and with each frame of data.
    pub progress: u32,
    /// What is left of [`TURN_WORK`].
    work: u32,
    /// Frames wait that there was no time for.
    is_behind: bool,
}

/// How far a regular end has come (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    /// Nobody asked for it.
    No,
    /// The peer was told to open no more streams; those that it opened meanwhile are still served.
    Announced,
    /// The last stream that is served was named.
    Final(u32),
}

impl Connection {
    /// A connection at its start, with what this side says first.
    pub fn new(role: Role, settings: &Settings) -> Self {
        let mut settings = settings.clone();
        // A smaller window would be overrun by a peer that sends before it has read our settings.
        settings.stream_window = settings.stream_window.clamp(FIRST_WINDOW, LARGEST_WINDOW);
        let mut out = Outbox::default();
        if role == Role::Client {
            out.extend(frame::PREFACE);
        }
        settings.write(role, &mut out);
        let mut this = Self {
            role,
            limits: Limits {
                bytes: settings.max_header_bytes as usize,
                fields: settings.max_headers as usize,
            },
            peer: PeerSettings::default(),
            out,
            decoder: hpack::Decoder::new(TABLE),
            writer: HeadWriter::new(),
            reading: Reading::new(role),
            streams: Streams::default(),
            graveyard: Graveyard::new(),
            last_peer: 0,
            next_own: 1,
            send_window: FIRST_WINDOW.into(),
            receive_left: FIRST_WINDOW,
            windows: SendWindows::new(PeerSettings::default().stream_window),
            growth: Growth::new(settings.largest_stream_window, settings.window_growth),
            line: VecDeque::new(),
            blocked: VecDeque::new(),
            to_visit: 0,
            requests: VecDeque::new(),
            spare_requests: Vec::new(),
            spare_responses: Vec::new(),
            patience: Patience::new(1000, 1000),
            resets: if settings.paces { Patience::new(4000, 1000) } else { Patience::new(1000, 200) },
            exhausted: false,
            tired: false,
            own_resets: settings.few_resets.then(|| Patience::new(MOST_OWN_RESETS, OWN_RESETS_PER_SECOND)),
            owed: VecDeque::new(),
            worn: false,
            shutdown: Shutdown::No,
            peer_goaway: None,
            closed: None,
            driver: None,
            notified: true,
            woken: false,
            progress: 0,
            work: TURN_WORK,
            is_behind: false,
            settings,
        };
        // Memory is bounded for each stream: the connection's window never is what a peer waits for.
        this.write_window_update(0, LARGEST_WINDOW - FIRST_WINDOW);
        this.receive_left = LARGEST_WINDOW;
        this
    }

    /// A turn of the driver begins: what is written from here on needs no wake-up.
    pub fn begin_turn(&mut self, driver: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
        self.notified = true;
        self.woken = false;
        self.work = TURN_WORK;
        self.pay_owed();
    }

    /// The turn ends: whoever writes from here on wakes the driver, once.
    pub const fn end_turn(&mut self) {
        self.notified = false;
    }

    /// Wakes the driver unless it was woken already.
    pub fn notify(&mut self) {
        if !std::mem::replace(&mut self.notified, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }

    /// Whether the transport takes so little that more must not be read either: what the peer says makes us answer.
    pub fn is_congested(&self) -> bool {
        self.out.len() > HIGH_WATER + (24 << 10)
    }

    /// Whether no more frames are to be taken in this turn.
    pub const fn is_turn_over(&self) -> bool {
        self.work == 0
    }

    /// Whether frames wait that there was no time for.
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Octets that are kept of a head that is not complete.
    pub fn partial_head(&self) -> usize {
        self.reading.head.as_ref().map_or(0, |head| head.block.len())
    }

    /// The peer has shown that it may do something here: from now on it may have so many streams, and windows that grow.
    pub fn trust(&mut self, streams: u32, growth: u32) {
        self.growth.allow(growth);
        if self.settings.max_streams < streams {
            self.settings.max_streams = streams;
            self.out.extend(&settings::max_streams(streams));
            self.notify();
        }
    }

    /// What is endured of it is shared with other connections of its peer.
    pub fn share(&mut self, pool: Arc<Pool>) {
        self.patience.share(pool);
    }

    /// Whether a client takes so little that nothing of it is read.
    pub fn is_stuck(&self) -> bool {
        self.role == Role::Server && self.is_congested()
    }

    /// Whether the peer is not read for a moment, or is owed something that has its time.
    pub fn is_pausing(&self) -> bool {
        self.tired || !self.owed.is_empty()
    }

    /// Whether the peer is not read for a moment.
    pub const fn is_tired(&self) -> bool {
        self.tired
    }

    /// The moment is over.
    pub const fn rested(&mut self) {
        self.tired = false;
    }

    /// Whether the peer is in the middle of its preface or of a head.
    pub const fn is_inside_head(&self) -> bool {
        self.reading.is_inside_head()
    }

    /// Whether the peer has said what it allows.
    pub const fn is_settled(&self) -> bool {
        self.reading.settings_seen
    }

    /// Whether a stream is open or held, or something waits to be sent.
    pub fn is_busy(&self) -> bool {
        self.streams.kept_count() > 0 || !self.out.is_empty()
    }

    /// Lets those go on who wait in line, as many as there is room for. Says whether others stay behind who can go on only
    /// after these.
    pub fn wake_line(&mut self) -> bool {
        self.visit_blocked();
        let mut room = self.room();
        while room > 0 {
            let Some(key) = self.line.pop_front() else { return self.to_visit > 0 };
            let slot = self.streams.get(key);
            slot.in_line = false;
            self.woken |= slot.wake(want::WRITE);
            room = room.saturating_sub(TURN);
        }
        self.to_visit > 0 || (!self.line.is_empty() && self.room() > 0)
    }

    /// Tells some of those without a window that it may have become larger. What that costs in a turn does not depend on
    /// how many there are, nor on how often the peer changes it.
    fn visit_blocked(&mut self) {
        for _ in 0..self.to_visit.min(VISITS) {
            self.to_visit -= 1;
            let Some(key) = self.blocked.pop_front() else {
                self.to_visit = 0;
                return;
            };
            let slot = self.streams.get(key);
            slot.among_blocked = false;
            if !slot.is_blocked() {
                continue;
            }
            if self.windows.of(slot.send_credit) > 0 {
                self.woken |= slot.wake(want::WRITE);
            } else {
                slot.among_blocked = true;
                self.blocked.push_back(key);
            }
        }
    }

    /// What all streams together may write now.
    fn room(&self) -> usize {
        let room = HIGH_WATER.saturating_sub(self.out.len());
        // A few octets more are not worth a frame.
        let room = if room < 4096 { 0 } else { room };
        room.min(usize::try_from(self.send_window).unwrap_or(0))
    }

    /// Something happened that `wants` of a stream may wait for.
    fn wake(&mut self, key: Key, what: u8) {
        self.woken |= self.streams.get(key).wake(what);
    }

    /// A stream takes part in nothing any more.
    fn close_stream(&mut self, key: Key, how: Closed) {
        let slot = self.streams.get(key);
        if slot.open {
            let id = slot.id;
            let grown = slot.receive_window.grown(self.settings.stream_window);
            slot.receive_window = ReceiveWindow::default();
            self.growth.give_back(grown);
            self.streams.close(key);
            self.graveyard.bury(id, how);
            if self.is_finished() {
                self.notify();
            }
        }
    }

    /// The number of a stream that the peer may still open, or that we may.
    const fn is_idle(&self, id: u32) -> bool {
        match (self.role, id % 2) {
            (Role::Server, 1) => id > self.last_peer,
            (Role::Client, 1) => id >= self.next_own,
            _ => true,
        }
    }

    fn write_header(&mut self, header: Header) {
        self.out.extend(&header.write());
    }

    fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write_header(Header { length: payload.len(), kind, flags, stream });
        self.out.extend(payload);
    }

    fn write_window_update(&mut self, stream: u32, increment: u32) {
        self.write_frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    }

    fn write_reset(&mut self, stream: u32, code: ErrorCode) {
        self.write_frame(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    fn write_goaway(&mut self, last: u32, code: ErrorCode, why: &str) {
        let length = 8 + why.len();
        self.write_header(Header { length, kind: kind::GOAWAY, flags: 0, stream: 0 });
        self.out.extend(&last.to_be_bytes());
        self.out.extend(&code.0.to_be_bytes());
        self.out.extend(why.as_bytes());
    }

    /// Spends on something that brings nobody anything.
    fn endure(&mut self, cost: u32, why: &'static str) -> Result<(), Violation> {
        if self.patience.spend(cost) { Ok(()) } else { Err(Violation::flood(why)) }
    }
}

/// `END_STREAM`, if this is the end.
const fn end_flag(end: bool) -> u8 {
    if end { flag::END_STREAM } else { 0 }
}
