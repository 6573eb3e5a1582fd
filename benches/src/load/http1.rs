//! Callers over HTTP/1.1: one request after the other on a connection that is kept alive.

use std::cell::RefCell;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use svidecar_process::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tally::Tally;
use crate::wire::{ANSWER, UPLOAD};

/// Headers as a client of an HTTP API sends them.
const HEADERS: &str = "host: orders.demo.org\r\nuser-agent: svidecar-bench/1\r\naccept: application/json\r\n\
                       x-request-id: 5f0c2f3a-6f0e-4c57-9c58-3f1b2f0a9d11\r\n";

/// One exchange.
pub async fn probe(target: SocketAddr) -> Result<()> {
    Connection::open(target).await?.exchange(&get_request()).await.map(drop)
}

/// GETs until one fails.
pub async fn get(target: SocketAddr, tally: &RefCell<Tally>) -> Result<()> {
    repeat(target, tally, &get_request(), ANSWER).await
}

/// POSTs of a large body until one fails.
pub async fn upload(target: SocketAddr, tally: &RefCell<Tally>) -> Result<()> {
    let head = format!(
        "POST /orders/17 HTTP/1.1\r\n{HEADERS}content-type: application/octet-stream\r\n\
         content-length: {UPLOAD}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + UPLOAD, b'x');
    repeat(target, tally, &request, UPLOAD).await
}

fn get_request() -> Vec<u8> {
    format!("GET /orders/17 HTTP/1.1\r\n{HEADERS}\r\n").into_bytes()
}

async fn repeat(target: SocketAddr, tally: &RefCell<Tally>, request: &[u8], bytes: usize) -> Result<()> {
    let mut connection = Connection::open(target).await?;
    loop {
        let start = clock::monotonic();
        let keeps = connection.exchange(request).await?;
        tally.borrow_mut().done(clock::monotonic() - start, bytes);
        if !keeps {
            connection = Connection::open(target).await?;
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(target).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 << 10] })
    }

    /// Sends a request, reads the whole answer, and says whether the connection may be used again.
    async fn exchange(&mut self, request: &[u8]) -> Result<bool> {
        self.stream.write_all(request).await.context("cannot send")?;
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(room).await.context("cannot receive")?;
            ensure!(read > 0, "closed after {filled} bytes of an answer");
            filled += read;
            let Some(answer) = parse(self.buffer.get(..filled).unwrap_or_default())? else { continue };
            ensure!(answer.body == ANSWER, "a body of {} bytes, not {ANSWER}", answer.body);
            if filled >= answer.head + answer.body {
                ensure!(filled == answer.head + answer.body, "more than one answer");
                return Ok(answer.keeps);
            }
        }
    }
}

struct Answer {
    head: usize,
    body: usize,
    keeps: bool,
}

/// The lengths of the answer, once its head is there. Anything but 200 is an error.
fn parse(bytes: &[u8]) -> Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    if response.code != Some(200) {
        let code = response.code.unwrap_or_default();
        bail!("status {code}: {}", String::from_utf8_lossy(bytes.get(head..).unwrap_or_default()));
    }
    let mut answer = Answer { head, body: 0, keeps: true };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            answer.body = std::str::from_utf8(header.value)?.parse().context("not a content-length")?;
        } else if header.name.eq_ignore_ascii_case("connection") {
            answer.keeps = !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(answer))
}
