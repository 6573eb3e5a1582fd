//! The attested agent's way to its server: two channels for each of its identities, one after the other.
//!
//! Owns which connection a call is made on. The stream of changes has one of its own: it stays for as long as it can, and
//! calls must not share the end of it. It must never try again what the server has answered.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use svidecar_api::status::{Reason, permission_denied_reason};
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

use super::{
    address::Address,
    dial::{self, BundleSource, Trust},
};
use crate::{error::AgentError, svid::HeldSvid};

/// The attested agent's link to its server.
pub struct Link {
    address: Address,
    bundles: BundleSource,
    session: watch::Sender<Arc<Session>>,
}

/// The link with one identity. Calls are made on it, so that an answer is judged by the identity that asked.
pub struct Session {
    pub(super) address: Address,
    identity: Arc<HeldSvid>,
    trust: Trust,
    /// For calls; how many there were before it.
    calls: Mutex<(Channel, u64)>,
    /// For the stream of changes.
    pub(super) changes: Channel,
    /// Another identity has taken over.
    superseded: AtomicBool,
}

impl Link {
    /// A link that dials when it is first used.
    #[must_use]
    pub fn new(address: Address, identity: Arc<HeldSvid>, bundles: BundleSource) -> Self {
        let (session, _) = watch::channel(Session::new(&address, identity, &bundles));
        Self { address, bundles, session }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Our own SVID.
    #[must_use]
    pub fn identity(&self) -> Arc<HeldSvid> {
        Arc::clone(&self.session.borrow().identity)
    }

    /// The way to call the server now.
    #[must_use]
    pub fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.borrow())
    }

    /// Follows the sessions, from the one of now.
    #[must_use]
    pub fn sessions(&self) -> watch::Receiver<Arc<Session>> {
        self.session.subscribe()
    }

    /// Uses another SVID from now on, over a new connection. Calls in flight end with the old one; the server
    /// counts the new one as active, and the old one as not, from its first use.
    pub fn set_identity(&self, identity: Arc<HeldSvid>) {
        self.session.borrow().superseded.store(true, Ordering::Release);
        self.session.send_replace(Session::new(&self.address, identity, &self.bundles));
    }
}

impl Session {
    fn new(address: &Address, identity: Arc<HeldSvid>, bundles: &BundleSource) -> Arc<Self> {
        let trust = Trust::Live(Arc::clone(bundles));
        let dial = || dial::lazy(address, &trust, Arc::clone(&identity));
        let (calls, changes) = (Mutex::new((dial(), 0)), dial());
        let superseded = AtomicBool::new(false);
        Arc::new(Self { address: address.clone(), identity, trust, calls, changes, superseded })
    }

    /// Makes a call and waits for its answer, but not for ever. It is made once more, on a new connection, when the one that it
    /// was made on ends before there is an answer: servers end connections that are old, also while a call is on its way.
    /// The server may have heard the first one, so it must be a call that may be repeated.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn call<T, F>(
        &self,
        what: &'static str,
        most: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, AgentError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let exchange = async {
            let (channel, number) = self.calls(None);
            match call(channel).await {
                Err(status) if dial::ended_early(&status) => {
                    tracing::debug!(call = what, %status, "the connection ended before the answer; trying again");
                    call(self.calls(Some(number)).0).await
                }
                outcome => outcome,
            }
        };
        match tokio::time::timeout(most, exchange).await {
            Ok(outcome) => outcome.map_err(|status| self.error(what, status)),
            Err(_) => Err(AgentError::Late { what, after: most }),
        }
    }

    /// The channel for calls, and its number; another one than the one that `ended`.
    fn calls(&self, ended: Option<u64>) -> (Channel, u64) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if ended == Some(calls.1) {
            *calls = (dial::lazy(&self.address, &self.trust, Arc::clone(&self.identity)), calls.1 + 1);
        }
        calls.clone()
    }

    /// Makes an error of a failed call: whether the server was reached, and whether it knows us as we are. That an
    /// identity of before is not accepted any more says nothing about the one of now.
    #[must_use]
    pub fn error(&self, what: &'static str, status: Status) -> AgentError {
        match permission_denied_reason(&status) {
            Some(_) if self.superseded.load(Ordering::Acquire) => AgentError::Superseded { what },
            Some(Reason::AgentBanned) => {
                AgentError::Evicted { id: self.identity.spiffe_id.clone(), reason: BANNED }
            }
            Some(reason) => match doubt(reason) {
                Some(reason) => AgentError::Doubted { reason: reason.to_owned(), by_server: true },
                None => dial::call_error(&self.address, what, status),
            },
            None => dial::call_error(&self.address, what, status),
        }
    }
}

/// The one denial that needs no second look.
const BANNED: &str = "it is banned";

/// What a denial says about an agent that may be a good one all the same; none for other denials.
#[must_use]
pub const fn doubt(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::AgentExpired => Some("its SVID has ended"),
        Reason::AgentNotAttested => Some("the server does not know it"),
        Reason::AgentNotActive => Some(
            "another SVID of this agent is in use; was its data_dir copied, or its reusable token used elsewhere?",
        ),
        Reason::AgentMustReattest => Some("it has to attest again"),
        Reason::AgentBanned | Reason::Unknown => None,
    }
}
