//! What belongs to one thread that moves data: its recorder, its live connections, its tasks. Nothing in here is
//! shared with another thread, so nothing is locked.

use std::{future::Future, rc::Rc, sync::Arc};

use tokio_util::task::TaskTracker;

use crate::{
    record::Recorder,
    runtime::{
        connections::{Follower, Registry, Timer},
        drain::Direction,
        shared::Shared,
    },
};

/// One thread's own things.
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Writes this thread's records.
    pub recorder: Rc<Recorder>,
    /// Every task of this thread.
    pub tracker: TaskTracker,
    registry: Rc<Registry>,
}

impl Worker {
    /// A worker without connections. Must be made on its own thread.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        let recorder = Rc::new(shared.telemetry.recorder());
        let registry = Registry::new(Arc::clone(shared.current.version()), shared.drain.phase());
        Rc::new(Self { shared, recorder, tracker: TaskTracker::new(), registry })
    }

    /// Wakes this thread's connections when something happens to them. Runs as long as the thread.
    pub async fn follow(self: Rc<Self>) {
        let (version, phase) = (self.shared.current.subscribe(), self.shared.drain.subscribe());
        self.registry.follow(version, phase, self.shared.shortage.subscribe()).await;
    }

    /// The version of the snapshot in force.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.registry.version()
    }

    /// What a new connection has to follow.
    #[must_use]
    pub fn follower(&self, direction: Direction) -> Follower {
        Follower::new(&self.registry, direction)
    }

    /// For something of a connection that may last only so long.
    #[must_use]
    pub fn timer(&self) -> Timer {
        Timer::new(&self.registry)
    }

    /// Runs a task that belongs to this thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tracker.spawn_local(task);
    }
}
