//! The parts of the fleet, by name. Owns who there is and who depends on whom; knows no process.

use std::fmt;

/// Agents, one for each node.
pub const AGENTS: usize = 3;
/// Workloads beside the proxies.
pub const WORKLOADS: usize = 16;

/// The proxy of a client that may do most.
pub const FRONT: Part = Part::Proxy(0);
/// The proxy of a client that may do little.
pub const INTERN: Part = Part::Proxy(1);
/// The proxy before the first app.
pub const ORDERS: Part = Part::Proxy(2);
/// The proxy before the second app.
pub const STOCK: Part = Part::Proxy(3);

/// One process of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The SPIFFE server.
    Server,
    /// The agent of a node.
    Agent(usize),
    /// A sidecar.
    Proxy(usize),
    /// The app behind a sidecar.
    App(usize),
    /// A client of the Workload API.
    Workload(usize),
}

impl Part {
    /// All of them, in the order in which they are started.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Server]
            .into_iter()
            .chain((0..AGENTS).map(Self::Agent))
            .chain([Self::App(0), Self::App(1)])
            .chain([ORDERS, STOCK, FRONT, INTERN])
            .chain((0..WORKLOADS).map(Self::Workload))
    }

    /// Which agent a proxy or workload asks.
    #[must_use]
    pub const fn agent(self) -> usize {
        match self {
            Self::Proxy(number) | Self::Workload(number) | Self::Agent(number) => number % AGENTS,
            Self::Server | Self::App(_) => 0,
        }
    }

    /// The user that it runs as: what attestation knows it by.
    #[must_use]
    pub const fn user(self) -> Option<u32> {
        match self {
            Self::Proxy(number) => Some(3000 + number as u32),
            Self::Workload(number) => Some(3100 + number as u32),
            Self::Server | Self::Agent(_) | Self::App(_) => None,
        }
    }

    /// Its SPIFFE ID, if it has an entry.
    #[must_use]
    pub fn spiffe_id(self) -> Option<String> {
        self.user().map(|_| format!("spiffe://demo.org/{self}"))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Agent(number) => write!(f, "agent-{number}"),
            Self::Proxy(number) => f.write_str(match number {
                0 => "front",
                1 => "intern",
                2 => "orders",
                _ => "stock",
            }),
            Self::App(number) => write!(f, "app-{number}"),
            Self::Workload(number) => write!(f, "workload-{number}"),
        }
    }
}
