//! What inbound and outbound listeners have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;

use crate::{
    address::{Address, ListenAddress},
    units::{ByteSize, HumanDuration},
};

/// What a listener speaks: what its policy can be about.
pub use svidecar_policy::Protocol as ListenerProtocol;

/// How much a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most connections at the same time, those within a shared connection counted one by one. They are shared out by peer: one
    /// that is alone may have 8/9 of them, and none can take all.
    pub max_connections: u32,
    /// Most requests at the same time, of all connections together, shared out by peer likewise. Unlimited when unset. One more is
    /// answered with 503, `too_many_requests`.
    pub max_requests: Option<u32>,
    /// Most connections to our workload, or to all endpoints of the upstream together. What needs one more is answered with 503,
    /// `too_many_upstream_connections`.
    pub max_upstream_connections: u32,
    /// Largest size of all headers of one request, or of the response to it; the first line counts too.
    pub max_header_bytes: ByteSize,
    /// Most headers of one request, or of the response to it.
    pub max_headers: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 12_000,
            max_requests: None,
            max_upstream_connections: 12_000,
            max_header_bytes: ByteSize::from_bytes(64 << 10),
            max_headers: 128,
        }
    }
}

impl Limits {
    /// Notes what nobody can have meant.
    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let between = |value: u64, least: u64, most: u64| (least..=most).contains(&value);
        for (name, value, what) in [
            ("max_connections", Some(self.max_connections), "connections"),
            ("max_requests", self.max_requests, "requests"),
            ("max_upstream_connections", Some(self.max_upstream_connections), "connections"),
        ] {
            if value == Some(0) {
                problems.add(format!("{key}.limits.{name}"), format!("with 0 {what} nothing can be served"));
            }
        }
        if !between(self.max_header_bytes.bytes(), 8 << 10, 16 << 20) {
            let message = format!("expected 8KiB to 16MiB, found {}", self.max_header_bytes);
            problems.add(format!("{key}.limits.max_header_bytes"), message);
        }
        if !between(self.max_headers.into(), 16, 4096) {
            problems.add(
                format!("{key}.limits.max_headers"),
                format!("expected 16 to 4096, found {}", self.max_headers),
            );
        }
    }
}

/// Notes a place to which nothing can connect.
pub(super) fn check_target(target: &Address, key: &str, problems: &mut Problems) {
    if matches!(target, Address::Tcp { port: 0, .. }) {
        problems.add(key, "nothing can be reached at port 0");
    }
}

/// Whether a connection to `target` would come back to `listen`.
pub(super) fn leads_to(target: &Address, listen: &ListenAddress) -> bool {
    target.to_string().parse().is_ok_and(|target: ListenAddress| target.clashes_with(listen))
}

/// Notes waits that are over before they begin.
pub(super) fn check_timeouts<const N: usize>(
    timeouts: [(&str, Option<HumanDuration>); N],
    key: &str,
    problems: &mut Problems,
) {
    for (name, timeout) in timeouts {
        if timeout.is_some_and(HumanDuration::is_zero) {
            problems.add(format!("{key}.timeouts.{name}"), "a wait of `0s` is over before it begins");
        }
    }
}
