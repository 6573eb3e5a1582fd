//! What the CA signs with, as one value that is swapped whole.

use std::sync::Arc;

use svidecar_authority::{tls::Identity, x509::X509Ca};

use super::{authority::JwtAuthority, server_svid::ServerSvid};

/// What signs at one moment.
pub struct Authorities {
    /// Signs X.509-SVIDs.
    pub x509: Arc<X509Ca>,
    /// Signs JWT-SVIDs; `None` when they are disabled.
    pub jwt: Option<Arc<JwtAuthority>>,
    pub(super) server_svid: ServerSvid,
}

impl Authorities {
    /// The server's own SVID.
    #[must_use]
    pub fn server_identity(&self) -> &Identity {
        self.server_svid.identity()
    }
}
