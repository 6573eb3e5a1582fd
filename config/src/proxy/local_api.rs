//! Credentials for local apps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svidecar_document::problems::Problems;

use crate::{
    address::{ListenAddress, OptionalListenAddress},
    place,
};

/// Tokens for local apps that speak HTTP and no gRPC: off until it is told whom they may be for. Each request needs the header
/// `x-svidecar-local: true`, which no browser and no fetcher of URLs sends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalApiSettings {
    /// Where tokens are given out, in plain HTTP: a Unix socket, or a loopback address; `off` for nowhere. The default of users
    /// other than root is `unix:$XDG_RUNTIME_DIR/svidecar/local.sock`.
    #[schemars(default = "documented_listen")]
    pub listen: OptionalListenAddress,
    /// Whom tokens may be for. A token for any other audience is refused. While there is none, nothing listens.
    pub audiences: Vec<String>,
    /// Users who may ask, by their IDs, besides the one who runs the proxy and root. The kernel says who asks, over TCP too.
    pub uids: Vec<u32>,
}

impl Default for LocalApiSettings {
    fn default() -> Self {
        Self { listen: default_listen(), audiences: Vec::new(), uids: Vec::new() }
    }
}

fn default_listen() -> OptionalListenAddress {
    OptionalListenAddress::At(ListenAddress::Unix(place::local_socket()))
}

fn documented_listen() -> OptionalListenAddress {
    OptionalListenAddress::At(ListenAddress::Unix(place::LOCAL_SOCKET.into()))
}

impl LocalApiSettings {
    /// Where it listens, if there is anything to give out.
    #[must_use]
    pub fn address(&self) -> Option<&ListenAddress> {
        self.listen.address().filter(|_| !self.audiences.is_empty())
    }

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
        if self.audiences.is_empty() && self.listen != default_listen() {
            problems.add_with_help(
                "local_api.audiences",
                "`audiences` is empty, so that no token could be given out".to_owned(),
                "name whom tokens may be for, such as `audiences: [orders]`, or set `listen: off`",
            );
        }
    }
}
