//! A connection of HTTP/1 from which requests come, one after the other.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use svidecar_code::Code;
use svidecar_process::clock;

use super::{
    caller::Caller,
    downstream::Downstream,
    exchange::{Exchange, note_relay},
    relay::Relay,
    request::{self, Next},
};
use crate::{
    admit::limit::{self, Unfinished},
    http1::{Connection, Fault, Framing, HeadError, framing},
    http2::ErrorCode,
    io::{Buffer, ByteStream, Transport},
    message::{BodyError, BodySink, ResponseHead, Version, convert, hops, refusal::Refusal},
    runtime::connections::{Ending, Fate, Follower, Over},
    upstream::facts::ConnectionFacts,
};

/// How much of what a client still sends is read after the last answer, so that closing does not reset the answer away
/// (RFC 9112 §9.6), in bytes.
const MOST_DISCARDED: usize = 256 * 1024;

/// And for how long.
const LINGER: Duration = Duration::from_secs(2);

/// How long one side of a WebSocket may go on after the other has ended: it has a last message of its own for the end
/// (RFC 6455 §7.1.1), so that a half that stays open is waited for by nobody.
const LAST_MESSAGE: Duration = Duration::from_secs(5);

/// A client's connection, and the request that is on it.
struct Http1 {
    connection: Connection<Transport>,
    follower: Follower,
    version: Version,
    framing: Framing,
    /// Another request may follow this one.
    persists: bool,
}

/// What came when a request was waited for.
enum Came {
    Request,
    /// Nothing more comes, or is waited for.
    Nothing,
    /// Something that is refused.
    Refused(Refusal),
    /// Something that whoever sent it expects no answer in HTTP/1 to.
    NotHttp(Refusal),
}

/// Serves requests until the connection ends.
pub async fn serve(caller: Rc<Caller>, stream: Transport) {
    let follower = caller.follower();
    resume(caller, (stream, Buffer::new()), follower).await;
}

/// The same, when some bytes were read already.
pub async fn resume(caller: Rc<Caller>, stream: (Transport, Buffer), follower: Follower) {
    let caller = &*caller;
    let mut exchange = caller.exchange();
    let limits = limit::http1(caller.rules().listener.limits());
    let mut down = Http1 {
        connection: Connection::resume(stream.0, stream.1, limits),
        follower,
        version: Version::Http11,
        framing: Framing::None,
        persists: true,
    };
    loop {
        let next = match down.next(caller, &mut exchange).await {
            Came::Request => request::serve(caller, &mut down, &mut exchange).await,
            Came::Nothing => return down.close().await,
            Came::Refused(refusal) => request::refuse_head(caller, &mut down, &mut exchange, refusal).await,
            Came::NotHttp(refusal) => {
                request::ignore_head(caller, &mut exchange, refusal);
                return down.close().await;
            }
        };
        match next {
            Next::Request if down.persists && down.connection.is_received() && down.connection.is_sent() => {}
            Next::Request | Next::Close => return down.close().await,
            Next::Switch(upstream) => return down.switch(caller, *upstream, exchange).await,
        }
    }
}

