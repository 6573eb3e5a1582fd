//! What all threads share: the snapshot, the way down, the recorder. Nothing in here is locked on the way of a request.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use svidecar_id::SpiffeId;
use svidecar_process::{Source, Throttle, clock};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::{
    plan::{snapshot::Current, status::ReloadStatus},
    record::Telemetry,
    runtime::{
        drain::{Direction, Drain},
        shortage::Shortage,
    },
};

/// Lines about misfortunes that peers can provoke, in each of these windows of time.
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Pairs of listener and ID that were announced; past this number the rest is logged at debug only.
const MAX_ANNOUNCED: usize = 4096;

/// Shared by the workers and the control thread.
pub struct Shared {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// The way down.
    pub drain: Drain,
    /// Where room is asked for.
    pub shortage: Shortage,
    /// Access log and metrics.
    pub telemetry: Arc<Telemetry>,
    /// How the last reload went.
    pub reload: watch::Sender<ReloadStatus>,
    /// For log lines that peers can provoke.
    pub throttle: Throttle,
    /// For lines, of the access log as well, that somebody causes who has not proven who it is.
    pub strangers: Throttle<Source>,
    announced: Mutex<HashSet<(Direction, Arc<str>, SpiffeId)>>,
}

impl Shared {
    /// Joins the parts.
    #[must_use]
    pub fn new(current: Arc<Current>, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let first = ReloadStatus { generation: 1, since: clock::unix().as_secs(), ..ReloadStatus::default() };
        let reload = watch::Sender::new(first);
        Arc::new(Self {
            current,
            drain: Drain::new(),
            shortage: Shortage::default(),
            telemetry,
            reload,
            throttle: Throttle::new(LINES, WINDOW),
            strangers: Throttle::of_strangers(),
            announced: Mutex::default(),
        })
    }

    /// Says who a server turned out to be, aloud the first time.
    pub fn note_server(&self, listener: &Arc<str>, address: &str, id: &SpiffeId) {
        if self.is_new(Direction::Outbound, listener, id) {
            info!(%listener, address, "Server SVID: {id}");
        } else {
            debug!(%listener, address, "Server SVID: {id}");
        }
    }

    /// Says who a client turned out to be, aloud the first time.
    pub fn note_client(&self, listener: &Arc<str>, address: &str, id: &SpiffeId) {
        if self.is_new(Direction::Inbound, listener, id) {
            info!(%listener, address, "Client SPIFFE ID: {id}");
        } else {
            debug!(%listener, address, "Client SPIFFE ID: {id}");
        }
    }

    fn is_new(&self, direction: Direction, listener: &Arc<str>, id: &SpiffeId) -> bool {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.len() < MAX_ANNOUNCED && announced.insert((direction, Arc::clone(listener), id.clone()))
    }
}
