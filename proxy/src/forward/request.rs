//! One request from top to bottom, whatever both sides speak: decide → pick the upstream → send → answer → record.
//!
//! The steps are here, in their order. What a step does is elsewhere: deciding in [`Caller::admit`], picking in
//! [`Upstream`](crate::upstream::Upstream), moving bodies in [`Flow`], framing in the codecs.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use svidecar_code::Code;
use tracing::debug;

use super::{
    caller::{Admission, Caller},
    downstream::Downstream,
    exchange::Exchange,
    flow::{Flow, FlowError},
};
use crate::{
    http1::Framing,
    http2::ErrorCode,
    io,
    message::{BodyError, BodySink, Version, hops, refusal::Refusal},
    runtime::connections::Ending,
    upstream::{
        channel::{Channel, NoResponse, Ready},
        facts::ConnectionFacts,
        retry::{self, Sent, SentBody},
    },
};

/// What becomes of the client's connection.
pub enum Next {
    /// As far as this request is concerned, it may go on.
    Request,
    /// It is of no further use.
    Close,
    /// It carries another protocol from now on, toward this stream of the upstream; these bytes of it were read already.
    Switch(Box<(io::Transport, io::Buffer)>),
}

/// Why a request does not go its way to the end.
enum Stop {
    /// It gets an answer from us, if it got none yet.
    Refused(Refusal),
    /// The upstream gave it up before it answered, with this code of HTTP/2; or the answer from us.
    Reset(ErrorCode, Refusal),
    /// Nobody waits for the answer any more.
    Gone,
    /// The upstream failed in the middle of its answer.
    Broken(BodyError),
    /// It is cut from outside.
    Cut(Ending),
}

