//! One address of an upstream: what is open to it, and how more is opened.
//!
//! Whoever needs a connection that many can share waits for the one that is being dialled, instead of dialling another.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use svidecar_code::Code;
use svidecar_config::address::Address;
use tokio::{sync::Notify, time::Instant};

use super::{
    channel::{Kind, Ready},
    connect::{AlpnMemory, Connected, Offer, connect},
    facts::ConnectionFacts,
    multiplexed::{Carries, Multiplexed},
    pool::Pool,
    resolve::Resolver,
};
use crate::{
    http1::{self, Connection},
    io::{Transport, tls::Alpn},
    message::refusal::Refusal,
    plan::upstream::{BytesChoice, UpstreamSpec},
    runtime::worker::Worker,
};

/// Connections that are asked for one tunnel: the second when the first says that it did not look at the wish.
const MOST_TUNNEL_ATTEMPTS: usize = 2;

/// One address, as one worker uses it.
pub struct Endpoint {
    spec: Arc<UpstreamSpec>,
    address: Address,
    resolver: Option<Resolver>,
    pool: Rc<Pool>,
    multiplexed: RefCell<Vec<Multiplexed>>,
    dialling: RefCell<Option<Rc<Dialling>>>,
    /// The last handshake agreed on a connection that can be shared; unknown before the first.
    is_sharing: Cell<Option<bool>>,
    memory: AlpnMemory,
    avoid_until: Cell<Option<Instant>>,
}

/// A connection that is being dialled, for those who wait for it.
#[derive(Default)]
struct Dialling {
    is_over: Notify,
    failure: RefCell<Option<Refusal>>,
}

/// What was found or opened.
enum Opened {
    One(Transport, Rc<ConnectionFacts>),
    Multiplexed(Multiplexed),
}

impl Endpoint {
    /// Without any connection yet.
    #[must_use]
    pub fn new(spec: &Arc<UpstreamSpec>, address: &Address) -> Self {
        Self {
            spec: Arc::clone(spec),
            resolver: match address {
                Address::Tcp { host, port } => Some(Resolver::new(host, *port)),
                Address::Unix(_) => None,
            },
            address: address.clone(),
            pool: Pool::new(spec.idle_timeout),
            multiplexed: RefCell::default(),
            dialling: RefCell::default(),
            is_sharing: Cell::new(None),
            memory: AlpnMemory::default(),
            avoid_until: Cell::new(None),
        }
    }

    /// Whether it failed a moment ago.
    #[must_use]
    pub fn is_avoided(&self) -> bool {
        self.avoid_until.get().is_some_and(|until| until > Instant::now())
    }

    /// Passes it over until then, while another one works.
    pub fn avoid(&self, until: Option<Instant>) {
        self.avoid_until.set(until);
    }

    /// A connection of HTTP/1 that has served a request and waits for the next.
    #[must_use]
    pub fn pooled(&self, worker: &Worker) -> Option<Ready> {
        let (connection, facts) = self.pool.take(worker)?;
        Some(Ready { facts, is_reused: true, kind: Kind::Http1(connection, Rc::clone(&self.pool)) })
    }

    /// A way for a request: over a connection that is shared, or over a new one.
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn ready(&self, worker: &Rc<Worker>, http2: bool) -> Result<Ready, Refusal> {
        let opened = self.open(worker, if http2 { Offer::Http2 } else { Offer::Http1 }).await?;
        let (stream, facts) = match opened {
            Opened::Multiplexed(Multiplexed { session, facts, .. }) if http2 => {
                return Ok(Ready { facts, is_reused: true, kind: Kind::Http2(session) });
            }
            Opened::Multiplexed(shared) => (shared.open(Carries::Http1)?, Rc::clone(&shared.facts)),
            Opened::One(stream, facts) => (stream, facts),
        };
        let limits = http1::Limits { bytes: self.spec.max_header_bytes, fields: self.spec.max_headers };
        let connection = Box::new(Connection::new(stream, limits));
        Ok(Ready { facts, is_reused: false, kind: Kind::Http1(connection, Rc::clone(&self.pool)) })
    }

