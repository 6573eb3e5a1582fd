//! What belongs to one thread that moves data: its recorder, its live connections, its connections to upstreams. Nothing
//! in here is shared with another thread, so nothing is locked.

use std::{cell::RefCell, future::Future, rc::Rc, sync::Arc};

use tokio_util::task::TaskTracker;

use crate::{
    record::Recorder,
    runtime::{
        connections::{Lifeline, Registry},
        drain::Direction,
        shared::Shared,
    },
    upstream::{Upstream, UpstreamSpec},
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
    upstreams: RefCell<Vec<Rc<Upstream>>>,
}

impl Worker {
    /// A worker without connections. Must be made on its own thread.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        let recorder = Rc::new(shared.telemetry.recorder());
        let registry = Registry::new(Arc::clone(shared.current.version()), shared.drain.phase());
        let worker =
            Self { shared, recorder, tracker: TaskTracker::new(), registry, upstreams: RefCell::default() };
        Rc::new(worker)
    }

    /// Wakes this thread's connections when something happens to them. Runs as long as the thread.
    pub async fn follow(self: Rc<Self>) {
        let (version, phase) = (self.shared.current.subscribe(), self.shared.drain.subscribe());
        self.registry.follow(version, phase).await;
    }

    /// The version of the snapshot in force.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.registry.version()
    }

    /// What a new connection has to follow.
    #[must_use]
    pub fn lifeline(&self, direction: Direction) -> Lifeline {
        Lifeline::new(&self.registry, direction)
    }

    /// This thread's connections for `spec`. The first use after a change of the settings drops what they no longer
    /// name; requests that run over it finish.
    pub fn upstream(&self, spec: &Arc<UpstreamSpec>) -> Rc<Upstream> {
        let mut upstreams = self.upstreams.borrow_mut();
        if let Some(known) = upstreams.iter().find(|upstream| Arc::ptr_eq(upstream.spec(), spec)) {
            return Rc::clone(known);
        }
        let snapshot = self.shared.current.load();
        let plan = &snapshot.plan;
        upstreams.retain(|upstream| {
            let is_mine = |spec: &Arc<UpstreamSpec>| Arc::ptr_eq(spec, upstream.spec());
            plan.inbound.iter().any(|listener| is_mine(&listener.app))
                || plan.outbound.iter().any(|listener| is_mine(&listener.upstream))
        });
        let new = Upstream::new(Arc::clone(spec));
        upstreams.push(Rc::clone(&new));
        new
    }

    /// Runs a task that belongs to this thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tracker.spawn_local(task);
    }
}
