//! What each user of the host may spend of the agent: connections, calls, and requests that have not come whole.
//!
//! Owns the budgets and their sizes; `docs/limits.md` lists them. The rule by which users share is
//! [`Shares`]', and that of connections on which nothing was asked yet [`Waiting`]'s. It must never know what is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use svidecar_code::Code;
use svidecar_process::{
    Throttle, clock, memory,
    shares::{Share, Shares},
    source::Source,
    waiting::{Guest, Waiting},
};
use tonic::Status;

use crate::{attest::Caller, error::AttestError};

/// The caller as pinned at accept, or why it could not be.
pub type CallerInfo = Result<Arc<Caller>, Arc<AttestError>>;

/// Calls that are open at the same time.
const CALLS: usize = 4096;

/// Requests that have not come whole; each may have a message of [`MAX_REQUEST`] bytes.
const RECEIVING: usize = 256;

/// Largest request: a few dozen audiences, or a token.
pub const MAX_REQUEST: usize = 64 * 1024;

/// How long a connection may be silent before its first call, and a request be on its way.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Most connections, and most of those on which nothing was asked yet.
const MAX_CONNECTIONS: usize = 2048;
const MAX_WAITING: usize = 256;

/// A user who exceeds its share is in the log once in this time.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The budgets of all who call the Workload API, whatever the transport. Cheap to clone.
#[derive(Clone)]
pub struct Quota {
    waiting: Waiting<Source>,
    /// All that are open, so that some can be closed when memory runs out.
    open: Waiting<Source>,
    connections: Shares<Source>,
    calls: Shares<Source>,
    receiving: Shares<Source>,
    told: Arc<Throttle<(Source, &'static str)>>,
}

/// One connection, whose user has a share.
pub struct Session {
    /// Who it is put down to.
    source: Source,
    caller: CallerInfo,
    quota: Quota,
    /// Whether something was asked, and the connection is within its user's share.
    admitted: AtomicBool,
    share: std::sync::Mutex<Option<Share<Source>>>,
}

/// What one call has of the budgets.
pub struct Admitted {
    /// Until the answer has ended.
    pub call: Share<Source>,
    /// Until the request is whole.
    pub receiving: Share<Source>,
}

impl Quota {
    /// For a process with so many descriptors, of which a connection takes two: its socket and its caller's pidfd.
    #[must_use]
    pub fn new(descriptors: usize) -> Self {
        Self {
            waiting: Waiting::new((descriptors / 8).min(MAX_WAITING)),
            open: Waiting::new(usize::MAX),
            connections: Shares::new((descriptors / 4).min(MAX_CONNECTIONS)),
            calls: Shares::new(CALLS),
            receiving: Shares::new(RECEIVING),
            told: Arc::new(Throttle::new(1, SAY_AGAIN)),
        }
    }

    /// For this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::new(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// A place for a connection of `source`, until something is asked.
    #[must_use]
    pub fn enter(&self, source: Source) -> Guest<Source> {
        self.waiting.enter(source)
    }

    /// A place for a connection of `source`, until it ends. Nobody else needs it.
    #[must_use]
    pub fn open(&self, source: Source) -> Guest<Source> {
        self.open.enter(source)
    }

    /// Memory is nearly used up: whoever has most connections loses half of them.
    pub fn cut_greediest(&self) {
        let lost = self.open.cut_greediest(memory::FEW);
        metrics::counter!("svidecar_agent_connections_cut_total").increment(lost as u64);
    }

    /// A connection that has a place.
    #[must_use]
    pub fn session(&self, source: Source, caller: CallerInfo) -> Session {
        let (admitted, share) = (AtomicBool::new(false), std::sync::Mutex::default());
        Session { source, caller, quota: self.clone(), admitted, share }
    }

    /// Says who is refused what.
    fn exceeded(&self, source: Source, what: &'static str) -> Status {
        let code = Code::QuotaExceeded.name();
        metrics::counter!("svidecar_agent_quota_exceeded_total", "what" => what).increment(1);
        if let Some(leave) = self.told.leave_for((source, what), clock::monotonic()) {
            tracing::warn!(
                code,
                kept_back = leave.kept_back,
                "{source} has its share of the agent's {what}; further ones are refused until it gives some back"
            );
        }
        Status::resource_exhausted(format!(
            "{source} has its share of the agent's {what}; close some ({code})"
        ))
    }
}

impl Session {
    /// Who calls.
    pub fn caller(&self) -> CallerInfo {
        self.caller.clone()
    }

    /// Whether the connection needs its place no more.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Something is asked on this connection.
    ///
    /// # Errors
    /// What is said to a user who has its share already.
    pub fn call(&self) -> Result<Admitted, Status> {
        let quota = &self.quota;
        let exceeded = |what| move || quota.exceeded(self.source, what);
        let mut share = self.share.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if share.is_none() {
            *share = Some(quota.connections.take(self.source, 1).ok_or_else(exceeded("connections"))?);
            self.admitted.store(true, Ordering::Release);
        }
        drop(share);
        let call = quota.calls.take(self.source, 1).ok_or_else(exceeded("calls"))?;
        let receiving = quota.receiving.take(self.source, 1).ok_or_else(exceeded("unfinished requests"))?;
        Ok(Admitted { call, receiving })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn session(quota: &Quota, user: u32) -> Session {
        quota.session(Source::User(user), Err(Arc::new(AttestError::NoCredentials)))
    }

    #[test]
    fn nobody_takes_anothers_share() {
        let quota = Quota::new(1024);
        let mut held = Vec::new();
        let mut connections = 0;
        for _ in 0..1024 {
            let greedy = session(&quota, 1);
            if let Ok(admitted) = greedy.call() {
                held.push(admitted);
                connections += 1;
            }
            held.extend(std::iter::from_fn(|| greedy.call().ok()));
            drop(session(&quota, 2).call().unwrap_or_else(|status| panic!("{status}")));
            std::mem::forget(greedy);
        }
        assert!(connections > 0);
        assert!(held.len() < RECEIVING);
    }

    #[test]
    fn nobody_takes_anothers_calls() {
        let quota = Quota::new(1024);
        let greedy = session(&quota, 1);
        let open: Vec<_> = std::iter::from_fn(|| greedy.call().ok().map(|admitted| admitted.call)).collect();
        assert!(open.len() < CALLS && open.len() > RECEIVING);
        assert!(session(&quota, 2).call().is_ok());
    }

    #[test]
    fn whoever_has_most_connections_loses_half_when_memory_runs_out() {
        let quota = Quota::new(1024);
        let open = |user, count| -> Vec<_> { (0..count).map(|_| quota.open(Source::User(user))).collect() };
        let (mut greedy, mut victim) = (open(1, 20), open(2, 8));
        quota.cut_greediest();
        let lost = |guest: &mut Guest<Source>| guest.evicted().now_or_never().is_some();
        assert_eq!(greedy.iter_mut().filter_map(|guest| lost(guest).then_some(())).count(), 10);
        assert!(!victim.iter_mut().any(lost));
    }

    #[test]
    fn a_connection_is_admitted_once_and_gives_back_when_it_ends() {
        let quota = Quota::new(4);
        let first = session(&quota, 1);
        drop(first.call().unwrap_or_else(|status| panic!("{status}")));
        assert!(first.is_admitted());
        drop(first.call().unwrap_or_else(|status| panic!("{status}")));
        assert_eq!(session(&quota, 1).call().err().unwrap().code(), tonic::Code::ResourceExhausted);
        drop(first);
        assert!(session(&quota, 1).call().is_ok());
    }
}
