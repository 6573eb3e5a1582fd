//! What goes wrong in HTTP/2: the codes on the wire, and the errors of connections, of streams and of opening one.

use std::{fmt, io, rc::Rc};

use crate::message::BodyError;

/// A reason as it stands in `RST_STREAM` and `GOAWAY` (RFC 9113 §7); codes that nobody has defined pass through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

macro_rules! codes {
    ($($name:ident = $value:literal: $words:literal),+ $(,)?) => {
        impl ErrorCode {
            $(#[doc = $words] pub const $name: Self = Self($value);)+

            /// The name that RFC 9113 gives it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    NO_ERROR = 0x0: "Not a result of an error.",
    PROTOCOL_ERROR = 0x1: "Something that the protocol does not allow.",
    INTERNAL_ERROR = 0x2: "The sender failed.",
    FLOW_CONTROL_ERROR = 0x3: "More data than the window had room for.",
    SETTINGS_TIMEOUT = 0x4: "Settings were not acknowledged in time.",
    STREAM_CLOSED = 0x5: "A frame for a stream that is closed.",
    FRAME_SIZE_ERROR = 0x6: "A frame of a size that it cannot have.",
    REFUSED_STREAM = 0x7: "The stream was not processed at all; it may be tried again.",
    CANCEL = 0x8: "The stream is not needed any more.",
    COMPRESSION_ERROR = 0x9: "The state of field compression was lost.",
    CONNECT_ERROR = 0xa: "The TCP connection behind a CONNECT failed.",
    ENHANCE_YOUR_CALM = 0xb: "Behaviour that costs too much.",
    INADEQUATE_SECURITY = 0xc: "The transport is not safe enough.",
    HTTP_1_1_REQUIRED = 0xd: "HTTP/1.1 is to be used instead.",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rule that the peer broke, and that ends the whole connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What `GOAWAY` says.
    pub code: ErrorCode,
    /// Which rule, for a person.
    pub why: &'static str,
}

impl Violation {
    pub(super) const fn new(code: ErrorCode, why: &'static str) -> Self {
        Self { code, why }
    }

    pub(super) const fn protocol(why: &'static str) -> Self {
        Self::new(ErrorCode::PROTOCOL_ERROR, why)
    }

    pub(super) const fn size(why: &'static str) -> Self {
        Self::new(ErrorCode::FRAME_SIZE_ERROR, why)
    }

    pub(super) const fn flood(why: &'static str) -> Self {
        Self::new(ErrorCode::ENHANCE_YOUR_CALM, why)
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(Rc<io::Error>),
    /// The peer closed the transport with streams open, or in the middle of a frame.
    #[error("the peer closed the connection in the middle of a message")]
    Cut,
    /// The peer broke a rule; it was told.
    #[error("the peer broke the rules of HTTP/2: {} ({})", .0.why, .0.code)]
    Violation(Violation),
    /// The peer says that we broke a rule, or that it failed.
    #[error("the peer ended the connection: {code}{}{debug}", if .debug.is_empty() { "" } else { ": " })]
    GoAway {
        /// Its reason.
        code: ErrorCode,
        /// Its words, cut to a bounded length.
        debug: Rc<str>,
    },
    /// It was closed on purpose, by us.
    #[error("the connection was closed")]
    Closed,
}

/// Why a stream ended before its time.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer reset it.
    #[error("the peer reset the stream: {0}")]
    Reset(ErrorCode),
    /// The peer did not process it, says the peer: it may be sent again, whatever it asks.
    #[error("the peer did not process the request")]
    Unprocessed,
    /// What the peer sent is not HTTP; the words say what.
    #[error("{0}")]
    Malformed(&'static str),
    /// The peer took nothing for too long.
    #[error("the peer gave no room for data for too long")]
    Stalled,
    /// We reset it.
    #[error("the stream was reset")]
    Cancelled,
    /// The connection ended.
    #[error(transparent)]
    Connection(ConnectionError),
}

impl From<StreamError> for BodyError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Reset(code) => Self::Reset(code.0),
            StreamError::Unprocessed => Self::Reset(ErrorCode::REFUSED_STREAM.0),
            StreamError::Cancelled => Self::Reset(ErrorCode::CANCEL.0),
            StreamError::Malformed(why) => Self::Malformed(why),
            StreamError::Stalled => Self::Io(io::Error::new(io::ErrorKind::TimedOut, error.to_string())),
            StreamError::Connection(ConnectionError::Cut | ConnectionError::Closed) => Self::Closed,
            StreamError::Connection(ConnectionError::Io(io)) => {
                Self::Io(io::Error::new(io.kind(), io.to_string()))
            }
            StreamError::Connection(error) => Self::Io(io::Error::other(error.to_string())),
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Reset(_) | StreamError::Unprocessed | StreamError::Cancelled => {
                io::ErrorKind::ConnectionReset
            }
            StreamError::Malformed(_) => io::ErrorKind::InvalidData,
            StreamError::Stalled => io::ErrorKind::TimedOut,
            StreamError::Connection(ConnectionError::Io(io)) => io.kind(),
            StreamError::Connection(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error.to_string())
    }
}

/// Why no stream was opened. Nothing was sent: the request may go another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many are open as the peer allows.
    #[error("the peer allows no more streams at a time")]
    TooManyStreams,
    /// The peer reads so little that nothing is added to what waits for it.
    #[error("the peer reads too little")]
    Congested,
    /// The connection takes no more, but finishes what runs.
    #[error("the connection is being closed")]
    GoingAway,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}
