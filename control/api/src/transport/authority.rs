//! What lets clients built on gRPC's C core in: Python, C++, Ruby and PHP.
//!
//! On a Unix socket they send the socket's path as `:authority`, percent-encoded (`run%2Fapi.sock`). That is no
//! authority of RFC 3986, and the HTTP/2 library resets the stream before any service sees it. [`Lenient`]
//! passes all bytes of a connection through and turns the `%` of such a value into `-`. The length stays, so
//! that frames and both sides' header tables (RFC 7541) keep fitting. Nothing here decides by the authority, and
//! nothing else may be changed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame header (RFC 9113 §4.1): length, type, flags, stream.
const FRAME_HEADER: usize = 9;

/// The frame type and the flags that matter (RFC 9113 §6.2).
const HEADERS: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A larger frame is passed through as it is; the server's limit is 16 KiB (RFC 9113 §4.2).
const MAX_HELD: usize = 16 * 1024;

/// The name that matters, and its index in the static table (RFC 7541 appendix A). The C core writes names out.
const AUTHORITY: &[u8] = b":authority";
const AUTHORITY_INDEX: usize = 1;

/// Read at once.
const CHUNK: usize = 4 * 1024;

/// A server's side of a connection whose requests may have a socket's path as their authority.
pub struct Lenient<S> {
    inner: S,
    filter: Filter,
}

impl<S> Lenient<S> {
    /// Wraps a connection that was just accepted.
    pub fn new(inner: S) -> Self {
        Self { inner, filter: Filter::default() }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.filter.has_ready() {
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                this.filter.end();
                break;
            }
            this.filter.feed(read.filled());
        }
        this.filter.take(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Preface,
    FrameHeader,
    /// So many bytes of the frame's content are left, which do not matter.
    Skip(usize),
    /// A frame with a header block of this length, and its flags.
    Headers(usize, u8),
    /// Not HTTP/2: nothing matters.
    Through,
}

/// The bytes of a connection on their way: held until they are known, then ready.
#[derive(Default)]
struct Filter {
    state: State,
    held: Vec<u8>,
    ready: Vec<u8>,
}

impl Filter {
    fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Hands out what fits.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = buffer.remaining().min(self.ready.len());
        buffer.put_slice(self.ready.get(..count).unwrap_or_default());
        self.ready.drain(..count);
        if self.ready.is_empty() {
            // An idle connection owns no buffer.
            self.ready = Vec::new();
        }
    }

    /// The client has said all: what is held will not become more.
    fn end(&mut self) {
        self.ready.append(&mut self.held);
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while self.step() {}
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// Goes one state further if what is held suffices.
    fn step(&mut self) -> bool {
        match self.state {
            State::Preface => {
                let known = self.held.len().min(PREFACE.len());
                if self.held.get(..known) != PREFACE.get(..known) {
                    self.state = State::Through;
                } else if self.held.len() < PREFACE.len() {
                    return false;
                } else {
                    self.release(PREFACE.len());
                    self.state = State::FrameHeader;
                }
                true
            }
            State::FrameHeader => {
                let Some([a, b, c, kind, flags, ..]) = self.held.get(..FRAME_HEADER) else { return false };
                let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                if *kind == HEADERS && length <= MAX_HELD {
                    self.state = State::Headers(length, *flags);
                } else {
                    self.state = State::Skip(length);
                    self.release(FRAME_HEADER);
                }
                true
            }
            State::Skip(0) => {
                self.state = State::FrameHeader;
                true
            }
            State::Skip(left) => {
                let count = left.min(self.held.len());
                self.release(count);
                self.state = State::Skip(left - count);
                count > 0
            }
            State::Headers(length, flags) => {
                let Some(content) = self.held.get_mut(FRAME_HEADER..FRAME_HEADER + length) else {
                    return false;
                };
                // A broken block is left for the HTTP/2 library to refuse.
                let _ = block_of(content, flags).and_then(mend);
                self.release(FRAME_HEADER + length);
                self.state = State::FrameHeader;
                true
            }
            State::Through => {
                self.ready.append(&mut self.held);
                false
            }
        }
    }

    fn release(&mut self, count: usize) {
        self.ready.extend(self.held.drain(..count.min(self.held.len())));
    }
}

/// The header block inside a frame's content.
fn block_of(content: &mut [u8], flags: u8) -> Option<&mut [u8]> {
    let (mut start, mut end) = (0, content.len());
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*content.first()?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    content.get_mut(start..end)
}

/// Walks a header block (RFC 7541 §6) and mends the values of `:authority`. Values in Huffman code are left: the
/// C core does not use it for text. None when the block ends early.
fn mend(block: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while let Some(first) = block.get(at).copied() {
        if first & 0x80 != 0 {
            // An indexed field (§6.1).
            at = integer(block, at, 7)?.1;
            continue;
        }
        if first & 0xe0 == 0x20 {
            // A new size of the dynamic table (§6.3).
            at = integer(block, at, 5)?.1;
            continue;
        }
        // A literal field with (§6.2.1) or without indexing (§6.2.2, §6.2.3).
        let prefix = if first & 0xc0 == 0x40 { 6 } else { 4 };
        let (name, next) = integer(block, at, prefix)?;
        let (is_authority, value_at) = if name == 0 {
            let (start, end) = string(block, next)?;
            (block.get(start..end)? == AUTHORITY, end)
        } else {
            (name == AUTHORITY_INDEX, next)
        };
        let is_huffman = block.get(value_at)? & 0x80 != 0;
        let (start, end) = string(block, value_at)?;
        let value = block.get_mut(start..end)?;
        if is_authority && !is_huffman {
            value.iter_mut().filter(|byte| **byte == b'%').for_each(|byte| *byte = b'-');
        }
        at = end;
    }
    Some(())
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1), and where it ends.
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & mask;
    let mut at = at + 1;
    if value < mask {
        return Some((value, at));
    }
    // Four more bytes hold more than any length here.
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(at)?);
        at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// Where a string (RFC 7541 §5.2) begins and ends.