    /// A way for bytes of any protocol.
    ///
    /// # Errors
    /// What to answer instead; for TCP only its code and detail matter.
    pub async fn bytes(&self, worker: &Rc<Worker>) -> Result<(Transport, Rc<ConnectionFacts>), Refusal> {
        let BytesChoice::Hbone(destination) = &self.spec.bytes else {
            return match self.open(worker, Offer::Bytes).await? {
                Opened::Multiplexed(shared) => Ok((shared.open(Carries::Bytes)?, shared.facts)),
                Opened::One(stream, facts) => Ok((stream, facts)),
            };
        };
        let destination = destination.as_ref().and_then(|destination| destination.through(&self.address));
        let destination = destination.unwrap_or_else(|| self.address.to_string());
        for _ in 0..MOST_TUNNEL_ATTEMPTS {
            let shared = match self.open(worker, Offer::Hbone).await? {
                Opened::Multiplexed(shared) => shared,
                Opened::One(_, facts) => {
                    let what = "did not agree to HTTP/2 (ALPN `h2`), which `tunnel: hbone` needs";
                    return Err(self.refusal(&facts.address, Code::NoCommonProtocol, what));
                }
            };
            if let Some(stream) = shared.tunnel(&destination).await? {
                return Ok((stream, shared.facts));
            }
        }
        let what = "went away without looking at the CONNECT of a tunnel, twice";
        Err(self.refusal(&self.address.to_string(), Code::UpstreamClosed, what))
    }

    fn refusal(&self, address: &str, code: Code, what: &str) -> Refusal {
        Refusal::new(code, format!("`{}` at {address} {what}", self.spec.name))
    }

    async fn open(&self, worker: &Rc<Worker>, offer: Offer) -> Result<Opened, Refusal> {
        let may_be_shared = loop {
            if let Some(shared) = self.shared_for(worker, offer) {
                return Ok(Opened::Multiplexed(shared));
            }
            if self.settling(offer).await? {
                continue;
            }
            let may_be_shared = match offer {
                Offer::Http2 => true,
                Offer::Http1 | Offer::Bytes => {
                    self.spec.tls.is_some() && self.is_sharing.get() != Some(false)
                }
                Offer::Hbone => self.spec.tls.is_some(),
            };
            let dialling = self.dialling.borrow().clone();
            let Some(other) = dialling.filter(|_| may_be_shared) else { break may_be_shared };
            other.is_over.notified().await;
            if let Some(failure) = other.failure.take() {
                other.failure.replace(Some(failure.clone()));
                return Err(failure);
            }
        };
        let turn = may_be_shared.then(|| Turn::begin(self));
        let (resolver, version) = (self.resolver.as_ref(), worker.version());
        let connecting = connect(&worker.shared, &self.spec, &self.address, resolver, offer, &self.memory);
        let Connected { stream, alpn, server, address } = connecting.await.inspect_err(|refusal| {
            if let Some(turn) = &turn {
                turn.dialling.failure.replace(Some(refusal.clone()));
            }
        })?;
        self.is_sharing.set(Some(alpn == Some(Alpn::Svidecar)));
        let is_shared = match alpn {
            Some(alpn) => alpn != Alpn::Http1,
            // By prior knowledge.
            None => offer == Offer::Http2 && self.spec.tls.is_none(),
        };
        let server = (server.map(Rc::new), is_shared);
        let facts = ConnectionFacts::new(worker, version, &self.spec, &self.address, address, server);
        if !is_shared {
            return Ok(Opened::One(stream, facts));
        }
        let shared = Multiplexed::start(worker, stream, facts, &self.pool, alpn == Some(Alpn::Svidecar));
        self.multiplexed.borrow_mut().push(shared.clone());
        Ok(Opened::Multiplexed(shared))
    }

    /// Waits for a connection that has just been opened, until it is known how much it can be shared. Says whether there
    /// was one.
    async fn settling(&self, offer: Offer) -> Result<bool, Refusal> {
        let settling = self.multiplexed.borrow().iter().find_map(|shared| shared.settling(offer));
        let Some(settling) = settling else { return Ok(false) };
        match tokio::time::timeout(self.spec.handshake_timeout, settling).await {
            Ok(()) => Ok(true),
            Err(_) => {
                let what = "agreed to HTTP/2 and did not begin it in time";
                Err(self.refusal(&self.address.to_string(), Code::HandshakeTimeout, what))
            }
        }
    }

    /// A shared connection with room for one more.
    fn shared_for(&self, worker: &Rc<Worker>, offer: Offer) -> Option<Multiplexed> {
        let mut all = self.multiplexed.borrow_mut();
        all.retain(|shared| !shared.session.is_closed() && shared.facts.is_usable(worker));
        all.iter().find(|shared| shared.has_room_for(offer)).cloned()
    }
}

/// The right to dial for others too; ends with the attempt, however it ends.
struct Turn<'e> {
    endpoint: &'e Endpoint,
    dialling: Rc<Dialling>,
}

impl<'e> Turn<'e> {
    fn begin(endpoint: &'e Endpoint) -> Self {
        let dialling = Rc::<Dialling>::default();
        endpoint.dialling.replace(Some(Rc::clone(&dialling)));
        Self { endpoint, dialling }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.endpoint.dialling.replace(None);
        self.dialling.is_over.notify_waiters();
    }
}
