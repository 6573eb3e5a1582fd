//! A connection of HTTP/2 from which requests come, many at a time: one task drives it, and each request has its own.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use svidecar_code::Code;
use svidecar_process::Share;
use tracing::debug;

use super::{caller::Caller, downstream::Downstream, exchange::Exchange, request, rules::Timeouts};
use crate::{
    admit::limit::Unfinished,
    http1::Framing,
    http2::{ErrorCode, Role, Session, Settings, Stream},
    io,
    message::{BodyError, RequestHead, ResponseHead, refusal::Refusal},
    runtime::{
        budgets::Spender,
        connections::{Ending, Event, Fate, Follower, Over},
        drain::Direction,
        driver::{Driven, Terms, drive},
    },
    upstream::facts::ConnectionFacts,
};

/// Exchanges that are kept of a connection for its later requests.
const MOST_SPARE: usize = 32;

/// Drives a connection until it has ended; `accept` takes each request that comes. Once one of them is allowed, as many
/// `streams` may be open.
pub async fn serve(
    caller: Rc<Caller>,
    (settings, streams): (&Settings, u32),
    mut stream: io::Transport,
    read: io::Buffer,
    mut follower: Follower,
    accept: impl FnMut(&Session, RequestHead, Stream),
) {
    let session = Session::new(Role::Server, settings);
    session.share(caller.standing().patience());
    session.resume(read);
    let Timeouts { head, idle, .. } = caller.rules().listener.timeouts();
    let longest_head = settings.longest_block();
    let mut requests =
        Requests { caller, accept, streams, longest_head, window: None, unfinished: Unfinished::default() };
    let terms = Terms::Server { head, idle };
    if let Err(error) = drive(&session, &mut stream, &mut follower, terms, &mut requests).await {
        debug!(error = error.to_string(), "A connection of HTTP/2 failed");
    }
}

/// The requests of a connection, and whose they are.
struct Requests<A> {
    caller: Rc<Caller>,
    accept: A,
    /// What it may open once something was allowed.
    streams: u32,
    longest_head: usize,
    /// What its windows may grow by, once something was allowed.
    window: Option<Option<Share<Spender>>>,
    /// A head of which a part has come.
    unfinished: Unfinished,
}

impl<A> Requests<A> {
    /// The first of them was allowed: the connection gets what the others have.
    fn trust(&mut self, session: &Session) {
        let growth = Settings::default().window_growth;
        let share = self.caller.standing().window(growth as usize);
        let growth = share.as_ref().map_or(0, |share| u32::try_from(share.units() << 10).unwrap_or(growth));
        self.window = Some(share);
        session.trust(self.streams, growth);
    }
}

impl<A: FnMut(&Session, RequestHead, Stream)> Driven for Requests<A> {
    fn turned(&mut self, session: &Session) {
        let mut has_asked = false;
        while let Some((head, stream)) = session.accept() {
            has_asked = true;
            (self.accept)(session, head, stream);
        }
        if self.window.is_none() {
            let standing = self.caller.standing();
            if standing.is_settled() {
                self.trust(session);
            } else if has_asked {
                standing.spoke();
            }
        }
        if self.unfinished.grows(session.unfinished(), self.longest_head, self.caller.standing()).is_err() {
            session.violated("too many heads in part");
        }
    }

    fn judge(&mut self, event: Event) -> Fate {
        self.caller.judge(event, None)
    }

    fn is_leaving(&self, _: &Session) -> bool {
        false
    }

    fn told(&mut self) {}
}

/// Exchanges of a connection that wait for its later requests.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "the task of a request holds the box, not the exchange")]
pub struct Spare(RefCell<Vec<Box<Exchange>>>);

/// Serves one request, from its head to the end of its response.
pub async fn request(
    caller: Rc<Caller>,
    session: Session,
    spare: Rc<Spare>,
    head: RequestHead,
    stream: Stream,
) {
    let mut exchange = spare.0.borrow_mut().pop().unwrap_or_else(|| Box::new(caller.exchange()));
    let mut down = Http2 { framing: framing_of(&head, &stream), stream, follower: None };
    session.recycle(std::mem::replace(&mut exchange.request, head));
    if down.stream.is_too_large() {
        request::refuse_head(&caller, &mut down, &mut exchange, too_large()).await;
    } else {
        request::serve(&caller, &mut down, &mut exchange).await;
    }
    let mut spare = spare.0.borrow_mut();
    if spare.len() < MOST_SPARE {
        spare.push(exchange);
    }
}

fn too_large() -> Refusal {
    let detail =
        "the head is larger than limits.max_header_bytes, or has more fields than limits.max_headers";
    Refusal::new(Code::HeadersTooLarge, detail)
}

/// How a request's body would be framed by HTTP/1. The codec has checked its length, and goes on to hold it to that.
fn framing_of(head: &RequestHead, stream: &Stream) -> Framing {
    if stream.end_of_stream_in_head() {
        return Framing::None;
    }
    Framing::of_announced(&head.fields)
}

/// One request's stream.
struct Http2 {
    stream: Stream,
    framing: Framing,
    /// Follows what happens to the server, where nothing else does.
    follower: Option<Box<Follower>>,
}

impl Downstream for Http2 {
    type Codec = Stream;

    fn codec(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn request_framing(&self) -> Framing {
        self.framing
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        self.stream.send_response_head(head, false);
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.stream.poll_room(cx).map_err(BodyError::from)
    }

    fn send_head(&mut self, head: &mut ResponseHead, framing: Framing, _close: bool) {
        self.stream.send_response_head(head, framing.is_empty());
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    fn poll_cut(
        &mut self,
        cx: &mut Context<'_>,
        caller: &Caller,
        upstream: Option<&ConnectionFacts>,
    ) -> Poll<Ending> {
        // The connection follows what happens for all its streams; when it is cut, they are reset. But it does not know of
        // a server that one stream alone goes to.
        let alone = upstream.filter(|facts| facts.server.is_some() && !facts.is_shared);
        let Some(facts) = alone else { return Poll::Pending };
        let follower = self.follower.get_or_insert_with(|| {
            Box::new(caller.worker().follower(Direction::Outbound).since(facts.accepted_by()))
        });
        follower.poll_over(cx, |event| caller.judge(event, Some(facts))).map(Over::ending)
    }

    fn abort(&mut self, code: ErrorCode) {
        self.stream.reset(code);
    }
}
