//! From heads to field blocks.
//!
//! Names go in lower case. Fields that speak of one connection of HTTP/1.1 never go out, whoever left them in.

use super::super::{
    field::{is_of_connection, number},
    hpack::Encoder,
};
use crate::message::{Fields, RequestHead, ResponseHead};

/// Appends the block of a request to `into`. Returns the length that it says its body has.
pub fn write_request(encoder: &mut Encoder, head: &RequestHead, into: &mut Vec<u8>) -> Option<u64> {
    encoder.begin(into);
    match head.method.as_str() {
        "GET" => encoder.indexed(2, into),
        "POST" => encoder.indexed(3, into),
        method => encoder.field(b":method", method.as_bytes(), false, into),
    }
    if head.method != "CONNECT" || !head.protocol.is_empty() {
        match head.scheme.as_str() {
            "https" => encoder.indexed(7, into),
            "" | "http" => encoder.indexed(6, into),
            scheme => encoder.field(b":scheme", scheme.as_bytes(), false, into),
        }
        match head.target.as_str() {
            "/" => encoder.indexed(4, into),
            target => encoder.field(b":path", target.as_bytes(), false, into),
        }
    }
    if let Some(host) = head.host() {
        encoder.field(b":authority", host.as_bytes(), false, into);
    }
    if !head.protocol.is_empty() {
        encoder.field(b":protocol", head.protocol.as_bytes(), false, into);
    }
    write_fields(encoder, &head.fields, into)
}

/// Appends the block of a response to `into`. Returns the length that it says its body has.
pub fn write_response(encoder: &mut Encoder, head: &ResponseHead, into: &mut Vec<u8>) -> Option<u64> {
    encoder.begin(into);
    match head.status {
        200 => encoder.indexed(8, into),
        204 => encoder.indexed(9, into),
        206 => encoder.indexed(10, into),
        304 => encoder.indexed(11, into),
        400 => encoder.indexed(12, into),
        404 => encoder.indexed(13, into),
        500 => encoder.indexed(14, into),
        status => {
            let digit = |of: u16| b'0' + (status / of % 10) as u8;
            encoder.field(b":status", &[digit(100), digit(10), digit(1)], false, into);
        }
    }
    write_fields(encoder, &head.fields, into)
}

/// Appends the block of trailers to `into`.
pub fn write_trailers(encoder: &mut Encoder, fields: &Fields, into: &mut Vec<u8>) {
    encoder.begin(into);
    write_fields(encoder, fields, into);
}

fn write_fields(encoder: &mut Encoder, fields: &Fields, into: &mut Vec<u8>) -> Option<u64> {
    let mut length = None;
    let mut lower = Vec::new();
    for (name, value, sensitive) in fields.iter_sensitive() {
        let name = if name.iter().any(u8::is_ascii_uppercase) {
            lower.clear();
            lower.extend(name.iter().map(u8::to_ascii_lowercase));
            lower.as_slice()
        } else {
            name
        };
        match name {
            b"host" => continue,
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => continue,
            b"content-length" => length = number(value),
            _ if is_of_connection(name) => continue,
            _ => {}
        }
        encoder.field(name, value, sensitive || is_secret(name), into);
    }
    length
}

/// Fields whose values must not be guessed by how much shorter they get beside a guess (RFC 7541 §7.1).
fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie")
}
