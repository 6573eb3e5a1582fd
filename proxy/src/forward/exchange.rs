//! Everything about one request or connection that its record needs, gathered on the way and recorded exactly once,
//! when it is dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use svidecar_config::policy::Decision;
use svidecar_id::SpiffeId;

use crate::{
    body::ResponseBody,
    codes,
    drain::{Direction, reaches},
    handshake::HandshakeFailure,
    message,
    net::PeerAddress,
    plan::{Inbound, Outbound},
    record::{Decided, HttpFacts, Record},
    refusal::Refusal,
    upstream::{Answer, pool::ConnectionFacts},
    workers::Worker,
};

/// The listener that an exchange came in by.
#[derive(Clone)]
pub enum Via {
    /// For peers.
    Inbound(Arc<Inbound>),
    /// For our workload.
    Outbound(Arc<Outbound>),
}

impl Via {
    const fn direction(&self) -> Direction {
        match self {
            Self::Inbound(_) => Direction::Inbound,
            Self::Outbound(_) => Direction::Outbound,
        }
    }

    fn listener(&self) -> &str {
        match self {
            Self::Inbound(listener) => &listener.name,
            Self::Outbound(listener) => &listener.name,
        }
    }

    fn service(&self) -> &str {
        match self {
            Self::Inbound(listener) => listener.policy.service(),
            Self::Outbound(listener) => &listener.name,
        }
    }
}

/// One request with its response, or one connection that carried no requests.
pub struct Exchange {
    worker: Arc<Worker>,
    via: Via,
    address: PeerAddress,
    started: Moment,
    peer: Option<SpiffeId>,
    http: Option<Http>,
    received: Arc<AtomicU64>,
    sent: u64,
    upstream: Option<Arc<ConnectionFacts>>,
    decided: Option<Decided>,
    outcome: Outcome,
}

/// A moment by the clock that never jumps.
#[derive(Clone, Copy)]
pub struct Moment {
    clock: Instant,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { clock: Instant::now() }
    }
}

/// What is kept of a request; cheap to keep, for its parts are shared with the request.
struct Http {
    method: Method,
    host: Option<http::HeaderValue>,
    target: Uri,
    version: Version,
    status: Option<StatusCode>,
    grpc_status: Option<u32>,
}

enum Outcome {
    /// Dropped in this state, the client has gone away.
    Running,
    Completed,
    Failed {
        code: &'static str,
        detail: Option<String>,
    },
}

impl Exchange {
    /// Begins the exchange of a request.
    #[must_use]
    pub fn of_request(
        worker: &Arc<Worker>,
        via: Via,
        address: PeerAddress,
        peer: Option<&SpiffeId>,
        request: &Request<Incoming>,
    ) -> Self {
        let mut exchange = Self::of_connection(worker, via, address);
        exchange.peer = peer.cloned();
        exchange.http = Some(Http {
            method: request.method().clone(),
            host: request.headers().get(http::header::HOST).cloned(),
            target: request.uri().clone(),
            version: request.version(),
            status: None,
            grpc_status: None,
        });
        exchange
    }

    /// Begins the exchange of a connection that carries no requests.
    #[must_use]
    pub fn of_connection(worker: &Arc<Worker>, via: Via, address: PeerAddress) -> Self {
        Self {
            worker: Arc::clone(worker),
            via,
            address,
            started: Moment::now(),
            peer: None,
            http: None,
            received: Arc::default(),
            sent: 0,
            upstream: None,
            decided: None,
            outcome: Outcome::Running,
        }
    }

    /// Counts from an earlier moment.
    #[must_use]
    pub const fn since(mut self, started: Moment) -> Self {
        self.started = started;
        self
    }

    /// The verified ID at the other end.
    pub fn peer(&mut self, id: &SpiffeId) {
        self.peer = Some(id.clone());
    }

    /// The target as it is forwarded.
    pub fn target(&mut self, target: &Uri) {
        if let Some(http) = &mut self.http {
            http.target = target.clone();
        }
    }

    /// What the policy said.
    pub fn decided(&mut self, decision: &Decision<'_>) {
        self.decided = Some(Decided::of(decision));
    }

