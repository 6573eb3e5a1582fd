//! Heads read from bytes, strictly (RFC 9112 §2 to §5).
//!
//! One pass, no allocation beyond the head's own memory. Lines end in CRLF and nothing else; no folded fields, no white
//! space before a colon, no control characters. A field's surrounding white space becomes one space. Never looks at more
//! bytes than those of the head, and never decides how long a body is.

#[cfg(test)]
mod tests;

use super::{Fault, Limits};
use crate::message::{Fields, RequestHead, ResponseHead, Version, is_authority};

/// Bytes of empty lines that may come before a request: some clients send one after a body.
const MOST_EMPTY: usize = 64;

/// What a head is worth if it is complete: its size in bytes.
type Parsed = Result<Option<usize>, Fault>;

/// Reads a request's head from the start of `bytes` into `head`. `None`: it is not complete yet; `head` holds rubbish.
/// Empty lines before it are skipped (RFC 9112 §2.2).
///
/// # Errors
/// Why the request is refused.
pub fn request(bytes: &[u8], limits: Limits, head: &mut RequestHead) -> Parsed {
    head.clear();
    let mut cursor = Cursor { bytes, at: 0 };
    let too_large = match request_line(&mut cursor, head) {
        Ok(Some(())) => Fault::HeadTooLarge,
        Ok(None) => return incomplete(bytes, limits, Fault::TargetTooLong),
        Err(fault) => return Err(fault),
    };
    if fields(&mut cursor, limits.fields, &mut head.fields)?.is_none() {
        return incomplete(bytes, limits, too_large);
    }
    check_host(head)?;
    complete(cursor.at, limits)
}

/// Reads a response's head, final or interim, from the start of `bytes` into `head`. `None`: it is not complete yet;
/// `head` holds rubbish.
///
/// # Errors
/// Why the response is refused.
pub fn response(bytes: &[u8], limits: Limits, head: &mut ResponseHead) -> Parsed {
    head.clear();
    let mut cursor = Cursor { bytes, at: 0 };
    if status_line(&mut cursor, head)?.is_none()
        || fields(&mut cursor, limits.fields, &mut head.fields)?.is_none()
    {
        return incomplete(bytes, limits, Fault::HeadTooLarge);
    }
    complete(cursor.at, limits)
}

/// Reads the fields after a chunked body, up to and with the empty line.
///
/// # Errors
/// Why they are refused.
pub fn trailers(bytes: &[u8], limits: Limits, trailers: &mut Fields) -> Parsed {
    trailers.clear();
    let mut cursor = Cursor { bytes, at: 0 };
    let outcome = match fields(&mut cursor, limits.fields, trailers) {
        Ok(Some(())) => complete(cursor.at, limits),
        Ok(None) => incomplete(bytes, limits, Fault::TrailersTooLarge),
        Err(fault) => Err(fault),
    };
    outcome.map_err(|fault| match fault {
        Fault::HeadTooLarge | Fault::TooManyFields => Fault::TrailersTooLarge,
        other => other,
    })
}

/// Whether an empty line ends somewhere after the first `seen` bytes, which were looked at before. Tells when it is worth
/// to read a head again that was not complete, so that a head in a thousand pieces is not read a thousand times.
#[must_use]
pub fn may_be_complete(bytes: &[u8], seen: usize) -> bool {
    // An empty line is at most LF CR LF.
    let from = seen.saturating_sub(2);
    let mut rest = bytes.get(from..).unwrap_or_default();
    if from == 0 && matches!(rest, [b'\r', b'\n', ..]) {
        return true;
    }
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        if matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..]) {
            return true;
        }
    }
    false
}

fn complete(size: usize, limits: Limits) -> Parsed {
    if size > limits.bytes { Err(Fault::HeadTooLarge) } else { Ok(Some(size)) }
}

fn incomplete(bytes: &[u8], limits: Limits, too_large: Fault) -> Parsed {
    if bytes.len() >= limits.bytes { Err(too_large) } else { Ok(None) }
}

