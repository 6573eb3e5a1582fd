//! HPACK (RFC 7541): how heads are told in few octets, by tables that both sides of a connection keep in step.
//!
//! Knows tables and octets, and [`Kind`](super::field::Kind) as what is remembered with each entry. Does not know which
//! fields make a head.

mod decode;
mod encode;
mod huffman;
mod static_table;
mod table;

pub use decode::{Decoder, Sink};
pub use encode::Encoder;

/// A field block that cannot be decoded; the connection is lost with it (RFC 7541 §5, RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock(pub &'static str);

#[cfg(test)]
mod tests;
