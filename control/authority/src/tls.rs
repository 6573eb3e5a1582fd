//! TLS between members of trust domains: what all three binaries share.
//!
//! Both sides take their identity and the trusted bundles from sources at every handshake, so that rotation
//! needs no new configuration. Host names play no part: a peer is who its SVID says, if the bundle of its trust
//! domain agrees and the [`Authorizer`] accepts it. TLS 1.3 only unless asked otherwise; no session is resumed,
//! because a resumed one would pass by the verifier, except by [`resume`], which verifies it again.

use std::sync::Arc;

use rustls::{
    CertificateError, CipherSuite, ClientConfig, InvalidMessage, OtherError, ServerConfig,
    SupportedProtocolVersion,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    version,
};

use crate::{
    AuthorityError,
    x509::{VerifiedPeer, X509Error},
};
use svidecar_code::Code;

pub mod authorize;
mod insecure;
mod pinned;
mod resolve;
pub mod resume;
mod signatures;
mod sources;
#[cfg(test)]
mod tests;
mod verifier;

pub use authorize::Authorizer;
pub use insecure::InsecureVerifier;
pub use pinned::PinnedKey;
pub use resume::{ResumingClient, ResumingServer};
pub use sources::{BundleSource, Identity, IdentitySource, NoIdentity};
pub use verifier::{ClientCertificate, SpiffeVerifier};

/// The one crypto provider: aws-lc-rs with the hybrid post-quantum group first; AES-128-GCM, AES-256-GCM and
/// ChaCha20-Poly1305 (RFC 8446 §9.1 has the first as the one that all must have).
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let known = aws_lc_rs::default_provider();
        Arc::new(CryptoProvider {
            // Fewer rounds for each byte, and safe for as long as the groups below are.
            cipher_suites: {
                let mut suites = known.cipher_suites;
                suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
                suites
            },
            kx_groups: vec![
                aws_lc_rs::kx_group::X25519MLKEM768,
                aws_lc_rs::kx_group::X25519,
                aws_lc_rs::kx_group::SECP256R1,
                aws_lc_rs::kx_group::SECP384R1,
            ],
            ..known
        })
    }))
}

/// Which protocol versions are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// TLS 1.3 and nothing else.
    #[default]
    Tls13,
    /// TLS 1.2 too, for old peers, by explicit option.
    Tls12And13,
}

impl Versions {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];
        static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        match self {
            Self::Tls13 => TLS13,
            Self::Tls12And13 => BOTH,
        }
    }
}

/// Settings for the accepting side. `alpn` in order of preference, empty for none.
///
/// # Errors
/// [`AuthorityError::Tls`] when rustls refuses the combination.
pub fn server_config(
    identity: impl IdentitySource + 'static,
    verifier: impl ClientCertVerifier + 'static,
    alpn: &[&[u8]],
    versions: Versions,
) -> Result<ServerConfig, AuthorityError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions.supported())
        .map_err(|error| AuthorityError::Tls { reason: error.to_string() })?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(resolve::Current(identity)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Settings for the connecting side; `identity` is presented when the server asks for one. `alpn` in order of
/// preference, empty for none. The name that a connection is made with is sent as SNI and not compared.
///
/// # Errors
/// [`AuthorityError::Tls`] when rustls refuses the combination.
pub fn client_config(
    identity: impl IdentitySource + 'static,
    verifier: impl ServerCertVerifier + 'static,
    alpn: &[&[u8]],
    versions: Versions,
) -> Result<ClientConfig, AuthorityError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions.supported())
        .map_err(|error| AuthorityError::Tls { reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(resolve::Current(identity)));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The typed reason inside a handshake error, when one of our verifiers gave it.
#[must_use]
pub fn failure_of(error: &rustls::Error) -> Option<&X509Error> {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else {
        return None;
    };
    inner.downcast_ref()
}

/// As [`failure_of`], looking through whatever a transport has wrapped around rustls' error.
#[must_use]
pub fn failure_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a X509Error> {
    let mut next = Some(error);
    // Bounded, because a chain of causes is somebody else's data.
    for _ in 0..16 {
        let error = next?;
        // An I/O error hides what it wraps from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(inner) = inner {
            next = Some(inner);
            continue;
        }
        if let Some(found) = error.downcast_ref::<rustls::Error>().and_then(failure_of) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The code of a handshake that failed.
#[must_use]
pub fn code_of(error: &std::io::Error) -> Code {
    use std::io::ErrorKind;
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Code::PeerClosed,
            _ => Code::TlsFailed,
        };
    };
    if let Some(reason) = failure_of(tls) {
        return reason.code();
    }
    match tls {
        rustls::Error::NoCertificatesPresented => Code::NoClientCert,
        rustls::Error::AlertReceived(_) => Code::PeerRejectedUs,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Code::PeerSpokePlaintext,
        rustls::Error::NoApplicationProtocol => Code::NoCommonProtocol,
        rustls::Error::PeerIncompatible(_) => Code::TlsIncompatible,
        // What a source of identities says when it has none.
        rustls::Error::General(_) => Code::NoIdentity,
        _ => Code::TlsFailed,
    }
}

/// Who is at the other end of a finished handshake that one of our verifiers has accepted; `None` when it
/// presented no certificate.
#[must_use]
pub fn peer_of(connection: &rustls::CommonState) -> Option<VerifiedPeer> {
    let leaf = connection.peer_certificates()?.first()?;
    crate::x509::verify::facts_of_accepted(leaf).ok()
}

/// Puts a typed reason into rustls' error. The peer sees the alert `certificate_unknown`, never our words.
fn reject(error: X509Error) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}