impl Http1 {
    /// Waits for the head of the next request.
    async fn next(&mut self, caller: &Caller, exchange: &mut Exchange) -> Came {
        let timeouts = caller.rules().listener.timeouts();
        let (mut waits, mut unfinished) = (None, Unfinished::default());
        let came = poll_fn(|cx| {
            match self.connection.poll_request_head(cx, &mut exchange.request) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Came::Request),
                Poll::Ready(Ok(false)) => return Poll::Ready(Came::Nothing),
                Poll::Ready(Err(error)) => return Poll::Ready(of_error(&error)),
                Poll::Pending => {}
            }
            let has_begun = self.connection.head_started();
            if has_begun {
                let (there, most) = (self.connection.buffered(), self.connection.longest_head());
                if let Err(refusal) = unfinished.grows(there, most, caller.standing()) {
                    return Poll::Ready(Came::Refused(refusal));
                }
            }
            if waits != Some(has_begun) {
                waits = Some(has_begun);
                let timeout = if has_begun { timeouts.head } else { timeouts.idle };
                if has_begun {
                    caller.standing().spoke();
                }
                self.follower.set_timer(clock::timer().checked_add(timeout));
            }
            match self.follower.poll_over(cx, |event| caller.judge(event, None)) {
                Poll::Ready(Over::TimedOut) if has_begun => {
                    Poll::Ready(Came::Refused(too_slow(timeouts.head)))
                }
                Poll::Ready(_) => Poll::Ready(Came::Nothing),
                // Nothing is lost: no byte of another request has come.
                Poll::Pending if self.follower.is_finishing() && !has_begun && !self.waits_for_client() => {
                    Poll::Ready(Came::Nothing)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        self.follower.set_timer(None);
        match came {
            Came::Request => self.begin(exchange),
            other => other,
        }
    }

    /// The head is there: how its body is framed, and whether another request may follow.
    fn begin(&mut self, exchange: &Exchange) -> Came {
        let head = &exchange.request;
        self.version = head.version;
        self.persists = framing::persists(head.version, &head.fields);
        match Framing::of_request(head) {
            Ok(framing) => {
                self.framing = framing;
                self.connection.receive_body(framing);
                Came::Request
            }
            Err(fault) => of_error(&HeadError::Refused(fault)),
        }
    }

    /// Between two svidecars it is the client who closes a connection that waits: it knows when it has begun another
    /// request. It was told by the connection that both share.
    const fn waits_for_client(&self) -> bool {
        matches!(self.connection.stream(), Transport::Tunnel(_))
    }

    /// Closes so that the last answer arrives.
    async fn close(mut self) {
        let is_clean = self.connection.is_received() && !self.connection.has_buffered();
        if is_clean && matches!(self.connection.stream(), Transport::Socket(_)) {
            return;
        }
        self.follower.set_timer(clock::timer().checked_add(LINGER));
        let (mut connection, mut follower) = (self.connection, self.follower);
        let closing = poll_fn(|cx| connection.poll_shutdown(cx));
        // When it fails, or takes too long, there is nobody to be kind to.
        if !matches!(in_time(closing, &mut follower).await, Some(Ok(()))) || is_clean {
            return;
        }
        let (mut stream, mut buffer) = connection.into_parts();
        let mut left = MOST_DISCARDED;
        let discarding = poll_fn(|cx| {
            while left > 0 {
                buffer.clear();
                match ready!(stream.poll_fill(cx, &mut buffer, left)) {
                    Ok(count) if count > 0 => left = left.saturating_sub(count),
                    _ => break,
                }
            }
            Poll::Ready(())
        });
        in_time(discarding, &mut follower).await;
    }

    /// Carries another protocol from now on. What was decided about the request that asked for it still holds.
    async fn switch(self, caller: &Caller, upstream: (Transport, Buffer), mut exchange: Exchange) {
        let mut follower = self.follower;
        let ends_as_a_whole = exchange.response.fields.lists("upgrade", "websocket");
        let mut half_end = None;
        let mut relay = Relay::resume(self.connection.into_parts(), upstream);
        let over = |cx: &mut Context<'_>, ended: Option<Code>| {
            if exchange.poll_killed(cx).is_ready() {
                return Poll::Ready(Code::NoLongerAllowed);
            }
            if ends_as_a_whole && half_end.is_none() && ended.is_some() {
                half_end = ended;
                follower.set_timer(clock::timer().checked_add(LAST_MESSAGE));
            }
            follower.poll_over(cx, |event| caller.judge(event, exchange.upstream())).map(|over| match over {
                Over::Cut(ending) => ending.code(),
                Over::TimedOut => half_end.unwrap_or(Code::ClientClosed),
            })
        };
        let end = relay.run(over).await;
        note_relay(&mut exchange.record, &relay, end);
    }
}

/// `None` when the connection is cut before, or its timer fires.
async fn in_time<T>(work: impl Future<Output = T>, follower: &mut Follower) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => follower.poll_over(cx, |_| Fate::GoesOn).map(|_| None),
    })
    .await
}

/// What a head that did not come is answered with, if there is anybody.
fn of_error(error: &HeadError) -> Came {
    let HeadError::Refused(fault) = error else { return Came::Nothing };
    let refusal = Refusal::new(fault.code(), fault.words()).closing();
    if *fault == Fault::NotHttp { Came::NotHttp(refusal) } else { Came::Refused(refusal) }
}

fn too_slow(timeout: Duration) -> Refusal {
    let detail = format!("the head of the request was not complete within {timeout:?}");
    Refusal::new(Code::RequestTimeout, detail).closing()
}

impl Downstream for Http1 {
    type Codec = Connection<Transport>;

    fn codec(&mut self) -> &mut Connection<Transport> {
        &mut self.connection
    }

    fn request_framing(&self) -> Framing {
        self.framing
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        // HTTP/1.0 knows none (RFC 9110 §15.2).
        if self.version > Version::Http10 {
            self.connection.queue_response_head(head, Framing::None);
        }
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.connection.poll_flush(cx)
    }

    fn send_head(&mut self, head: &mut ResponseHead, framing: Framing, close: bool) {
        let framing = framing.toward(self.version);
        self.persists &= !close && framing != Framing::UntilClose && !self.follower.is_finishing();
        convert::response_to_http1(head);
        head.version = self.version;
        match (self.version, self.persists) {
            _ if head.status == 101 => {}
            (Version::Http10, true) => head.fields.set("connection", b"keep-alive"),
            (_, false) => hops::say_close(&mut head.fields),
            _ => {}
        }
        self.connection.queue_response_head(head, framing);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_gone(cx)
    }

    fn poll_cut(
        &mut self,
        cx: &mut Context<'_>,
        caller: &Caller,
        upstream: Option<&ConnectionFacts>,
    ) -> Poll<Ending> {
        self.follower.poll_over(cx, |event| caller.judge(event, upstream)).map(Over::ending)
    }

    fn abort(&mut self, _: ErrorCode) {
        self.persists = false;
        self.connection.reset();
    }
}
