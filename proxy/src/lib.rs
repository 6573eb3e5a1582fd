//! The sidecar: mutual TLS, authorization and identity headers for an unmodified workload.

pub mod headers;
pub mod record;
