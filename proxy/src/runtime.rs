//! The threads that move data, and the life of a connection on them: accepted, shaken hands, told what happens, drained.
//!
//! Knows no upstream, and of HTTP only how a connection of HTTP/2 is driven; what is to be done with a connection is handed in.

pub mod accept;
pub mod budgets;
pub mod connections;
pub mod drain;
pub mod driver;
pub mod handshake;
pub mod life;
pub mod listeners;
pub mod peer;
pub mod shared;
pub mod shortage;
pub mod sockets;
pub mod standing;
pub mod worker;
pub mod workers;
