//! Raw clients, raw apps, and the sidecars between them.

pub mod http2;
pub mod message;
pub mod process;
pub mod scene;
pub mod wire;
