//! HTTP/2 frame by frame (RFC 9113): a client that sends whatever a test wants, well-formed or not.

use std::collections::HashMap;

use loona_hpack::Decoder;

use super::{
    message::Broken,
    wire::{End, Wire},
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 §6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (RFC 9113 §6).
pub mod flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// Error codes (RFC 9113 §7).
pub mod code {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Identifiers of settings (RFC 9113 §6.5.2).
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(kind::SETTINGS, flag::NONE, 0, settings.iter().flat_map(pair).collect::<Vec<_>>())
    }

    pub fn window_update(stream: u32, increment: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, flag::NONE, stream, increment.to_be_bytes())
    }

    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, flag::NONE, stream, code.to_be_bytes())
    }

    pub fn data(stream: u32, end: bool, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::DATA, if end { flag::END_STREAM } else { flag::NONE }, stream, bytes)
    }

    /// Fields in one frame.
    pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(stream: u32, end: bool, fields: &[(N, V)]) -> Self {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { flag::NONE };
        Self::new(kind::HEADERS, flags, stream, literals(fields))
    }

    /// A GET of `path`.
    pub fn get(stream: u32, path: &str) -> Self {
        Self::headers(
            stream,
            true,
            &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", path)],
        )
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// Each field as a literal without indexing, with nothing compressed and nothing checked (RFC 7541 §6.2.2).
pub fn literals<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// RFC 7541 §5.1, with a prefix of 7 bits and no bit before it.
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else { return block.push(u8::try_from(value).unwrap()) };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// What has come on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Statuses of the interim responses.
    pub interim: Vec<u16>,
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    ended: bool,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Response(Response),
    /// RST_STREAM with this code.
    Reset(u32),
    /// The connection ended: the code of its GOAWAY, if it sent one.
    Ended(Option<u32>),
}

/// A client's connection.
pub struct Http2 {
    pub wire: Wire,
    decoder: Decoder<'static>,
    block: Vec<u8>,
    streams: HashMap<u32, Response>,
    resets: HashMap<u32, u32>,
    /// The code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// Whether DATA is answered with as much window.
    pub opens_windows: bool,
    /// Bytes of all DATA frames so far.
    pub received: usize,
    /// How much we may send on the connection: its window, less what was sent.
    pub window: i64,
}

impl Http2 {
    /// Sends the preface and ordinary settings.
    pub async fn begin(wire: Wire) -> Self {
        Self::begin_with(wire, &[]).await
    }

    pub async fn begin_with(mut wire: Wire, settings: &[(u16, u32)]) -> Self {
        wire.send([PREFACE, &Frame::settings(settings).bytes()].concat()).await;
        Self {
            wire,
            decoder: Decoder::new(),
            block: Vec::new(),
            streams: HashMap::new(),
            resets: HashMap::new(),
            goaway: None,
            opens_windows: true,
            received: 0,
            window: 65_535,
        }
    }

    pub async fn send(&mut self, frame: Frame) {
        self.try_send(&[frame]).await.unwrap();
    }

    pub async fn try_send(&mut self, frames: &[Frame]) -> std::io::Result<()> {
        let data = frames.iter().filter(|frame| frame.kind == kind::DATA);
        self.window -= data.map(|frame| frame.payload.len() as i64).sum::<i64>();
        self.wire.try_send(frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>()).await
    }

    /// One GET, to its end.
    pub async fn get(&mut self, stream: u32, path: &str) -> Outcome {
        match self.try_send(&[Frame::get(stream, path)]).await {
            Ok(()) => self.outcome(stream).await,
            Err(_) => self.ended().await,
        }
    }

