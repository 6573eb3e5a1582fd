//! mTLS, compiled: what a listener offers to peers, how an upstream's server is known, and where both find the identity of
//! the moment.
//!
//! Knows no socket. Whoever is verified may connect; what it may do is the policy's to say.

use std::sync::{Arc, OnceLock, Weak};

use rustls::server::ClientHello;
use svidecar_authority::{
    AuthorityError,
    bundle::BundleSet,
    tls::{Authorizer, IdentitySource, ResumingClient, ResumingServer, SpiffeVerifier, authorize},
    x509::X509Error,
};
use svidecar_config::proxy::ListenerProtocol;
use svidecar_policy::pattern::IdPattern;
use svidecar_process::clock;
use svidecar_workload::Identity;

use crate::io::tls::Alpn;

/// What an inbound listener offers to peers.
pub struct Offers {
    /// By ALPN, the best first.
    protocols: Arc<ResumingServer>,
    /// For a client that knows none of them, where any bytes may be spoken.
    bytes: Option<Arc<ResumingServer>>,
}

impl Offers {
    /// HTTP of all versions; a client without ALPN gets HTTP/1.1.
    pub const HTTP: &[Alpn] = &[Alpn::Svidecar, Alpn::Http2, Alpn::Http1];

    /// TCP within HTTP/2, besides plain bytes.
    pub const TUNNELS: &[Alpn] = &[Alpn::Svidecar, Alpn::Http2];

    /// `protocols` are the choices by ALPN; `bytes`, without ALPN, serves those who know none of them.
    #[must_use]
    pub fn new(protocols: ResumingServer, bytes: Option<ResumingServer>) -> Self {
        Self { protocols: Arc::new(protocols), bytes: bytes.map(Arc::new) }
    }

    /// What fits a client's hello.
    pub fn choose(&self, hello: &ClientHello<'_>) -> Arc<ResumingServer> {
        let Some(bytes) = &self.bytes else { return Arc::clone(&self.protocols) };
        let is_ours = |name: &[u8]| Alpn::named(name).is_some_and(|name| Self::TUNNELS.contains(&name));
        let fits = hello.alpn().is_some_and(|mut names| names.any(is_ours));
        Arc::clone(if fits { &self.protocols } else { bytes })
    }
}

/// Who knows the identity of the moment.
pub trait IdentityInForce: Send + Sync {
    /// The identity of now.
    fn identity(&self) -> Arc<Identity>;
}

/// Where handshakes find the identity of the moment. Weak, because the snapshot holds the plan that holds this.
#[derive(Clone, Default)]
pub struct TlsSource(Arc<OnceLock<Weak<dyn IdentityInForce>>>);

impl TlsSource {
    /// Ties the source to what is in force, once.
    pub fn attach<T: IdentityInForce + 'static>(&self, current: &Arc<T>) {
        let current: Weak<T> = Arc::downgrade(current);
        // A second attach would be of the same snapshot.
        let _ = self.0.set(current);
    }

    fn in_force(&self) -> Option<Arc<Identity>> {
        Some(self.0.get()?.upgrade()?.identity())
    }

    /// The identity to present: none before the first SVID, and none after the last has expired.
    fn identity(&self) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let identity = self.in_force()?;
        identity.valid_svid(clock::unix()).map(|svid| Arc::clone(&svid.certified_key))
    }

    fn bundles(&self) -> Arc<BundleSet> {
        self.in_force().map(|identity| Arc::clone(&identity.bundles)).unwrap_or_default()
    }

    fn source(&self) -> Arc<dyn IdentitySource> {
        let identity = self.clone();
        Arc::new(move || identity.identity())
    }

    fn verifier(&self, authorizer: Authorizer) -> SpiffeVerifier {
        let bundles = self.clone();
        SpiffeVerifier::new(move || bundles.bundles(), authorizer)
    }

    /// Whoever is verified may connect; what it may do is the policy's to say, and a denial can be explained.
    pub(super) fn offers(&self, protocol: ListenerProtocol) -> Result<Offers, AuthorityError> {
        let server = |alpn: &[Alpn]| {
            let names: Vec<_> = alpn.iter().map(|alpn| alpn.name()).collect();
            ResumingServer::new(self.source(), self.verifier(authorize::any()), &names)
        };
        Ok(match protocol {
            ListenerProtocol::Http => Offers::new(server(Offers::HTTP)?, None),
            ListenerProtocol::Tcp => Offers::new(server(Offers::TUNNELS)?, Some(server(&[])?)),
        })
    }

    pub(super) fn client(&self, server_ids: &Arc<[IdPattern]>) -> Result<ResumingClient, AuthorityError> {
        ResumingClient::new(self.source(), self.verifier(expecting(server_ids)))
    }
}

/// Accepts servers whose ID fits one of the patterns.
fn expecting(server_ids: &Arc<[IdPattern]>) -> Authorizer {
    let patterns = Arc::clone(server_ids);
    Arc::new(move |peer| {
        if patterns.iter().any(|pattern| pattern.matches(&peer.id)) {
            return Ok(());
        }
        let expected = patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        Err(X509Error::IdNotAllowed { id: peer.id.clone(), expected })
    })
}
