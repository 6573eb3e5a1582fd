//! Credentials for local apps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;

use crate::address::OptionalListenAddress;

/// Tokens for local apps that speak HTTP and no gRPC: off until it is told where to listen. Each request needs the header
/// `x-svidecar-local: true`, which no browser and no fetcher of URLs sends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalApiSettings {
    /// Where tokens are given out, in plain HTTP: a Unix socket such as `unix:/run/svidecar/local.sock`, or a loopback address;
    /// `off` for nowhere.
    pub listen: OptionalListenAddress,
    /// Whom tokens may be for. A token for any other audience is refused.
    pub audiences: Vec<String>,
    /// Users who may ask, by their IDs, besides the one who runs the proxy and root. The kernel says who asks, over TCP too.
    pub uids: Vec<u32>,
}

impl Default for LocalApiSettings {
    fn default() -> Self {
        Self { listen: OptionalListenAddress::Off, audiences: Vec::new(), uids: Vec::new() }
    }
}

impl LocalApiSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let Some(address) = self.listen.address() else { return };
        if !address.is_local() {
            problems.add_with_help(
                "local_api.listen",
                format!("{address} can be reached from other machines, and tokens are for this one"),
                "use a Unix socket such as `unix:/run/svidecar/local.sock`, or 127.0.0.1",
            );
        }
        if self.audiences.iter().any(String::is_empty) {
            problems.add("local_api.audiences", "an audience is empty".to_owned());
        }
        if self.audiences.is_empty() {
            problems.add_with_help(
                "local_api.audiences",
                "`audiences` is empty, so that no token could be given out".to_owned(),
                "name whom tokens may be for, such as `audiences: [orders]`, or set `listen: off`",
            );
        }
    }
}
