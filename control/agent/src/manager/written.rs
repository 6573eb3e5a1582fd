//! What is on disk of the agent itself, so that it is written only when it changed.

use std::sync::Arc;

use svidecar_authority::bundle::Bundle;

use crate::svid::HeldSvid;

/// What the file of our own state says.
pub(super) struct Written {
    pub(super) svid: Arc<HeldSvid>,
    pub(super) bundle: Option<Arc<Bundle>>,
}

impl Written {
    pub(super) fn new(svid: Arc<HeldSvid>, bundle: Option<Arc<Bundle>>) -> Self {
        Self { svid, bundle }
    }

    /// Whether there is nothing new to write.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.svid, &other.svid) && self.bundle == other.bundle
    }
}
