//! What the pages look at.

use std::sync::Arc;

use svidecar_api::transport::Endpoint;

use crate::runtime::{shared::Shared, workers::Workers};

/// The admin listener.
pub struct Admin {
    /// What it shows.
    pub shared: Arc<Shared>,
    /// Whom readiness vouches for.
    pub workers: Arc<Workers>,
    /// Where tokens come from.
    pub endpoint: Endpoint,
}
