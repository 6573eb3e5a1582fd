//! The settings of listeners for peers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;

use super::{
    headers::IdentityHeaderSettings,
    listener::{Limits, ListenerProtocol, check_target, check_timeouts, leads_to},
};
use crate::{
    address::{Address, ListenAddress},
    units::HumanDuration,
};

/// A listener for peers, which leads to our workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InboundSettings {
    /// Name of the listener in logs and metrics; unique.
    pub name: String,
    /// Where peers connect. A bare port means 127.0.0.1.
    pub listen: ListenAddress,
    /// What peers speak inside mTLS.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// Our workload, in plain text: a loopback address or a Unix socket.
    pub forward: Address,
    /// Let `forward` name another machine, which then gets the traffic in plain text.
    #[serde(default)]
    pub unsafe_forward: bool,
    /// What our workload speaks, for `protocol: http`.
    #[serde(default)]
    pub forward_protocol: ForwardProtocol,
    /// File of the policy; a relative path begins at the directory of this file.
    pub policy: PathBuf,
    /// Headers that tell our workload who the peer is, for `protocol: http`.
    #[serde(default)]
    pub identity_headers: IdentityHeaderSettings,
    /// How long the proxy waits.
    #[serde(default)]
    pub timeouts: InboundTimeouts,
    /// How much it accepts.
    #[serde(default)]
    pub limits: Limits,
}

impl InboundSettings {
    /// Notes what does not fit together.
    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let forward = format!("{key}.forward");
        check_target(&self.forward, &forward, problems);
        if !self.forward.is_local() && !self.unsafe_forward {
            problems.add_with_help(
                forward,
                format!("{} is another machine, which would get the traffic in plain text", self.forward),
                "forward to a loopback address or a Unix socket, or set `unsafe_forward: true`",
            );
        } else if leads_to(&self.forward, &self.listen) {
            problems.add(forward, format!("{} is where this listener itself listens", self.forward));
        }
        if self.policy.file_name().is_none() {
            problems.add(format!("{key}.policy"), "expected the path of a policy file");
        }
        if self.protocol == ListenerProtocol::Tcp {
            if self.identity_headers != IdentityHeaderSettings::default() {
                let message = "headers can only be set with `protocol: http`";
                problems.add(format!("{key}.identity_headers"), message);
            }
            if self.forward_protocol != ForwardProtocol::Auto {
                problems.add_with_help(
                    format!("{key}.forward_protocol"),
                    "`forward_protocol` only means something with `protocol: http`",
                    "set `protocol: http`, or leave `forward_protocol` out",
                );
            }
        }
        self.identity_headers.validate(&format!("{key}.identity_headers"), problems);
        let timeouts = &self.timeouts;
        check_timeouts(
            [
                ("handshake", Some(timeouts.handshake)),
                ("connect", Some(timeouts.connect)),
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
}

/// What our workload speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardProtocol {
    /// HTTP/2 with prior knowledge for gRPC, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// How long an inbound listener waits. No value may be `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InboundTimeouts {
    /// Longest wait for the peer's TLS handshake.
    pub handshake: HumanDuration,
    /// Longest wait for a connection to our workload.
    pub connect: HumanDuration,
    /// Longest wait for the whole head of a request.
    pub request_headers: HumanDuration,
    /// Longest wait for the head of our workload's response, once it has the whole request; an interim response begins it
    /// anew. Default: `5m`, and none for gRPC and for requests to switch protocols; what is written here is for those too.
    pub response_headers: Option<HumanDuration>,
    /// Longest time for a request as a whole, from its head to the last byte of its response; what follows a switch of protocols
    /// is no part of it. Default: none.
    pub request: Option<HumanDuration>,
    /// How long a connection of HTTP may be without a request. Connections of `protocol: tcp` may be silent for as long as both
    /// sides live.
    pub idle: HumanDuration,
}

impl Default for InboundTimeouts {
    fn default() -> Self {
        Self {
            handshake: HumanDuration::from_secs(10),
            // Longer than the kernel's first tries (after 1 s, after 3 s), for an app whose queue was full for a moment.
            connect: HumanDuration::from_secs(5),
            request_headers: HumanDuration::from_secs(30),
            response_headers: None,
            request: None,
            idle: HumanDuration::from_secs(60),
        }
    }
}
