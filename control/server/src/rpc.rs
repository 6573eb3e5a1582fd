//! The gRPC services: SPIRE's APIs over TLS and over the administrators' Unix socket.
//!
//! A call passes `listen` (who is connected), `gate` (may they call this), and then one service, which checks
//! what was sent, asks the store, the index or the CA, and answers with SPIRE's codes and sentences.
//! Services must never look at a connection themselves: who the caller is, the gate says.

mod access;
mod agent;
mod agent_fields;
mod bundle;
mod entry;
mod entry_fields;
mod gate;
mod join_token;
mod limits;
mod listen;
mod peer;
mod serve;
mod status;
mod svid;
mod sync;

pub use entry_fields::to_proto as entry_to_proto;
pub use gate::{Agent, Caller};
pub use peer::Peer;
pub use serve::{Endpoints, Services};

use std::{sync::Arc, time::Duration};

use svidecar_config::server::ServerSettings;
use svidecar_id::TrustDomain;

use self::limits::Limits;
use crate::{ca::CaManager, clock::Clock, entries::AuthorizedEntries, store::Store};

/// What all services share.
pub struct State {
    /// Ours.
    pub trust_domain: TrustDomain,
    /// Where changes go, and listings come from.
    pub store: Store,
    /// What is answered from memory.
    pub entries: Arc<AuthorizedEntries>,
    /// Who signs.
    pub ca: Arc<CaManager>,
    /// What time it is.
    pub clock: Clock,
    agent_ttl: Duration,
    default_x509_svid_ttl: Duration,
    default_jwt_svid_ttl: Duration,
    disable_jwt_svids: bool,
    limits: Limits,
}

impl State {
    /// Brings the parts together.
    #[must_use]
    pub fn new(
        settings: &ServerSettings,
        store: Store,
        entries: Arc<AuthorizedEntries>,
        ca: Arc<CaManager>,
        clock: Clock,
    ) -> Self {
        Self {
            trust_domain: settings.trust_domain.clone(),
            store,
            entries,
            ca,
            clock,
            agent_ttl: settings.agent_svid_ttl().get(),
            default_x509_svid_ttl: settings.default_x509_svid_ttl.get(),
            default_jwt_svid_ttl: settings.default_jwt_svid_ttl.get(),
            disable_jwt_svids: settings.disable_jwt_svids,
            limits: Limits::new(&settings.ratelimit),
        }
    }
}
