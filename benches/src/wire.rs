//! What the load speaks to a client sidecar and the app hears from a server sidecar, and the sizes of both.

use clap::ValueEnum;

/// A language of load and app. Between the sidecars each subject speaks its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// HTTP/1.1, kept alive.
    Http1,
    /// HTTP/2 in plain text with prior knowledge; also gRPC.
    Http2,
    /// Bytes.
    Tcp,
}

impl Wire {
    /// How it is written on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        }
    }
}

/// The path to whose requests the HTTP/1.1 app answers with the head that it saw.
pub const ECHO_PATH: &str = "/orders/echo";
/// Bytes of the body of an answer.
pub const ANSWER: usize = 1024;
/// Bytes of a gRPC message, in either direction, without its five bytes of prefix.
pub const GRPC_MESSAGE: usize = 256;
/// Bytes of the body of an upload.
pub const UPLOAD: usize = 1 << 20;
/// Bytes of a message over TCP, in either direction.
pub const TCP_MESSAGE: usize = 64;
/// The first byte of a TCP message that the app sends back.
pub const ECHO: u8 = b'e';
/// The first byte of a TCP message that the app answers with bytes without end.
pub const STREAM: u8 = b's';

/// A gRPC message with its prefix: not compressed, then its length.
pub fn grpc_message() -> Vec<u8> {
    let mut message = vec![0; 5 + GRPC_MESSAGE];
    if let Some(length) = message.get_mut(1..5) {
        length.copy_from_slice(&(GRPC_MESSAGE as u32).to_be_bytes());
    }
    message
}
