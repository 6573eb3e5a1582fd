//! Whether the server believes its clock, and whether its disk takes what it writes.
//!
//! Owns the time that was believed last: it is committed once a minute, so that what the clock shows after a restart can be
//! compared with it, and so that a disk that takes nothing any more is known before somebody's change is lost to it.
//! What deletes by the time asks here first. It must never keep anybody from being served.

use std::{
    fs, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use svidecar_authority::time::from_secs;
use svidecar_code::Code;
use svidecar_process::{
    Clock,
    clock::{self, Doubt, Guard, Reading, Seen, Steps},
};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::{
    ca::Moment,
    store::{Store, StoreError},
};

/// How often the clock is looked at, when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The same while it is not believed: that it is right again, nobody may tell.
const LOOK_IN_DOUBT: Duration = Duration::from_secs(1);

/// How often a time that is believed is written down.
const COMMIT_EVERY: Duration = Duration::from_secs(60);

/// Which boot of the machine this is, by the kernel's own name for it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Follows the server's clock.
pub struct ClockGuard {
    clock: Clock,
    store: Arc<dyn Store>,
    boot: String,
    state: Mutex<State>,
    accepted: watch::Sender<()>,
    /// How often the clock jumped, whoever noticed it.
    jumps: watch::Sender<u64>,
}

struct State {
    guard: Guard,
    /// What the clocks showed at the last look.
    looked: Reading,
    /// What the log was told last.
    told: Option<Doubt>,
    believed: Seen,
    commit: Result<(), String>,
}

impl ClockGuard {
    /// Goes on from the time that the store has.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be read.
    pub async fn open(clock: Clock, store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let boot = fs::read_to_string(BOOT_ID).map_or_else(|_| String::new(), |id| id.trim().to_owned());
        let seen = store.load_clock().await?;
        let now = clock.read();
        let guard = Guard::begin(seen.as_ref(), &boot, now);
        let believed = seen.unwrap_or_else(|| Seen::of(&now, &boot));
        let state = Mutex::new(State { guard, looked: now, told: None, believed, commit: Ok(()) });
        Ok(Self { clock, store, boot, state, accepted: watch::Sender::new(()), jumps: watch::Sender::new(0) })
    }

    /// Why the time of now is not to be believed; none if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.look(self.clock.read())
    }

    /// Now, and whether that is certain.
    pub fn moment(&self) -> Moment {
        let now = self.clock.read();
        Moment { now: from_secs(now.seconds()), is_certain: self.look(now).is_none() }
    }

    /// Believes the clock from now on, because an administrator has looked at it. Tells what the doubt was.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written down; it is believed all the same, until the next start.
    pub async fn accept(&self) -> Result<Option<Doubt>, StoreError> {
        let now = self.clock.read();
        let doubt = self.look(now);
        self.state().guard.accept(now);
        self.look(now);
        self.accepted.send_replace(());
        self.commit().await?;
        Ok(doubt)
    }

    /// Tells each time that an administrator has accepted the clock.
    pub fn accepted(&self) -> watch::Receiver<()> {
        self.accepted.subscribe()
    }

    /// The jumps of the clock: those of which the system tells, and those that were noticed by whoever has asked for the time.
    pub fn jumps(&self) -> Steps {
        Steps::told_by(self.jumps.subscribe())
    }

    /// What the disk said of the last commit of this guard.
    ///
    /// # Errors
    /// Why it failed.
    pub fn last_commit(&self) -> Result<(), String> {
        self.state().commit.clone()
    }

    /// Looks at the clock now and then, and when it jumps, and commits, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let (mut steps, mut jumps) = (self.clock.steps(), self.jumps());
        let mut commit_at = clock::timer();
        loop {
            let look = if self.doubt().is_some() { LOOK_IN_DOUBT } else { LOOK_EVERY };
            // While the disk takes nothing, it is asked at each look whether it does again.
            if clock::timer() >= commit_at || self.last_commit().is_err() {
                let _told = self.commit().await;
                commit_at = clock::timer() + COMMIT_EVERY;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(look) => {}
                () = steps.next() => commit_at = clock::timer(),
                // Somebody else has looked.
                () = jumps.next() => {}
            }
        }
    }

    /// Writes down the time that was believed last: the same again while the clock is in doubt.
    async fn commit(&self) -> Result<(), StoreError> {
        let believed = self.state().believed.clone();
        let outcome = self.store.save_clock(believed).await;
        let mut state = self.state();
        match (&outcome, &state.commit) {
            (Err(error), Ok(())) => tracing::error!(
                %error, code = error.code().name(),
                "the database takes no changes; what is known is served and signed, and it is tried again each {} s",
                LOOK_EVERY.as_secs()
            ),
            (Ok(()), Err(_)) => tracing::info!("the database takes changes again"),
            _ => {}
        }
        state.commit = outcome.as_ref().map_err(ToString::to_string).copied();
        outcome
    }

    fn look(&self, now: Reading) -> Option<Doubt> {
        let mut state = self.state();
        if mem::replace(&mut state.looked, now).jumped_since(&now) {
            self.jumps.send_modify(|jumps| *jumps += 1);
        }
        let doubt = state.guard.doubt(now);
        if doubt.is_none() {
            state.believed = Seen::of(&now, &self.boot);
        }
        let is_news = doubt.as_ref().map(|doubt| std::mem::discriminant(&doubt.kind))
            != state.told.as_ref().map(|told| std::mem::discriminant(&told.kind));
        if is_news {
            tell(doubt.as_ref());
            state.told.clone_from(&doubt);
        }
        doubt
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(doubt: Option<&Doubt>) {
    match doubt {
        None => tracing::info!("the clock is believed"),
        Some(doubt) if doubt.concerns_somebody() => tracing::error!(
            code = Code::ClockDoubtful.name(),
            offset_s = doubt.offset_seconds(),
            "{doubt}. Identities are signed by it all the same, but nothing that has ended by it is deleted until it is right \
             again, or `svidecar-server clock accept` says that it is right"
        ),
        Some(doubt) => tracing::info!("{doubt}; until then nothing is deleted"),
    }
}
