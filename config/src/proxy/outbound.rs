//! The settings of listeners for our workload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;
use svidecar_policy::pattern::IdPattern;

use super::{
    listener::{Limits, ListenerProtocol, check_target, check_timeouts, leads_to},
    tunnel::{TunnelDestination, UpstreamTunnel},
};
use crate::{
    address::{Address, ListenAddress},
    units::HumanDuration,
};

/// A listener for our workload, which leads to one upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboundSettings {
    /// Name of the listener in logs and metrics; unique.
    pub name: String,
    /// Where our workload connects, in plain text: a loopback address or a Unix socket.
    pub listen: ListenAddress,
    /// Let it listen on an address that other machines can reach; they then speak with our identity.
    #[serde(default)]
    pub unsafe_listen: bool,
    /// What our workload speaks.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// Where it leads.
    pub upstream: UpstreamSettings,
    /// How long the proxy waits.
    #[serde(default)]
    pub timeouts: OutboundTimeouts,
    /// How much it accepts.
    #[serde(default)]
    pub limits: Limits,
}

impl OutboundSettings {
    /// Notes what does not fit together.
    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        if !self.listen.is_local() && !self.unsafe_listen {
            problems.add_with_help(
                format!("{key}.listen"),
                format!(
                    "{} can be reached from other machines, which would then speak with our identity",
                    self.listen
                ),
                "listen on a loopback address or on a Unix socket, or set `unsafe_listen: true`",
            );
        }
        for (index, endpoint) in self.upstream.endpoints.iter().enumerate() {
            let key = format!("{key}.upstream.endpoints[{index}]");
            check_target(endpoint, &key, problems);
            if leads_to(endpoint, &self.listen) {
                problems.add(key, format!("{endpoint} is where this listener itself listens"));
            }
        }
        self.check_tunnel(key, problems);
        let timeouts = &self.timeouts;
        check_timeouts(
            [
                ("connect", Some(timeouts.connect)),
                ("handshake", Some(timeouts.handshake)),
                ("request_headers", Some(timeouts.request_headers)),
                ("response_headers", timeouts.response_headers),
                ("request", timeouts.request),
                ("idle", Some(timeouts.idle)),
            ],
            key,
            problems,
        );
        self.limits.validate(key, problems);
    }

    fn check_tunnel(&self, key: &str, problems: &mut Problems) {
        let UpstreamSettings { tunnel, destination, endpoints, .. } = &self.upstream;
        let is_hbone = *tunnel == UpstreamTunnel::Hbone;
        if is_hbone && self.protocol != ListenerProtocol::Tcp {
            problems.add_with_help(
                format!("{key}.upstream.tunnel"),
                "`hbone` carries bytes of any protocol; this listener looks at requests of HTTP",
                "set `protocol: tcp`, or leave `tunnel` out: requests share connections by themselves",
            );
        }
        match destination {
            Some(_) if !is_hbone => {
                problems.add_with_help(
                    format!("{key}.upstream.destination"),
                    "`destination` only means something with `tunnel: hbone`",
                    "add `tunnel: hbone`, or leave `destination` out",
                );
            }
            Some(TunnelDestination::Address(_)) => {}
            Some(TunnelDestination::Port(_)) | None if is_hbone => {
                for (index, endpoint) in endpoints.iter().enumerate() {
                    if matches!(endpoint, Address::Unix(_)) {
                        problems.add(
                            format!("{key}.upstream.endpoints[{index}]"),
                            "a Unix socket has no host that a tunnel could lead to; write `destination: HOST:PORT`",
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

/// What an outbound listener leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Addresses of the upstream, `HOST:PORT` or `unix:/PATH`. Names are looked up, all their addresses are used.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<Address>,
    /// Who may answer: SPIFFE IDs or patterns; a whole trust domain is written out as `spiffe://TRUST-DOMAIN/**`.
    #[schemars(length(min = 1))]
    pub server_id: Vec<IdPattern>,
    /// How the bytes of `protocol: tcp` get there. `auto`: many connections share a few of mutual TLS where a svidecar
    /// answers; elsewhere each is one of its own. `hbone`: they are shared with anyone who knows HBONE (CONNECT over
    /// HTTP/2), such as Istio's ztunnel.
    #[serde(default)]
    pub tunnel: UpstreamTunnel,
    /// Where the other end of `tunnel: hbone` shall connect: `HOST:PORT`, or a port alone for the host of the endpoint.
    /// Default: the endpoint itself. ztunnel is an endpoint with port 15008, and the destination is the port of the app.
    #[serde(default)]
    pub destination: Option<TunnelDestination>,
}

/// How long an outbound listener waits. No value may be `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundTimeouts {
    /// Longest wait for a TCP connection to one endpoint.
    pub connect: HumanDuration,
    /// Longest wait for the TLS handshake with an endpoint.
    pub handshake: HumanDuration,
    /// Longest wait for the whole head of a request.
    pub request_headers: HumanDuration,
    /// Longest wait for the head of the upstream's response, once it has the whole request; an interim response begins it
    /// anew. Default: none; the upstream's own sidecar knows its workload.
    pub response_headers: Option<HumanDuration>,
    /// Longest time for a request as a whole, from its head to the last byte of its response; what follows a switch of protocols
    /// is no part of it. Default: none.
    pub request: Option<HumanDuration>,
    /// How long a connection of HTTP may be without a request. Connections of `protocol: tcp` may be silent for as long as both
    /// sides live.
    pub idle: HumanDuration,
}

impl Default for OutboundTimeouts {
    fn default() -> Self {
        Self {
            connect: HumanDuration::from_secs(5),
            handshake: HumanDuration::from_secs(10),
            request_headers: HumanDuration::from_secs(30),
            response_headers: None,
            request: None,
            idle: HumanDuration::from_secs(60),
        }
    }
}
