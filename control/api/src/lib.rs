//! The Workload API, the SPIRE server APIs and our own: what is generated from `proto/`, and how it
//! is carried.
//!
//! Owns the wire: messages, clients, service traits, the details of a denial, claims of tokens, Unix sockets,
//! endpoint addresses and the small HTTP endpoint for probes. It must never decide anything: who may call
//! what, and what an answer says, belongs to the binaries.
//!
//! The modules mirror the protobuf packages, because generated code refers across packages by path.

pub mod bootstrap;
pub mod claims;
mod convert;
pub mod status;
pub mod transport;

pub use convert::BadId;

/// The SPIFFE Workload API. It has no protobuf package.
pub mod workload {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("_");

    /// What gRPC reflection needs to describe the Workload API.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload.bin"));
}

/// SPIRE's packages.
#[allow(missing_docs, clippy::all)]
pub mod spire {
    pub mod api {
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }
        pub mod server {
            pub mod agent {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.agent.v1");
                }
            }
            pub mod bundle {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.bundle.v1");
                }
            }
            pub mod entry {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.entry.v1");
                }
            }
            pub mod localauthority {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.localauthority.v1");
                }
            }
            pub mod svid {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.svid.v1");
                }
            }
        }
    }
}

/// What we add beside SPIRE's APIs.
#[allow(missing_docs, clippy::all)]
pub mod svidecar {
    pub mod agent {
        pub mod v1 {
            tonic::include_proto!("svidecar.agent.v1");
        }
    }
    pub mod server {
        pub mod v1 {
            tonic::include_proto!("svidecar.server.v1");
        }
    }
}

/// The error model behind `grpc-status-details-bin`; [`status`] is the way to use it.
#[allow(missing_docs, clippy::all)]
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// What gRPC reflection needs to describe the server's APIs, SPIRE's and ours.
pub const SERVER_FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/server.bin"));

/// What gRPC reflection needs to describe an agent's admin socket.
pub const AGENT_ADMIN_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/agent_admin.bin"));

/// Metadata key that every request to the Workload API carries, with the value `true`
/// (SPIFFE Workload Endpoint §3).
pub const WORKLOAD_API_HEADER: &str = "workload.spiffe.io";

/// Metadata key by which a client of ours asks an agent of ours to answer when there is something to say, instead of refusing.
/// Other agents do not look at it.
pub const WAIT_HEADER: &str = "x-svidecar-wait";
/// Value of [`WAIT_HEADER`]: until the agent can answer, for some seconds.
pub const WAIT_FOR_AGENT: &str = "agent";
/// Value of [`WAIT_HEADER`]: that, and with a stream open until there is an entry.
pub const WAIT_FOR_ENTRY: &str = "entry";

#[cfg(test)]
mod wire_tests;
