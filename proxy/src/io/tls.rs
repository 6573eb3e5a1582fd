//! TLS 1.3 as a [`ByteStream`](super::ByteStream): rustls does the handshake, keeps the key schedule and the tickets; the records of the
//! finished connection are sealed and opened here, straight between the buffers of both sides.
//!
//! A record is filled until it is full or flushed, and all records of a flush leave in one system call. Whatever breaks
//! the protocol ends the connection with the alert that RFC 8446 wants; nothing of a record is handed on before it is
//! authenticated. An idle connection owns no buffer.

mod after;
mod handshake;
mod record;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    handshake::{Alpn, Failed, Handshaken, accept, connect},
    stream::TlsStream,
};
