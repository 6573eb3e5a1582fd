//! The attested agent: its cache, and its link to the server.
//!
//! Owns what endpoints ask: what a workload sees, why it does not, tokens. The tasks that keep it current know it, and it
//! knows none of them: [`sync`](crate::sync) brings entries, [`signer`] has SVIDs signed, [`renewal`] keeps our own SVID,
//! [`persist`] writes to disk, [`time`] follows the clock. None of them ends because the server is away.

pub mod persist;
pub mod renewal;
pub mod signer;
pub mod time;
mod written;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use svidecar_authority::key::KeyType;
use svidecar_process::{
    Clock,
    clock::{Guard, Reading, timer},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use self::written::Written;
use crate::{
    cache::{Applied, Bundles, Cache, Change, Update},
    entry::Entry,
    error::AgentError,
    jwt::{Cached, JwtCache, Token},
    selector::SelectorSet,
    server::Link,
    state::{Joined, Store},
    status::Status,
    why::{self, Explanation},
};

/// Workloads that wait for a lookup at the same time; more are answered from the cache.
const MAX_LOOKUPS: usize = 256;

/// How the manager behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of workloads' X.509-SVIDs.
    pub key_type: KeyType,
    /// Between polls of a server that cannot push.
    pub sync_interval: Duration,
    /// Longest that a workload without an identity waits for the server's word.
    pub miss_lookup_timeout: Duration,
}

/// What makes the agent itself.
pub struct Own {
    /// To its server, with its SVID.
    pub link: Link,
    /// Where it is kept.
    pub store: Store,
    /// How it came to trust its server.
    pub joined: Joined,
    /// What time it is.
    pub clock: Clock,
}

/// See the module.
pub struct Manager {
    pub(crate) options: Options,
    pub(crate) link: Link,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) clock: Clock,
    /// Whether its time is to be believed.
    guard: Mutex<Guard>,
    /// What the clocks showed at the last look.
    looked: Mutex<Reading>,
    store: Store,
    joined: Mutex<Joined>,
    /// What of our own state is on disk. Held while it is written: a late writer must not put an old SVID over a
    /// new one.
    written: tokio::sync::Mutex<Option<Written>>,
    cache: Arc<Mutex<Cache>>,
    tokens: Mutex<JwtCache>,
    /// Something became due to be signed.
    due: Notify,
    /// Our own SVID is to be replaced before its time.
    pub(crate) renew: Notify,
    /// Something worth keeping changed.
    dirty: Notify,
    /// How often the clock jumped.
    jumps: watch::Sender<u64>,
    lookups: mpsc::Sender<oneshot::Sender<()>>,
}

/// Those who wait for the server's word.
pub type Lookups = mpsc::Receiver<oneshot::Sender<()>>;

/// A change of our own standing that ends the agent.
pub type Fatal = mpsc::Sender<AgentError>;

impl Manager {
    /// Puts the parts together. Workloads that wait for a lookup are for [`sync`](crate::sync) to answer.
    #[must_use]
    pub fn new(
        options: Options,
        Own { link, store, joined, clock }: Own,
        cache: Arc<Mutex<Cache>>,
        status: watch::Sender<Status>,
    ) -> (Arc<Self>, Lookups) {
        let (lookups, asked) = mpsc::channel(MAX_LOOKUPS);
        let manager = Arc::new(Self {
            options,
            link,
            status,
            guard: Mutex::new(Guard::begin(None, "", clock.read())),
            looked: Mutex::new(clock.read()),
            clock,
            store,
            joined: Mutex::new(joined),
            written: tokio::sync::Mutex::default(),
            cache,
            tokens: Mutex::default(),
            due: Notify::new(),
            renew: Notify::new(),
            dirty: Notify::new(),
            jumps: watch::Sender::new(0),
            lookups,
        });
        // The identity of the moment has to be on disk before anything else happens.
        manager.dirty.notify_one();
        (manager, asked)
    }

    /// Follows what workloads with `selectors` see. If nothing matches, the server is asked first, once
    /// and not for long.
    pub async fn subscribe(&self, selectors: &SelectorSet) -> watch::Receiver<Arc<Update>> {
        let updates = self.subscribe_now(selectors);
        if updates.borrow().entries.is_empty() {
            self.look_up().await;
        }
        updates
    }

    fn subscribe_now(&self, selectors: &SelectorSet) -> watch::Receiver<Arc<Update>> {
        let updates = self.cache().subscribe(selectors, self.clock.wall());
        self.due.notify_one();
        updates
    }

    /// The entries that match `selectors`; asks the server first if none does.
    pub async fn matching(&self, selectors: &SelectorSet) -> Vec<Arc<Entry>> {
        let found = self.cache().matching(selectors);
        if !found.is_empty() {
            return found;
        }
        self.look_up().await;
        self.cache().matching(selectors)
    }

