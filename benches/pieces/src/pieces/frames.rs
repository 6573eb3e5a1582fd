//! HTTP/2 between two ends in one thread, with memory in the place of a connection.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use svidecar::http2::{Role, Session, Settings, Stream};
use svidecar::io::{Buffer, ByteStream};
use svidecar::message::{BodySink as _, BodySource as _, Part, RequestHead, ResponseHead, Version};

use super::heads;

/// Bytes of the body of an answer.
const ANSWER: usize = 1024;
/// Bytes of a body that are measured as data.
const DATA: usize = 16 << 10;

/// One request without a body and its answer.
pub fn exchanges(times: usize) -> Result<()> {
    let mut ends = Ends::new();
    let (request, response) = (request()?, response());
    let body = [b'x'; ANSWER];
    let mut answer = ResponseHead::default();
    for _ in 0..times {
        let mut caller = ends.client.open(&request, true).map_err(|error| anyhow!("{error}"))?;
        let (head, mut stream) = ends.accept()?;
        stream.send_response_head(&response, false);
        ends.send(&mut stream, &body)?;
        stream.end(None)?;
        stream.recycle(head);
        drop(stream);
        ends.drive()?;
        ready(caller.poll_response_head(&mut context(), &mut answer))?;
        ensure!(receive(&mut caller)? == ANSWER, "the body is not whole");
    }
    Ok(())
}

/// Parts of one long body.
pub fn data(times: usize) -> Result<()> {
    let mut ends = Ends::new();
    let mut caller = ends.client.open(&request()?, true).map_err(|error| anyhow!("{error}"))?;
    let (_head, mut stream) = ends.accept()?;
    stream.send_response_head(&response(), false);
    ends.drive()?;
    ready(caller.poll_response_head(&mut context(), &mut ResponseHead::default()))?;
    let part = vec![b'x'; DATA];
    for _ in 0..times {
        ends.send(&mut stream, &part)?;
        ends.drive()?;
        ensure!(receive(&mut caller)? == DATA, "the part is not whole");
    }
    Ok(())
}

fn request() -> Result<RequestHead> {
    let mut head = heads::request_head()?;
    head.version = Version::Http2;
    "https".clone_into(&mut head.scheme);
    "orders.demo.org".clone_into(&mut head.authority);
    head.fields.remove("host");
    head.fields.remove("connection");
    Ok(head)
}

fn response() -> ResponseHead {
    let mut head = ResponseHead { version: Version::Http2, status: 200, ..ResponseHead::default() };
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("date", "Mon, 23 Nov 2026 10:00:00 GMT"),
    ] {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head
}

/// All that has come of a body.
fn receive(stream: &mut Stream) -> Result<usize> {
    let mut received = 0;
    while let Poll::Ready(part) = stream.poll_part(&mut context()) {
        if !matches!(part?, Part::Data { .. }) {
            break;
        }
        let count = stream.data().len();
        stream.consume(count);
        received += count;
    }
    Ok(received)
}

/// Two ends of a connection.
struct Ends {
    client: Session,
    server: Session,
    client_wire: Wire,
    server_wire: Wire,
}

impl Ends {
    fn new() -> Self {
        let (one, two) = (Rc::default(), Rc::default());
        Self {
            client: Session::new(Role::Client, &Settings::default()),
            server: Session::new(Role::Server, &Settings::default()),
            client_wire: Wire { inward: Rc::clone(&one), outward: Rc::clone(&two) },
            server_wire: Wire { inward: two, outward: one },
        }
    }

    /// Lets both ends write and read what there is.
    fn drive(&mut self) -> Result<()> {
        for _ in 0..2 {
            for (session, wire) in
                [(&self.client, &mut self.client_wire), (&self.server, &mut self.server_wire)]
            {
                if let Poll::Ready(ended) = session.poll_drive(&mut context(), wire) {
                    bail!("the connection has ended: {ended:?}");
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(RequestHead, Stream)> {
        self.drive()?;
        self.server.accept().context("no request has come")
    }

    fn send(&mut self, stream: &mut Stream, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match stream.poll_data(&mut context(), bytes, None) {
                Poll::Ready(sent) => bytes = bytes.get(sent?..).unwrap_or_default(),
                Poll::Pending => self.drive()?,
            }
        }
        Ok(())
    }
}

/// One end of a connection in memory.
struct Wire {
    inward: Rc<RefCell<Vec<u8>>>,
    outward: Rc<RefCell<Vec<u8>>>,
}

impl ByteStream for Wire {
    fn poll_fill(
        &mut self,
        _cx: &mut Context<'_>,
        into: &mut Buffer,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut inward = self.inward.borrow_mut();
        if inward.is_empty() {
            return Poll::Pending;
        }
        let count = inward.len().min(limit);
        into.extend(inward.get(..count).unwrap_or_default());
        inward.drain(..count);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut outward = self.outward.borrow_mut();
        from.iter().for_each(|slice| outward.extend_from_slice(slice));
        Poll::Ready(Ok(from.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self) {}
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn ready<T, E: Display>(poll: Poll<Result<T, E>>) -> Result<T> {
    match poll {
        Poll::Ready(outcome) => outcome.map_err(|error| anyhow!("{error}")),
        Poll::Pending => bail!("it is not there yet"),
    }
}
