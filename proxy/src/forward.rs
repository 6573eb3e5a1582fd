//! Moves requests, responses and bytes between the two connections of an exchange.
//!
//! [`service()`] is where a worker's connections come in: [`inbound`] or [`outbound`]. [`incoming`] is who is at the other
//! end of one, [`rules`] what rules it. [`request`] holds the steps of a request, top to bottom. [`http1`] and [`http2`] read
//! requests from a [`caller`]'s connection, [`either`] tells the two apart, [`downstream`] is what differs between them.
//! [`exchange`] remembers what the record of a request needs, [`stop`] is why it ends before its end,
//! [`deadlines`] when. [`flow`] moves a body,
//! [`upload`] that of a request; `tcp` is the way of a connection of bytes, [`relay`] joins two streams of them.

pub mod caller;
pub mod deadlines;
pub mod downstream;
pub mod either;
pub mod exchange;
pub mod flow;
pub mod http1;
pub mod http2;
pub mod inbound;
pub mod incoming;
pub mod outbound;
pub mod relay;
pub mod request;
pub mod rules;
mod service;
pub mod stop;
mod tcp;
pub mod upload;

pub use service::service;
