//! The settings of `svidecar`, the proxy: one file per proxy.

mod headers;
mod tunnel;
mod validate;

use std::{
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_id::{SpiffeId, TrustDomain};

pub use self::{
    headers::{HeaderMode, HeadersFromPath, IdentityHeaderSettings, XfccDetail},
    tunnel::{TunnelDestination, UpstreamTunnel},
};
use crate::{
    address::{Address, ListenAddress, OptionalListenAddress},
    load::Settings,
    log::LogSettings,
    pattern::IdPattern,
    problems::Problems,
    text::{
        InvalidValue, optional_spiffe_id_schema, optional_trust_domain_schema, text_value,
        workload_endpoint_schema,
    },
    units::{ByteSize, HumanDuration},
};

/// Settings of `svidecar`, the proxy beside one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// The Workload API: `unix:///PATH` or `tcp://IP:PORT`. The variable `SPIFFE_ENDPOINT_SOCKET` is its default,
    /// if it is set.
    #[schemars(schema_with = "workload_endpoint_schema")]
    pub workload_api: String,
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
            workload_api: "unix:///tmp/spire-agent/public/api.sock".to_owned(),
            trust_domain: None,
            identity: IdentitySettings::default(),
            workers: Workers::default(),
            log: LogSettings::default(),
            access_log: AccessLogSettings::default(),
            admin: AdminSettings::default(),
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

/// Number of threads that move data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workers {
    /// The CPU quota, at least 1 and at most 4.
    #[default]
    Auto,
    /// This many.
    Count(NonZeroUsize),
}

impl Workers {
    /// Most threads that a setting may ask for.
    pub const MAX: usize = 256;
}

impl FromStr for Workers {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count) if NonZeroUsize::get(count) <= Self::MAX => Ok(Self::Count(count)),
            _ => Err(InvalidValue(format!(
                "`{text}` is not a number of workers; expected `auto` or 1 to {}",
                Self::MAX
            ))),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

text_value!(Workers, "Workers", "workers", ["auto", "2"]);

/// One line per request or connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// How a line of the access log is written.
    pub format: AccessLogFormat,
    /// Where the access log goes: `stdout`, `stderr` or a file, which is appended to. A line is written at most 100 ms
    /// after its request, together with others; a crash costs the lines of that time.
    pub path: AccessLogPath,
}

/// How a line of the access log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// One line of text.
    Text,
    /// No access log.
    Off,
}

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccessLogPath {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is appended to.
    File(PathBuf),
}

impl FromStr for AccessLogPath {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "" => {
                Err(InvalidValue("expected `stdout`, `stderr` or the path of a file, found nothing".into()))
            }
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for AccessLogPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

text_value!(AccessLogPath, "AccessLogPath", "access-log-path", ["stdout", "stderr", "/var/log/svidecar.log"]);

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

/// What a listener speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2: decisions per request.
    #[default]
    Http,
    /// Any bytes: decisions per connection.
    Tcp,
}

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
            idle: HumanDuration::from_secs(60),
        }
    }
}

/// How much a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most connections at the same time, those within a shared connection counted one by one.
    pub max_connections: u32,
    /// Largest size of all headers of one request, or of the response to it; the first line counts too.
    pub max_header_bytes: ByteSize,
    /// Most headers of one request, or of the response to it.
    pub max_headers: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 10_000, max_header_bytes: ByteSize::from_bytes(64 << 10), max_headers: 128 }
    }
}

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
            idle: HumanDuration::from_secs(60),
        }
    }
}

impl Settings for ProxySettings {
    const PROGRAM: &'static str = "svidecar";

    fn validate(&self, problems: &mut Problems) {
        validate::proxy(self, problems);
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
