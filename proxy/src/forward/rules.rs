//! What rules a connection: the part of a snapshot that concerns it.

use std::{rc::Rc, sync::Arc, time::Duration};

use svidecar_code::Code;
use svidecar_config::{
    proxy::{Limits, ListenerProtocol},
    units::HumanDuration,
};
use svidecar_process::clock;

use crate::{
    admit::{Party, Row, authenticate::Objection},
    message::refusal::Refusal,
    plan::{Inbound, Outbound, Plan, snapshot::Snapshot},
    record::Origin,
    runtime::{connections::Ending, drain::Direction},
    upstream::{Upstream, upstreams::Upstreams},
};

/// A listener of either direction.
#[derive(Clone)]
pub enum AnyListener {
    /// For peers.
    Inbound(Arc<Inbound>),
    /// For our workload.
    Outbound(Arc<Outbound>),
}

/// How long our workload may take to begin an answer, where the settings say nothing: as long as Envoy lets a stream be without a
/// word.
const LONGEST_THOUGHT: Duration = Duration::from_secs(300);

/// How long a connection of HTTP may wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the whole head of a request.
    pub head: Duration,
    /// For the head of a response, after the whole request, but for calls of gRPC and requests to switch protocols.
    pub response: Option<Duration>,
    /// For the head of a response to those.
    pub late_response: Option<Duration>,
    /// For a request with its response.
    pub request: Option<Duration>,
    /// For the next request.
    pub idle: Duration,
}

/// What rules the requests of a connection.
pub struct Rules {
    /// Of the snapshot that they are from.
    pub version: u64,
    /// Where it came in.
    pub listener: AnyListener,
    /// Who may pass.
    pub row: Row,
    /// The beginning of its records.
    pub origin: Rc<Origin>,
    /// Where it leads.
    pub upstream: Rc<Upstream>,
}

impl AnyListener {
    /// The listener of the same name and address that a plan has, if it has one. One that moved is another: what is in force
    /// with its new address is not in force for who came by the old one.
    #[must_use]
    pub fn of(&self, plan: &Plan) -> Option<Self> {
        match self {
            Self::Inbound(listener) => {
                let same = plan
                    .inbound(&listener.name)
                    .filter(|same| same.settings.listen == listener.settings.listen);
                same.cloned().map(Self::Inbound)
            }
            Self::Outbound(listener) => {
                let same = plan
                    .outbound(&listener.name)
                    .filter(|same| same.settings.listen == listener.settings.listen);
                same.cloned().map(Self::Outbound)
            }
        }
    }

    /// Whether a plan has a listener of the same name at another address and with another policy.
    fn has_moved(&self, plan: &Plan) -> bool {
        let Self::Inbound(listener) = self else { return false };
        let now = plan.inbound(&listener.name);
        now.is_some_and(|now| now.settings.listen != listener.settings.listen && !now.same_policy(listener))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Inbound(listener) => &listener.name,
            Self::Outbound(listener) => &listener.name,
        }
    }

    /// Whose traffic it is for.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Inbound(_) => Direction::Inbound,
            Self::Outbound(_) => Direction::Outbound,
        }
    }

    /// What it speaks.
    #[must_use]
    pub fn protocol(&self) -> ListenerProtocol {
        match self {
            Self::Inbound(listener) => listener.settings.protocol,
            Self::Outbound(listener) => listener.settings.protocol,
        }
    }

    /// What a caller may spend.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        match self {
            Self::Inbound(listener) => &listener.settings.limits,
            Self::Outbound(listener) => &listener.settings.limits,
        }
    }

    /// How long a caller may wait.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        let (head, response, default, request, idle) = match self {
            Self::Inbound(listener) => {
                let timeouts = &listener.settings.timeouts;
                let default = Some(LONGEST_THOUGHT);
                (
                    timeouts.request_headers,
                    timeouts.response_headers,
                    default,
                    timeouts.request,
                    timeouts.idle,
                )
            }
            Self::Outbound(listener) => {
                let timeouts = &listener.settings.timeouts;
                (timeouts.request_headers, timeouts.response_headers, None, timeouts.request, timeouts.idle)
            }
        };
        let late_response = response.map(HumanDuration::get);
        Timeouts {
            head: head.get(),
            response: late_response.or(default),
            late_response,
            request: request.map(HumanDuration::get),
            idle: idle.get(),
        }
    }
}

impl Rules {
    /// What a snapshot says of the connections of a party to a listener. Its version was read before it: at worst the rules
    /// are looked up once more.
    #[must_use]
    pub fn new(
        party: &Party,
        upstreams: &Upstreams,
        (version, snapshot): (u64, &Snapshot),
        listener: AnyListener,
    ) -> Rc<Self> {
        let client = party.address.socket_address();
        let (row, origin, upstream) = match &listener {
            AnyListener::Inbound(inbound) => (
                Row::inbound(
                    inbound,
                    snapshot.plan.settings.on_peer_expiry,
                    objection(party, snapshot, &listener),
                ),
                Origin::inbound(&inbound.name, &inbound.policy, client, party.id()),
                &inbound.app,
            ),
            AnyListener::Outbound(outbound) => {
                (Row::outbound(outbound), Origin::outbound(&outbound.name, client), &outbound.upstream)
            }
        };
        let upstream = upstreams.of(&party.worker, upstream);
        Rc::new(Self { version, row, origin, upstream, listener })
    }
}

fn objection(party: &Party, snapshot: &Snapshot, listener: &AnyListener) -> Option<Objection> {
    let ends = party.peer.as_ref()?.objection(&snapshot.identity, clock::unix());
    ends.or_else(|| {
        let detail = "the listener has another address and another policy now";
        listener.has_moved(&snapshot.plan).then(|| Objection {
            ending: Ending::Drained,
            refusal: Refusal::new(Code::Draining, detail).closing(),
        })
    })
}
