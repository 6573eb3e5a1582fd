//! One address of an upstream: what is open to it, and how more is opened.
//!
//! Whoever needs a connection that many can share waits for the one that is being dialled, instead of dialling another.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use svidecar_code::Code;
use tokio::sync::Notify;

use super::{
    channel::{Kind, Ready},
    connect::{Allowance, AlpnMemory, Connected, Failure, Offer, connect},
    facts::{Before, ConnectionFacts},
    health::Health,
    multiplexed::{Carries, Multiplexed},
    place::{Location, Place},
    pool::Pool,
};
use crate::{
    http1::{self, Connection},
    io::{Transport, tls::Alpn},
    message::refusal::Refusal,
    plan::upstream::BytesChoice,
    runtime::worker::Worker,
};

/// Connections that are asked for one tunnel: the second when the first says that it did not look at the wish.
const MOST_TUNNEL_ATTEMPTS: usize = 2;

/// One address, as one worker uses it.
pub struct Endpoint {
    place: Place,
    /// Whether it works.
    pub health: Health,
    pool: Rc<Pool>,
    multiplexed: RefCell<Vec<Multiplexed>>,
    dialling: RefCell<Option<Rc<Dialling>>>,
    /// The last handshake agreed on a connection that can be shared; unknown before the first.
    is_sharing: Cell<Option<bool>>,
    memory: AlpnMemory,
}

/// A connection that is being dialled, for those who wait for it.
#[derive(Default)]
struct Dialling {
    is_over: Notify,
    failure: RefCell<Option<Failure>>,
}

/// What was found or opened.
enum Opened {
    One(Transport, Rc<ConnectionFacts>),
    Multiplexed(Multiplexed),
}

impl Endpoint {
    /// Without any connection yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            health: Health::default(),
            pool: Pool::new(place.spec.idle_timeout),
            multiplexed: RefCell::default(),
            dialling: RefCell::default(),
            is_sharing: Cell::new(None),
            memory: AlpnMemory::default(),
            place,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn location(&self) -> &Location {
        &self.place.location
    }

    /// Whether something is open to it.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let is_open = |shared: &Multiplexed| !shared.session.is_closed();
        self.pool.is_in_use() || self.multiplexed.borrow().iter().any(is_open)
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
    /// Why there is none.
    pub async fn ready(
        &self,
        worker: &Rc<Worker>,
        offer: Offer,
        allowance: &mut Allowance,
    ) -> Result<Ready, Failure> {
        let opened = self.open(worker, offer, allowance).await?;
        let (stream, facts) = match opened {
            Opened::Multiplexed(Multiplexed { session, facts, .. }) if offer == Offer::Http2 => {
                return Ok(Ready { facts, is_reused: true, kind: Kind::Http2(session) });
            }
            Opened::Multiplexed(shared) => (shared.open(Carries::Http1)?, Rc::clone(&shared.facts)),
            Opened::One(stream, facts) => (stream, facts),
        };
        let spec = &self.place.spec;
        let limits = http1::Limits { bytes: spec.max_header_bytes, fields: spec.max_headers };
        let connection = Box::new(Connection::new(stream, limits));
        Ok(Ready { facts, is_reused: false, kind: Kind::Http1(connection, Rc::clone(&self.pool)) })
    }

    /// A way for bytes of any protocol.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn bytes(
        &self,
        worker: &Rc<Worker>,
        allowance: &mut Allowance,
    ) -> Result<(Transport, Rc<ConnectionFacts>), Failure> {
        let Place { spec, name, .. } = &self.place;
        let BytesChoice::Hbone(destination) = &spec.bytes else {
            return match self.open(worker, Offer::Bytes, allowance).await? {
                Opened::Multiplexed(shared) => Ok((shared.open(Carries::Bytes)?, shared.facts)),
                Opened::One(stream, facts) => Ok((stream, facts)),
            };
        };
        let destination = destination.as_ref().and_then(|destination| destination.through(name));
        let destination = destination.unwrap_or_else(|| name.to_string());
        for _ in 0..MOST_TUNNEL_ATTEMPTS {
            let shared = match self.open(worker, Offer::Hbone, allowance).await? {
                Opened::Multiplexed(shared) => shared,
                Opened::One(_, facts) => {
                    let what = "did not agree to HTTP/2 (ALPN `h2`), which `tunnel: hbone` needs";
                    return Err(self.refusal(&facts.address, Code::NoCommonProtocol, what).into());
                }
            };
            if let Some(stream) = shared.tunnel(&destination).await? {
                return Ok((stream, shared.facts));
            }
        }
        let what = "went away without looking at the CONNECT of a tunnel, twice";
        Err(self.refusal(&name.to_string(), Code::UpstreamClosed, what).into())
    }

    fn refusal(&self, address: &str, code: Code, what: &str) -> Refusal {
        Refusal::new(code, format!("`{}` at {address} {what}", self.place.spec.name))
    }

    async fn open(
        &self,
        worker: &Rc<Worker>,
        offer: Offer,
        allowance: &mut Allowance,
    ) -> Result<Opened, Failure> {
        let spec = &self.place.spec;
        let may_be_shared = loop {
            if let Some(shared) = self.shared_for(worker, offer) {
                return Ok(Opened::Multiplexed(shared));
            }
            if self.settling(offer).await? {
                continue;
            }
            let may_be_shared = match offer {
                Offer::Http2 => true,
                Offer::Http1 | Offer::Bytes => spec.tls.is_some() && self.is_sharing.get() != Some(false),
                Offer::Hbone => spec.tls.is_some(),
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
        let before = Before::handshake(worker);
        // It needs much room, and most requests find a connection.
        let connecting = Box::pin(connect(&worker.shared, &self.place, offer, &self.memory, allowance));
        let Connected { stream, alpn, server, place } = connecting.await.inspect_err(|failure| {
            if let Some(turn) = &turn {
                turn.dialling.failure.replace(Some(failure.clone()));
            }
        })?;
        self.is_sharing.set(Some(alpn == Some(Alpn::Svidecar)));
        let is_shared = match alpn {
            Some(alpn) => alpn != Alpn::Http1,
            // By prior knowledge.
            None => offer == Offer::Http2 && spec.tls.is_none(),
        };
        let facts =
            ConnectionFacts::new(worker, before, (&self.place, place), (server.map(Rc::new), is_shared));
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
        match tokio::time::timeout(self.place.spec.handshake_timeout, settling).await {
            Ok(()) => Ok(true),
            Err(_) => {
                let what = "agreed to HTTP/2 and did not begin it in time";
                Err(self.refusal(&self.place.name.to_string(), Code::HandshakeTimeout, what))
            }
        }
    }

    /// Whether a shared connection has room for one more, for that purpose.
    #[must_use]
    pub fn has_room(&self, worker: &Worker, offer: Offer) -> bool {
        let has_room = |shared: &Multiplexed| shared.facts.is_usable(worker) && shared.has_room_for(offer);
        self.multiplexed.borrow().iter().any(has_room)
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
