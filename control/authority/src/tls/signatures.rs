//! What rustls asks every verifier beside its own question: whether the other side has signed the handshake with the key of
//! its certificate. The answer is rustls' own, by the algorithms of the one provider.

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme, client::danger::HandshakeSignatureValid, crypto,
};
use rustls_pki_types::CertificateDer;

use super::provider;

/// Whether the signature of a TLS 1.2 handshake is that of the certificate's key.
pub(super) fn tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
}

/// Whether the signature of a TLS 1.3 handshake is that of the certificate's key.
pub(super) fn tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider().signature_verification_algorithms;
    crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
}

/// The algorithms that are offered.
pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

/// The three functions that rustls' traits for verifiers have in common.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $crate::tls::signatures::tls12(message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $crate::tls::signatures::tls13(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::tls::signatures::schemes()
        }
    };
}
pub(super) use handshake_signatures;
