//! Who we are and whom we can verify, as the Workload API last said.
//!
//! Owns the values, nothing of how they come: a change is a new value, never a modified one.

use std::{fmt, sync::Arc};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_authority::{bundle::BundleSet, x509::inspect::CertInfo};
use svidecar_code::Code;
use svidecar_id::SpiffeId;

/// One of our X.509-SVIDs. The key is inside `certified_key` and cannot be read back.
pub struct Svid {
    /// Its ID.
    pub id: SpiffeId,
    /// What the operator means it for; may be empty.
    pub hint: String,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the leaf says.
    pub leaf: CertInfo,
    /// When the agent gave it to us.
    pub obtained: UnixTime,
    /// For handshakes.
    pub certified_key: Arc<CertifiedKey>,
}

impl Svid {
    /// Whether it can still be presented.
    #[must_use]
    pub fn is_valid(&self, now: UnixTime) -> bool {
        now <= self.leaf.not_after
    }

    /// Seconds left.
    #[must_use]
    pub fn seconds_left(&self, now: UnixTime) -> u64 {
        self.leaf.not_after.as_secs().saturating_sub(now.as_secs())
    }
}

/// How it stands with the Workload API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityState {
    /// The first answer is still awaited.
    Waiting,
    /// There is no socket.
    SocketMissing,
    /// There is a socket and nobody behind it.
    SocketRefused,
    /// We may not open the socket.
    SocketDenied,
    /// The agent has no registration entry for us.
    NotIssued,
    /// The agent cannot find out which process we are.
    NotAttested,
    /// The agent is there and cannot answer now.
    Unavailable,
    /// There was a stream and it ended.
    StreamLost,
    /// The agent's answer cannot be used.
    Invalid,
    /// The agent gave an SVID that its own bundle does not verify.
    NotVerified,
    /// What we have is current.
    Current,
}

impl IdentityState {
    /// The stable word for it.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Waiting => Code::Waiting,
            Self::SocketMissing => Code::SocketMissing,
            Self::SocketRefused => Code::SocketRefused,
            Self::SocketDenied => Code::SocketPermissionDenied,
            Self::NotIssued => Code::NoIdentityIssued,
            Self::NotAttested => Code::CallerNotAttested,
            Self::Unavailable => Code::AgentUnavailable,
            Self::StreamLost => Code::StreamLost,
            Self::Invalid => Code::InvalidAnswer,
            Self::NotVerified => Code::SvidNotVerified,
            Self::Current => Code::Current,
        }
    }
}

/// A state, why, and since when.
#[derive(Clone, Debug)]
pub struct Status {
    /// The state.
    pub state: IdentityState,
    /// A sentence for a person: what was found, what to do.
    pub detail: String,
    /// When it began.
    pub since: UnixTime,
}

/// Who a workload is and whom it can verify.
pub struct Identity {
    /// How it stands with the Workload API.
    pub status: Status,
    /// The SVID that we present.
    pub svid: Option<Arc<Svid>>,
    /// All that the agent gave us, in its order.
    pub all: Vec<Arc<Svid>>,
    /// Whom we can verify.
    pub bundles: Arc<BundleSet>,
    /// When the bundles last changed.
    pub bundles_since: UnixTime,
}

impl Identity {
    /// Nothing yet.
    #[must_use]
    pub fn waiting(workload_api: impl fmt::Display, now: UnixTime) -> Self {
        Self {
            status: Status {
                state: IdentityState::Waiting,
                detail: format!("waiting for the first answer of the Workload API at {workload_api}"),
                since: now,
            },
            svid: None,
            all: Vec::new(),
            bundles: Arc::new(BundleSet::new()),
            bundles_since: now,
        }
    }

    /// Whether an SVID of this ID is among those that the agent gives us.
    #[must_use]
    pub fn has(&self, id: &SpiffeId) -> bool {
        self.all.iter().any(|svid| svid.id == *id)
    }

    /// The SVID, unless it has expired.
    #[must_use]
    pub fn valid_svid(&self, now: UnixTime) -> Option<&Arc<Svid>> {
        self.svid.as_ref().filter(|svid| svid.is_valid(now))
    }
}
