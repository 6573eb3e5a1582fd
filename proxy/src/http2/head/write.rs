//! From heads to field blocks.
//!
//! Names go in lower case. Fields that speak of one connection of HTTP/1.1 never go out, whoever left them in.

use super::super::{field::number, hpack::Encoder};
use crate::message::{Fields, RequestHead, ResponseHead};

/// Writes the heads of one direction of a connection.
pub struct HeadWriter {
    encoder: Encoder,
    /// The block that was written last.
    pub block: Vec<u8>,
}

impl HeadWriter {
    /// A writer for a peer that has said nothing yet.
    pub fn new() -> Self {
        Self { encoder: Encoder::new(), block: Vec::new() }
    }

    /// The peer keeps a table of this many octets from now on.
    pub fn resize(&mut self, table: usize) {
        self.encoder.resize(table);
    }

    /// Writes the block of a request. Returns the length that it says its body has.
    pub fn request(&mut self, head: &RequestHead) -> Option<u64> {
        self.begin();
        let Self { encoder, block, .. } = self;
        match head.method.as_str() {
            "GET" => encoder.indexed(2, block),
            "POST" => encoder.indexed(3, block),
            method => encoder.field(b":method", method.as_bytes(), false, block),
        }
        if head.method != "CONNECT" || !head.protocol.is_empty() {
            match head.scheme.as_str() {
                "https" => encoder.indexed(7, block),
                "" | "http" => encoder.indexed(6, block),
                scheme => encoder.field(b":scheme", scheme.as_bytes(), false, block),
            }
            match head.target.as_str() {
                "/" => encoder.indexed(4, block),
                target => encoder.field(b":path", target.as_bytes(), false, block),
            }
        }
        if let Some(host) = head.host() {
            encoder.field(b":authority", host.as_bytes(), false, block);
        }
        if !head.protocol.is_empty() {
            encoder.field(b":protocol", head.protocol.as_bytes(), false, block);
        }
        self.fields(&head.fields)
    }

    /// Writes the block of a response. Returns the length that it says its body has.
    pub fn response(&mut self, head: &ResponseHead) -> Option<u64> {
        self.begin();
        let Self { encoder, block, .. } = self;
        match head.status {
            200 => encoder.indexed(8, block),
            204 => encoder.indexed(9, block),
            206 => encoder.indexed(10, block),
            304 => encoder.indexed(11, block),
            400 => encoder.indexed(12, block),
            404 => encoder.indexed(13, block),
            500 => encoder.indexed(14, block),
            status => {
                let digit = |of: u16| b'0' + (status / of % 10) as u8;
                encoder.field(b":status", &[digit(100), digit(10), digit(1)], false, block);
            }
        }
        self.fields(&head.fields)
    }

    /// Writes the block of trailers.
    pub fn trailers(&mut self, fields: &Fields) {
        self.begin();
        self.fields(fields);
    }

    fn begin(&mut self) {
        self.block.clear();
        self.encoder.begin(&mut self.block);
    }

    fn fields(&mut self, fields: &Fields) -> Option<u64> {
        let mut length = None;
        for (name, value, sensitive) in fields.iter_sensitive() {
            let mut sensitive = sensitive;
            match Special::of(name) {
                Special::No => {}
                Special::Te if value.eq_ignore_ascii_case(b"trailers") => {}
                Special::Te | Special::Connection => continue,
                Special::Length => length = number(value),
                Special::Secret => sensitive = true,
            }
            self.encoder.field(name, value, sensitive, &mut self.block);
        }
        length
    }
}

/// Fields that are not written like all others.
#[derive(Clone, Copy)]
enum Special {
    No,
    /// `te` may say `trailers` alone.
    Te,
    /// It belongs to one connection of HTTP/1.1 (RFC 9113 §8.2.2), or is said by `:authority`.
    Connection,
    Length,
    /// Its value must not be guessed by how much shorter a guess beside it makes the head (RFC 7541 §7.1).
    Secret,
}

impl Special {
    /// Most names are told apart by their length.
    fn of(name: &[u8]) -> Self {
        let names: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Te)],
            4 => &[("host", Self::Connection)],
            6 => &[("cookie", Self::Secret)],
            7 => &[("upgrade", Self::Connection)],
            10 => &[
                ("connection", Self::Connection),
                ("keep-alive", Self::Connection),
                ("set-cookie", Self::Secret),
            ],
            13 => &[("authorization", Self::Secret)],
            14 => &[("content-length", Self::Length)],
            16 => &[("proxy-connection", Self::Connection)],
            17 => &[("transfer-encoding", Self::Connection)],
            19 => &[("proxy-authorization", Self::Secret)],
            _ => &[],
        };
        let found = names.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map_or(Self::No, |(_, special)| *special)
    }
}
