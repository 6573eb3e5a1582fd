//! The data plane of svidecar: mutual TLS by SPIFFE, authorization, identity headers, forwarding.
//!
//! Eleven rooms. The codecs, which know nothing of svidecar: [`io`] moves bytes, [`message`] is what HTTP says,
//! [`http1`] and [`http2`] are how it is written. [`record`] writes down what became of each exchange. [`plan`] is what is
//! in force: settings, policies, identity. [`runtime`] has the threads and the life of a connection, [`upstream`] the
//! ways to the other side, [`admit`] says who may pass, [`forward`] walks a request from top to bottom, and
//! [`control`] is everything else: start, reload, admin, command line.
//!
//! Each room imports only from rooms before it in this list.

pub mod admit;
pub mod control;
pub mod error;
pub mod forward;
pub mod http1;
pub mod http2;
pub mod io;
pub mod message;
pub mod plan;
pub mod record;
pub mod runtime;
pub mod upstream;

#[cfg(test)]
mod sizes;
