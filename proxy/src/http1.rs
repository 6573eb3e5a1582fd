//! HTTP/1.1 and HTTP/1.0 on one connection, for both roles (RFC 9112).
//!
//! [`parse`], [`framing`], [`chunked`] and [`mod@write`] know bytes alone and do no I/O; [`connection`] moves them. What two
//! implementations might read in two ways is refused or brought into one form here, so that what is decided about is
//! what the other side sees. Decides nothing about a request, and knows no field but those that frame a message.

pub mod chunked;
pub mod connection;
pub mod fault;
pub mod framing;
pub mod parse;
pub mod write;

pub use connection::{Connection, HeadError, Idle};
pub use fault::Fault;
pub use framing::Framing;

/// How much of a head, or of the trailers, is read before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size from the first byte to the empty line, in bytes.
    pub bytes: usize,
    /// Number of fields.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, fields: 128 }
    }
}
