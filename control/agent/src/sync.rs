//! Brings entries and bundles from the server, for ever.
//!
//! Owns the connection's ups and downs: pushed changes where the server has them, polling where not, growing
//! waits while it is away. The state is applied here and nowhere else, in the order in which the server
//! said it, so that an older answer never undoes a newer one for good.

mod fetch;
mod follow;

use std::{sync::Arc, time::Duration};

use svidecar_authority::bundle::Bundle;
use svidecar_process::{Backoff, clock};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    error::AgentError,
    join::{Back, Rejoin, Rejoined, come_back},
    manager::{Fatal, Lookups, Manager},
    status::SyncMode,
    svid::HeldSvid,
};

/// Waits between tries while the server is away.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(15);

/// How long a server that cannot push is polled before it is asked again whether it can.
const ASK_FOR_PUSH_AGAIN: Duration = Duration::from_secs(600);

/// After so many tries to reach it, the server may be there and not like what we show.
const PERSISTS: u32 = 3;

/// A workload's miss makes the server be asked at most this often.
const LOOKUP_PACE: Duration = Duration::from_millis(250);

/// How one round with the server ended.
enum Ended {
    /// Shutdown.
    Stopped,
    /// The server has no push service.
    NoPush,
    /// Our own SVID changed, so the connection is made anew.
    NewIdentity,
    /// What was asked for is ahead of what was pushed, so the stream begins anew.
    Overtaken,
    /// The stream ended in order, as servers do to spread connections.
    Closed,
}

/// Syncs until shutdown, or until the server does not accept this agent any more.
pub async fn run(
    manager: Arc<Manager>,
    lookups: Lookups,
    rejoin: Rejoin,
    fatal: Fatal,
    shutdown: CancellationToken,
) {
    let mut sync = Sync {
        manager,
        rejoin,
        lookups,
        resume_token: String::new(),
        poll_until: None,
        waiting: Vec::new(),
        looked_up: None,
        posted: false,
        told: None,
        backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST),
    };
    loop {
        match sync.round(&shutdown).await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::NewIdentity | Ended::Overtaken) => {}
            Ok(Ended::Closed) => sync.pause(None, &shutdown).await,
            Ok(Ended::NoPush) => {
                tracing::info!(
                    interval_s = sync.manager.options.sync_interval.as_secs_f32(),
                    "the server does not push changes; it is polled"
                );
                sync.poll_until = Some(clock::timer() + ASK_FOR_PUSH_AGAIN);
            }
            Err(error @ AgentError::Evicted { .. }) => {
                // Whoever takes the error ends the agent; a full channel has one already.
                let _ = fatal.try_send(error);
                return;
            }
            Err(error) => match sync.recover(error).await {
                Ok(()) => sync.begin_anew(),
                Err(error @ AgentError::Evicted { .. }) => {
                    let _ = fatal.try_send(error);
                    return;
                }
                Err(error) => sync.pause(Some(&error), &shutdown).await,
            },
        }
        if shutdown.is_cancelled() {
            return;
        }
    }
}

struct Sync {
    manager: Arc<Manager>,
    rejoin: Rejoin,
    lookups: Lookups,
    /// Where the pushed changes stopped.
    resume_token: String,
    /// Set while the server is polled.
    poll_until: Option<Instant>,
    /// Workloads that wait for the next lookup.
    waiting: Vec<oneshot::Sender<()>>,
    looked_up: Option<Instant>,
    /// Whether the server was told our version.
    posted: bool,
    /// The code of the trouble that the log was told last.
    told: Option<svidecar_code::Code>,
    backoff: Backoff,
}

