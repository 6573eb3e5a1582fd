//! What both sides tell each other at the start (RFC 9113 §6.5): ours, as chosen, and the peer's, as received.

use super::{
    Role,
    error::Violation,
    frame::{self, Header, LARGEST_WINDOW, LEAST_MAX_FRAME, MOST_MAX_FRAME, flag, kind},
    outbox::Outbox,
};

/// A [`Settings::max_frame`] for connections between two of us, in octets: as long as what is read and written at once, so
/// that bulk passes through without being copied. Toward others it stays at the least, which some of them test.
pub const LONG_FRAME: u32 = 256 << 10;

/// What we allow the peer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Streams that a client may have open at a time.
    pub max_streams: u32,
    /// Most octets of a head: its names and values, and 32 more for each field (RFC 9113 §6.5.2).
    pub max_header_bytes: u32,
    /// Most fields of a head.
    pub max_headers: u32,
    /// Whether a client may use `:protocol` (RFC 8441).
    pub connect_protocol: bool,
    /// What a stream may send before we have read any of it, in octets.
    pub stream_window: u32,
    /// What a stream's window grows to while its reader keeps up, in octets.
    pub largest_stream_window: u32,
    /// What the windows of all streams of a connection together may grow by, in octets.
    pub window_growth: u32,
    /// Largest payload of a frame, in octets: 16 KiB to 16 MiB − 1.
    pub max_frame: u32,
    /// The peer speaks for many, and one of them gives up again and again: read it more slowly, instead of ending what it carries
    /// for the others.
    pub paces: bool,
    /// Servers guard themselves against clients that reset many streams, and end the connection. Reset no more than they bear,
    /// and take another connection for what comes next.
    pub few_resets: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_streams: 256,
            max_header_bytes: 64 << 10,
            max_headers: 128,
            connect_protocol: true,
            stream_window: 64 << 10,
            largest_stream_window: 1 << 20,
            window_growth: 16 << 20,
            max_frame: LEAST_MAX_FRAME,
            paces: false,
            few_resets: false,
        }
    }
}

/// Identifiers on the wire.
mod id {
    pub const ENABLE_PUSH: u16 = 0x2;
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

impl Settings {
    /// The longest field block that is looked at at all, in octets: one that is larger than the limits can be refused with
    /// words only if it is decoded, since the tables must stay in step.
    #[must_use]
    pub const fn longest_block(&self) -> usize {
        2 * self.max_header_bytes as usize + (16 << 10)
    }

    /// Appends the SETTINGS frame that says this.
    pub(super) fn write(&self, role: Role, out: &mut Outbox) {
        let common = [
            (id::INITIAL_WINDOW_SIZE, self.stream_window.min(LARGEST_WINDOW)),
            (id::MAX_FRAME_SIZE, self.max_frame.clamp(LEAST_MAX_FRAME, MOST_MAX_FRAME)),
            (id::MAX_HEADER_LIST_SIZE, self.max_header_bytes),
        ];
        let by_role = match role {
            Role::Client => [(id::ENABLE_PUSH, 0), (id::MAX_CONCURRENT_STREAMS, 0)],
            Role::Server => [
                (id::MAX_CONCURRENT_STREAMS, self.max_streams),
                (id::ENABLE_CONNECT_PROTOCOL, self.connect_protocol.into()),
            ],
        };
        let length = (common.len() + by_role.len()) * 6;
        out.extend(&Header { length, kind: kind::SETTINGS, flags: 0, stream: 0 }.write());
        for (id, value) in common.into_iter().chain(by_role) {
            out.extend(&id.to_be_bytes());
            out.extend(&value.to_be_bytes());
        }
    }
}

/// The SETTINGS frame that says how many streams a client may have open from now on.
pub(super) fn max_streams(streams: u32) -> [u8; frame::HEADER + 6] {
    let header = Header { length: 6, kind: kind::SETTINGS, flags: 0, stream: 0 }.write();
    let mut said = [0; frame::HEADER + 6];
    let octets =
        header.into_iter().chain(id::MAX_CONCURRENT_STREAMS.to_be_bytes()).chain(streams.to_be_bytes());
    said.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
    said
}

/// What the peer allows us.
#[derive(Clone, Debug)]
pub(super) struct PeerSettings {
    /// The largest dynamic table that it keeps for our fields, in octets.
    pub header_table: u32,
    /// Streams that we may have open at a time.
    pub max_streams: u32,
    /// What we may send on a new stream, in octets.
    pub stream_window: u32,
    /// Largest payload that we may send, in octets.
    pub max_frame: usize,
    /// Whether we may use `:protocol`.
    pub connect_protocol: bool,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table: 4096,
            // Unlimited until the peer says otherwise (RFC 9113 §6.5.2). What it does not want to serve, it refuses.
            max_streams: u32::MAX,
            stream_window: 65_535,
            max_frame: frame::LEAST_MAX_FRAME as usize,
            connect_protocol: false,
        }
    }
}

impl PeerSettings {
    /// Takes over the payload of a SETTINGS frame, checked for its length already.
    pub(super) fn update(&mut self, payload: &[u8], role: Role) -> Result<(), Violation> {
        for entry in payload.as_chunks::<6>().0 {
            let &[i1, i0, v3, v2, v1, v0] = entry;
            let value = u32::from_be_bytes([v3, v2, v1, v0]);
            match u16::from_be_bytes([i1, i0]) {
                id::HEADER_TABLE_SIZE => self.header_table = value,
                id::ENABLE_PUSH if value > 1 || (value == 1 && role == Role::Client) => {
                    return Err(Violation::protocol("SETTINGS_ENABLE_PUSH has a value that it cannot have"));
                }
                id::MAX_CONCURRENT_STREAMS => self.max_streams = value,
                id::INITIAL_WINDOW_SIZE if value > LARGEST_WINDOW => {
                    return Err(Violation::new(
                        super::ErrorCode::FLOW_CONTROL_ERROR,
                        "SETTINGS_INITIAL_WINDOW_SIZE is larger than any window can be",
                    ));
                }
                id::INITIAL_WINDOW_SIZE => self.stream_window = value,
                id::MAX_FRAME_SIZE if !(LEAST_MAX_FRAME..=MOST_MAX_FRAME).contains(&value) => {
                    return Err(Violation::protocol(
                        "SETTINGS_MAX_FRAME_SIZE has a value that it cannot have",
                    ));
                }
                id::MAX_FRAME_SIZE => self.max_frame = value as usize,
                id::ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.connect_protocol) => {
                    return Err(Violation::protocol(
                        "SETTINGS_ENABLE_CONNECT_PROTOCOL has a value that it cannot have",
                    ));
                }
                id::ENABLE_CONNECT_PROTOCOL => self.connect_protocol = value == 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The SETTINGS frame that acknowledges the peer's.
pub(super) fn acknowledgement() -> [u8; frame::HEADER] {
    Header { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write()
}
