//! The gRPC services: SPIRE's APIs over TLS and over the administrators' Unix socket, and ours beside them.
//!
//! A call passes `listen` (who is connected), `gate` (may they call this), and then one service, which checks
//! what was sent, asks the store, the index or the CA, and answers with SPIRE's codes and sentences.
//! Services must never look at a connection themselves: who the caller is, the gate says.

mod access;
mod agent;
mod agent_fields;
mod backup;
mod bootstrap;
mod bundle;
mod clock;
mod entry;
mod entry_fields;
mod gate;
mod handshake;
mod join_token;
mod listen;
mod local_authority;
mod selectors;
mod serve;
mod status;
mod svid;
mod sync;
mod watch;

pub use serve::{Endpoints, Services};
pub use watch::WatchService;