impl Sync {
    /// Does what can be done about a failure: comes back to the server if it could be that one, joins it by a token that is new, or
    /// joins another that took its place. Else it is the failure that there is. It becomes another agent only on the word of a
    /// server that was verified: whoever stands in between must not make it lose what it is.
    async fn recover(&self, error: AgentError) -> Result<(), AgentError> {
        let identity = self.manager.link.identity();
        let now = self.manager.clock.wall();
        let over = identity.is_over(now) || identity.is_early(now);
        let doubted = matches!(error, AgentError::Doubted { .. });
        let untrusted = matches!(error, AgentError::Untrusted { .. });
        // Whoever closes the connection again and again may not like what we show.
        let persists = matches!(error, AgentError::Unreachable { .. }) && self.backoff.tries() >= PERSISTS;
        if !(over || doubted || untrusted || persists) {
            return Err(error);
        }
        let mut error = error;
        if identity.membership.is_some() {
            match self.come_back(&identity).await {
                Err(AgentError::Unreachable { .. } | AgentError::Untrusted { .. }) => {}
                Err(why @ (AgentError::Doubted { .. } | AgentError::Expired)) => error = why,
                outcome => return outcome,
            }
        }
        match error {
            AgentError::Untrusted { reason, .. } => self.rejoin(&reason).await,
            AgentError::Doubted { by_server: true, .. } | AgentError::Expired => {
                // Why there is no such token says less than why one is needed.
                self.join_again().await.map_err(|_| error)
            }
            error => Err(error),
        }
    }

    async fn come_back(&self, identity: &HeldSvid) -> Result<(), AgentError> {
        let address = self.manager.link.address();
        let Back { svid, bundle } = come_back(address, identity, self.manager.clock.wall()).await?;
        self.manager.resume(Arc::clone(&svid), &bundle).await?;
        tracing::info!(server = %address, spiffe_id = %svid.spiffe_id, "the agent has come back to its server");
        Ok(())
    }

    async fn join_again(&self) -> Result<(), AgentError> {
        let (manager, address) = (&self.manager, self.manager.link.address());
        let known = manager.bundles().get(&address.trust_domain).cloned();
        let known = known.unwrap_or_else(|| Arc::new(Bundle::empty(address.trust_domain.clone())));
        let Rejoined { svid, bundle, joined } =
            self.rejoin.join_again(address, &known, &manager.joined()).await?;
        manager.take_over(Arc::clone(&svid), bundle, joined).await?;
        tracing::warn!(spiffe_id = %svid.spiffe_id, "the server did not take this agent back; it has joined by a new token");
        Ok(())
    }

    /// Joins the server that answers now. `seen` is why our bundle does not verify it.
    async fn rejoin(&self, seen: &str) -> Result<(), AgentError> {
        let (manager, address) = (&self.manager, self.manager.link.address());
        let known = manager.bundles().get(&address.trust_domain).cloned();
        let known = known.unwrap_or_else(|| Arc::new(Bundle::empty(address.trust_domain.clone())));
        let before = manager.link.identity();
        let own_key = before.membership.as_ref().map(|membership| membership.server_key());
        let Rejoined { svid, bundle, joined } =
            self.rejoin.join(address, &known, own_key, &manager.joined(), seen).await?;
        manager.take_over(Arc::clone(&svid), bundle, joined).await?;
        tracing::warn!(
            server = %address, spiffe_id = %svid.spiffe_id, spiffe_id_before = %before.spiffe_id, seen,
            "the server was replaced, and the join token says that this is it: the agent has joined anew. All that the \
             old server signed is dropped"
        );
        Ok(())
    }

    /// Another server knows nothing of what the one before has said.
    fn begin_anew(&mut self) {
        self.resume_token.clear();
        self.poll_until = None;
        self.posted = false;
        self.backoff.reset();
        // Known already when the round failed that led here; the next success is a return.
        self.manager.status.send_modify(|status| status.connected = false);
    }

    async fn round(&mut self, shutdown: &CancellationToken) -> Result<Ended, AgentError> {
        match self.poll_until {
            Some(until) if clock::timer() < until => self.poll(until, shutdown).await,
            _ => {
                self.poll_until = None;
                self.follow(shutdown).await
            }
        }
    }

