//! The settings of `svidecar`, the proxy: one file per proxy.
//!
//! What would quietly weaken the proxy (plain text to another machine, our identity for other machines, an
//! admin page for everyone) needs an `unsafe_…` next to it, written out.

mod access_log;
mod headers;
mod inbound;
mod listener;
mod local_api;
mod outbound;
mod tunnel;
mod workers;

use std::{collections::HashMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;
use svidecar_id::{SpiffeId, TrustDomain};

pub use self::{
    access_log::{AccessLogFormat, AccessLogPath, AccessLogSettings},
    headers::{HeaderMode, HeadersFromPath, IdentityHeaderSettings, XfccDetail},
    inbound::{ForwardProtocol, InboundSettings, InboundTimeouts},
    listener::{Limits, ListenerProtocol},
    local_api::LocalApiSettings,
    outbound::{OutboundSettings, OutboundTimeouts, UpstreamSettings},
    tunnel::{TunnelDestination, UpstreamTunnel},
    workers::Workers,
};
use crate::{
    address::{ListenAddress, OptionalListenAddress},
    log::LogSettings,
    settings::Settings,
    text::{optional_spiffe_id_schema, optional_trust_domain_schema, workload_endpoint_schema},
    units::HumanDuration,
};

/// Longest name of a listener; it is a label of metrics.
const MAX_NAME: usize = 64;

/// Settings of `svidecar`, the proxy beside one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// The Workload API: `unix:///PATH` or `tcp://IP:PORT`. The variable `SPIFFE_ENDPOINT_SOCKET` is its default, if it is
    /// set; else the first of these sockets that is there: `$XDG_RUNTIME_DIR/svidecar/api.sock`, `/run/svidecar/api.sock`, or
    /// SPIRE's `/tmp/spire-agent/public/api.sock` if root or the user itself serves it.
    #[schemars(schema_with = "workload_endpoint_schema")]
    pub workload_api: Option<String>,
    /// The trust domain that our own SVID must be of. Default: the variable
    /// `SPIFFE_TRUST_DOMAIN`, else whatever the Workload API gives.
    #[schemars(schema_with = "optional_trust_domain_schema")]
    pub trust_domain: Option<TrustDomain>,
    /// Which SVID to use, if the Workload API gives more than one. Default: its first.
    pub identity: IdentitySettings,
    /// Threads that move data: a number, or `auto` for the CPU quota, 1 to 4.
    pub workers: Workers,
    /// Logging.
    pub log: LogSettings,
    /// One line per request or connection.
    pub access_log: AccessLogSettings,
    /// Health, metrics and a look inside.
    pub admin: AdminSettings,
    /// Tokens for local apps that speak HTTP and no gRPC.
    pub local_api: LocalApiSettings,
    /// How long connections may finish after the proxy was told to stop.
    pub drain_timeout: HumanDuration,
    /// What becomes of a connection when its peer's SVID passes its end.
    pub on_peer_expiry: OnPeerExpiry,
    /// What to do when the last network interface besides the loopback has gone and none is back within 5 s, as happens
    /// to a container with `network_mode: "service:app"` when the container of `app` starts again.
    pub on_network_loss: OnNetworkLoss,
    /// Listeners for peers, which lead to our workload.
    pub inbound: Vec<InboundSettings>,
    /// Listeners for our workload, which lead to peers.
    pub outbound: Vec<OutboundSettings>,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            workload_api: None,
            trust_domain: None,
            identity: IdentitySettings::default(),
            workers: Workers::default(),
            log: LogSettings::default(),
            access_log: AccessLogSettings::default(),
            admin: AdminSettings::default(),
            local_api: LocalApiSettings::default(),
            drain_timeout: HumanDuration::from_secs(30),
            on_peer_expiry: OnPeerExpiry::default(),
            on_network_loss: OnNetworkLoss::default(),
            inbound: Vec::new(),
            outbound: Vec::new(),
        }
    }
}

/// Which SVID of several is ours. Both conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Use the SVID with this ID.
    #[schemars(schema_with = "optional_spiffe_id_schema")]
    pub spiffe_id: Option<SpiffeId>,
    /// Use the SVID with this hint, which its registration entry sets.
    pub hint: Option<String>,
}

/// Health, metrics and a look inside, in plain HTTP for this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Where health, metrics and the look inside are served, in plain HTTP; `off` for nowhere.
    pub listen: OptionalListenAddress,
    /// Let it listen on an address that other machines can reach.
    pub unsafe_listen: bool,
}

