//! A connection's place among the live ones of its listener, from the accept to its last byte.
//!
//! Counts; never looks at what a connection carries.

use std::{rc::Rc, sync::Arc};

use svidecar_config::address::ListenAddress;
use svidecar_process::Source;

use crate::{
    io::{Socket, address::PeerAddress},
    record::OpenConnections,
    runtime::{
        budgets::Budgets,
        drain::{Counted, Direction},
        standing::Standing,
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
    standing: Rc<Standing>,
}

/// Where the connections of a listener are counted, by one worker.
pub struct Gate {
    worker: Rc<Worker>,
    direction: Direction,
    listen: ListenAddress,
    budgets: Arc<Budgets>,
    open: OpenConnections,
}

impl Gate {
    /// For the listener of that name, at that address of the settings, whose budgets all workers share.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        direction: Direction,
        listener: &str,
        listen: &ListenAddress,
        budgets: &Arc<Budgets>,
    ) -> Rc<Self> {
        let open = worker.shared.telemetry.state().open_connections(direction, listener);
        let (worker, listen, budgets) = (Rc::clone(worker), listen.clone(), Arc::clone(budgets));
        Rc::new(Self { worker, direction, listen, budgets, open })
    }

    /// One more, of somebody of whom nothing else is known.
    #[must_use]
    pub fn enter(self: &Rc<Self>, source: Source) -> Life {
        self.begin(Standing::stranger(&self.budgets, source))
    }

    fn begin(self: &Rc<Self>, standing: Rc<Standing>) -> Life {
        self.open.inc();
        let live = self.worker.shared.drain.enter(self.direction);
        Life { gate: Rc::clone(self), _live: live, standing }
    }
}

impl Life {
    /// Whether the connection came by this address of the settings.
    #[must_use]
    pub fn came_by(&self, listen: &ListenAddress) -> bool {
        self.gate.listen == *listen
    }

    /// One more connection, which came inside of this one.
    #[must_use]
    pub fn another(&self) -> Self {
        self.gate.begin(self.standing.inside())
    }

    /// What it holds of the listener's budgets.
    #[must_use]
    pub const fn standing(&self) -> &Rc<Standing> {
        &self.standing
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.gate.open.dec();
        if self.standing.is_evicted() {
            self.gate.open.crowded_out();
        }
    }
}
