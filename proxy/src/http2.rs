//! HTTP/2 (RFC 9113), both roles: many streams in one connection.
//!
//! [`Session`] is the connection as the two kinds of tasks see it that it has: one driver, which moves octets between it and
//! a transport by [`Session::poll_drive`], and one task for each stream, which holds a [`Stream`] (or a [`Tunnel`], where
//! the stream carries octets of another protocol). Below, `connection` is the protocol without I/O. Never decides what a
//! request may do; never opens or closes a transport.

mod connection;
pub mod error;
mod field;
mod flow;
mod frame;
mod head;
mod hpack;
mod outbox;
mod patience;
mod session;
pub mod settings;
mod stream;
mod streams;
mod tunnel;

#[cfg(test)]
pub(crate) mod tests;

pub use error::{ConnectionError, ErrorCode, OpenError, StreamError};
pub use frame::PREFACE;
pub use patience::Pool;
pub use session::{Activity, PROBE_EVERY, Session, TEND_EVERY};
pub use settings::Settings;
pub use stream::Stream;
pub use tunnel::Tunnel;

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens streams.
    Client,
    /// Answers them.
    Server,
}
