//! One request from top to bottom, whatever both sides speak: admit → pick the upstream → send → answer → record.
//!
//! The steps are here, in their order. What a step does is elsewhere: admitting in [`Row`](crate::admit::Row), picking in
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
    caller::Caller,
    downstream::Downstream,
    exchange::Exchange,
    flow::{Flow, FlowError},
    rules::Rules,
    stop::Stop,
    upload::Upload,
};
use crate::{
    http1::Framing,
    io,
    message::{BodyError, BodySink, Version, hops, refusal::Refusal},
    upstream::{
        channel::{Channel, NoResponse, Ready},
        facts::ConnectionFacts,
        retry::{self, Sent},
    },
};

/// Interim responses that are passed on for one request: an app that sends more is in a loop.
const MOST_INTERIM: usize = 16;

/// What becomes of the client's connection.
pub enum Next {
    /// As far as this request is concerned, it may go on.
    Request,
    /// It is of no further use.
    Close,
    /// It carries another protocol from now on, toward this stream of the upstream; these bytes of it were read already.
    Switch(Box<(io::Transport, io::Buffer)>),
}

/// Serves the request whose head is in `exchange`. Recorded when it is over, unless it switched protocols: then what
/// follows still belongs to it.
pub async fn serve(caller: &Caller, down: &mut impl Downstream, exchange: &mut Exchange) -> Next {
    let mut passage = Passage::begin(caller, down, exchange);
    let is_grpc = passage.exchange.request.is_grpc();
    // To a client of gRPC the code of a reset is a status, and its deadline and an answer of ours would race.
    let understands_resets = is_grpc && passage.exchange.request.version == Version::Http2;
    let next = match passage.forward(is_grpc).await {
        Ok(next) => next,
        Err(Stop::Refused(refusal)) if !passage.exchange.is_answered() => {
            passage.refuse(refusal, is_grpc).await
        }
        Err(Stop::Reset(_, refusal)) if !understands_resets => passage.refuse(refusal, is_grpc).await,
        Err(stop) => {
            if matches!(stop, Stop::Gone) {
                caller.gave_up(passage.exchange.upstream());
            }
            passage.down.abort(stop.reset_code());
            stop.note(&mut passage.exchange.record);
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
    caller: &Caller,
    down: &mut impl Downstream,
    exchange: &mut Exchange,
    refusal: Refusal,
) -> Next {
    let next = Passage::begin(caller, down, exchange).refuse(refusal, false).await;
    exchange.end();
    next
}

/// Writes down what came in place of a request and gets no answer.
pub fn ignore_head(caller: &Caller, exchange: &mut Exchange, refusal: Refusal) {
    let rules = caller.rules();
    exchange.begin(&rules.origin);
    caller.refused(&rules, &refusal);
    exchange.record.fail(refusal.code, Some(refusal.detail));
    exchange.end();
}

/// A request on its way, with all that it has to do with.
struct Passage<'a, D> {
    /// Who asks.
    caller: &'a Caller,
    /// What rules the request, from its head to its end.
    rules: Rc<Rules>,
    /// The side that it came from.
    down: &'a mut D,
    /// Its heads and its record.
    exchange: &'a mut Exchange,
    /// Its body.
    upload: Upload,
}

impl<'a, D: Downstream> Passage<'a, D> {
    fn begin(caller: &'a Caller, down: &'a mut D, exchange: &'a mut Exchange) -> Self {
        let rules = caller.rules();
        exchange.begin(&rules.origin);
        exchange.deadlines.begin(caller.worker(), &rules.listener.timeouts());
        let upload = Upload::of(down.request_framing());
        Self { caller, rules, down, exchange, upload }
    }

    /// The steps.
    async fn forward(&mut self, is_grpc: bool) -> Result<Next, Stop> {
        let may_switch = self.admit().await?;
        self.exchange.deadlines.pass(&self.rules.listener.timeouts(), is_grpc || may_switch);
        let (mut channel, facts) = self.ask().await?;
        let exchange = &mut *self.exchange;
        exchange.deadlines.answered();
        let framing = channel.receive_body(&exchange.response).map_err(|error| error.refusal(&facts))?;
        hops::clean_response(&mut exchange.response);
        if exchange.response.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(if may_switch { channel.into_stream() } else { None }).await;
        }
        self.down.send_head(&mut exchange.response, framing, false);
        exchange.answered();
        let mut download = Flow::of(framing);
        let moved = poll_fn(|cx| {
            self.poll_download(cx, &mut channel, &mut download)?;
            self.poll_upload(cx, &mut channel)?;
            if download.is_done() && self.upload.is_over() {
                return Poll::Ready(Ok(()));
            }
            self.poll_over(cx).map(Err)
        });
        if let Err(stop) = moved.await {
            channel.abandon();
            return Err(stop);
        }
        if self.upload.is_broken() {
            return Ok(Next::Close);
        }
        channel.finish(self.caller.worker(), facts);
        Ok(Next::Request)
    }

    /// Asks whether it may pass, and says whether it may switch protocols.
    async fn admit(&mut self) -> Result<bool, Stop> {
        let admission = {
            let Exchange { request, record, deadlines, .. } = &mut *self.exchange;
            let mut row = pin!(self.caller.admit(&self.rules, request, record));
            poll_fn(|cx| {
                if let Poll::Ready(outcome) = row.as_mut().poll(cx) {
                    return Poll::Ready(outcome.map_err(Stop::Refused));
                }
                if self.down.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Stop::Gone));
                }
                if let Poll::Ready(refusal) = deadlines.poll_missed(cx) {
                    return Poll::Ready(Err(refusal.into()));
                }
                self.down.poll_cut(cx, self.caller, None).map(|ending| Err(Stop::Cut(ending)))
            })
            .await?
        };
        let may_switch = admission.may_switch;
        self.exchange.takes_off(admission);
        Ok(may_switch)
    }

    /// Sends the request and waits for the final head of its response. Without one, it goes out once more where [`retry`]
    /// says so.
    async fn ask(&mut self) -> Result<(Channel, Rc<ConnectionFacts>), Stop> {
        if let Some(pause) = self.caller.pause() {
            self.unless_over(Box::pin(tokio::time::sleep(pause))).await?;
        }
        let (upstream, worker) = (Rc::clone(&self.rules.upstream), self.caller.worker());
        let http2 = upstream.takes_http2(&self.exchange.request);
        let mut times = 0;
        loop {
            let pooled = if times > 0 { None } else { upstream.pooled(worker, http2) };
            let ready = match pooled {
                Some(ready) => ready,
                None => self.unless_over(Box::pin(upstream.ready(worker, http2))).await??,
            };
            let (facts, is_reused) = (Rc::clone(&ready.facts), ready.is_reused);
            self.exchange.goes_to(&facts);
            let error = match self.send(ready).await? {
                Ok(channel) => return Ok((channel, facts)),
                Err(error) => error,
            };
            times += 1;
            let sent = Sent { times, is_reused, body: self.upload.sent(), head: &self.exchange.request };
            if !retry::goes_out_again(&sent, &error) {
                let refusal = error.refusal(&facts);
                return Err(match error {
                    NoResponse::Reset(code) => Stop::Reset(code, refusal),
                    _ => Stop::Refused(refusal),
                });
            }
            debug!(upstream = %facts.spec.name, address = facts.address, %error, "A request goes out again on another connection");
            self.upload = Upload::of(self.down.request_framing());
        }
    }

    /// Sends the request over a connection; passes interim heads on, and as much of the request's body as the upstream
    /// takes before it answers.
    async fn send(&mut self, ready: Ready) -> Result<Result<Channel, NoResponse>, Stop> {
        let mut channel = match ready.send(&mut self.exchange.request, self.down.request_framing()) {
            Ok(channel) => channel,
            Err(error) => return Ok(Err(error)),
        };
        let mut interim = 0;
        let head = poll_fn(|cx| {
            self.poll_upload(cx, &mut channel)?;
            let mut anew = false;
            // The next head waits until the last one could leave: an upstream cannot talk its client's memory full.
            while interim == 0 || self.down.poll_interim(cx).map_err(|_| Stop::Gone)?.is_ready() {
                let Poll::Ready(read) = channel.poll_head(cx, &mut self.exchange.response) else { break };
                if read.is_err() || !self.exchange.response.is_interim() {
                    return Poll::Ready(Ok(read));
                }
                if interim == MOST_INTERIM {
                    return Poll::Ready(Err(too_many_interim().into()));
                }
                hops::clean_response(&mut self.exchange.response);
                self.down.send_interim(&self.exchange.response);
                interim += 1;
                anew = true;
            }
            // An interim head may wait to leave.
            let _ = self.down.codec().poll_flush(cx).map_err(|_| Stop::Gone)?;
            if self.upload.is_over() {
                self.exchange.deadlines.expect_response(anew);
            }
            self.poll_over(cx).map(Err)
        });
        match head.await {
            Ok(read) => Ok(read.map(|()| channel)),
            Err(stop) => {
                channel.abandon();
                Err(stop)
            }
        }
    }

    /// Agrees to another protocol, if somebody asked for it: then there is a stream.
    async fn switch(&mut self, stream: Option<(io::Transport, io::Buffer)>) -> Result<Next, Stop> {
        let Some(stream) = stream else {
            let detail = "the upstream switched protocols although nobody asked it to";
            return Err(Refusal::new(Code::UpstreamProtocolError, detail).into());
        };
        self.down.send_head(&mut self.exchange.response, Framing::None, false);
        self.exchange.answered();
        self.upload = Upload::of(Framing::None);
        poll_fn(|cx| {
            if self.down.codec().poll_flush(cx).map_err(|_| Stop::Gone)?.is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.poll_over(cx).map(Err)
        })
        .await?;
        Ok(Next::Switch(Box::new(stream)))
    }

    /// Answers in place of an upstream.
    async fn refuse(&mut self, refusal: Refusal, is_grpc: bool) -> Next {
        self.caller.refused(&self.rules, &refusal);
        let exchange = &mut *self.exchange;
        let body = exchange.refuse(&refusal, is_grpc);
        let is_head = exchange.record.summary().method() == "HEAD";
        let mut body = if is_head { &[] } else { body.as_bytes() };
        let framing = if is_head { Framing::None } else { Framing::Length(body.len() as u64) };
        self.down.send_head(&mut exchange.response, framing, refusal.close);
        let sent = poll_fn(|cx| {
            let sent = poll_text(cx, self.down.codec(), &mut body).map_err(|_| Stop::Gone)?;
            if sent.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.down.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Stop::Gone));
            }
            let cut = self.down.poll_cut(cx, self.caller, self.exchange.upstream());
            cut.map(|ending| Err(Stop::Cut(ending)))
        });
        match sent.await {
            Ok(()) if !refusal.close => Next::Request,
            _ => Next::Close,
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, channel: &mut Channel) -> Result<(), Stop> {
        let before = self.upload.bytes();
        let clean = |trailers: &mut _| self.rules.row.clean_trailers(trailers);
        let moved = self.upload.poll(cx, self.down.codec(), channel, clean);
        self.exchange.record.received(self.upload.bytes() - before);
        moved.map_err(|error| match error {
            BodyError::Malformed(why) => Refusal::new(Code::BadRequest, why).closing().into(),
            _ => Stop::Gone,
        })
    }

    fn poll_download(
        &mut self,
        cx: &mut Context<'_>,
        channel: &mut Channel,
        download: &mut Flow,
    ) -> Result<(), Stop> {
        if download.is_done() {
            return Ok(());
        }
        let before = download.bytes();
        let record = &mut self.exchange.record;
        let moved = download.poll(cx, channel, self.down.codec(), |trailers| {
            hops::clean_trailers(trailers);
            record.trailers(trailers);
        });
        record.sent(download.bytes() - before);
        match moved {
            Poll::Ready(Err(FlowError::Source(error))) => Err(Stop::Broken(error)),
            Poll::Ready(Err(FlowError::Sink(_))) => Err(Stop::Gone),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Ready when the request ends for a reason that is neither its body nor its response.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        // While more of the body is waited for, its end tells the same.
        if !self.upload.listens() && self.down.poll_gone(cx).is_ready() {
            return Poll::Ready(Stop::Gone);
        }
        if let Poll::Ready(refusal) = self.exchange.deadlines.poll_missed(cx) {
            return Poll::Ready(refusal.into());
        }
        if self.exchange.poll_killed(cx).is_ready() {
            let detail = "the policy changed while the app worked on the request";
            let refusal = Refusal::new(Code::NoLongerAllowed, detail);
            return Poll::Ready(Stop::Refused(refusal.closing()));
        }
        self.down.poll_cut(cx, self.caller, self.exchange.upstream()).map(Stop::Cut)
    }

    async fn unless_over<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_over(cx).map(Err),
        })
        .await
    }
}

fn too_many_interim() -> Refusal {
    let detail = format!("the upstream sent more than {MOST_INTERIM} interim responses to one request");
    Refusal::new(Code::TooManyInterimResponses, detail)
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
