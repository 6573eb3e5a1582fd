//! The sidecar: mutual TLS, authorization and identity headers for an unmodified workload.