    /// Reads until the stream has ended.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(code) = self.resets.get(&stream) {
                return Outcome::Reset(*code);
            }
            if self.streams.get(&stream).is_some_and(|response| response.ended) {
                return Outcome::Response(self.streams.remove(&stream).unwrap());
            }
            if self.turn().await.is_err() {
                return Outcome::Ended(self.goaway);
            }
        }
    }

    /// Reads until the head of a response has come, and returns what there is of it.
    pub async fn head(&mut self, stream: u32) -> Response {
        while self.streams.get(&stream).is_none_or(|response| response.status == 0) {
            self.turn().await.unwrap_or_else(|end| panic!("{end:?} before a head, {:?}", self.goaway));
        }
        self.streams[&stream].clone()
    }

    /// Reads to the end of the connection.
    pub async fn ended(&mut self) -> Outcome {
        while self.turn().await.is_ok() {}
        Outcome::Ended(self.goaway)
    }

    /// Reads one frame, keeps what it says, and answers it as a client must.
    pub async fn turn(&mut self) -> Result<Frame, End> {
        let frame = self.frame().await?;
        match frame.kind {
            kind::SETTINGS if frame.flags & flag::ACK == 0 => {
                let _ = self.try_send(&[Frame::new(kind::SETTINGS, flag::ACK, 0, [])]).await;
            }
            kind::PING if frame.flags & flag::ACK == 0 => {
                let _ = self.try_send(&[Frame::new(kind::PING, flag::ACK, 0, frame.payload.clone())]).await;
            }
            kind::WINDOW_UPDATE if frame.stream == 0 => {
                self.window += i64::from(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
            }
            kind::GOAWAY => self.goaway = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())),
            kind::RST_STREAM => {
                self.resets.insert(frame.stream, u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
            }
            kind::DATA => {
                assert_eq!(frame.flags & !flag::END_STREAM, 0, "padding is not expected");
                self.received += frame.payload.len();
                let response = self.streams.get_mut(&frame.stream).expect("DATA before HEADERS");
                response.body.extend(&frame.payload);
                response.ended = frame.flags & flag::END_STREAM != 0;
                if self.opens_windows && !frame.payload.is_empty() {
                    let size = u32::try_from(frame.payload.len()).unwrap();
                    let updates = [Frame::window_update(0, size), Frame::window_update(frame.stream, size)];
                    let _ = self.try_send(&updates).await;
                }
            }
            kind::HEADERS | kind::CONTINUATION => {
                assert_eq!(frame.flags & !(flag::END_STREAM | flag::END_HEADERS), 0, "padding or priority");
                self.block.extend(&frame.payload);
                let response = self.streams.entry(frame.stream).or_default();
                response.ended |= frame.kind == kind::HEADERS && frame.flags & flag::END_STREAM != 0;
                if frame.flags & flag::END_HEADERS != 0 {
                    let fields = self.decoder.decode(&std::mem::take(&mut self.block)).unwrap();
                    response.take(fields);
                }
            }
            _ => {}
        }
        Ok(frame)
    }

    /// Reads one frame if its first bytes are there already.
    pub async fn turn_if_ready(&mut self) -> Option<Result<Frame, End>> {
        if self.wire.has_bytes().await { Some(self.turn().await) } else { None }
    }

    async fn frame(&mut self) -> Result<Frame, End> {
        let ended = |broken| match broken {
            Broken::Reset => End::Reset,
            _ => End::Closed,
        };
        let head = self.wire.exactly("a frame", 9).await.map_err(ended)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(length <= 16_384, "a frame of {length} bytes, larger than we allow");
        let payload = self.wire.exactly("a frame", length).await.map_err(ended)?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}

impl Response {
    /// Adds a field section: of an interim response, of the response, or the trailers.
    fn take(&mut self, fields: Vec<(Vec<u8>, Vec<u8>)>) {
        let text = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect::<String>();
        let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        if self.status != 0 {
            assert!(self.ended, "trailers without END_STREAM");
            self.trailers = fields;
            return;
        }
        assert_eq!(fields[0].0, ":status", "{fields:?}");
        let status: u16 = fields.remove(0).1.parse().unwrap();
        for (name, value) in &fields {
            let connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
            let lower = !name.starts_with(':') && !name.bytes().any(|byte| byte.is_ascii_uppercase());
            assert!(lower && !connection.contains(&name.as_str()), "{name}: {value}");
        }
        if status < 200 {
            self.interim.push(status);
        } else {
            self.status = status;
            self.fields = fields;
        }
    }
}
