//! Numbers, addresses and texts, appended to a line.
//!
//! Owns what is escaped: whatever a peer sends stays inside its field. No byte of it can end the line, the string or, in a
//! terminal, the colour.

use std::{io::Write as _, net::SocketAddr};

/// A number in decimal.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// An address and its port, as [`SocketAddr`] prints them.
pub(super) fn address(out: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(address) = address else { return display(out, format_args!("{address}")) };
    for (at, octet) in address.ip().octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        number(out, octet.into());
    }
    out.push(b':');
    number(out, address.port().into());
}

/// What has no faster way. Writing to memory cannot fail.
fn display(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

/// The inside of a JSON string (RFC 8259 §7). Control characters, and those that a terminal obeys, are escaped.
pub(super) fn escaped(out: &mut Vec<u8>, value: &str) {
    if is_plain(value.as_bytes()) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    let mut plain = [0_u8; 4];
    for c in value.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() => display(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.extend_from_slice(c.encode_utf8(&mut plain).as_bytes()),
        }
    }
}

/// Whether nothing can need an escape: what is true of most texts, and seen sixteen bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let is_odd = |bytes: &[u8]| bytes.iter().fold(false, |any, byte| any | may_need_escape(*byte));
    let (chunks, rest) = text.as_chunks::<16>();
    !chunks.iter().any(|chunk| is_odd(chunk)) && !is_odd(rest)
}

/// Also true of the byte that begins the control characters U+0080 to U+009F, and some characters that need none.
const fn may_need_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\' || byte == 0x7f || byte == 0xc2
}

/// A word as it is, or a JSON string when it could be taken for something else.
pub(super) fn word(out: &mut Vec<u8>, value: &str) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if !value.is_empty() && value.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        out.extend_from_slice(value.as_bytes());
    } else {
        out.push(b'"');
        escaped(out, value);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_addresses_are_what_the_library_prints(
            value: u64, ip: [u8; 4], ip6: [u16; 8], port: u16,
        ) {
            for of in [SocketAddr::from((ip, port)), SocketAddr::from((ip6, port))] {
                let mut out = Vec::new();
                number(&mut out, value);
                address(&mut out, of);
                prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{value}{of}"));
            }
        }

        #[test]
        fn no_control_character_is_left(value: String) {
            let mut out = Vec::new();
            escaped(&mut out, &value);
            word(&mut out, &value);
            prop_assert!(!String::from_utf8(out).unwrap().chars().any(char::is_control));
        }
    }

    #[test]
    fn controls_beyond_ascii_are_escaped() {
        let mut out = Vec::new();
        escaped(&mut out, "a\u{7f}\u{9b}\u{e9}\u{a0}");
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u007f\\u009b\u{e9}\u{a0}");
    }
}