    /// The bundles of the moment.
    #[must_use]
    pub fn bundles(&self) -> Arc<Bundles> {
        Arc::clone(self.cache().bundles())
    }

    /// Compares selectors with all entries.
    #[must_use]
    pub fn explain(&self, selectors: &SelectorSet) -> Explanation {
        why::explain(selectors, self.cache().entries())
    }

    /// Whether some entry would match if there were more selectors of these kinds.
    #[must_use]
    pub fn lacks_only(&self, selectors: &SelectorSet, kinds: &[&str]) -> bool {
        why::lacks_only(selectors, kinds, self.cache().entries())
    }

    /// How many entries there are, and how many of them have an SVID.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.cache().counts()
    }

    /// A token of `entry` for `audience`.
    ///
    /// # Errors
    /// When the server does not sign one and there is none to use again.
    pub async fn token(&self, entry: &Arc<Entry>, audience: &[String]) -> Result<Token, AgentError> {
        let cached = self.tokens().get(entry, audience, self.clock.wall());
        let fallback = match cached {
            Cached::Fresh(token) => return Ok(token),
            Cached::Aging(token) => Some(token),
            Cached::None => None,
        };
        let signed = self.link.sign_jwt(&entry.id, audience.to_vec()).await.and_then(|wire| {
            Token::accept(wire, entry, self.clock.wall())
                .map_err(|reason| AgentError::BadAnswer { what: "NewJWTSVID", reason })
        });
        match (signed, fallback) {
            (Ok(token), _) => {
                self.tokens().put(entry, audience, token.clone(), self.clock.wall());
                Ok(token)
            }
            (Err(error), Some(token)) => {
                tracing::warn!(
                    %error, code = error.code().name(), spiffe_id = %entry.spiffe_id,
                    "no new JWT-SVID could be had; the one from before is used until it ends"
                );
                Ok(token)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Asks the server for the entries of the moment, and waits for them to be here, but not for long.
    async fn look_up(&self) {
        let (done, answer) = oneshot::channel();
        // A full queue means that an answer is on its way for others; the cache has to do.
        if self.options.miss_lookup_timeout.is_zero() || self.lookups.try_send(done).is_err() {
            return;
        }
        if tokio::time::timeout(self.options.miss_lookup_timeout, answer).await.is_err() {
            tracing::debug!("the server did not say in time whether there is a new entry");
        }
    }

    /// Applies what the server said, and wakes who has to act on it.
    pub(crate) fn apply(&self, change: Change) -> Applied {
        let applied = self.cache().apply(change, self.clock.wall());
        if applied.bundles {
            let bundles = self.bundles();
            let own = bundles.get(&self.link.address().trust_domain);
            tracing::info!(
                sequence = own.map_or(0, |bundle| bundle.sequence),
                x509_authorities = own.map_or(0, |bundle| bundle.x509_authorities.len()),
                jwt_authorities = own.map_or(0, |bundle| bundle.jwt_authorities.len()),
                trust_domains = bundles.iter().count(),
                "the trust bundles changed"
            );
        }
        if applied.bundles && self.cache().is_orphan(&self.link.identity()) {
            self.renew.notify_one();
        }
        if applied.changed() {
            self.due.notify_one();
            self.dirty.notify_one();
        }
        if applied.deleted > 0 {
            let there: std::collections::HashSet<_> =
                self.cache().entries().map(|entry| Arc::clone(&entry.id)).collect();
            self.tokens().retain(|id| there.contains(id));
        }
        applied
    }

    /// The server is back: what could not be signed is tried now.
    pub(crate) fn retry_now(&self) {
        self.cache().retry_now(self.clock.wall());
        self.due.notify_one();
    }

    /// How the agent came to trust its server.
    #[must_use]
    pub fn joined(&self) -> Joined {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, JwtCache> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sleeps until a time of the wall clock, looking at it once a minute, and no longer than it would be by the clock of now: a
/// clock that is behind in the moment of waking makes nobody sleep on. Who has to know at once that the machine was suspended, or
/// its clock set, follows [`time`].
pub(crate) async fn sleep_until(clock: &Clock, at: SystemTime) {
    const LOOK: Duration = Duration::from_secs(60);
    let left = |clock: &Clock| at.duration_since(clock.wall()).unwrap_or_default();
    let end = timer() + left(clock);
    loop {
        let left = left(clock).min(end.saturating_duration_since(timer()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::pin::pin;

    use svidecar_process::testing::Hands;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_behind_in_the_moment_of_waking_makes_nobody_sleep_on() {
        let hands = Hands::still();
        let clock = hands.clock();
        let mut sleep = pin!(sleep_until(&clock, hands.read().wall + Duration::from_secs(90)));
        assert!(timeout(Duration::from_secs(80), &mut sleep).await.is_err());
        hands.slip(-7200);
        timeout(Duration::from_secs(11), sleep).await.unwrap();
    }
}
