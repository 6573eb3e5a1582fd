//! The list of workloads, and what each asks of load, app and sidecars.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::wire::Wire;

/// What is measured. The names are those of the command line, the results and the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// HTTP/1.1 on 64 connections
    H1,
    /// HTTP/1.1 on one connection
    H1one,
    /// HTTP/2 on 16 connections of 32 streams
    H2,
    /// Unary gRPC calls on 4 connections of 32 streams
    Grpc,
    /// One TCP stream
    Bulk,
    /// Large request bodies over HTTP/1.1
    Upload,
    /// A TCP connection for each short exchange
    Conn,
    /// Memory for idle TCP connections
    Idle,
    /// From exec to the first answer, and the memory of an idle pair
    Start,
    /// A policy of 10 rules against one of 10,000
    Rules,
    /// Context switches of an idle pair
    Wakeups,
    /// From a registration entry to the SVID in a running workload
    Identity,
    /// One decision of a policy, alone
    Decide,
}

impl Workload {
    /// All, in the order in which they run and are reported.
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The sentence in the list of workloads.
    pub fn about(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// What load and app speak.
    pub const fn wire(self) -> Wire {
        match self {
            Self::H2 | Self::Grpc => Wire::Http2,
            Self::Bulk | Self::Conn | Self::Idle => Wire::Tcp,
            _ => Wire::Http1,
        }
    }

    /// How many connections the load holds at the same time.
    pub const fn connections(self) -> usize {
        match self {
            Self::H1 | Self::Rules => 64,
            Self::H2 => 16,
            Self::Grpc | Self::Upload => 4,
            Self::Conn => 8,
            Self::Idle => 2000,
            _ => 1,
        }
    }

    /// Does the load call, so that exchanges can fail?
    pub const fn has_exchanges(self) -> bool {
        !matches!(self, Self::Idle | Self::Start | Self::Wakeups | Self::Identity | Self::Decide)
    }

    /// How many HTTP/2 streams there are at the same time on each connection.
    pub const STREAMS: usize = 32;
}