/// A place in bytes of which the end may not have come yet.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The bytes up to the first for which `belongs` is false, and that byte. `None` if it has not come yet.
    fn token(&mut self, belongs: impl Fn(u8) -> bool) -> Option<(&'b [u8], u8)> {
        let rest = self.rest();
        let size = rest.iter().position(|byte| !belongs(*byte))?;
        self.split(rest, size)
    }

    /// The bytes up to the first below `least` or DEL, and that byte. `None` if it has not come yet.
    fn text<const LEAST: u8>(&mut self) -> Option<(&'b [u8], u8)> {
        let rest = self.rest();
        let size = find_below::<LEAST>(rest)?;
        self.split(rest, size)
    }

    fn split(&mut self, rest: &'b [u8], size: usize) -> Option<(&'b [u8], u8)> {
        self.at += size + 1;
        Some((rest.get(..size)?, *rest.get(size)?))
    }

    /// Visible characters, bytes above ASCII, spaces and tabs, up to the byte that is none of them.
    fn line(&mut self) -> Option<(&'b [u8], u8)> {
        let start = self.at;
        loop {
            let (_, found) = self.text::<b' '>()?;
            if found != b'\t' {
                return Some((self.bytes.get(start..self.at - 1)?, found));
            }
        }
    }

    /// What has to follow the CR of a line.
    fn line_feed(&mut self) -> Result<Option<()>, Fault> {
        match self.rest().first() {
            Some(b'\n') => {
                self.at += 1;
                Ok(Some(()))
            }
            Some(_) => Err(Fault::LineEnd),
            None => Ok(None),
        }
    }

    /// The end of a line, of which `found` is the first byte.
    fn line_end(&mut self, found: u8) -> Result<Option<()>, Fault> {
        match found {
            b'\r' => self.line_feed(),
            b'\n' => Err(Fault::LineEnd),
            _ => Err(Fault::Control),
        }
    }
}

/// Takes the value of an `Option`, or returns that the end has not come yet.
macro_rules! come {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

fn request_line(cursor: &mut Cursor<'_>, head: &mut RequestHead) -> Result<Option<()>, Fault> {
    while let Some(byte) = cursor.rest().first()
        && matches!(byte, b'\r' | b'\n')
    {
        if cursor.at >= MOST_EMPTY {
            return Err(Fault::RequestLine);
        }
        cursor.at += 1;
        come!(cursor.line_end(*byte)?);
    }
    let (method, after) = come!(cursor.token(is_token));
    if method.is_empty() || after != b' ' {
        return Err(Fault::RequestLine);
    }
    let (target, after) = come!(cursor.text::<b'!'>());
    match after {
        b' ' if !target.is_empty() => {}
        b' ' | b'\r' | b'\n' => return Err(Fault::RequestLine),
        _ => return Err(Fault::Target),
    }
    let (version, after) = come!(cursor.line());
    head.version = version_of(version).ok_or_else(|| no_version(version))?.ok_or(Fault::Version)?;
    come!(cursor.line_end(after)?);
    push_text(&mut head.method, method);
    read_target(target, head)?;
    Ok(Some(()))
}

fn status_line(cursor: &mut Cursor<'_>, head: &mut ResponseHead) -> Result<Option<()>, Fault> {
    let (line, after) = come!(cursor.line());
    let (version, rest) = line.split_first_chunk::<8>().ok_or(Fault::StatusLine)?;
    head.version = version_of(version).flatten().ok_or(Fault::StatusLine)?;
    let (status, reason) = match rest {
        [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        [b' ', a, b, c] => ([*a, *b, *c], &[][..]),
        _ => return Err(Fault::StatusLine),
    };
    if !status.iter().all(u8::is_ascii_digit) || status.first() == Some(&b'0') {
        return Err(Fault::StatusLine);
    }
    head.status = status.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    head.reason.extend_from_slice(reason);
    cursor.line_end(after)
}

/// `None`: that is not a version; `Some(None)`: one that is not spoken here.
fn version_of(text: &[u8]) -> Option<Option<Version>> {
    match text {
        b"HTTP/1.1" => Some(Some(Version::Http11)),
        b"HTTP/1.0" => Some(Some(Version::Http10)),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Some(None),
        _ => None,
    }
}

/// What a line is that does not end in a version: a request in which one is misplaced or misspelt, or no request.
fn no_version(text: &[u8]) -> Fault {
    let has_one = text.windows(5).any(|piece| piece.eq_ignore_ascii_case(b"HTTP/"));
    if has_one { Fault::RequestLine } else { Fault::NotHttp }
}

/// Reads fields up to and with the empty line.
fn fields(cursor: &mut Cursor<'_>, most: usize, fields: &mut Fields) -> Result<Option<()>, Fault> {
    // Lines that are written as they came are copied in one piece; this is where the piece begins.
    let (mut piece, mut base) = (cursor.at, fields.end());
    loop {
        let start = cursor.at;
        let (name, after) = come!(cursor.token(is_token));
        if name.is_empty() || after != b':' {
            if start + 1 < cursor.at || !matches!(after, b'\r' | b'\n') {
                let folded = name.is_empty() && matches!(after, b' ' | b'\t');
                return Err(if folded { Fault::Folded } else { Fault::FieldName });
            }
            come!(cursor.line_end(after)?);
            fields.add_lines(cursor.bytes.get(piece..start).unwrap_or_default());
            return Ok(Some(()));
        }
        let (raw, after) = come!(cursor.line());
        come!(cursor.line_end(after)?);
        if fields.len() >= most {
            return Err(Fault::TooManyFields);
        }
        match raw {
            // `Name: value` without further white space around the value.
            [b' ', value @ ..] if !has_space_around(value) => {
                fields.add(base + (start - piece), name, value.len());
            }
            _ => {
                fields.add_lines(cursor.bytes.get(piece..start).unwrap_or_default());
                fields.push(name, trim(raw));
                (piece, base) = (cursor.at, fields.end());
            }
        }
    }
}

fn has_space_around(value: &[u8]) -> bool {
    matches!(value.first(), Some(b' ' | b'\t')) || matches!(value.last(), Some(b' ' | b'\t'))
}

/// Without the white space that may surround a value (RFC 9110 §5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The four forms of a target (RFC 9112 §3.2).
fn read_target(target: &[u8], head: &mut RequestHead) -> Result<(), Fault> {
    let target = std::str::from_utf8(target).map_err(|_| Fault::Target)?;
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(Fault::Target);
    }
    if head.method == "CONNECT" {
        let has_port = target.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        if !has_port || !is_authority(target.as_bytes()) {
            return Err(Fault::TargetForm);
        }
        head.authority.push_str(target);
        return Ok(());
    }
    if target.starts_with('/') || (target == "*" && head.method == "OPTIONS") {
        head.target.push_str(target);
        return Ok(());
    }
    let (scheme, rest) = target.split_once("://").ok_or(Fault::TargetForm)?;
    let scheme = ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme));
    head.scheme.push_str(scheme.ok_or(Fault::TargetForm)?);
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at_checked(at).ok_or(Fault::TargetForm)?,
        None => (rest, ""),
    };
    if !is_authority(authority.as_bytes()) {
        return Err(Fault::TargetForm);
    }
    head.authority.push_str(authority);
    match path.chars().next() {
        // Of the server as a whole, not of its root (RFC 9112 §3.2.4).
        None if head.method == "OPTIONS" => head.target.push('*'),
        Some('/') => {}
        _ => head.target.push('/'),
    }
    head.target.push_str(path);
    Ok(())
}

