//! Peers: one that writes frames by hand, one that is a session of ours, and the transport between them.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::super::{
    connection::Connection,
    frame::{HEADER, Header, PREFACE, flag, kind},
    hpack::Encoder,
    *,
};
use crate::{
    io::{Buffer, ByteStream},
    message::{BodyError, BodySink, BodySource, Fields, Part, RequestHead, ResponseHead},
};

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a GOAWAY.
    pub fn goaway(&self) -> Option<ErrorCode> {
        (self.kind == kind::GOAWAY)
            .then(|| ErrorCode(u32::from_be_bytes(self.payload[4..8].try_into().unwrap())))
    }

    /// The stream and the code of an `RST_STREAM`.
    pub fn reset(&self) -> Option<(u32, ErrorCode)> {
        let code = || ErrorCode(u32::from_be_bytes(self.payload[..4].try_into().unwrap()));
        (self.kind == kind::RST_STREAM).then(|| (self.stream, code()))
    }
}

/// A frame in octets.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Header { length: payload.len(), kind, flags, stream }.write().to_vec();
    frame.extend(payload);
    frame
}

/// A peer that writes frames by hand, of a connection of ours without I/O.
pub struct Raw {
    pub(in crate::http2) connection: Connection,
    encoder: Encoder,
    input: Buffer,
}

impl Raw {
    /// A client, before it has said anything.
    pub fn silent_client(settings: &Settings) -> Self {
        let mut connection = Connection::new(Role::Server, settings);
        connection.begin_turn(Waker::noop());
        Self { connection, encoder: Encoder::new(), input: Buffer::new() }
    }

    /// A client that has begun as it should.
    pub fn client() -> Self {
        Self::client_of(&Settings::default())
    }

    /// A client of a server with these settings.
    pub fn client_of(settings: &Settings) -> Self {
        let mut this = Self::silent_client(settings);
        this.write(PREFACE);
        this.send(kind::SETTINGS, 0, 0, &[]);
        this.frames();
        this
    }

    /// A server that has begun as it should.
    pub fn server() -> Self {
        Self::server_of(&Settings::default())
    }

    /// A server of a client with these settings.
    pub fn server_of(settings: &Settings) -> Self {
        let mut connection = Connection::new(Role::Client, settings);
        connection.begin_turn(Waker::noop());
        let preface = PREFACE.len();
        assert_eq!(&connection.out.copy()[..preface], PREFACE);
        connection.out.forget(preface);
        let mut this = Self { connection, encoder: Encoder::new(), input: Buffer::new() };
        this.send(kind::SETTINGS, 0, 0, &[]);
        this.frames();
        this
    }

    /// Octets for the connection. After it has given up, nothing reaches it.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.connection.closed().is_some() {
            return;
        }
        self.input.extend(bytes);
        loop {
            self.connection.begin_turn(Waker::noop());
            if let Err(violation) = self.connection.receive(&mut self.input) {
                return self.connection.violated(violation);
            }
            if !self.connection.is_behind() {
                return;
            }
        }
    }

    /// Octets for the connection, of which it takes what it takes in one turn. Says whether there is more.
    pub fn one_turn(&mut self, bytes: &[u8]) -> bool {
        self.input.extend(bytes);
        self.connection.begin_turn(Waker::noop());
        self.connection.receive(&mut self.input).unwrap();
        self.connection.is_behind()
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload));
    }

    /// A block of these fields.
    pub fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), false, &mut block);
        }
        block
    }

    /// A plain request; `flags` beyond `END_HEADERS`.
    pub fn request(&mut self, stream: u32, flags: u8, more: &[(&str, &str)]) {
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        fields.extend(more);
        let block = self.block(&fields);
        self.send(kind::HEADERS, flags | flag::END_HEADERS, stream, &block);
    }

    /// What the connection says.
    pub fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(Header { length, kind, flags, stream }) = Header::read(&self.connection.out.copy()) {
            let payload = self.connection.out.copy()[HEADER..HEADER + length].to_vec();
            self.connection.out.forget(HEADER + length);
            frames.push(Frame { kind, flags, stream, payload });
        }
        assert!(self.connection.out.is_empty(), "whole frames");
        frames
    }

    /// Frames until the connection gives up, or `most` of them. Returns how it said so, and after how many.
    pub fn flood(&mut self, most: usize, mut next: impl FnMut(&mut Self, u32)) -> Option<(ErrorCode, usize)> {
        for count in 1..=most {
            next(self, u32::try_from(count).unwrap());
            if let Some(code) = self.frames().iter().find_map(Frame::goaway) {
                return Some((code, count));
            }
        }
        None
    }
}

