//! Everything that is refused in what a peer sends as HTTP/1, each with its words and the status that answers it.

use std::fmt;

use crate::record::codes;

macro_rules! faults {
    ($($name:ident = $status:literal, $words:literal;)+) => {
        /// Why a message is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the words of each are in `Self::words`")]
        pub enum Fault { $($name),+ }

        impl Fault {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What was found and what was expected.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words),+ }
            }

            /// The status that answers a request with this fault. A response with a fault is answered with 502.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }
        }
    };
}

faults! {
    // Lines (RFC 9112 §2.2, §5).
    LineEnd = 400, "a line does not end in CRLF, but in CR or LF alone";
    Control = 400, "a control character stands in a line";
    Folded = 400, "a line begins with white space: folded fields (obs-fold) are not accepted";
    FieldName = 400, "the name of a field is empty or holds what is not of a token, or white space comes before its colon";
    HeadTooLarge = 431, "the head is larger than limits.max_header_bytes";
    TooManyFields = 431, "the head has more fields than limits.max_headers";

    // The request line (RFC 9112 §3).
    RequestLine = 400, "the request does not begin with method, target and version, one space between each";
    Target = 400, "the target of the request holds what no target may hold: a fragment, a control character, or what is not UTF-8";
    TargetForm = 400, "the target is neither a path, nor an http or https URI with a host and no user, nor what its method demands (`*` for OPTIONS, host:port for CONNECT)";
    TargetTooLong = 414, "the request line alone is larger than limits.max_header_bytes";
    NotHttp = 400, "the first line does not end in a version of HTTP: what came is neither HTTP/1 nor the preface of HTTP/2";
    Version = 505, "the version is neither HTTP/1.1 nor HTTP/1.0";

    // The host (RFC 9112 §3.2).
    NoHost = 400, "the request has no Host field, which HTTP/1.1 demands";
    SeveralHosts = 400, "the request has more than one Host field";
    Host = 400, "the Host field of the request is not a host with an optional port";

    // The status line (RFC 9112 §4).
    StatusLine = 502, "the response does not begin with HTTP/1.1 or HTTP/1.0, a space, and a status of three digits";

    // Framing (RFC 9112 §6).
    Length = 400, "Content-Length is not a number, or a larger one than 64 bits hold";
    LengthTwice = 400, "there is more than one Content-Length";
    LengthAndCoding = 400, "there are both Content-Length and Transfer-Encoding";
    CodingInHttp10 = 400, "there is a Transfer-Encoding, which HTTP/1.0 does not have";
    Coding = 400, "Transfer-Encoding is empty or does not end in chunked, or says chunked twice";
    CodingUnknown = 501, "Transfer-Encoding names another coding than chunked";

    // Chunks (RFC 9112 §7.1).
    ChunkSize = 400, "the size of a chunk is not a hexadecimal number of at most 16 digits";
    ChunkLine = 400, "the line of a chunk's size is malformed or too long";
    ChunkEnd = 400, "no CRLF follows the bytes of a chunk";
    TrailersTooLarge = 431, "the trailers are larger than limits.max_header_bytes, or more than limits.max_headers";

    // What we are asked to send.
    BodyTooLong = 502, "the body has more bytes than its head promised";
    BodyTooShort = 502, "the body has fewer bytes than its head promised";
}

impl Fault {
    /// The stable code for a request with this fault.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::HeadTooLarge | Self::TooManyFields | Self::TargetTooLong => codes::HEADERS_TOO_LARGE,
            _ => codes::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Fault {}
