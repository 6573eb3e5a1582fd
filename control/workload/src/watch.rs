//! Keeps an identity current: what was received stays in use while the agent is away, until it expires; what the agent
//! takes back is gone at once (I9 to I13). What no peer would accept never takes the place of what peers accept.
//!
//! Owns what each word of the agent changes, and tells the user. It never ends because the agent is away.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use rustls_pki_types::UnixTime;
use svidecar_api::transport::Endpoint;
use svidecar_authority::bundle::BundleSet;
use svidecar_id::SpiffeId;
use svidecar_process::{
    Clock,
    clock::{self, Steps},
};
use tokio::sync::mpsc;

use crate::{
    expiry::{self, Overdue},
    identity::{Identity, IdentityState, Status, Svid},
    material::{self, Choice, Material, MaterialError},
    session::{self, Ended, Heard},
};

/// What happened to an identity.
#[derive(Debug)]
pub enum Event {
    /// There is an SVID to present, where there was none.
    Obtained,
    /// The SVID to present is another identity's.
    Replaced {
        /// Whose the one before was.
        before: SpiffeId,
    },
    /// There is a newer SVID of the same identity.
    Rotated,
    /// The agent said the same SVID again; bundles, the other SVIDs or the state may have changed.
    Confirmed,
    /// The bundles changed, and nothing else.
    BundlesChanged,
    /// The agent gives nothing, and has given nothing before; the status says why.
    Absent,
    /// The agent gives nothing now, and what there is stays in use; the status says why.
    Away,
    /// The agent has taken back all that there was; the status says why.
    TakenBack,
    /// A message with identities cannot be used. Nothing changed; what it means for the status is told by itself.
    SvidsDiscarded(MaterialError),
    /// One of several identities cannot be used, and it is not the one to present. What it means for the rest is told by
    /// itself.
    SvidLeftOut(MaterialError),
    /// A message with bundles cannot be used. Nothing changed.
    BundlesDiscarded(MaterialError),
    /// No newer SVID has come in time. Nothing changed.
    Overdue(Overdue),
}

impl Event {
    /// Whether the identity is another value than the one told before.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        !matches!(
            self,
            Self::SvidsDiscarded(_) | Self::SvidLeftOut(_) | Self::BundlesDiscarded(_) | Self::Overdue(_)
        )
    }
}

/// Keeps the two streams of the Workload API open, and an identity current by what they say.
pub struct IdentityWatch {
    /// Where the Workload API listens.
    pub endpoint: Endpoint,
    /// Which identity to present.
    pub choice: Choice,
    /// What is known to begin with: [`Identity::waiting`], or what a watch before this one left.
    pub known: Arc<Identity>,
}

impl IdentityWatch {
    /// Runs until it is dropped. Each event is told once, with the identity of then; the next waits for `tell`.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use svidecar_process::clock;
    /// # use svidecar_workload::{Choice, Identity, IdentityWatch};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint = "unix:///run/svidecar/api.sock".parse()?;
    /// let known = Arc::new(Identity::waiting(&endpoint, clock::unix()));
    /// let (newest, mut identities) = tokio::sync::watch::channel(Arc::clone(&known));
    /// let watch = IdentityWatch { endpoint, choice: Choice::default(), known };
    /// tokio::spawn(watch.run(move |identity, event| {
    ///     if event.is_change() {
    ///         newest.send_replace(Arc::clone(identity));
    ///     }
    /// }));
    /// identities.wait_for(|identity| identity.svid.is_some()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(self, tell: impl FnMut(&Arc<Identity>, Event) + Send) {
        let (sender, heard) = mpsc::channel(1);
        let listener = Listener { choice: self.choice, known: self.known, unverified: None, tell };
        let steps = Clock::system().steps();
        tokio::join!(session::keep_open(&self.endpoint, sender), listener.run(heard, steps));
    }
}

/// Makes an identity of what is heard.
struct Listener<T> {
    choice: Choice,
    known: Arc<Identity>,
    /// The last message, if it is not in use because it does not verify now: one of the clocks may be wrong.
    unverified: Option<Unverified>,
    tell: T,
}

struct Unverified {
    material: Material,
    separate_bundles: bool,
}