/// One end of a transport in memory.
pub struct Pipe(pub DuplexStream);

/// A transport in memory that holds `size` octets each way.
pub fn pipe(size: usize) -> (Pipe, Pipe) {
    let (one, other) = tokio::io::duplex(size);
    (Pipe(one), Pipe(other))
}

impl ByteStream for Pipe {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let space = into.space(4096.min(limit));
        let most = space.len().min(limit);
        let mut read = ReadBuf::new(&mut space[..most]);
        let filled = Pin::new(&mut self.0).poll_read(cx, &mut read);
        let count = read.filled().len();
        into.commit(count);
        filled.map_ok(|()| count)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn reset(&mut self) {}
}

/// Drives a client session to its end.
pub async fn drive(session: Session, mut transport: Pipe) -> Result<(), ConnectionError> {
    poll_fn(|cx| session.poll_drive(cx, &mut transport)).await
}

/// Drives a server session to its end, with a task for each request.
pub async fn serve<F: Future<Output = ()> + 'static>(
    session: Session,
    mut transport: Pipe,
    handle: impl Fn(RequestHead, Stream) -> F,
) -> Result<(), ConnectionError> {
    poll_fn(|cx| {
        let over = session.poll_drive(cx, &mut transport);
        while let Some((head, stream)) = session.accept() {
            tokio::task::spawn_local(handle(head, stream));
        }
        over
    })
    .await
}

/// A client session whose server handles requests with `handle`.
pub fn client_of<F: Future<Output = ()> + 'static>(
    settings: &Settings,
    handle: impl Fn(RequestHead, Stream) -> F + 'static,
) -> Session {
    let (near, far) = pipe(64 << 10);
    let client = Session::new(Role::Client, settings);
    tokio::task::spawn_local(drive(client.clone(), near));
    tokio::task::spawn_local(serve(Session::new(Role::Server, settings), far, handle));
    client
}

/// Runs a test whose tasks stay on one thread.
pub fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

pub fn request(method: &str, target: &str) -> RequestHead {
    RequestHead {
        method: method.into(),
        scheme: "https".into(),
        authority: "app".into(),
        target: target.into(),
        ..RequestHead::default()
    }
}

pub fn response(status: u16) -> ResponseHead {
    ResponseHead { status, ..ResponseHead::default() }
}

pub fn connect() -> RequestHead {
    RequestHead { method: "CONNECT".into(), authority: "app:80".into(), ..RequestHead::default() }
}

pub async fn head(stream: &mut Stream) -> Result<ResponseHead, StreamError> {
    let mut head = ResponseHead::default();
    poll_fn(|cx| stream.poll_response_head(cx, &mut head)).await.map(|()| head)
}

/// The whole body, with its trailers.
pub async fn body(stream: &mut Stream) -> Result<(Vec<u8>, Fields), BodyError> {
    let mut body = Vec::new();
    loop {
        match poll_fn(|cx| stream.poll_part(cx)).await? {
            Part::Data { .. } => {
                let count = stream.data().len();
                body.extend(stream.data());
                stream.consume(count);
            }
            Part::Trailers => return Ok((body, std::mem::take(stream.trailers()))),
            Part::End => return Ok((body, Fields::new())),
        }
    }
}

/// Sends all of it, without an end.
pub async fn send(stream: &mut Stream, mut data: &[u8]) -> Result<(), BodyError> {
    while !data.is_empty() {
        let count = poll_fn(|cx| stream.poll_data(cx, data, None)).await?;
        data = &data[count..];
    }
    Ok(())
}

/// Answers with what came.
pub async fn echo(head: RequestHead, mut stream: Stream) {
    assert_eq!(head.scheme, "https");
    stream.send_response_head(&response(200), false);
    loop {
        match poll_fn(|cx| stream.poll_part(cx)).await {
            Ok(Part::Data { .. }) => {
                let data = stream.data().to_vec();
                if send(&mut stream, &data).await.is_err() {
                    return;
                }
                stream.consume(data.len());
            }
            Ok(Part::Trailers) => {
                let trailers = stream.trailers().clone();
                return stream.end(Some(&trailers)).unwrap();
            }
            Ok(Part::End) => return stream.end(None).unwrap(),
            Err(_) => return,
        }
    }
}
