//! How long a message's body is (RFC 9112 §6), and whether its connection goes on after it (§9.3).
//!
//! Pure functions over heads. Where the standard lets a recipient choose between two readings, the message is refused.

use super::Fault;
use crate::message::{Fields, RequestHead, ResponseHead, Version};

#[cfg(test)]
mod tests;

/// What ends a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// The chunk of size zero, and the trailers after it.
    Chunked,
    /// The end of the connection. Only a response can be framed so.
    UntilClose,
}

impl Framing {
    /// Whether there is not a byte of it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }

    /// How HTTP/1 frames a body that comes over HTTP/2, which needs no framing and may announce the length.
    #[must_use]
    pub fn of_announced(fields: &Fields) -> Self {
        let length = fields.get("content-length").and_then(|text| length_of(text).ok());
        length.map_or(Self::Chunked, Self::Length)
    }

    /// How a request is framed.
    ///
    /// # Errors
    /// Two readings are possible, or none.
    pub fn of_request(head: &RequestHead) -> Result<Self, Fault> {
        Self::of(head.version, &head.fields)
    }

    /// How the response to a request of `method` is framed. A tunnel (101, or 2xx to CONNECT) has no body.
    ///
    /// # Errors
    /// Two readings are possible, or none.
    pub fn of_response(head: &ResponseHead, method: &str) -> Result<Self, Fault> {
        let framing = Self::of(head.version, &head.fields)?;
        let tunnel = method == "CONNECT" && (200..300).contains(&head.status);
        Ok(match framing {
            _ if method == "HEAD" || tunnel || has_no_body(head.status) => Self::None,
            Self::None => Self::UntilClose,
            framing => framing,
        })
    }

    /// How a response that comes framed as `self` goes out to a client that speaks `version`: chunks are unknown to
    /// HTTP/1.0, and where they are known they keep the connection.
    #[must_use]
    pub fn toward(self, version: Version) -> Self {
        match (self, version) {
            (Self::Chunked, Version::Http10) => Self::UntilClose,
            (Self::UntilClose, Version::Http11) => Self::Chunked,
            _ => self,
        }
    }

    pub(super) fn of(version: Version, fields: &Fields) -> Result<Self, Fault> {
        let mut codings = fields.get_all("transfer-encoding").peekable();
        let mut lengths = fields.get_all("content-length");
        let length = lengths.next();
        if codings.peek().is_none() {
            if lengths.next().is_some() {
                return Err(Fault::LengthTwice);
            }
            return length.map_or(Ok(Self::None), |text| length_of(text).map(Self::Length));
        }
        if length.is_some() {
            return Err(Fault::LengthAndCoding);
        }
        if version == Version::Http10 {
            return Err(Fault::CodingInHttp10);
        }
        let mut chunked = false;
        for coding in codings.flat_map(|value| value.split(|byte| *byte == b',')) {
            let coding = coding.trim_ascii();
            if chunked || coding.is_empty() {
                return Err(Fault::Coding);
            }
            chunked = coding.eq_ignore_ascii_case(b"chunked");
            if !chunked {
                return Err(Fault::CodingUnknown);
            }
        }
        Ok(Self::Chunked)
    }
}

/// Whether a response of that status ends with its head, whatever its fields say (RFC 9112 §6.3).
#[must_use]
pub const fn has_no_body(status: u16) -> bool {
    status < 200 || matches!(status, 204 | 304)
}

/// A Content-Length: digits alone, and not more than 64 bits.
fn length_of(text: &[u8]) -> Result<u64, Fault> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Length);
    }
    text.iter()
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(Fault::Length)
}

/// Whether the sender of a message means to go on after it (RFC 9112 §9.3).
#[must_use]
pub fn persists(version: Version, fields: &Fields) -> bool {
    match version {
        Version::Http10 => fields.lists("connection", "keep-alive") && !fields.lists("connection", "close"),
        Version::Http11 => !fields.lists("connection", "close"),
        Version::Http2 => true,
    }
}
