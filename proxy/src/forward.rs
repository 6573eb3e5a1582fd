//! Moves requests, responses and bytes between the two connections of an exchange.
//!
//! [`service()`] is where a worker's connections come in: [`inbound`] or [`outbound`]. [`request`] holds the steps of a request,
//! top to bottom. [`http1`] and [`http2`] read requests from a caller's connection, [`either`] tells the two apart; [`caller`]
//! is what differs between a peer and our workload, [`downstream`] what differs between the codecs. [`flow`] moves a body,
//! [`upload`] that of a request, [`relay`] joins two streams of bytes. [`exchange`] remembers what the record of a request
//! needs, [`stop`] is why it ends before its end.

pub mod caller;
pub mod downstream;
pub mod either;
pub mod exchange;
pub mod flow;
pub mod http1;
pub mod http2;
pub mod inbound;
pub mod outbound;
pub mod relay;
pub mod request;
mod service;
pub mod stop;
pub mod upload;

pub use service::service;
