//! HTTP on a connection, in both directions: one readable function per request.
//!
//! This is the part that a codec of our own may replace one day; it therefore holds the steps of a request, and
//! everything about headers, pools and policies is elsewhere.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use rustls_pki_types::UnixTime;
use svidecar_config::{
    proxy::{Limits, OnPeerExpiry},
    units::HumanDuration,
};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::{exchange::Exchange, hops, upgrade};
use crate::{
    body::{RequestBody, ResponseBody, Running},
    codes,
    connections::{Event, KillSwitch, LOSER_GRACE, Lifeline},
    decide::{self, Flight},
    headers::IdentityHeaders,
    inbound::{self, FlightGuard, InboundConnection},
    net::Stream,
    outbound::{self, OutboundConnection},
    plan::Inbound,
    refusal::Refusal,
    upstream::{
        Answer,
        dial::{CONNECTION_WINDOW, STREAM_WINDOW},
    },
};

/// Requests that one HTTP/2 connection may have running.
const MAX_STREAMS: u32 = 256;

/// How a connection ended.
pub enum End {
    /// By itself, or gracefully.
    Finished,
    /// The protocol or the transport failed.
    Failed(String),
    /// It was cut.
    Cut,
}

/// What an event means for an HTTP connection.
enum Action {
    /// Nothing.
    GoOn,
    /// Finish the running requests, take no new one; cut after the grace, if there is one.
    Finish(Option<Duration>),
}

/// Serves a peer's connection until it ends.
pub async fn serve_inbound(
    connection: &Arc<InboundConnection>,
    stream: TlsStream<Stream>,
    http2: bool,
    lifeline: &mut Lifeline,
) -> End {
    let settings = &connection.listener.settings;
    let timeout = settings.timeouts.request_headers.max(settings.timeouts.idle);
    let builder = server(&settings.limits, timeout);
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    let service = service_fn(|request| {
        let connection = Arc::clone(connection);
        async move { Ok::<_, Infallible>(inbound_request(connection, request).await) }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    drive(serving, lifeline, |event| on_inbound_event(connection, event)).await
}

/// Serves our workload's connection until it ends.
pub async fn serve_outbound(
    connection: &Arc<OutboundConnection>,
    stream: Stream,
    lifeline: &mut Lifeline,
) -> End {
    let settings = &connection.listener.settings;
    let timeout = settings.timeouts.request_headers.max(settings.timeouts.idle);
    // HTTP/1 and HTTP/2 by prior knowledge, told apart by the first bytes.
    let builder = server(&settings.limits, timeout);
    let service = service_fn(|request| {
        let connection = Arc::clone(connection);
        async move { Ok::<_, Infallible>(outbound_request(connection, request).await) }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    drive(serving, lifeline, |event| match event {
        Event::Draining => Action::Finish(None),
        Event::Changed => {
            let plan = &connection.worker.shared.current.load().plan;
            // A listener that the settings no longer have takes its connections along.
            match plan.outbound(&connection.listener.name) {
                Some(_) => Action::GoOn,
                None => Action::Finish(Some(plan.settings.drain_timeout.get())),
            }
        }
        Event::PeerExpired | Event::TimeIsUp => Action::GoOn,
    })
    .await
}

/// The settings of both server sides. hyper has one timer for an idle connection and a slow head, so the longer of the
/// two timeouts rules.
fn server(limits: &Limits, head_timeout: HumanDuration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let max_header_bytes = limits.max_header_bytes.as_usize();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout.get())
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(usize::from(limits.max_headers))
        .max_buf_size(max_header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX));
    builder
}

/// Runs a connection and follows its lifeline.
async fn drive<C>(connection: C, lifeline: &mut Lifeline, mut on_event: impl FnMut(Event) -> Action) -> End
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            result = connection.as_mut() => return match result {
                Ok(()) => End::Finished,
                Err(error) => End::Failed(error.to_string()),
            },
            event = lifeline.next() => {
                if event == Event::TimeIsUp {
                    return End::Cut;
                }
                if let Action::Finish(grace) = on_event(event) {
                    connection.as_mut().graceful_shutdown();
                    if let Some(grace) = grace {
                        lifeline.end_within(grace);
                    }
                }
            }
        }
    }
}

