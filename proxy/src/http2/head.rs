//! Between heads and lists of fields: what makes a request or a response of them (RFC 9113 §8.3), and how one goes out.
//!
//! Each field has been looked at by [`super::field`]; here it is their order, number and agreement.

mod read;
mod write;

pub(super) use read::{Discard, Limits, Problem, RequestReader, ResponseReader, TrailersReader};
pub(super) use write::HeadWriter;

#[cfg(test)]
mod tests;
