//! One request's way to an upstream: an HTTP/1 connection of its own for as long as it lasts, or a stream of an HTTP/2
//! connection that others use too.
//!
//! Hides which of the two it is, and nothing else.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use svidecar_code::Code;

use super::{
    facts::ConnectionFacts,
    pool::{Connection, Pool},
};
use crate::{
    http1::{Framing, HeadError, framing},
    http2::{ErrorCode, Session, Stream, StreamError},
    io,
    message::{
        BodyError, BodySink, BodySource, Fields, Part, RequestHead, ResponseHead, Version, convert,
        refusal::Refusal,
    },
    runtime::worker::Worker,
};

/// A connection that can take a request.
pub struct Ready {
    /// What is known of it.
    pub facts: Rc<ConnectionFacts>,
    /// Whether it carried a request before: then it may have died meanwhile, and nobody noticed.
    pub is_reused: bool,
    /// What it speaks.
    pub kind: Kind,
}

/// What a connection speaks.
pub enum Kind {
    /// HTTP/1, and the pool that it goes back to.
    Http1(Connection, Rc<Pool>),
    /// HTTP/2.
    Http2(Session),
}

/// A request that was sent, and its response.
pub struct Channel {
    codec: Codec,
    /// The response ends with the connection, or the other side means to close it.
    is_last: bool,
    is_head_request: bool,
}

enum Codec {
    Http1(Connection, Rc<Pool>),
    Http2(Stream),
}

/// Why an upstream gave no response.
#[derive(Debug, thiserror::Error)]
pub enum NoResponse {
    /// Nothing of a response came, and the connection is closed.
    #[error("closed the connection before it answered")]
    Closed,
    /// The other side did not look at the request, as it says itself.
    #[error("did not take the request: {0}")]
    NotTaken(String),
    /// The other side gave the request up, with this code.
    #[error("reset the stream: {0}")]
    Reset(ErrorCode),
    /// What came is not HTTP.
    #[error("sent something that is not HTTP: {0}")]
    NotHttp(String),
    /// Another failure.
    #[error("failed before it answered: {0}")]
    Failed(String),
}

impl NoResponse {
    /// What to answer in place of the upstream.
    #[must_use]
    pub fn refusal(&self, facts: &ConnectionFacts) -> Refusal {
        let code = match self {
            Self::NotHttp(_) => Code::UpstreamProtocolError,
            Self::Closed | Self::NotTaken(_) => Code::UpstreamClosed,
            Self::Reset(_) | Self::Failed(_) => Code::UpstreamFailed,
        };
        Refusal::new(code, format!("`{}` at {} {self}", facts.spec.name, facts.address))
    }
}

impl Ready {
    /// Queues the head of a request, in the form that the connection speaks; it leaves with the first flush.
    ///
    /// # Errors
    /// The connection does not take a request any more.
    pub fn send(self, head: &mut RequestHead, body: Framing) -> Result<Channel, NoResponse> {
        let is_head_request = head.method == "HEAD";
        let codec = match self.kind {
            Kind::Http1(mut connection, home) => {
                // HTTP/2 need not say that there is no body where one may be expected (RFC 9110 §8.6).
                let may_have_one = matches!(head.method.as_str(), "POST" | "PUT" | "PATCH");
                let is_unsaid = body == Framing::None && may_have_one && head.version == Version::Http2;
                let body = if is_unsaid { Framing::Length(0) } else { body };
                convert::to_http1(head);
                connection.queue_request_head(head, body);
                Codec::Http1(connection, home)
            }
            Kind::Http2(session) => {
                let scheme = if self.facts.server.is_some() { "https" } else { "http" };
                convert::to_http2(head, scheme, &self.facts.address);
                let stream = session.open(head, body == Framing::None);
                Codec::Http2(stream.map_err(|error| NoResponse::NotTaken(error.to_string()))?)
            }
        };
        Ok(Channel { codec, is_last: false, is_head_request })
    }
}