impl Default for AdminSettings {
    fn default() -> Self {
        let listen = ListenAddress::Tcp((std::net::Ipv4Addr::LOCALHOST, 15000).into());
        Self { listen: OptionalListenAddress::At(listen), unsafe_listen: false }
    }
}

/// What becomes of a connection when its peer's SVID passes its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnPeerExpiry {
    /// It may finish what it is doing, then it is closed.
    #[default]
    Drain,
    /// It is closed at once.
    Close,
    /// Nothing.
    Ignore,
}

/// What to do when the network namespace has lost its interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnNetworkLoss {
    /// Say so in the log, and go on.
    #[default]
    Ignore,
    /// End, so that whatever restarts us starts us in the network that is there then.
    Exit,
}

impl ProxySettings {
    fn check_identity(&self, problems: &mut Problems) {
        if let (Some(id), Some(trust_domain)) = (&self.identity.spiffe_id, &self.trust_domain)
            && !id.is_member_of(trust_domain)
        {
            let message =
                format!("{id} is not of the trust domain {trust_domain}, which `trust_domain` asks for");
            problems.add("identity.spiffe_id", message);
        }
    }

    /// Two listeners at one place: the second could not bind, or would get half of the connections.
    fn check_clashes(&self, problems: &mut Problems) {
        let mut taken: Vec<(String, &ListenAddress)> = Vec::new();
        let admin = self.admin.listen.address().map(|address| ("admin.listen".to_owned(), address));
        let local = self.local_api.address().map(|address| ("local_api.listen".to_owned(), address));
        let inbound =
            self.inbound.iter().enumerate().map(|(i, one)| (format!("inbound[{i}].listen"), &one.listen));
        let outbound =
            self.outbound.iter().enumerate().map(|(i, one)| (format!("outbound[{i}].listen"), &one.listen));
        for (key, address) in admin.into_iter().chain(local).chain(inbound).chain(outbound) {
            match taken.iter().find(|(_, other)| other.clashes_with(address)) {
                Some((other, _)) => problems.add(key, format!("{address} is taken by `{other}`")),
                None => taken.push((key, address)),
            }
        }
    }
}

fn check_names<'a>(list: &str, names: impl Iterator<Item = &'a str>, problems: &mut Problems) {
    let mut seen = HashMap::new();
    for (index, name) in names.enumerate() {
        let key = format!("{list}[{index}].name");
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            let message = format!(
                "`{name}` is not a name: 1 to {MAX_NAME} letters, digits, `.`, `_` and `-` are allowed"
            );
            problems.add(key, message);
        } else if let Some(first) = seen.insert(name, index) {
            problems.add(key, format!("the name `{name}` is taken by {list}[{first}]; names are unique"));
        }
    }
}

impl Settings for ProxySettings {
    const PROGRAM: &'static str = "svidecar";

    fn validate(&self, problems: &mut Problems) {
        self.check_identity(problems);
        if let Some(address) = self.admin.listen.address()
            && !(address.is_local() || self.admin.unsafe_listen)
        {
            problems.add_with_help(
                "admin.listen",
                format!(
                    "{address} can be reached from other machines, and whoever reaches it can look inside"
                ),
                "listen on 127.0.0.1 or on a Unix socket, or set `unsafe_listen: true`",
            );
        }
        self.local_api.validate(problems);
        check_names("inbound", self.inbound.iter().map(|inbound| inbound.name.as_str()), problems);
        check_names("outbound", self.outbound.iter().map(|outbound| outbound.name.as_str()), problems);
        self.check_clashes(problems);
        for (index, inbound) in self.inbound.iter().enumerate() {
            inbound.validate(&format!("inbound[{index}]"), problems);
        }
        for (index, outbound) in self.outbound.iter().enumerate() {
            outbound.validate(&format!("outbound[{index}]"), problems);
        }
    }

    fn resolve_paths(&mut self, base: &Path) {
        for inbound in &mut self.inbound {
            inbound.policy = base.join(&inbound.policy);
        }
    }

    fn environment_aliases() -> &'static [(&'static str, &'static str)] {
        &[("SPIFFE_ENDPOINT_SOCKET", "workload_api"), ("SPIFFE_TRUST_DOMAIN", "trust_domain")]
    }
}

#[cfg(test)]
mod tests;
