//! Whose fault a failure is.

use std::fmt;

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Whoever is at the other end: a caller, or a server by what it presents.
    Peer,
    /// Our own workload, or a process that asks for its identity.
    Workload,
    /// What an outbound listener leads to, or the app behind an inbound one.
    Upstream,
    /// Whoever wrote the settings, the policies or the registration entries.
    Configuration,
    /// The programs of svidecar, or the machine that they run on.
    Us,
}

impl Fault {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Workload => "workload",
            Self::Upstream => "upstream",
            Self::Configuration => "configuration",
            Self::Us => "us",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