/// A request names one host, once. The one in the target wins, and takes the field's place, so that whoever comes next
/// reads the same whichever it looks at (RFC 9112 §3.2.2).
fn check_host(head: &mut RequestHead) -> Result<(), Fault> {
    let mut hosts = head.fields.get_all("host");
    let (host, another) = (hosts.next(), hosts.next());
    drop(hosts);
    if another.is_some() {
        return Err(Fault::SeveralHosts);
    }
    match host {
        Some(host) if !is_authority(host) => return Err(Fault::Host),
        None if head.version == Version::Http11 => return Err(Fault::NoHost),
        Some(host) if !head.authority.is_empty() && host != head.authority.as_bytes() => {
            head.fields.set("host", head.authority.as_bytes());
        }
        _ => {}
    }
    Ok(())
}

/// Appends what is known to be ASCII.
fn push_text(text: &mut String, bytes: &[u8]) {
    text.push_str(std::str::from_utf8(bytes).unwrap_or_default());
}

/// The characters of a token (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        #[expect(clippy::indexing_slicing, reason = "in a constant, where it fails to compile")]
        {
            table[at] = byte.is_ascii_alphanumeric();
        }
        at += 1;
    }
    let mut at = 0;
    while at < others.len() {
        #[expect(clippy::indexing_slicing, reason = "in a constant, where it fails to compile")]
        {
            table[others[at] as usize] = true;
        }
        at += 1;
    }
    table
};

/// Whether a token may hold this byte.
#[must_use]
pub fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Where the first byte is that is below `LEAST` or DEL; eight at a time.
fn find_below<const LEAST: u8>(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    const DELS: u64 = u64::from_le_bytes([0x7f; 8]);
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set is right; a borrow may set others above it.
        let below = word.wrapping_sub(ONES * LEAST as u64) & !word;
        let dels = (word ^ DELS).wrapping_sub(ONES) & !(word ^ DELS);
        let found = (below | dels) & HIGHS;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let found = tail.iter().position(|byte| *byte < LEAST || *byte == 0x7f)?;
    Some(words.len() * 8 + found)
}