impl Stop {
    /// The code for a stream whose answer is not complete: the upstream's own, unless it would say that all is well, or
    /// that nothing was done.
    const fn reset_code(&self) -> ErrorCode {
        let code = match self {
            Self::Reset(code, _) => *code,
            Self::Broken(BodyError::Reset(code)) => ErrorCode(*code),
            _ => ErrorCode::INTERNAL_ERROR,
        };
        match code {
            ErrorCode::NO_ERROR | ErrorCode::REFUSED_STREAM => ErrorCode::INTERNAL_ERROR,
            code => code,
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves the request whose head is in `exchange`. Recorded when it is over, unless it switched protocols: then what
/// follows still belongs to it.
pub async fn serve(caller: &dyn Caller, down: &mut impl Downstream, exchange: &mut Exchange) -> Next {
    caller.begin(exchange);
    let is_grpc = exchange.request.is_grpc();
    // To a client of gRPC the code of a reset is a status, and its deadline and an answer of ours would race.
    let understands_resets = is_grpc && exchange.request.version == Version::Http2;
    let next = match forward(caller, down, exchange).await {
        Ok(next) => next,
        Err(Stop::Refused(refusal)) if !exchange.is_answered() => {
            refuse(caller, down, exchange, refusal, is_grpc).await
        }
        Err(Stop::Reset(_, refusal)) if !understands_resets => {
            refuse(caller, down, exchange, refusal, is_grpc).await
        }
        Err(stop) => {
            down.abort(stop.reset_code());
            match stop {
                Stop::Refused(refusal) | Stop::Reset(_, refusal) => {
                    exchange.record.fail(refusal.code, Some(refusal.detail));
                }
                Stop::Gone => exchange.record.fail(Code::ClientClosed, None),
                Stop::Broken(error) => exchange.record.fail(Code::UpstreamClosed, Some(error.to_string())),
                Stop::Cut(ending) => exchange.record.fail(ending.code(), None),
            }
            Next::Close
        }
    };
    if !matches!(next, Next::Switch(_)) {
        exchange.end();
    }
    next
}

/// Answers a request whose head is refused.
pub async fn refuse_head(
    caller: &dyn Caller,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    refusal: Refusal,
) -> Next {
    caller.begin(exchange);
    let next = refuse(caller, down, exchange, refusal, false).await;
    exchange.end();
    next
}

/// Writes down what came in place of a request and gets no answer.
pub fn ignore_head(caller: &dyn Caller, exchange: &mut Exchange, refusal: Refusal) {
    caller.begin(exchange);
    caller.refused(&refusal);
    exchange.record.fail(refusal.code, Some(refusal.detail));
    exchange.end();
}

async fn forward(
    caller: &dyn Caller,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
) -> Result<Next, Stop> {
    let admission = caller.admit(exchange)?;
    let mut upload = Upload::of(down.request_framing());
    let (mut channel, facts) = ask(caller, &admission, down, exchange, &mut upload).await?;

    let framing = channel.receive_body(&exchange.response).map_err(|error| error.refusal(&facts))?;
    hops::clean_response(&mut exchange.response);
    if exchange.response.status == StatusCode::SWITCHING_PROTOCOLS {
        return switch(caller, &admission, down, exchange, channel).await;
    }
    down.send_head(&mut exchange.response, framing, false);
    exchange.answered();
    let mut download = Flow::of(framing);
    poll_fn(|cx| {
        poll_download(cx, &mut channel, down, exchange, &mut download)?;
        upload.poll(cx, caller, down, &mut channel, exchange)?;
        if download.is_done() && upload.is_over() {
            return Poll::Ready(Ok(()));
        }
        poll_over(cx, caller, down, exchange, &upload).map(Err)
    })
    .await?;
    if upload.is_broken {
        return Ok(Next::Close);
    }
    channel.finish(caller.worker(), facts);
    Ok(Next::Request)
}

/// Sends the request and waits for the final head of its response. Without one, it goes out once more where [`retry`] says so.
async fn ask(
    caller: &dyn Caller,
    admission: &Admission,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    upload: &mut Upload,
) -> Result<(Channel, Rc<ConnectionFacts>), Stop> {
    let (upstream, worker) = (&admission.upstream, caller.worker());
    let http2 = upstream.takes_http2(&exchange.request);
    let mut times = 0;
    loop {
        let pooled = if times > 0 { None } else { upstream.pooled(worker, http2) };
        let ready = match pooled {
            Some(ready) => ready,
            None => {
                let opening = Box::pin(upstream.ready(worker, http2));
                unless_over(opening, caller, down, exchange, upload).await??
            }
        };
        let (facts, is_reused) = (Rc::clone(&ready.facts), ready.is_reused);
        exchange.goes_to(&facts);
        let error = match send(ready, caller, down, exchange, upload).await? {
            Ok(channel) => return Ok((channel, facts)),
            Err(error) => error,
        };
        times += 1;
        let sent = Sent { times, is_reused, body: upload.sent(), head: &exchange.request };
        if !retry::goes_out_again(&sent, &error) {
            let refusal = error.refusal(&facts);
            return Err(match error {
                NoResponse::Reset(code) => Stop::Reset(code, refusal),
                _ => Stop::Refused(refusal),
            });
        }
        debug!(upstream = %facts.spec.name, address = facts.address, %error, "A request goes out again on another connection");
        *upload = Upload::of(down.request_framing());
    }
}

/// Sends the request over a connection; passes interim heads on, and as much of the request's body as the upstream takes
/// before it answers.
async fn send(
    ready: Ready,
    caller: &dyn Caller,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    upload: &mut Upload,
) -> Result<Result<Channel, NoResponse>, Stop> {
    let mut channel = match ready.send(&mut exchange.request, down.request_framing()) {
        Ok(channel) => channel,
        Err(error) => return Ok(Err(error)),
    };
    let head = poll_fn(|cx| {
        upload.poll(cx, caller, down, &mut channel, exchange)?;
        while let Poll::Ready(read) = channel.poll_head(cx, &mut exchange.response) {
            if read.is_err() || !exchange.response.is_interim() {
                return Poll::Ready(Ok(read));
            }
            hops::clean_response(&mut exchange.response);
            down.send_interim(&exchange.response);
        }
        // An interim head may wait to leave.
        let _ = down.codec().poll_flush(cx).map_err(|_| Stop::Gone)?;
        poll_over(cx, caller, down, exchange, upload).map(Err)
    });
    let head = head.await?;
    Ok(head.map(|()| channel))
}

/// Agrees to another protocol, if somebody asked for it.
async fn switch(
    caller: &dyn Caller,
    admission: &Admission,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    channel: Channel,
) -> Result<Next, Stop> {
    let stream = if admission.may_switch { channel.into_stream() } else { None };
    let Some(stream) = stream else {
        let detail = "the upstream switched protocols although nobody asked it to";
        return Err(Refusal::new(Code::UpstreamProtocolError, detail).into());
    };
    down.send_head(&mut exchange.response, Framing::None, false);
    exchange.answered();
    poll_fn(|cx| {
        if down.codec().poll_flush(cx).map_err(|_| Stop::Gone)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        poll_over(cx, caller, down, exchange, &Upload::of(Framing::None)).map(Err)
    })
    .await?;
    Ok(Next::Switch(Box::new(stream)))
}

/// Answers in place of an upstream.
async fn refuse(
    caller: &dyn Caller,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    refusal: Refusal,
    is_grpc: bool,
) -> Next {
    caller.refused(&refusal);
    let body = exchange.refuse(&refusal, is_grpc);
    let is_head = exchange.record.summary().method() == "HEAD";
    let mut body = if is_head { &[] } else { body.as_bytes() };
    let framing = if is_head { Framing::None } else { Framing::Length(body.len() as u64) };
    down.send_head(&mut exchange.response, framing, refusal.close);
    let sent = poll_fn(|cx| {
        let sent = poll_text(cx, down.codec(), &mut body).map_err(|_| Stop::Gone)?;
        if sent.is_ready() {
            return Poll::Ready(Ok(()));
        }
        down.poll_cut(cx, caller, exchange).map(|ending| Err(Stop::Cut(ending)))
    });
    match sent.await {
        Ok(()) if !refusal.close => Next::Request,
        _ => Next::Close,
    }
}

fn poll_text(
    cx: &mut Context<'_>,
    sink: &mut impl BodySink,
    text: &mut &[u8],
) -> Poll<Result<(), BodyError>> {
    while !text.is_empty() {
        let sent = ready!(sink.poll_data(cx, text, None))?;
        *text = text.get(sent..).unwrap_or_default();
        if text.is_empty() {
            sink.end(None)?;
        }
    }
    sink.poll_flush(cx)
}

fn poll_download(
    cx: &mut Context<'_>,
    channel: &mut Channel,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    download: &mut Flow,
) -> Result<(), Stop> {
    if download.is_done() {
        return Ok(());
    }
    let before = download.bytes();
    let moved = download.poll(cx, channel, down.codec(), |trailers| {
        hops::clean_trailers(trailers);
        exchange.record.trailers(trailers);
    });
    exchange.record.sent(download.bytes() - before);
    match moved {
        Poll::Ready(Err(FlowError::Source(error))) => Err(Stop::Broken(error)),
        Poll::Ready(Err(FlowError::Sink(_))) => Err(Stop::Gone),
        Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
    }
}

/// A request's body on its way.
struct Upload {
    flow: Flow,
    /// There is no byte in it.
    is_empty: bool,
    /// The upstream takes no more of it; its response may say why.
    is_broken: bool,
}

impl Upload {
    const fn of(framing: Framing) -> Self {
        Self { flow: Flow::of(framing), is_empty: framing.is_empty(), is_broken: false }
    }

    fn is_over(&self) -> bool {
        self.is_broken || self.flow.is_done()
    }

    /// What became of it so far.
    fn sent(&self) -> SentBody {
        match (self.is_empty, self.flow.is_untouched()) {
            (true, _) => SentBody::Empty,
            (false, true) => SentBody::Untouched,
            (false, false) => SentBody::Begun,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        caller: &dyn Caller,
        down: &mut impl Downstream,
        channel: &mut Channel,
        exchange: &mut Exchange,
    ) -> Result<(), Stop> {
        if self.is_over() {
            return Ok(());
        }
        let before = self.flow.bytes();
        let moved = self.flow.poll(cx, down.codec(), channel, |trailers| {
            hops::clean_trailers(trailers);
            caller.clean_trailers(trailers);
        });
        exchange.record.received(self.flow.bytes() - before);
        match moved {
            Poll::Ready(Err(FlowError::Source(BodyError::Malformed(why)))) => {
                Err(Refusal::new(Code::BadRequest, why).closing().into())
            }
            Poll::Ready(Err(FlowError::Source(_))) => Err(Stop::Gone),
            Poll::Ready(Err(FlowError::Sink(_))) => {
                self.is_broken = true;
                Ok(())
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }
}

/// Ready when the request ends for a reason that is neither its body nor its response.
fn poll_over(
    cx: &mut Context<'_>,
    caller: &dyn Caller,
    down: &mut impl Downstream,
    exchange: &Exchange,
    upload: &Upload,
) -> Poll<Stop> {
    // While the body comes, its end tells the same.
    if upload.is_over() && down.poll_gone(cx).is_ready() {
        return Poll::Ready(Stop::Gone);
    }
    if exchange.poll_killed(cx).is_ready() {
        let detail = "the policy changed while the app worked on the request";
        let refusal = Refusal::new(Code::NoLongerAllowed, detail);
        return Poll::Ready(Stop::Refused(refusal.closing()));
    }
    down.poll_cut(cx, caller, exchange).map(Stop::Cut)
}

async fn unless_over<T>(
    work: impl Future<Output = T>,
    caller: &dyn Caller,
    down: &mut impl Downstream,
    exchange: &Exchange,
    upload: &Upload,
) -> Result<T, Stop> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => poll_over(cx, caller, down, exchange, upload).map(Err),
    })
    .await
}
