//! Moves requests, responses and bytes between the two connections of an exchange.
//!
//! `http` holds the steps of a request, `tcp` the copying of bytes, `upgrade` joins the two, `hops` keeps what belongs to
//! one connection from the other, `convert` turns one version of HTTP into the other, `exchange` remembers what the record needs.

pub mod convert;
pub mod exchange;
pub mod hops;
pub mod http;
pub mod tcp;
pub mod upgrade;