fn string(block: &[u8], at: usize) -> Option<(usize, usize)> {
    let (length, start) = integer(block, at, 7)?;
    let end = start.checked_add(length).filter(|end| *end <= block.len())?;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], content].concat()
    }

    /// A literal with incremental indexing and an indexed name.
    fn literal(name: u8, value: &[u8]) -> Vec<u8> {
        [&[0x40 | name, u8::try_from(value.len()).unwrap()], value].concat()
    }

    /// Passes bytes through in pieces of a size.
    fn pass(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut filter = Filter::default();
        let mut out = Vec::new();
        let mut drain = |filter: &mut Filter| {
            let mut buffer = vec![0; filter.ready.len()];
            let mut read = ReadBuf::new(&mut buffer);
            filter.take(&mut read);
            out.extend_from_slice(read.filled());
        };
        for piece in bytes.chunks(size) {
            filter.feed(piece);
            drain(&mut filter);
        }
        filter.end();
        drain(&mut filter);
        out
    }

    fn request(authority: &[u8]) -> Vec<u8> {
        let block =
            [&[0x3f, 0xe1, 0x1f, 0x83, 0x86][..], &literal(1, authority), &literal(4, b"/a%2Fb")].concat();
        let padded = [&[2, 0, 0, 0, 0, 16][..], &block, &[0, 0]].concat();
        [
            PREFACE,
            &frame(4, 0, b"%%%%%%"),
            &frame(HEADERS, 4, &block),
            &frame(0, 0, b"data % data"),
            &frame(HEADERS, 4 | PADDED | PRIORITY, &padded),
        ]
        .concat()
    }

    #[test]
    fn only_the_percent_signs_of_an_authority_change_however_the_bytes_are_cut() {
        let sent = request(b"run%2Fapi.sock");
        let expected = request(b"run-2Fapi.sock");
        for size in 1..=sent.len() {
            assert_eq!(pass(&sent, size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_name_that_is_written_out_is_known() {
        let block =
            |authority: &[u8]| [&b"@\x05:path\x06/a%2Fb@\x0a:authority\x0e"[..], authority, b"\x83"].concat();
        let bytes = |authority| [PREFACE, &frame(HEADERS, 4, &block(authority))].concat();
        assert_eq!(pass(&bytes(b"run%2Fapi.sock"), 9), bytes(b"run-2Fapi.sock"));
    }

    #[test]
    fn an_ordinary_authority_and_other_protocols_pass_unchanged() {
        let ordinary = request(b"localhost");
        assert_eq!(pass(&ordinary, 7), ordinary);
        let http1 = b"GET /%2F HTTP/1.1\r\nhost: a%2Fb\r\n\r\n";
        assert_eq!(pass(http1, 3), http1);
        assert_eq!(pass(b"PRI * HTTP/2.0\r\n", 5), b"PRI * HTTP/2.0\r\n");
    }

    #[test]
    fn broken_blocks_pass_unchanged() {
        for block in
            [&[0x41][..], &[0x41, 0x7f], &[0x41, 0x05, b'%'], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x00]]
        {
            let bytes = [PREFACE, &frame(HEADERS, 4, block), &frame(HEADERS, 4 | PADDED, &[200])].concat();
            assert_eq!(pass(&bytes, 4), bytes, "{block:?}");
        }
        let unfinished = [PREFACE, &[0, 0, 50, HEADERS, 4, 0, 0, 0, 1, 0x41]].concat();
        assert_eq!(pass(&unfinished, 100), unfinished);
    }
}