/// How often what did not verify is looked at again. The agent does not send it twice.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl<T: FnMut(&Arc<Identity>, Event)> Listener<T> {
    async fn run(mut self, mut heard: mpsc::Receiver<Heard>, mut steps: Steps) {
        loop {
            let svid = self.known.svid.as_deref();
            let alarm = svid.and_then(|svid| expiry::next_alarm(svid, clock::unix()));
            let overdue = async {
                match alarm {
                    Some((wait, overdue)) => {
                        tokio::time::sleep(wait).await;
                        overdue
                    }
                    None => std::future::pending().await,
                }
            };
            let look_again = async {
                match self.unverified {
                    Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = heard.recv() => match message {
                    Some(message) => self.hear(message, clock::unix()),
                    None => return,
                },
                () = look_again => self.look_again(clock::unix()),
                overdue = overdue => (self.tell)(&self.known, Event::Overdue(overdue)),
                // The machine was suspended or its clock set: the timer above knows nothing of it.
                () = steps.next() => {
                    let svid = self.known.svid.as_deref();
                    if let Some(overdue) = svid.and_then(|svid| expiry::overdue(svid, clock::unix())) {
                        (self.tell)(&self.known, Event::Overdue(overdue));
                    }
                }
            }
        }
    }

    fn hear(&mut self, heard: Heard, now: UnixTime) {
        match heard {
            Heard::Svids { message, separate_bundles } => {
                self.unverified = None;
                let taken = material::read(message, now)
                    .and_then(|material| self.take_svids(Unverified { material, separate_bundles }, now));
                if let Err(error) = taken {
                    self.discard(error, now);
                }
            }
            Heard::Bundles(Ok(set)) => self.take_bundles(set, now),
            Heard::Bundles(Err(error)) => (self.tell)(&self.known, Event::BundlesDiscarded(error)),
            Heard::Ended(Ended { state, detail, redacts }) => self.note(state, detail, redacts, now),
        }
    }

    /// Looks again at what did not verify. Nothing is told when it still does not.
    fn look_again(&mut self, now: UnixTime) {
        if let Some(message) = self.unverified.take() {
            // It is kept for the next time.
            let _ = self.take_svids(message, now);
        }
    }

    fn discard(&mut self, error: MaterialError, now: UnixTime) {
        let detail = error.to_string();
        let (state, redacts) = match error {
            // What we presented until now is not among what we are given: it was taken back.
            MaterialError::NotGiven { .. } => (IdentityState::Invalid, true),
            MaterialError::NotVerified(_) => (IdentityState::NotVerified, false),
            _ => (IdentityState::Invalid, false),
        };
        (self.tell)(&self.known, Event::SvidsDiscarded(error));
        self.note(state, detail, redacts, now);
    }

    fn take_svids(&mut self, message: Unverified, now: UnixTime) -> Result<(), MaterialError> {
        let usable = match material::usable(&message.material, &self.choice, now) {
            Ok(usable) => usable,
            Err(error) => {
                self.unverified = matches!(error, MaterialError::NotVerified(_)).then_some(message);
                return Err(error);
            }
        };
        for error in usable.left_out {
            (self.tell)(&self.known, Event::SvidLeftOut(error));
        }
        let Unverified { material, separate_bundles } = message;
        let old = &self.known;
        let event = what_is_new(old.svid.as_deref(), &usable.chosen);
        let keep_bundles =
            same_bundles(&old.bundles, &material.bundles) || (separate_bundles && !old.bundles.is_empty());
        let identity = Identity {
            status: current_status(&old.status, now),
            svid: Some(usable.chosen),
            all: usable.all,
            bundles: if keep_bundles { Arc::clone(&old.bundles) } else { Arc::new(material.bundles) },
            bundles_since: if keep_bundles { old.bundles_since } else { now },
        };
        self.change(identity, event);
        Ok(())
    }

    fn take_bundles(&mut self, set: BundleSet, now: UnixTime) {
        let old = &self.known;
        if same_bundles(&old.bundles, &set) {
            return;
        }
        let identity = Identity {
            status: old.status.clone(),
            svid: old.svid.clone(),
            all: old.all.clone(),
            bundles: Arc::new(set),
            bundles_since: now,
        };
        self.change(identity, Event::BundlesChanged);
    }

    /// Takes note that the agent gives nothing, once for each new reason.
    fn note(&mut self, state: IdentityState, detail: String, redacts: bool, now: UnixTime) {
        let old = &self.known;
        let have = old.svid.is_some();
        let is_known = old.status.state == state && old.status.detail == detail;
        let takes_back = redacts && have;
        if redacts {
            self.unverified = None;
        }
        if is_known && !takes_back {
            return;
        }
        let status = Status { state, detail, since: now };
        let identity = if redacts {
            Identity { status, svid: None, all: Vec::new(), bundles: Arc::default(), bundles_since: now }
        } else {
            Identity {
                status,
                svid: old.svid.clone(),
                all: old.all.clone(),
                bundles: Arc::clone(&old.bundles),
                bundles_since: old.bundles_since,
            }
        };
        let event = match (have, redacts) {
            (true, false) => Event::Away,
            (true, true) => Event::TakenBack,
            (false, _) => Event::Absent,
        };
        self.change(identity, event);
    }

    fn change(&mut self, identity: Identity, event: Event) {
        self.known = Arc::new(identity);
        (self.tell)(&self.known, event);
    }
}

fn what_is_new(before: Option<&Svid>, chosen: &Svid) -> Event {
    match before {
        None => Event::Obtained,
        Some(before) if before.id != chosen.id => Event::Replaced { before: before.id.clone() },
        Some(before) if before.leaf.serial != chosen.leaf.serial => Event::Rotated,
        Some(_) => Event::Confirmed,
    }
}

fn current_status(old: &Status, now: UnixTime) -> Status {
    if old.state == IdentityState::Current {
        return old.clone();
    }
    Status { state: IdentityState::Current, detail: "the Workload API stream is open".to_owned(), since: now }
}

/// Bundles that say the same stay the same value, and then no connection is verified again.
fn same_bundles(old: &BundleSet, new: &BundleSet) -> bool {
    old.iter().eq(new.iter())
}
