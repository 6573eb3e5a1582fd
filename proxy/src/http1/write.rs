//! Heads written as HTTP/1 (RFC 9112 §3 to §6): fields verbatim, in their order and their case.
//!
//! Owns the one place where the framing of an outgoing message is stated, so that the fields can never say another than
//! the one that is used. Never changes any other field.

#[cfg(test)]
mod tests;

use super::framing::Framing;
use crate::{
    io::Buffer,
    message::{Fields, RequestHead, ResponseHead, Version},
};

/// Appends a request's head, and states its framing. The target goes as it is, in authority-form if there is none.
pub fn request(head: &RequestHead, framing: Framing, out: &mut Buffer) {
    let target = if head.target.is_empty() { &head.authority } else { &head.target };
    for part in [head.method.as_str(), " ", target, " ", version(head.version), "\r\n"] {
        out.extend(part.as_bytes());
    }
    fields(&head.fields, framing, false, out);
}

/// Appends a response's head, interim or final, and states its framing. Without a body to frame, as for HEAD and 304, the
/// length that the head tells stays; the statuses that can never have one lose it (RFC 9110 §8.6).
pub fn response(head: &ResponseHead, framing: Framing, out: &mut Buffer) {
    let digit = |power: u16| b'0' + (head.status / power % 10).to_le_bytes()[0];
    out.extend(version(head.version).as_bytes());
    out.extend(&[b' ', digit(100), digit(10), digit(1), b' ']);
    out.extend(&head.reason);
    out.extend(b"\r\n");
    fields(&head.fields, framing, head.status >= 200 && head.status != 204, out);
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 | Version::Http2 => "HTTP/1.1",
    }
}

/// Appends the fields and the empty line. What frames the message stays where it is if it says what is meant; else it
/// goes, and is stated at the end.
fn fields(fields: &Fields, framing: Framing, keeps_length: bool, out: &mut Buffer) {
    let is_stated = match (Framing::of(Version::Http11, fields), framing) {
        (Ok(Framing::Length(_)), Framing::None) => keeps_length,
        (Ok(Framing::None), Framing::UntilClose) => true,
        (stated, framing) => stated == Ok(framing),
    };
    if is_stated {
        fields.lines().for_each(|lines| out.extend(lines));
        return out.extend(b"\r\n");
    }
    for (name, value) in fields.iter() {
        let frames = name.eq_ignore_ascii_case(b"transfer-encoding")
            || (name.eq_ignore_ascii_case(b"content-length") && !(keeps_length && framing == Framing::None));
        if !frames {
            field(name, value, out);
        }
    }
    match framing {
        Framing::Chunked => field(b"Transfer-Encoding", b"chunked", out),
        Framing::Length(length) => field(b"Content-Length", Number::decimal(length).text(), out),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend(b"\r\n");
}

/// Appends one field.
pub(super) fn field(name: &[u8], value: &[u8], out: &mut Buffer) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend(part);
    }
}

/// The digits of a number.
pub(super) struct Number {
    digits: [u8; 20],
    start: usize,
}

impl Number {
    pub(super) fn decimal(number: u64) -> Self {
        Self::of::<10>(number)
    }

    pub(super) fn hexadecimal(number: u64) -> Self {
        Self::of::<16>(number)
    }

    fn of<const RADIX: u64>(mut number: u64) -> Self {
        let mut this = Self { digits: [b'0'; 20], start: 20 };
        for place in this.digits.iter_mut().rev() {
            let digit = (number % RADIX).to_le_bytes()[0];
            *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            this.start -= 1;
            number /= RADIX;
            if number == 0 {
                break;
            }
        }
        this
    }

    pub(super) fn text(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}
