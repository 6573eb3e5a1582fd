//! Whether a request or a connection may pass.

pub mod decide;
pub mod flights;
pub mod normalize;
