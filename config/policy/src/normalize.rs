//! The path of a request in the one form that policy sees and the application gets.
//!
//! Owns RFC 3986 §6.2.2 normalization for paths: unreserved characters are decoded, the hex digits of
//! all other escapes are uppercase, dot segments are resolved, runs of slashes are one. What different
//! servers read differently is refused, not guessed. It must never change what a path means to the
//! application, so reserved characters keep the form in which they came; and it must stay idempotent.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, cmp::Ordering};

/// Why a path is refused with 400: a policy and an application could read it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PathRejection {
    /// Does not begin with `/`.
    #[error("the path does not begin with /")]
    Relative,
    /// Holds `%2F`, which some servers read as a separator.
    #[error("the path has an encoded slash (%2F)")]
    EncodedSlash,
    /// Holds `%5C`, which some servers read as a separator.
    #[error("the path has an encoded backslash (%5C)")]
    EncodedBackslash,
    /// Holds `%00`, at which some servers stop reading.
    #[error("the path has an encoded NUL (%00)")]
    EncodedNul,
    /// An escape that decodes to another escape, such as `%252e`.
    #[error("the path is encoded twice (%25 before two hex digits)")]
    DoubleEncoding,
    /// A `%` without two hex digits.
    #[error("the path has a % that two hex digits do not follow")]
    BrokenEncoding,
    /// More `..` than there are segments.
    #[error("the path climbs above the root with ..")]
    AboveRoot,
    /// A raw backslash, which some servers read as a separator.
    #[error("the path has a backslash")]
    Backslash,
    /// A `;`, behind which some servers hide parameters from routing.
    #[error("the path has a parameter (;)")]
    Parameter,
    /// A byte that no path may hold (RFC 3986 §3.3): control, space, `?`, `#` or not ASCII.
    #[error("the path has the byte {0:#04x}, which must be percent-encoded")]
    Byte(u8),
}

/// Normalizes the path of a request, without its query. A path that is normal already is not copied.
///
/// # Errors
/// Why the path is ambiguous. The request should be answered with 400 and go nowhere.
pub fn normalize_path(path: &str) -> Result<Cow<'_, str>, PathRejection> {
    if !path.starts_with('/') {
        return Err(PathRejection::Relative);
    }
    if is_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path.as_bytes())?;
    if has_double_encoding(&decoded) {
        return Err(PathRejection::DoubleEncoding);
    }
    resolve_segments(&decoded).map(Cow::Owned)
}

/// Whether nothing is to be done: plain path characters, no escape, no empty segment, and no segment
/// that begins with a dot (most such segments are fine, but the slow way says so).
fn is_normal(path: &[u8]) -> bool {
    let (mut found, mut after_slash) = (0, 0);
    for &byte in path {
        let kind = KINDS.get(usize::from(byte)).copied().unwrap_or(SPECIAL);
        found |= kind & (SPECIAL | after_slash);
        // What may not follow a slash are a slash and a dot.
        after_slash = if kind == SLASH { SLASH | DOT } else { 0 };
    }
    found == 0
}

const SLASH: u8 = 1;
const DOT: u8 = 2;
const SPECIAL: u8 = 4;

/// What [`is_normal`] has to know of each byte; 0 for those that can stand anywhere.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it, and would complain")]
const KINDS: [u8; 256] = {
    let mut kinds = [SPECIAL; 256];
    let mut byte = 0_u8;
    loop {
        if is_plain(byte) {
            kinds[byte as usize] = 0;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    kinds[b'/' as usize] = SLASH;
    kinds[b'.' as usize] = DOT;
    kinds
};

/// Unreserved, sub-delims but `;`, `:` and `@`: what a segment may hold as it is (RFC 3986 §3.3).
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn decode_unreserved(path: &[u8]) -> Result<String, PathRejection> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let (value, tail) = split_escape(tail).ok_or(PathRejection::BrokenEncoding)?;
                rest = tail;
                match value {
                    b'/' => return Err(PathRejection::EncodedSlash),
                    b'\\' => return Err(PathRejection::EncodedBackslash),
                    0 => return Err(PathRejection::EncodedNul),
                    _ if is_unreserved(value) => out.push(char::from(value)),
                    _ => push_escape(&mut out, value),
                }
            }
            b'/' => out.push('/'),
            b'\\' => return Err(PathRejection::Backslash),
            b';' => return Err(PathRejection::Parameter),
            // Not in RFC 3986's path, yet sent raw by common clients and read alike by all servers.
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                push_escape(&mut out, byte)
            }
            _ if is_plain(byte) => out.push(char::from(byte)),
            _ => return Err(PathRejection::Byte(byte)),
        }
    }
    Ok(out)
}

/// The value of the two hex digits that `bytes` begins with, and what follows them.
fn split_escape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], tail) = bytes.split_first_chunk::<2>()?;
    Some((hex_value(*high)? << 4 | hex_value(*low)?, tail))
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn push_escape(out: &mut String, byte: u8) {
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 });
    out.push('%');
    out.push(digit(byte >> 4));
    out.push(digit(byte & 0xf));
}

/// Looks at the decoded path, because `%25%32e` becomes `%252e` only by decoding.
fn has_double_encoding(decoded: &str) -> bool {
    decoded
        .split("%25")
        .skip(1)
        .any(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

fn resolve_segments(path: &str) -> Result<String, PathRejection> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {}
            ".." => {
                let parent = out.rfind('/').ok_or(PathRejection::AboveRoot)?;
                out.truncate(parent);
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
        // A path that ends in a slash or in a dot segment names a directory.
        if last && matches!(segment, "" | "." | "..") {
            out.push('/');
        }
    }
    Ok(out)
}

/// Whether `segment`, percent-decoded, is `literal`. Matching decodes fully although forwarding does
/// not, so that no spelling of a reserved character (`:` or `%3A`) slips past a rule.
pub(crate) fn decodes_to(segment: &str, literal: &str) -> bool {
    // Decoding only ever makes a segment shorter.
    match segment.len().cmp(&literal.len()) {
        Ordering::Less => return false,
        Ordering::Equal if segment != literal => return false,
        Ordering::Equal if !segment.contains('%') => return true,
        Ordering::Equal | Ordering::Greater => {}
    }
    let mut wanted = literal.as_bytes();
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (value, tail) = match byte {
            b'%' => split_escape(tail).unwrap_or((byte, tail)),
            _ => (byte, tail),
        };
        rest = tail;
        match wanted.split_first() {
            Some((&first, others)) if first == value => wanted = others,
            _ => return false,
        }
    }
    wanted.is_empty()
}