fn on_inbound_event(connection: &Arc<InboundConnection>, event: Event) -> Action {
    match event {
        Event::Changed => {
            let snapshot = connection.worker.shared.current.load_full();
            if snapshot.plan.inbound(&connection.listener.name).is_none() {
                return Action::Finish(Some(snapshot.plan.settings.drain_timeout.get()));
            }
            if connection.distrusted(&snapshot) {
                return Action::Finish(Some(LOSER_GRACE));
            }
            let (losers, connection_loses) = connection.decide_again(&snapshot);
            if !losers.is_empty() {
                debug!(listener = %connection.listener.name, peer = %connection.peer.id(), requests = losers.len(), "Running requests are no longer allowed");
                connection.worker.spawn(async move {
                    tokio::time::sleep(LOSER_GRACE).await;
                    losers.iter().for_each(|flight| flight.kill.kill());
                });
            }
            // The requests that are still allowed finish; only the losers are cut.
            if connection_loses { Action::Finish(None) } else { Action::GoOn }
        }
        Event::PeerExpired => {
            let snapshot = connection.worker.shared.current.load();
            snapshot.plan.expiry_grace().map_or(Action::GoOn, |grace| Action::Finish(Some(grace)))
        }
        Event::Draining => Action::Finish(None),
        Event::TimeIsUp => Action::GoOn,
    }
}

/// One request of a peer: peer → decide → forward → record.
async fn inbound_request(
    connection: Arc<InboundConnection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let snapshot = connection.worker.shared.current.load_full();
    let listener = connection.listener_now(&snapshot);
    let mut exchange = inbound::begin_exchange(&connection, &listener, &request);
    let grpc = hops::is_grpc(request.headers());
    let expiry = snapshot.plan.settings.on_peer_expiry;
    drop(snapshot);
    match forward_inbound(&connection, &listener, expiry, request, &mut exchange).await {
        Ok(forwarded) => respond(forwarded, exchange),
        Err(refusal) => exchange.refuse(&refusal, grpc),
    }
}

async fn forward_inbound(
    connection: &Arc<InboundConnection>,
    listener: &Arc<Inbound>,
    expiry: OnPeerExpiry,
    request: Request<Incoming>,
    exchange: &mut Exchange,
) -> Result<Forwarded, Refusal> {
    if expiry != OnPeerExpiry::Ignore && connection.peer.is_expired(UnixTime::now()) {
        let detail = format!("the SVID of {} has expired since it connected", connection.peer.id());
        return Err(Refusal::new(StatusCode::FORBIDDEN, codes::PEER_EXPIRED, detail).closing());
    }
    let upgrade = hops::requested_upgrade(&request);
    let (mut parts, body) = request.into_parts();
    decide::normalize_target(&mut parts)?;
    exchange.target(&parts.uri);
    let decision = decide::request(listener, &connection.peer, &parts);
    exchange.decided(&decision);
    if !decision.is_allowed() {
        let detail = format!("`{}` denies it", decision.rule_name());
        return Err(Refusal::new(StatusCode::FORBIDDEN, codes::DENIED_BY_RULE, detail));
    }
    let flight = connection.take_off(Flight::new(&parts, listener.policy.reads_headers()));
    let kill = Arc::clone(&flight.flight().kill);

    hops::strip(&mut parts.headers);
    listener.headers.apply(&mut parts.headers, Some(&connection.peer_headers(listener)));
    let client = upgrade.map(|protocol| {
        hops::set_upgrade(&mut parts.headers, protocol);
        parts.extensions.remove::<OnUpgrade>()
    });
    let body = request_body(body, exchange, Some(&listener.headers));
    let request = Request::from_parts(parts, body);

    let app = connection.worker.upstream(&listener.app);
    let answer = tokio::select! {
        answer = app.send(&connection.worker, request) => answer?,
        () = kill.killed() => {
            let detail = "the policy changed while the app worked on the request";
            return Err(Refusal::new(StatusCode::FORBIDDEN, codes::NO_LONGER_ALLOWED, detail).closing());
        }
    };
    let tunnel = client.flatten().map(|client| upgrade::Tunnel::inbound(connection, client, flight.flight()));
    Ok(Forwarded { answer, flight: Some(flight), kill: Some(kill), tunnel })
}

