//! Chunked bodies: the bounds of chunks read and written (RFC 9112 §7.1).
//!
//! What is not data is consumed in place; data is never touched. Chunk extensions, which nobody uses but who wants two
//! readers to disagree, are dropped.

use super::{
    Fault, Limits, parse,
    write::{Number, field},
};
use crate::{io::Buffer, message::Fields};

#[cfg(test)]
mod tests;

/// The longest line of a chunk's size, extensions included, in bytes.
const LONGEST_LINE: usize = 1024;

/// The largest chunk whose bounds are kept. Larger ones, on which a reader with 32 bits might stumble, become several.
const LARGEST_KEPT: u64 = 0x7fff_ffff;

/// What a body in chunks continues with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed to say it.
    More,
    /// The next `len` bytes in the buffer; the first of a chunk if its size is told.
    Data {
        /// The size of the chunk that begins here.
        chunk: Option<u64>,
        /// How many of its bytes are there.
        len: usize,
    },
    /// The end; the trailers are read.
    End,
}

/// Finds the data in a chunked body.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before the first size.
    #[default]
    First,
    /// Within a chunk.
    Data { size: u64, left: u64 },
    /// Before the CRLF of a chunk and the size of the next.
    Between,
    /// Within the trailers, of which so many bytes were looked at.
    Trailers { seen: usize },
    /// Behind the body.
    Done,
}

impl Decoder {
    /// Consumes what is not data at the front of `buffer`, and says what follows. Bytes of [`Step::Data`] that are
    /// consumed have to be told to [`Self::took`].
    ///
    /// # Errors
    /// What came is not a chunked body.
    pub fn step(
        &mut self,
        buffer: &mut Buffer,
        limits: Limits,
        trailers: &mut Fields,
    ) -> Result<Step, Fault> {
        loop {
            match self.state {
                State::Data { size, left } => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let chunk = (left == size && size <= LARGEST_KEPT).then_some(size);
                    return Ok(if len == 0 { Step::More } else { Step::Data { chunk, len } });
                }
                State::First | State::Between => {
                    let between = matches!(self.state, State::Between);
                    let Some((consumed, size)) = size_line(buffer.filled(), between)? else {
                        return Ok(Step::More);
                    };
                    buffer.consume(consumed);
                    self.state = match size {
                        0 => State::Trailers { seen: 0 },
                        size => State::Data { size, left: size },
                    };
                }
                State::Trailers { seen } => {
                    let bytes = buffer.filled();
                    let read = if bytes.len() >= limits.bytes || parse::may_be_complete(bytes, seen) {
                        parse::trailers(bytes, limits, trailers)?
                    } else {
                        None
                    };
                    let Some(consumed) = read else {
                        self.state = State::Trailers { seen: buffer.len() };
                        return Ok(Step::More);
                    };
                    buffer.consume(consumed);
                    trailers.retain(|name, _| may_be_trailer(name));
                    self.state = State::Done;
                }
                State::Done => return Ok(Step::End),
            }
        }
    }

    /// The first `count` bytes of the data were consumed.
    pub fn took(&mut self, count: usize) {
        if let State::Data { size, left } = self.state {
            let left = left.saturating_sub(count as u64);
            self.state = if left == 0 { State::Between } else { State::Data { size, left } };
        }
    }

    /// Whether the whole body was read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// Reads the line of a chunk's size, after the CRLF of the chunk before it if there was one. `None`: it is not complete.
fn size_line(bytes: &[u8], between: bool) -> Result<Option<(usize, u64)>, Fault> {
    let line = match (bytes, between) {
        (_, false) => bytes,
        ([b'\r', b'\n', line @ ..], true) => line,
        ([] | [b'\r'], true) => return Ok(None),
        _ => return Err(Fault::ChunkEnd),
    };
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, rest) = line.split_at_checked(digits).ok_or(Fault::ChunkSize)?;
    if digits > 16 || (digits == 0 && !rest.is_empty()) {
        return Err(Fault::ChunkSize);
    }
    // Some servers pad sizes with spaces.
    let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let extension = match rest.get(blank..).unwrap_or_default() {
        [] => &[][..],
        after @ [b'\r', ..] => after,
        [b';', after @ ..] => after,
        _ => return Err(Fault::ChunkSize),
    };
    // In the extensions anything but a control character may stand.
    let is_text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    let text = extension.iter().position(|byte| !is_text(byte)).unwrap_or(extension.len());
    let after = extension.get(text..).unwrap_or_default();
    let consumed = bytes.len() - after.len();
    if consumed > LONGEST_LINE {
        return Err(Fault::ChunkLine);
    }
    match after {
        [b'\r', b'\n', ..] => {
            let size = size.iter().fold(0, |size, digit| size << 4 | u64::from(hex_value(*digit)));
            Ok(Some((consumed + 2, size)))
        }
        [] | [b'\r'] => Ok(None),
        _ => Err(Fault::ChunkLine),
    }
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// Whether a field may come after a body. Those that frame or route a message, or say who sends it, come before it or not
/// at all (RFC 9110 §6.5.1): a reader that merges trailers into the head would be led astray.
#[must_use]
pub fn may_be_trailer(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 18] = [
        b"transfer-encoding",
        b"content-length",
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"expect",
        b"max-forwards",
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"set-cookie",
        b"content-encoding",
        b"content-type",
        b"content-range",
    ];
    !NEVER.iter().any(|never| never.eq_ignore_ascii_case(name))
}

/// Writes the bounds of chunks around data.
#[derive(Debug, Default)]
pub struct Encoder {
    /// How many bytes of the open chunk are to come.
    left: u64,
}

impl Encoder {
    /// Before data of `len` bytes: opens a chunk if none is open, of the size that `chunk` says, else of this data alone.
    /// Returns how many bytes of the data belong to it.
    pub fn open(&mut self, len: usize, chunk: Option<u64>, out: &mut Buffer) -> usize {
        if self.left == 0 {
            self.left = chunk.filter(|size| *size > 0).unwrap_or(len as u64);
            out.extend(Number::hexadecimal(self.left).text());
            out.extend(b"\r\n");
        }
        usize::try_from(self.left).unwrap_or(usize::MAX).min(len)
    }

    /// After `len` bytes of the data: closes the chunk if it is complete.
    pub fn sent(&mut self, len: usize, out: &mut Buffer) {
        self.left = self.left.saturating_sub(len as u64);
        if self.left == 0 && len > 0 {
            out.extend(b"\r\n");
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The open chunk is not complete.
    pub fn end(&self, trailers: Option<&Fields>, out: &mut Buffer) -> Result<(), Fault> {
        if self.left > 0 {
            return Err(Fault::BodyTooShort);
        }
        out.extend(b"0\r\n");
        for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
            if may_be_trailer(name) {
                field(name, value, out);
            }
        }
        out.extend(b"\r\n");
        Ok(())
    }
}
