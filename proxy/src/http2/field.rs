//! What a single field may be in HTTP/2 (RFC 9113 §8.2, §8.3): told once for a field, and remembered with it in the
//! dynamic table, so that a field that repeats is not looked at again.

use crate::message::is_authority;

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One that HTTP/2 does not care about.
    Regular,
    /// `content-length`, with a number.
    ContentLength,
    /// `host`.
    Host,
    /// `:authority`, without user information.
    Authority,
    /// `:method`, a token.
    Method,
    /// `:path` that begins with `/`, or is `*`.
    Path,
    /// `:protocol`, a token.
    Protocol,
    /// `:scheme`.
    Scheme,
    /// `:status` of three digits.
    Status,
    /// One that must not be there: its name is not in lower case or not a token, its value holds controls or ends in white
    /// space, it belongs to a connection of HTTP/1.1, it is a pseudo-header that nobody knows.
    Malformed,
}

impl Kind {
    /// What this field is.
    #[must_use]
    pub fn of(name: &[u8], value: &[u8]) -> Self {
        if !is_value(value) {
            return Self::Malformed;
        }
        if let Some(pseudo) = name.strip_prefix(b":") {
            return Self::of_pseudo(pseudo, value);
        }
        if name.is_empty() || !name.iter().all(|byte| is_name_byte(*byte)) {
            return Self::Malformed;
        }
        match name {
            b"content-length" if is_number(value) => Self::ContentLength,
            b"content-length" => Self::Malformed,
            b"host" if is_authority(value) => Self::Host,
            b"host" => Self::Malformed,
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => Self::Malformed,
            _ if is_of_connection(name) => Self::Malformed,
            _ => Self::Regular,
        }
    }

    fn of_pseudo(name: &[u8], value: &[u8]) -> Self {
        let (kind, is_valid) = match name {
            b"authority" => (Self::Authority, is_authority(value)),
            b"method" => (Self::Method, is_token(value)),
            b"path" => (Self::Path, is_path(value)),
            b"protocol" => (Self::Protocol, is_protocol(value)),
            b"scheme" => (Self::Scheme, is_scheme(value)),
            b"status" => (Self::Status, matches!(value, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])),
            _ => return Self::Malformed,
        };
        if is_valid { kind } else { Self::Malformed }
    }
}

/// Whether a field of this name, in lower case, speaks of one connection of HTTP/1.1 and has no place in HTTP/2
/// (RFC 9113 §8.2.2).
fn is_of_connection(name: &[u8]) -> bool {
    match name.len() {
        7 => name == b"upgrade",
        10 => name == b"connection" || name == b"keep-alive",
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    }
}

/// RFC 9110 §5.6.2, in lower case.
const fn is_name_byte(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'^' | b'`' | b'|' | b'~')
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_name_byte(byte.to_ascii_lowercase()))
}

/// One of RFC 9110 §7.8: a token, and another one after a slash for its version.
fn is_protocol(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b'/');
    parts.all(is_token)
}

/// RFC 9113 §8.2.1, and no controls at all but the tab (RFC 9110 §5.5).
fn is_value(value: &[u8]) -> bool {
    let edges = [value.first(), value.last()];
    // Without a branch for each octet, so that many are looked at in one instruction.
    let controls = value
        .iter()
        .fold(0, |found, byte| found | u8::from((*byte < 0x20 && *byte != b'\t') || *byte == 0x7f));
    controls == 0 && !edges.iter().any(|edge| matches!(edge, Some(b' ' | b'\t')))
}

fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit) && number(value).is_some()
}

/// The value of a `content-length`.
pub fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// RFC 3986 §3.1.
fn is_scheme(value: &[u8]) -> bool {
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    value.first().is_some_and(u8::is_ascii_alphabetic) && value.iter().all(rest)
}

/// RFC 9113 §8.3.1: a path with an optional query; never a fragment.
fn is_path(value: &[u8]) -> bool {
    let of_path = |byte: &u8| (0x21..0x7f).contains(byte) && *byte != b'#';
    value == b"*" || (value.starts_with(b"/") && value.iter().all(of_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_what_the_rfc_says() {
        for (name, value, expected) in [
            ("x-a", "b", Kind::Regular),
            ("x-a", "", Kind::Regular),
            ("x-a", "a\tb \u{e9}", Kind::Regular),
            ("te", "trailers", Kind::Regular),
            ("te", "gzip", Kind::Malformed),
            ("X-a", "b", Kind::Malformed),
            ("x a", "b", Kind::Malformed),
            ("x:a", "b", Kind::Malformed),
            ("x-\u{e9}", "b", Kind::Malformed),
            ("", "b", Kind::Malformed),
            ("x-a", "b\r\nc", Kind::Malformed),
            ("x-a", "b\nc", Kind::Malformed),
            ("x-a", "b\0c", Kind::Malformed),
            ("x-a", "\u{7f}", Kind::Malformed),
            ("x-a", " b", Kind::Malformed),
            ("x-a", "b\t", Kind::Malformed),
            ("connection", "close", Kind::Malformed),
            ("proxy-connection", "close", Kind::Malformed),
            ("keep-alive", "1", Kind::Malformed),
            ("upgrade", "h2c", Kind::Malformed),
            ("transfer-encoding", "chunked", Kind::Malformed),
            ("content-length", "12", Kind::ContentLength),
            ("content-length", "+12", Kind::Malformed),
            ("content-length", "12, 12", Kind::Malformed),
            ("content-length", "99999999999999999999", Kind::Malformed),
            ("content-length", "", Kind::Malformed),
            ("host", "a:1", Kind::Host),
            ("host", "a/b", Kind::Malformed),
            (":method", "GET", Kind::Method),
            (":method", "", Kind::Malformed),
            (":method", "GET /", Kind::Malformed),
            (":path", "/", Kind::Path),
            (":path", "*", Kind::Path),
            (":path", "", Kind::Malformed),
            (":path", "a", Kind::Malformed),
            (":path", "/a b", Kind::Malformed),
            (":path", "/a#b", Kind::Malformed),
            (":path", "/\u{e9}", Kind::Malformed),
            (":scheme", "https", Kind::Scheme),
            (":scheme", "1", Kind::Malformed),
            (":authority", "[::1]:80", Kind::Authority),
            (":authority", "user@host", Kind::Malformed),
            (":authority", "a/b", Kind::Malformed),
            (":authority", "", Kind::Malformed),
            (":protocol", "websocket", Kind::Protocol),
            (":protocol", "http/1.1", Kind::Protocol),
            (":protocol", "/", Kind::Malformed),
            (":status", "200", Kind::Status),
            (":status", "099", Kind::Malformed),
            (":status", "20", Kind::Malformed),
            (":unknown", "a", Kind::Malformed),
            (":", "a", Kind::Malformed),
        ] {
            assert_eq!(Kind::of(name.as_bytes(), value.as_bytes()), expected, "{name}: {value:?}");
        }
    }
}
