//! The data plane of svidecar: mutual TLS by SPIFFE, authorization, identity headers, forwarding.
//!
//! A request's way is the list of modules: [`accept`] → [`handshake`] → [`peer`] → [`decide`] → [`forward`] → [`record`];
//! [`inbound`] and [`outbound`] walk it. What changes while the proxy runs is one [`snapshot`], made of an
//! [`identity`] and a [`plan`]. [`workers`] move data; [`run`] is everything else.

pub mod accept;
pub mod admin;
pub mod cli;
pub mod connections;
pub mod decide;
pub mod drain;
pub mod error;
pub mod forward;
pub mod handshake;
pub mod headers;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod inbound;
pub mod io;
pub mod listeners;
pub mod message;
pub mod net;
pub mod network;
pub mod outbound;
pub mod peer;
pub mod plan;
pub mod proxy;
pub mod ready;
pub mod record;
pub mod refusal;
pub mod reload;
pub mod run;
pub mod shared;
pub mod snapshot;
pub mod sockets;
pub mod throttle;
pub mod upstream;
pub mod worker;
pub mod workers;

pub use record::codes;