impl Channel {
    /// The next head of the response, final or interim.
    ///
    /// # Errors
    /// Why there will be none.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), NoResponse>> {
        match &mut self.codec {
            Codec::Http1(connection, _) => {
                let read = connection.poll_response_head(cx, head);
                read.map_err(|error| match error {
                    HeadError::Refused(fault) => NoResponse::NotHttp(fault.to_string()),
                    HeadError::Closed if connection.head_started() => {
                        NoResponse::Failed("the connection was closed in the middle of a head".to_owned())
                    }
                    HeadError::Closed => NoResponse::Closed,
                    HeadError::Io(error) if is_closed(&error) => NoResponse::Closed,
                    HeadError::Io(error) => NoResponse::Failed(error.to_string()),
                })
            }
            Codec::Http2(stream) => stream.poll_response_head(cx, head).map_err(|error| match error {
                StreamError::Unprocessed => NoResponse::NotTaken(error.to_string()),
                StreamError::Reset(code) => NoResponse::Reset(code),
                StreamError::Malformed(why) => NoResponse::NotHttp(why.to_owned()),
                error => NoResponse::Failed(error.to_string()),
            }),
        }
    }

    /// How the body is framed that follows this final head; the body can be read from now on.
    ///
    /// # Errors
    /// Which rule of HTTP the head breaks.
    pub fn receive_body(&mut self, head: &ResponseHead) -> Result<Framing, NoResponse> {
        let method = if self.is_head_request { "HEAD" } else { "" };
        match &mut self.codec {
            Codec::Http1(connection, _) => {
                let framing = Framing::of_response(head, method)
                    .map_err(|fault| NoResponse::NotHttp(fault.to_string()))?;
                connection.receive_body(framing);
                self.is_last =
                    framing == Framing::UntilClose || !framing::persists(head.version, &head.fields);
                Ok(framing)
            }
            Codec::Http2(stream) => Ok(if stream.end_of_stream_in_head() {
                let has_none = self.is_head_request || framing::has_no_body(head.status);
                if has_none { Framing::None } else { Framing::Length(0) }
            } else {
                Framing::of_announced(&head.fields)
            }),
        }
    }

    /// The response is complete: the connection may serve another request, if request and response leave it fit for one.
    pub fn finish(self, worker: &Rc<Worker>, facts: Rc<ConnectionFacts>) {
        if let Codec::Http1(connection, home) = self.codec
            && !self.is_last
            && connection.is_reusable()
        {
            home.give_back(worker, connection, facts);
        }
    }

    /// Nobody wants the response any more. The other side learns it at once: the mere end of what it is sent would wait behind
    /// all that it has not read.
    pub fn abandon(self) {
        if let Codec::Http1(mut connection, _) = self.codec {
            connection.reset();
        }
    }

    /// What carries the bytes, for a switch of protocols, and those that were read already. HTTP/2 has no such switch.
    #[must_use]
    pub fn into_stream(self) -> Option<(io::Transport, io::Buffer)> {
        match self.codec {
            Codec::Http1(connection, _) => Some(connection.into_parts()),
            Codec::Http2(_) => None,
        }
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe)
}

/// Calls the same function of whichever codec it is.
macro_rules! each {
    ($self:ident, $codec:ident => $call:expr) => {
        match &mut $self.codec {
            Codec::Http1($codec, _) => $call,
            Codec::Http2($codec) => $call,
        }
    };
}

impl BodySource for Channel {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
        each!(self, codec => codec.poll_part(cx))
    }

    fn data(&self) -> &[u8] {
        match &self.codec {
            Codec::Http1(connection, _) => connection.data(),
            Codec::Http2(stream) => stream.data(),
        }
    }

    fn consume(&mut self, count: usize) {
        each!(self, codec => codec.consume(count));
    }

    fn trailers(&mut self) -> &mut Fields {
        each!(self, codec => codec.trailers())
    }
}

impl BodySink for Channel {
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        chunk: Option<u64>,
    ) -> Poll<Result<usize, BodyError>> {
        each!(self, codec => codec.poll_data(cx, data, chunk))
    }

    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), BodyError> {
        each!(self, codec => codec.end(trailers))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        each!(self, codec => codec.poll_flush(cx))
    }
}
