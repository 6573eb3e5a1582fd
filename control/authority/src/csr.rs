//! Certificate signing requests (PKCS#10, RFC 2986): made by agents and workloads, read by the server.
//! A request that was read is signed by its own key; what it asks for is a wish, never a fact.

use rcgen::{CertificateParams, DistinguishedName, SanType};
use svidecar_id::SpiffeId;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{
    AuthorityError,
    certificate::{Subject, dns, ia5},
    key::{PrivateKey, PublicKey},
};

/// Most bytes of a request that are looked at.
pub const MAX_CSR_BYTES: usize = 32 * 1024;

/// Makes a request for `id` (none: the server knows from elsewhere which ID it will sign) with DNS names.
/// Returns DER.
///
/// # Errors
/// [`AuthorityError::DnsName`] for a bad name, [`AuthorityError::Crypto`] when signing fails.
pub fn create(
    key: &PrivateKey,
    id: Option<&SpiffeId>,
    dns_names: &[String],
) -> Result<Vec<u8>, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Subject::svid_default().write(&mut params.distinguished_name)?;
    if let Some(id) = id {
        params.subject_alt_names.push(SanType::URI(ia5(id.as_str(), "the URI name")?));
    }
    for name in dns_names {
        dns::check(name)?;
        params.subject_alt_names.push(SanType::DnsName(ia5(name, "a DNS name")?));
    }
    let request = params
        .serialize_request(key)
        .map_err(|_| AuthorityError::Crypto { operation: "sign a certificate request" })?;
    Ok(request.der().to_vec())
}

/// A request that has proven possession of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    public_key: PublicKey,
    spiffe_id: Option<SpiffeId>,
    dns_names: Vec<String>,
    subject: Subject,
}

impl Csr {
    /// Parses a request and checks its signature, its key, its names.
    ///
    /// # Errors
    /// [`AuthorityError::Csr`] with the reason; [`AuthorityError::PublicKey`], [`AuthorityError::Id`] or
    /// [`AuthorityError::DnsName`] for what is inside.
    pub fn parse(der: &[u8]) -> Result<Self, AuthorityError> {
        let refuse = |reason: &str| AuthorityError::Csr { reason: reason.to_owned() };
        if der.len() > MAX_CSR_BYTES {
            return Err(refuse(&format!("{} bytes; at most {MAX_CSR_BYTES} are read", der.len())));
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|_| refuse("it is not valid DER"))?;
        if !rest.is_empty() {
            return Err(refuse("bytes follow it"));
        }
        let info = &request.certification_request_info;
        let public_key = PublicKey::parse(info.subject_pki.raw)?;
        request.verify_signature().map_err(|_| refuse("it is not signed by its own key"))?;
        let mut csr = Self {
            public_key,
            spiffe_id: None,
            dns_names: Vec::new(),
            subject: Subject::read(&info.subject),
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                csr.read_names(&names.general_names)?;
            }
        }
        Ok(csr)
    }

    fn read_names(&mut self, names: &[GeneralName<'_>]) -> Result<(), AuthorityError> {
        for name in names {
            match name {
                GeneralName::URI(uri) => {
                    let id = SpiffeId::parse(uri)
                        .map_err(|error| AuthorityError::Id { text: (*uri).to_owned(), error })?;
                    if self.spiffe_id.replace(id).is_some() {
                        return Err(AuthorityError::Csr {
                            reason: "it has more than one URI name; an SVID has exactly one".to_owned(),
                        });
                    }
                }
                GeneralName::DNSName(name) => {
                    dns::check(name)?;
                    self.dns_names.push((*name).to_owned());
                }
                _ => {
                    return Err(AuthorityError::Csr {
                        reason: "it asks for a name that is neither a URI nor a DNS name".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The key that the certificate will be for.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The key as `SubjectPublicKeyInfo` DER.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.public_key.spki_der()
    }

    /// The ID that is asked for, if any.
    #[must_use]
    pub const fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe_id.as_ref()
    }

    /// The DNS names that are asked for.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The subject that is asked for.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::KeyType;

    #[test]
    fn what_was_asked_for_is_read_back() {
        let id = SpiffeId::parse("spiffe://demo.org/shop").unwrap();
        for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
            let key = PrivateKey::generate(key_type).unwrap();
            let der = create(&key, Some(&id), &["shop.demo.org".to_owned()]).unwrap();
            let csr = Csr::parse(&der).unwrap();
            assert_eq!(csr.spiffe_id(), Some(&id));
            assert_eq!(csr.dns_names(), ["shop.demo.org"]);
            assert_eq!(csr.spki_der(), key.spki_der());
            assert_eq!(csr.subject(), &Subject::svid_default());
        }
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let mut der = create(&key, None, &[]).unwrap();
        let other = PrivateKey::generate(KeyType::EcP256).unwrap();
        let position = der.windows(65).position(|window| window == &key.spki_der()[26..]).unwrap();
        der[position..position + 65].copy_from_slice(&other.spki_der()[26..]);
        assert_eq!(Csr::parse(&der).unwrap_err().code(), "bad_csr");
    }

    #[test]
    fn bad_names_are_refused_when_made() {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        assert_eq!(create(&key, None, &["-x.org".to_owned()]).unwrap_err().code(), "bad_dns_name");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Csr::parse(&bytes).is_err());
        }

        /// The parser is lenient about the tags around what is signed; what is signed stays what it was.
        #[test]
        fn a_damaged_request_never_says_something_else(position: prop::sample::Index, change in 1u8..) {
            let key = PrivateKey::generate(KeyType::EcP256).unwrap();
            let mut der = create(&key, Some(&SpiffeId::parse("spiffe://demo.org/shop").unwrap()), &[]).unwrap();
            let original = Csr::parse(&der).unwrap();
            let position = position.index(der.len());
            der[position] ^= change;
            if let Ok(parsed) = Csr::parse(&der) {
                prop_assert_eq!(parsed, original);
            }
        }
    }
}