/// One request of our workload: pick upstream → pick endpoint → handshake → check the server's ID → forward → record.
async fn outbound_request(
    connection: Arc<OutboundConnection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut exchange = outbound::begin_exchange(&connection, &request);
    let grpc = hops::is_grpc(request.headers());
    match forward_outbound(&connection, request, &mut exchange).await {
        Ok(forwarded) => respond(forwarded, exchange),
        Err(refusal) => {
            if let Some(leave) = connection.worker.shared.throttle.leave(Instant::now()) {
                warn!(
                    listener = %connection.listener.name,
                    code = refusal.code,
                    error = refusal.detail,
                    kept_back = leave.kept_back,
                    "A request of the workload failed"
                );
            }
            exchange.refuse(&refusal, grpc)
        }
    }
}

async fn forward_outbound(
    connection: &Arc<OutboundConnection>,
    request: Request<Incoming>,
    exchange: &mut Exchange,
) -> Result<Forwarded, Refusal> {
    if request.method() == http::Method::CONNECT {
        let detail = "CONNECT is not served; each outbound listener leads to one upstream";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, codes::BAD_REQUEST, detail));
    }
    let upgrade = hops::requested_upgrade(&request);
    let (mut parts, body) = request.into_parts();
    hops::strip(&mut parts.headers);
    let client = upgrade.map(|protocol| {
        hops::set_upgrade(&mut parts.headers, protocol);
        parts.extensions.remove::<OnUpgrade>()
    });
    let body = request_body(body, exchange, None);
    let request = Request::from_parts(parts, body);

    let upstream = connection.worker.upstream(&connection.upstream_now());
    let answer = upstream.send(&connection.worker, request).await?;
    if let Some(server) = &answer.facts.server {
        exchange.peer(server.id());
    }
    let tunnel = client.flatten().map(|client| {
        upgrade::Tunnel::outbound(connection, client, answer.facts.server.clone(), upstream.spec())
    });
    Ok(Forwarded { answer, flight: None, kill: None, tunnel })
}

fn request_body(body: Incoming, exchange: &Exchange, headers: Option<&Arc<IdentityHeaders>>) -> RequestBody {
    if body.is_end_stream() {
        return RequestBody::empty();
    }
    RequestBody::new(body, exchange.received(), headers.cloned())
}

/// A request that an upstream answered.
struct Forwarded {
    answer: Answer,
    flight: Option<FlightGuard>,
    kill: Option<Arc<KillSwitch>>,
    tunnel: Option<upgrade::Tunnel>,
}

/// Turns the upstream's response into the client's.
fn respond(forwarded: Forwarded, mut exchange: Exchange) -> Response<ResponseBody> {
    let Forwarded { answer, flight, kill, tunnel } = forwarded;
    exchange.answered(&answer);
    let (mut parts, body) = answer.response.into_parts();
    // Each side speaks its own version; hyper's server writes the one of its connection.
    parts.version = Version::HTTP_11;
    if hops::is_switching(parts.status) {
        let protocol = parts.headers.get(http::header::UPGRADE).cloned();
        let server = parts.extensions.remove::<OnUpgrade>();
        hops::strip(&mut parts.headers);
        let (Some(tunnel), Some(protocol), Some(server)) = (tunnel, protocol, server) else {
            let detail = "the upstream switched protocols although nobody asked it to";
            return exchange.refuse(
                &Refusal::new(StatusCode::BAD_GATEWAY, codes::UPSTREAM_PROTOCOL_ERROR, detail),
                false,
            );
        };
        hops::set_upgrade(&mut parts.headers, protocol);
        tunnel.start(server, exchange, flight);
        return Response::from_parts(parts, ResponseBody::own(Bytes::new()));
    }
    hops::strip(&mut parts.headers);
    if exchange.must_close() {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let running = Running { exchange, lease: answer.lease, kill, _flight: flight };
    Response::from_parts(parts, ResponseBody::upstream(body, running))
}
