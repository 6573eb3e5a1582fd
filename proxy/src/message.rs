//! HTTP messages as they pass through: heads with their fields in the order and the case they came in, and bodies as a
//! flow of parts.
//!
//! The one form that both codecs (`http1`, `http2`) read into and write from, so that
//! nothing is lost between them. Never decides anything; never touches a socket.

pub mod authority;
pub mod body;
pub mod convert;
pub mod fields;
pub mod head;
pub mod hops;
pub mod identity;
pub mod refusal;
pub mod summary;

pub use authority::is_authority;
pub use body::{BodyError, BodySink, BodySource, Part};
pub use fields::{Fields, Names};
pub use head::{RequestHead, ResponseHead, Version};
pub use summary::Summary;
