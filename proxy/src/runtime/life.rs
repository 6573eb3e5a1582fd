//! A connection's place among the live ones of its listener, from the accept to its last byte.
//!
//! Counts; never looks at what a connection carries.

use std::{rc::Rc, sync::Arc};

use svidecar_config::address::ListenAddress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    io::{Socket, address::PeerAddress},
    record::OpenConnections,
    runtime::{
        drain::{Counted, Direction},
        worker::Worker,
    },
};

/// A connection as it was accepted.
pub struct Accepted {
    /// The bytes.
    pub socket: Socket,
    /// The other end.
    pub address: PeerAddress,
    /// Its place among the live connections.
    pub life: Life,
}

/// A place among the live connections of a listener. Kept until the last byte of a connection has gone through, even when
/// it outlives its HTTP.
pub struct Life {
    gate: Rc<Gate>,
    _live: Counted,
    _permit: OwnedSemaphorePermit,
}

/// Where the connections of a listener are counted, by one worker.
pub struct Gate {
    worker: Rc<Worker>,
    direction: Direction,
    listen: ListenAddress,
    limit: Arc<Semaphore>,
    open: OpenConnections,
}

impl Gate {
    /// For the listener of that name, at that address of the settings, which has `limit` permits for all workers.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        direction: Direction,
        listener: &str,
        listen: &ListenAddress,
        limit: &Arc<Semaphore>,
    ) -> Rc<Self> {
        let open = worker.shared.telemetry.state().open_connections(direction, listener);
        let (worker, listen, limit) = (Rc::clone(worker), listen.clone(), Arc::clone(limit));
        Rc::new(Self { worker, direction, listen, limit, open })
    }

    /// One more, with a permit of the listener.
    pub fn enter(self: &Rc<Self>, permit: OwnedSemaphorePermit) -> Life {
        self.open.inc();
        let live = self.worker.shared.drain.enter(self.direction);
        Life { gate: Rc::clone(self), _live: live, _permit: permit }
    }
}

impl Life {
    /// Whether the connection came by this address of the settings.
    #[must_use]
    pub fn came_by(&self, listen: &ListenAddress) -> bool {
        self.gate.listen == *listen
    }

    /// A place for one more connection, which came inside of this one; none when the listener has as many as it may.
    #[must_use]
    pub fn another(&self) -> Option<Self> {
        let permit = Arc::clone(&self.gate.limit).try_acquire_owned().ok()?;
        Some(self.gate.enter(permit))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.gate.open.dec();
    }
}
