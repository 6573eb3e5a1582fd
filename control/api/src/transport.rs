//! How the APIs are carried: endpoint addresses, Unix sockets, and a small HTTP endpoint for probes.
//!
//! Nothing here knows what it carries.

pub mod authority;
pub mod endpoint;
pub mod http;
pub mod uds;

pub use endpoint::{Endpoint, EndpointError};
pub use uds::{BindError, ConnectError};
