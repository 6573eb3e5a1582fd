//! How the agent is, in one value that health, metrics and `svidecar-agent healthcheck` read.

use std::time::SystemTime;

/// How changes come from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// Not known yet.
    #[default]
    Unknown,
    /// Pushed by `svidecar.server.v1.Watch`.
    Watch,
    /// Asked for, by `SyncAuthorizedEntries`.
    Poll,
}

impl SyncMode {
    /// For logs and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "none",
            Self::Watch => "watch",
            Self::Poll => "poll",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the agent has its SVID: it can serve.
    pub attested: bool,
    /// Whether the server is reachable right now.
    pub connected: bool,
    /// When the agent last was known to have the server's state.
    pub last_sync: Option<SystemTime>,
    /// How changes come.
    pub sync_mode: SyncMode,
    /// What is wrong, in a sentence.
    pub problem: Option<String>,
    /// Why what a restart needs is not on disk, in a sentence.
    pub disk: Option<String>,
}