    /// Polls until it is time to ask for push again.
    async fn poll(&mut self, until: Instant, shutdown: &CancellationToken) -> Result<Ended, AgentError> {
        let mut sessions = self.manager.link.sessions();
        let mut next = clock::timer();
        loop {
            let lookup = self.next_lookup();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep_until(next) => {
                    self.fetch().await?;
                    self.connected(SyncMode::Poll).await;
                    // Ten percent to both sides, so that agents that started together do not poll together.
                    let spread = 0.9 + 0.2 * rand::random::<f64>();
                    next = clock::timer() + self.manager.options.sync_interval.mul_f64(spread);
                }
                _ = sessions.changed() => return Ok(Ended::NewIdentity),
                Some(waiting) = self.lookups.recv() => self.waiting.push(waiting),
                () = at(lookup) => {
                    self.look_up().await?;
                }
            }
            if clock::timer() >= until {
                return Ok(Ended::Closed);
            }
        }
    }

    /// The server said something: whatever was wrong is over.
    async fn connected(&mut self, mode: SyncMode) {
        self.backoff.reset();
        self.told = None;
        let mut came_back = false;
        self.manager.status.send_modify(|status| {
            came_back = !status.connected;
            status.connected = true;
            status.problem = None;
            status.last_sync = Some(self.manager.clock.wall());
            status.sync_mode = mode;
        });
        if came_back {
            tracing::info!(server = %self.manager.link.address(), mode = mode.as_str(), "in sync with the server");
            metrics::gauge!("svidecar_agent_server_connected").set(1.0);
            self.manager.retry_now();
        }
        if !self.posted {
            let serial = self
                .manager
                .bundles()
                .get(&self.manager.link.address().trust_domain)
                .map_or(0, |b| b.sequence);
            self.posted = true;
            if let Err(error) = self.manager.link.session().post_status(serial).await {
                tracing::debug!(%error, "the server did not take our status");
            }
        }
    }

    /// When those who wait are to be served; none while nobody waits.
    fn next_lookup(&self) -> Option<Instant> {
        let now = clock::timer();
        (!self.waiting.is_empty()).then(|| self.looked_up.map_or(now, |last| last + LOOKUP_PACE))
    }

    /// Asks for the state of the moment on behalf of all who wait, and says whether it is another.
    async fn look_up(&mut self) -> Result<bool, AgentError> {
        let waiting = std::mem::take(&mut self.waiting);
        let outcome = self.fetch().await;
        self.looked_up = Some(clock::timer());
        for one in waiting {
            // One that does not wait any more is no loss.
            let _ = one.send(());
        }
        outcome
    }

    /// Waits after a loss. Those who wait for a lookup meanwhile get their answer from the cache at once.
    async fn pause(&mut self, error: Option<&AgentError>, shutdown: &CancellationToken) {
        let wait = self.backoff.next_wait(rand::random());
        self.waiting.clear();
        if let Some(error) = error {
            self.manager.status.send_modify(|status| {
                status.connected = false;
                status.problem = Some(error.to_string());
            });
            metrics::gauge!("svidecar_agent_server_connected").set(0.0);
            let identity = self.manager.link.identity();
            let left = identity.not_after.duration_since(self.manager.clock.wall()).unwrap_or_default();
            // Another trouble is news, and one that stays is told now and then.
            let is_new = self.told.replace(error.code()) != Some(error.code());
            if is_new || self.backoff.tries().is_power_of_two() {
                tracing::warn!(
                    %error, code = error.code().name(), tries = self.backoff.tries(), retry_in_s = wait.as_secs_f32(),
                    svid_left_s = left.as_secs(),
                    "no sync with the server; workloads keep the identities that they have"
                );
            }
        }
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = &mut over => return,
                Some(waiting) = self.lookups.recv() => drop(waiting),
            }
        }
    }
}

/// Resolves at a time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
