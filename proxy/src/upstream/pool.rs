//! Connections to one endpoint that are ready for another request. One pool per worker, so nobody waits for a lock.
//!
//! Knows what hyper can do with a connection, not how to open one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use svidecar_config::address::Address;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{body::RequestBody, peer::Peer};

/// Idle HTTP/1 connections that are kept of one endpoint; the oldest goes first.
const MAX_IDLE: usize = 256;

/// What is known of one upstream connection.
pub struct ConnectionFacts {
    /// The endpoint as the settings name it.
    pub endpoint: Address,
    /// The address that was dialled.
    pub address: String,
    /// Who answered, when the connection is mTLS.
    pub server: Option<Arc<Peer>>,
    retired: AtomicBool,
}

impl ConnectionFacts {
    /// A connection that may be used.
    #[must_use]
    pub fn new(endpoint: Address, address: String, server: Option<Arc<Peer>>) -> Self {
        Self { endpoint, address, server, retired: AtomicBool::new(false) }
    }

    /// Takes the connection out of use: running requests end as they will, no new one starts.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// hyper's handle to a connection that can take a request.
pub enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Many at a time.
    Http2(http2::SendRequest<RequestBody>),
}

/// A connection and what is known of it.
pub struct Connection {
    /// The handle.
    pub sender: Sender,
    /// The facts.
    pub facts: Arc<ConnectionFacts>,
}

/// Connections to one endpoint.
pub struct Pool {
    this: Weak<Self>,
    state: Mutex<State>,
    idle_timeout: Duration,
    tracker: TaskTracker,
}

#[derive(Default)]
struct State {
    http1: Vec<Idle<http1::SendRequest<RequestBody>>>,
    http2: Option<Idle<http2::SendRequest<RequestBody>>>,
    reaping: bool,
}

struct Idle<S> {
    sender: S,
    facts: Arc<ConnectionFacts>,
    since: Instant,
}

impl Pool {
    /// An empty pool that closes what was not used for `idle_timeout`.
    #[must_use]
    pub fn new(idle_timeout: Duration, tracker: TaskTracker) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { this: this.clone(), state: Mutex::default(), idle_timeout, tracker })
    }

    /// An HTTP/1 connection that is idle and alive, the one used last first: it is the least likely to have been
    /// closed by the other side.
    pub fn take_http1(&self) -> Option<Connection> {
        let mut state = self.lock();
        let oldest = Instant::now().checked_sub(self.idle_timeout);
        state.http1.retain(|idle| {
            !idle.sender.is_closed()
                && !idle.facts.is_retired()
                && oldest.is_none_or(|oldest| idle.since > oldest)
        });
        let ready = state.http1.iter().rposition(|idle| idle.sender.is_ready())?;
        let idle = state.http1.remove(ready);
        Some(Connection { sender: Sender::Http1(idle.sender), facts: idle.facts })
    }

    /// The HTTP/2 connection, if it can take another request.
    pub fn get_http2(&self) -> Option<Connection> {
        let mut state = self.lock();
        let idle = state.http2.as_mut()?;
        if idle.sender.is_closed() || idle.facts.is_retired() {
            state.http2 = None;
            return None;
        }
        idle.since = Instant::now();
        Some(Connection { sender: Sender::Http2(idle.sender.clone()), facts: Arc::clone(&idle.facts) })
    }

    /// Shares an HTTP/2 connection. It replaces the one before, whose running requests go on.
    pub fn share_http2(&self, sender: http2::SendRequest<RequestBody>, facts: Arc<ConnectionFacts>) {
        let mut state = self.lock();
        state.http2 = Some(Idle { sender, facts, since: Instant::now() });
        self.reap_later(&mut state);
    }

    fn give_back(&self, sender: http1::SendRequest<RequestBody>, facts: Arc<ConnectionFacts>) {
        if sender.is_closed() || facts.is_retired() {
            return;
        }
        let mut state = self.lock();
        if state.http1.len() >= MAX_IDLE {
            state.http1.remove(0);
        }
        state.http1.push(Idle { sender, facts, since: Instant::now() });
        self.reap_later(&mut state);
    }

    /// Starts the reaper unless it runs. It lives only while there is something to reap, so an idle proxy sleeps.
    fn reap_later(&self, state: &mut State) {
        if state.reaping {
            return;
        }
        state.reaping = true;
        let pool = self.this.clone();
        let idle_timeout = self.idle_timeout;
        self.tracker.spawn(async move {
            let mut next = Instant::now() + idle_timeout;
            loop {
                tokio::time::sleep_until(next).await;
                let Some(pool) = pool.upgrade() else { return };
                match pool.reap() {
                    Some(later) => next = later,
                    None => return,
                }
            }
        });
    }

    /// Drops what is idle for too long; says when to come again.
    fn reap(&self) -> Option<Instant> {
        let mut state = self.lock();
        let now = Instant::now();
        let ends = |since: Instant| since + self.idle_timeout;
        state.http1.retain(|idle| ends(idle.since) > now && !idle.sender.is_closed());
        if let Some(shared) = &state.http2 {
            // A connection with running requests stays with them; the pool's handle only keeps it open.
            if ends(shared.since) <= now || shared.sender.is_closed() {
                state.http2 = None;
            }
        }
        let next = state
            .http1
            .iter()
            .map(|idle| idle.since)
            .chain(state.http2.as_ref().map(|shared| shared.since))
            .min()
            .map(ends);
        state.reaping = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; and if it did, a pool of connections is still a valid pool.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An HTTP/1 connection while its request runs.
pub struct Lease {
    pool: Arc<Pool>,
    sender: http1::SendRequest<RequestBody>,
    facts: Arc<ConnectionFacts>,
}

impl Lease {
    /// Ties a connection to the pool it returns to.
    #[must_use]
    pub fn new(
        pool: Arc<Pool>,
        sender: http1::SendRequest<RequestBody>,
        facts: Arc<ConnectionFacts>,
    ) -> Self {
        Self { pool, sender, facts }
    }

    /// The response came to its end: the connection may serve another. Dropping the lease instead closes it.
    pub fn release(self) {
        self.pool.give_back(self.sender, self.facts);
    }
}
