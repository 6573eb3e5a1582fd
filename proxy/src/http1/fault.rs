//! Everything that is refused in what a peer sends as HTTP/1, each with its words and the code that answers it.

use std::fmt;

use svidecar_code::Code;

macro_rules! faults {
    ($($name:ident = $code:ident, $words:literal;)+) => {
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

            /// The stable code, with the status that answers a request with this fault.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code),+ }
            }
        }
    };
}

faults! {
    // Lines (RFC 9112 §2.2, §5).
    LineEnd = BadRequest, "a line does not end in CRLF, but in CR or LF alone";
    Control = BadRequest, "a control character stands in a line";
    Folded = BadRequest, "a line begins with white space: folded fields (obs-fold) are not accepted";
    FieldName = BadRequest, "the name of a field is empty or holds what is not of a token, or white space comes before its colon";
    HeadTooLarge = HeadersTooLarge, "the head is larger than limits.max_header_bytes";
    TooManyFields = HeadersTooLarge, "the head has more fields than limits.max_headers";

    // The request line (RFC 9112 §3).
    RequestLine = BadRequest, "the request does not begin with method, target and version, one space between each";
    Target = BadRequest, "the target of the request holds what no target may hold: a fragment, a control character, or what is not UTF-8";
    TargetForm = BadRequest, "the target is neither a path, nor an http or https URI with a host and no user, nor what its method demands (`*` for OPTIONS, host:port for CONNECT)";
    TargetTooLong = TargetTooLong, "the request line alone is larger than limits.max_header_bytes";
    NotHttp = BadRequest, "the first line does not end in a version of HTTP: what came is neither HTTP/1 nor the preface of HTTP/2";
    Version = VersionNotSupported, "the version is neither HTTP/1.1 nor HTTP/1.0";

    // The host (RFC 9112 §3.2).
    NoHost = BadRequest, "the request has no Host field, which HTTP/1.1 demands";
    SeveralHosts = BadRequest, "the request has more than one Host field";
    Host = BadRequest, "the Host field of the request is not a host with an optional port";

    // The status line (RFC 9112 §4).
    StatusLine = UpstreamProtocolError, "the response does not begin with HTTP/1.1 or HTTP/1.0, a space, and a status of three digits";

    // Framing (RFC 9112 §6).
    Length = BadRequest, "Content-Length is not a number, or a larger one than 64 bits hold";
    LengthTwice = BadRequest, "there is more than one Content-Length";
    LengthAndCoding = BadRequest, "there are both Content-Length and Transfer-Encoding";
    CodingInHttp10 = BadRequest, "there is a Transfer-Encoding, which HTTP/1.0 does not have";
    Coding = BadRequest, "Transfer-Encoding is empty or does not end in chunked, or says chunked twice";
    CodingUnknown = NotImplemented, "Transfer-Encoding names another coding than chunked";

    // Chunks (RFC 9112 §7.1).
    ChunkSize = BadRequest, "the size of a chunk is not a hexadecimal number of at most 16 digits";
    ChunkLine = BadRequest, "the line of a chunk's size is malformed or too long";
    ChunkEnd = BadRequest, "no CRLF follows the bytes of a chunk";
    TrailersTooLarge = HeadersTooLarge, "the trailers are larger than limits.max_header_bytes, or more than limits.max_headers";

    // What we are asked to send.
    BodyTooLong = UpstreamProtocolError, "the body has more bytes than its head promised";
    BodyTooShort = UpstreamProtocolError, "the body has fewer bytes than its head promised";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for Fault {}
