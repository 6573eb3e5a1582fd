//! How the APIs are carried: endpoint addresses, and Unix sockets.
//!
//! Nothing here knows what it carries.

pub mod authority;
pub mod endpoint;
pub mod uds;

pub use endpoint::{Endpoint, EndpointError, Usual};
pub use uds::{BindError, ConnectError};
