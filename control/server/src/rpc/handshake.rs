//! How the TLS endpoint proves who it is: by the server's own SVID, or by the bootstrap key that a caller asks for because
//! it knows no authority of ours yet.
//!
//! TLS is as SPIRE's server does it: 1.2 and up, HTTP/2, a client certificate is asked for and not required; one that
//! comes is verified against the current bundles. Whoever asks for a bootstrap key is not asked who it is by any bundle:
//! no SVID counts on such a connection.

use std::{io, sync::Arc};

use rustls::{ServerConfig, server::Acceptor};
use svidecar_api::bootstrap;
use svidecar_authority::{
    AuthorityError,
    key::key_hash,
    tls::{self, ClientCertificate, IdentitySource as _, SpiffeVerifier, Versions, authorize},
    x509::{CertInfo, VerifiedPeer},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    ca::{BootstrapKey, CaManager},
    peer::Membership,
    state::State,
};

/// All protocols that are spoken.
const PROTOCOLS: &[&[u8]] = &[b"h2"];

/// What a handshake has proven of the other end: nothing, or one of the two.
pub struct Proven {
    /// Its SVID.
    pub svid: Option<Arc<VerifiedPeer>>,
    /// That it was an agent of ours.
    pub membership: Option<Arc<Membership>>,
}

/// Makes connections of what was accepted. Identity and bundles are taken anew at each handshake.
pub struct Handshakes {
    ca: Arc<CaManager>,
    members: Arc<ServerConfig>,
}

impl Handshakes {
    /// The settings of the endpoint.
    ///
    /// # Errors
    /// rustls refuses the combination, which no input can cause.
    pub fn new(state: &State) -> Result<Self, AuthorityError> {
        let (ca, entries) = (Arc::clone(&state.ca), Arc::clone(&state.entries));
        let verifier = SpiffeVerifier::new(move || entries.bundle_set(), authorize::any())
            .client_certificate(ClientCertificate::Optional);
        let members = tls::server_config(move || ca.identity(), verifier, PROTOCOLS, Versions::Tls12And13)?;
        Ok(Self { ca: Arc::clone(&state.ca), members: Arc::new(members) })
    }

    /// Shakes hands, and says what the other end has proven. The caller bounds the time.
    ///
    /// # Errors
    /// As TLS.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Proven)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let asked = hello.client_hello().alpn().and_then(|mut offered| {
            let hash = bootstrap::asked_for(offered.by_ref())?;
            self.ca.bootstrap().find(hash)
        });
        // Asked for a key that is not ours, the caller sees who we are, and makes of it what it can.
        let Some(key) = asked else {
            let stream = hello.into_stream(Arc::clone(&self.members)).await?;
            let svid = tls::peer_of(stream.get_ref().1).map(Arc::new);
            return Ok((stream, Proven { svid, membership: None }));
        };
        let config = self.bootstrap(&key).map_err(io::Error::other)?;
        let stream = hello.into_stream(Arc::new(config)).await?;
        let membership = membership(stream.get_ref().1).map(Arc::new);
        Ok((stream, Proven { svid: None, membership }))
    }

    fn bootstrap(&self, key: &BootstrapKey) -> Result<ServerConfig, AuthorityError> {
        let ca = Arc::clone(&self.ca);
        let verifier = SpiffeVerifier::new(move || ca.bootstrap().bundles(), authorize::any())
            .client_certificate(ClientCertificate::Optional)
            .undated();
        tls::server_config(key.identity().clone(), verifier, PROTOCOLS, Versions::Tls13)
    }
}

/// What the client of a handshake with a bootstrap key has shown.
fn membership(connection: &rustls::CommonState) -> Option<Membership> {
    let leaf = CertInfo::parse(connection.peer_certificates()?.first()?).ok()?;
    let facts = tls::peer_of(connection)?;
    Some(Membership { facts, key_sha256: key_hash(&leaf.spki_der) })
}
