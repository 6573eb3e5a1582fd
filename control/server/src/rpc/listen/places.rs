//! How many connections there may be, and whose: agents, other members of the trust domain, and strangers.
//!
//! Owns the budgets, none of which another kind of caller can spend: what strangers hold never keeps an agent out. It must
//! never say what somebody may call; that is the gate's.

use std::{sync::Arc, time::Duration};

use svidecar_authority::x509::VerifiedPeer;
use svidecar_id::SpiffeId;
use svidecar_process::{
    Throttle, clock, memory,
    shares::{Share, Shares},
    source::Source,
    waiting::{Guest, Waiting},
};

use crate::{ids, peer::Peer, state::State, store::AgentRecord, telemetry};

/// Handshakes at the same time. Whoever comes gets a place, and whoever has most of them loses one.
const HANDSHAKES: usize = 256;

/// Connections without a certificate: a node that joins needs one for less than a second. Given as the places of
/// handshakes are.
const STRANGERS: usize = 512;

/// Connections of all agents, and of one. It needs two; some of before may not have noticed yet that they have ended.
const AGENTS: usize = 20_000;
const OF_ONE_AGENT: usize = 16;

/// Connections of all other members of the trust domain, administrators among them, and of one.
const MEMBERS: usize = 1024;
const OF_ONE_MEMBER: usize = 64;

/// How often the log says that somebody has as many connections as it may.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The budgets.
pub struct Places {
    /// Of connections whose other end has not proven anything yet.
    pub handshakes: Waiting<Source>,
    strangers: Waiting<Source>,
    /// All connections of agents and of other members, so that some can be closed when memory runs out.
    open: Waiting<SpiffeId>,
    agents: Shares<SpiffeId>,
    members: Shares<SpiffeId>,
    said: Throttle<SpiffeId>,
}

/// What a connection holds of them.
pub enum Place {
    /// Until somebody needs it more.
    Stranger(Guest<Source>),
    /// Until it ends.
    Member(Share<SpiffeId>, Guest<SpiffeId>),
}

impl Places {
    /// Of so many connections as there are descriptors for. Few as these may be, strangers have no more than half of them.
    pub fn new(connections: usize) -> Self {
        let handshakes = HANDSHAKES.min(connections / 4);
        let strangers = STRANGERS.min(connections / 4);
        let members = MEMBERS.min(connections / 8);
        let agents = AGENTS.min(connections.saturating_sub(handshakes + strangers + members));
        Self {
            handshakes: Waiting::new(handshakes),
            strangers: Waiting::new(strangers),
            open: Waiting::new(usize::MAX),
            agents: Shares::new(agents),
            members: Shares::new(members),
            said: Throttle::new(1, SAY_EVERY),
        }
    }

    /// A place for one who has finished the handshake; none for a member that has as many as it may.
    pub async fn of(&self, state: &State, source: Source, svid: Option<&VerifiedPeer>) -> Option<Place> {
        let Some(svid) = svid else { return Some(Place::Stranger(self.strangers.enter(source))) };
        let place = if is_agent(state, &svid.id).await {
            self.agents.take_at_most(svid.id.clone(), 1, OF_ONE_AGENT)
        } else {
            self.members.take_at_most(svid.id.clone(), 1, OF_ONE_MEMBER)
        };
        if place.is_none() {
            telemetry::shed("member");
        }
        place.map(|share| Place::Member(share, self.open.enter(svid.id.clone())))
    }

    /// Memory is nearly used up: whoever has most connections loses half of them, strangers first.
    pub fn cut_greediest(&self) {
        let few = memory::FEW;
        let cut = match self.strangers.cut_greediest(few) + self.handshakes.cut_greediest(few) {
            0 => self.open.cut_greediest(few),
            cut => cut,
        };
        tracing::debug!(connections = cut, "closed connections for want of memory");
    }

    /// Says that a member was refused one more connection.
    pub fn refused(&self, peer: &Peer) {
        let Peer::Remote { svid: Some(svid), .. } = peer else { return };
        if let Some(leave) = self.said.leave_for(svid.id.clone(), clock::monotonic()) {
            tracing::warn!(
                %peer, code = svidecar_code::Code::TooManyConnections.name(), kept_back = leave.kept_back,
                "closed a connection: this caller has as many as it may"
            );
        }
    }
}

/// Whether it is an agent that has attested, and may act.
async fn is_agent(state: &State, id: &SpiffeId) -> bool {
    let known = || state.entries.agent(id);
    let mut agent: Option<Arc<AgentRecord>> = known();
    if agent.is_none() && ids::is_agent(id) {
        // It may have attested just now.
        state.entries.current().await;
        agent = known();
    }
    agent.is_some_and(|agent| !agent.is_banned())
}
