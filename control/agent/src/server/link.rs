//! The attested agent's way to its server: one channel for each of its identities, one after the other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
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
    pub(super) channel: Channel,
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
        let channel = dial::lazy(address, &trust, Arc::clone(&identity));
        Arc::new(Self { address: address.clone(), identity, channel, superseded: AtomicBool::new(false) })
    }

    /// Makes an error of a failed call: whether the server was reached, and whether it still knows us. That an
    /// identity of before is not accepted any more says nothing about the one of now.
    #[must_use]
    pub fn error(&self, what: &'static str, status: Status) -> AgentError {
        match eviction(&status) {
            Some(_) if self.superseded.load(Ordering::Acquire) => AgentError::Superseded { what },
            Some(reason) => AgentError::Evicted { id: self.identity.spiffe_id.clone(), reason },
            None => dial::call_error(&self.address, what, status),
        }
    }
}

/// Why the server does not accept this agent any more, if that is what it says.
fn eviction(status: &Status) -> Option<&'static str> {
    match permission_denied_reason(status)? {
        Reason::AgentExpired => Some("its SVID has expired"),
        Reason::AgentNotAttested => Some("it was evicted"),
        Reason::AgentNotActive => Some(
            "another SVID of this agent is in use; was its data_dir copied, or its reusable token used elsewhere?",
        ),
        Reason::AgentBanned => Some("it is banned"),
        Reason::AgentMustReattest => Some("it has to attest again"),
        Reason::Unknown => None,
    }
}