    /// Counts the bytes of the request's body.
    #[must_use]
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Bytes of the response went out.
    pub const fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The upstream that it was forwarded to.
    pub fn upstream(&mut self, facts: &Arc<ConnectionFacts>) {
        self.upstream = Some(Arc::clone(facts));
    }

    /// The upstream answered.
    pub fn answered(&mut self, answer: &Answer) {
        self.upstream(&answer.facts);
        self.status(&answer.response);
    }

    fn status<B>(&mut self, response: &Response<B>) {
        if let Some(http) = &mut self.http {
            http.status = Some(response.status());
        }
        self.trailers(response.headers());
    }

    /// Notes the status that gRPC keeps in trailers, or in the head when there is nothing else.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if let (Some(http), Some(status)) = (&mut self.http, trailers.get("grpc-status")) {
            http.grpc_status = status.to_str().ok().and_then(|status| status.parse().ok());
        }
    }

    /// Answers in place of an upstream.
    #[must_use]
    pub fn refuse(mut self, refusal: &Refusal, grpc: bool) -> Response<ResponseBody> {
        let response = refusal.response(grpc);
        self.status(&response);
        self.fail(refusal.code, Some(refusal.detail.clone()));
        response
    }

    /// The handshake failed, so there is nobody to answer.
    pub fn handshake_failed(mut self, failure: &HandshakeFailure) {
        self.fail(failure.code, Some(failure.detail.clone()));
    }

    /// The response came to its end.
    pub fn completed(&mut self) {
        if matches!(self.outcome, Outcome::Running) {
            self.outcome = Outcome::Completed;
        }
    }

    /// The upstream failed in the middle of its response.
    pub fn failed_in_body(&mut self, error: &hyper::Error) {
        self.fail(codes::UPSTREAM_CLOSED, Some(error.to_string()));
    }

    /// Decided again, with another outcome.
    pub fn no_longer_allowed(&mut self) {
        self.fail(codes::NO_LONGER_ALLOWED, None);
    }

    /// Bytes that a tunnel has carried.
    pub fn transferred(&mut self, received: u64, sent: u64) {
        self.received.store(received, Ordering::Relaxed);
        self.sent = sent;
    }

    /// It ended, with or without a failure. Recorded at once.
    pub fn ended(mut self, failure: Option<&'static str>) {
        match failure {
            Some(code) => self.fail(code, None),
            None => self.completed(),
        }
    }

    /// Whether the client should not send more on its connection, because the proxy goes down.
    #[must_use]
    pub fn must_close(&self) -> bool {
        let http1 = self.http.as_ref().is_some_and(|http| http.version < Version::HTTP_2);
        http1 && reaches(self.worker.shared.drain.phase(), self.via.direction())
    }

    fn fail(&mut self, code: &'static str, detail: Option<String>) {
        self.outcome = Outcome::Failed { code, detail };
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (code, detail) = match &self.outcome {
            Outcome::Running => (Some(codes::CLIENT_CLOSED), None),
            Outcome::Completed => (None, None),
            Outcome::Failed { code, detail } => (Some(*code), detail.as_deref()),
        };
        let http = self.http.as_ref().map(|http| HttpFacts {
            method: http.method.as_str(),
            host: http
                .target
                .authority()
                .map(http::uri::Authority::as_str)
                .or_else(|| http.host.as_ref().and_then(|host| host.to_str().ok()))
                .unwrap_or_default(),
            path: http.target.path(),
            version: match http.version {
                Version::HTTP_2 => message::Version::Http2,
                Version::HTTP_11 => message::Version::Http11,
                _ => message::Version::Http10,
            },
            status: http.status.map(|status| status.as_u16()),
            grpc_status: http.grpc_status,
        });
        self.worker.recorder.record(&Record {
            direction: self.via.direction(),
            listener: self.via.listener(),
            service: self.via.service(),
            started: self.started.clock,
            duration: self.started.clock.elapsed(),
            client: self.address.socket_address(),
            peer: self.peer.as_ref(),
            http,
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent,
            upstream: self.upstream.as_ref().map(|facts| facts.address.as_str()),
            decided: self.decided.as_ref().map(Decided::ruling),
            code,
            detail,
        });
    }
}
