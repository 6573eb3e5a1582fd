//! The way to the server: one channel, dialled with the identity and the bundles of the moment.
//!
//! Owns addresses, dialling and the reading of denials. A channel dials again by itself; what it dials with
//! is asked anew each time, so a renewed SVID or a rotated root needs no restart. It must never decide when
//! to call.

mod calls;
mod dial;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use svidecar_api::status::{Reason, permission_denied_reason};
use svidecar_authority::bundle::BundleSet;
use svidecar_id::{SpiffeId, TrustDomain};
use tokio::sync::watch;
use tonic::transport::Channel;

pub use calls::{CALL_TIMEOUT, get_bundle};
pub use dial::Trust;

use crate::{error::AgentError, svid::HeldSvid};

/// Largest answer that is read: the entries and bundles of a very large trust domain.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Address {
    /// DNS name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Its SVID must be `spiffe://TRUST-DOMAIN/spire/server`.
    pub trust_domain: TrustDomain,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where the bundles of the moment come from.
pub type BundleSource = Arc<dyn Fn() -> Arc<BundleSet> + Send + Sync>;

/// The attested agent's link to its server.
pub struct Link {
    address: Address,
    bundles: BundleSource,
    session: watch::Sender<Arc<Session>>,
}

/// The link with one identity. Calls are made on it, so that an answer is judged by the identity that asked.
pub struct Session {
    address: Address,
    identity: Arc<HeldSvid>,
    channel: Channel,
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
    pub fn error(&self, what: &'static str, status: tonic::Status) -> AgentError {
        match eviction(&status) {
            Some(_) if self.superseded.load(Ordering::Acquire) => AgentError::Superseded { what },
            Some(reason) => AgentError::Evicted { id: self.identity.spiffe_id.clone(), reason },
            None => call_error(&self.address, what, status),
        }
    }
}

/// A channel for the first contact, without an identity of ours.
///
/// # Errors
/// [`AgentError::Unreachable`] with the reason; [`AgentError::Untrusted`] when the server's certificate is not one of
/// the authority that we trust.
pub async fn dial(address: &Address, trust: &Trust) -> Result<Channel, AgentError> {
    dial::now(address, trust).await
}

/// Makes an error of a failed call.
#[must_use]
pub fn call_error(address: &Address, what: &'static str, status: tonic::Status) -> AgentError {
    // A status without a source is the server's own answer; with one, the transport made it.
    match std::error::Error::source(&status) {
        Some(source) => dial::failed(address, source),
        None => AgentError::Refused { what, status: Box::new(status) },
    }
}

/// Why the server does not accept this agent any more, if that is what it says.
fn eviction(status: &tonic::Status) -> Option<&'static str> {
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

/// The ID that every server of a trust domain has.
fn server_id(trust_domain: &TrustDomain) -> Result<SpiffeId, AgentError> {
    SpiffeId::new(trust_domain, "/spire/server")
        .map_err(|error| AgentError::BadAnswer { what: "the trust domain's name", reason: error.to_string() })
}
