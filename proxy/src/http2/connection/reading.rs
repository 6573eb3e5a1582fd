//! Where in the peer's octets a connection is: between frames, in the middle of a payload, or of a head.

use crate::http2::{Role, frame::PREFACE};

/// Where in the peer's octets we are.
pub(super) struct Reading {
    /// How much of the client's preface is to come.
    pub preface: usize,
    /// The first frame must be SETTINGS (RFC 9113 §3.4).
    pub settings_seen: bool,
    /// Payload that is passed on, or dropped, as it comes.
    pub payload: Option<Payload>,
    /// A head that is not complete.
    pub head: Option<PartialHead>,
}

/// What is left of a DATA frame, or of one that means nothing to us.
#[derive(Clone, Copy)]
pub(super) struct Payload {
    /// Whose it is; nobody's if it is to be dropped. By number: while the rest of a payload is on its way its stream may
    /// end, and then its place belongs to another one.
    pub stream: Option<u32>,
    pub left: usize,
    pub padding: usize,
    pub end: bool,
}

/// A field block that goes on in CONTINUATION frames (RFC 9113 §6.10).
pub(super) struct PartialHead {
    pub stream: u32,
    pub end: bool,
    pub block: Vec<u8>,
    pub frames: u32,
}

impl Reading {
    pub const fn new(role: Role) -> Self {
        let preface = match role {
            Role::Client => 0,
            Role::Server => PREFACE.len(),
        };
        Self { preface, settings_seen: false, payload: None, head: None }
    }

    /// Whether the peer is in the middle of its preface or of a head.
    pub const fn is_inside_head(&self) -> bool {
        self.preface > 0 || !self.settings_seen || self.head.is_some()
    }
}
