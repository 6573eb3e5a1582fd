//! The X.509 authority: a signing certificate with its key, and the SVIDs that it signs.
//!
//! Owns the exact form of both (X509-SVID §2 to §4, and what SPIRE writes where the standard leaves it open).
//! It signs whatever ID of its trust domain it is asked for: who may have which ID is the caller's to decide.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use svidecar_id::{SpiffeId, TrustDomain};

use crate::{
    AuthorityError,
    certificate::{CertInfo, Subject, dn_value, dns, ia5},
    key::{PrivateKey, PublicKey},
    time::{minus, plus, rfc3339},
};

#[cfg(test)]
mod tests;

/// How far before `now` a certificate's life begins, so that a peer whose clock is a little behind takes it.
pub const BACKDATE: Duration = Duration::from_secs(10);

/// What a new self-signed CA certificate says.
#[derive(Debug, Clone)]
pub struct CaParams {
    /// The trust domain; its ID becomes the URI name.
    pub trust_domain: TrustDomain,
    /// Lifetime, from now.
    pub ttl: Duration,
    /// Subject; a `serialNumber` field is added, so that every CA has a name of its own.
    pub subject: Subject,
}

/// What an SVID says.
#[derive(Debug, Clone)]
pub struct SvidParams {
    /// The workload's ID, with a path.
    pub id: SpiffeId,
    /// The workload's public key, `SubjectPublicKeyInfo` DER.
    pub spki_der: Vec<u8>,
    /// DNS names; the first becomes the common name.
    pub dns_names: Vec<String>,
    /// Lifetime, from now; cut at the end of the CA's.
    pub ttl: Duration,
    /// Subject; its common name is used only when there are no DNS names.
    pub subject: Subject,
    /// The first half of the serial number, where that is to say something; the rest is random. Below 2^63.
    pub serial_prefix: Option<u64>,
}

impl SvidParams {
    /// SPIRE's defaults: subject `C=US, O=SPIRE`, no DNS names.
    #[must_use]
    pub fn new(id: SpiffeId, spki_der: Vec<u8>, ttl: Duration) -> Self {
        Self {
            id,
            spki_der,
            dns_names: Vec::new(),
            ttl,
            subject: Subject::svid_default(),
            serial_prefix: None,
        }
    }
}

/// A signed SVID, without its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Svid {
    /// The workload's ID.
    pub id: SpiffeId,
    /// Leaf first, then the intermediates up to, without, the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity, inclusive.
    pub not_after: UnixTime,
    /// Serial number in decimal, as SPIRE prints it.
    pub serial: String,
}

/// A signing certificate with its key.
pub struct X509Ca {
    issuer: Issuer<'static, PrivateKey>,
    certificate: CertificateDer<'static>,
    /// What goes behind a leaf: nothing when this is the root, else this certificate and its upstream.
    behind_leaf: Vec<CertificateDer<'static>>,
    info: CertInfo,
    trust_domain: TrustDomain,
}

impl X509Ca {
    /// Makes a new root: self-signed, its own SVID with the trust domain's ID (X509-SVID §3.2, §4).
    ///
    /// # Errors
    /// [`AuthorityError::ZeroTtl`], [`AuthorityError::Field`] for a subject that cannot be written, or
    /// [`AuthorityError::Crypto`].
    pub fn self_signed(params: &CaParams, key: PrivateKey, now: UnixTime) -> Result<Self, AuthorityError> {
        if params.ttl.as_secs() == 0 {
            return Err(AuthorityError::ZeroTtl);
        }
        let serial = new_serial()?;
        let mut name = DistinguishedName::new();
        params.subject.write(&mut name)?;
        name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), dn_value(&serial.to_string()));
        let mut certificate = CertificateParams::default();
        certificate.distinguished_name = name;
        certificate.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        set_validity(&mut certificate, minus(now, BACKDATE), plus(now, params.ttl));
        certificate.subject_alt_names =
            vec![SanType::URI(ia5(params.trust_domain.id().as_str(), "the URI name")?)];
        certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        certificate.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        certificate.use_authority_key_identifier_extension = true;
        let signed = certificate
            .self_signed(&key)
            .map_err(|_| AuthorityError::Crypto { operation: "sign the CA certificate" })?;
        Self::load(signed.into(), Vec::new(), key)
    }

    /// Takes a signing certificate that exists already. `upstream` are the certificates between it and the
    /// root, nearest first, without either; empty when it is the root or was signed by the root.
    ///
    /// # Errors
    /// [`AuthorityError::KeyMismatch`], [`AuthorityError::Certificate`], or [`AuthorityError::NotAnAuthority`]
    /// when the certificate is no CA or does not carry a trust domain's ID.
    pub fn load(
        certificate: CertificateDer<'static>,
        mut upstream: Vec<CertificateDer<'static>>,
        key: PrivateKey,
    ) -> Result<Self, AuthorityError> {
        let info = CertInfo::parse(&certificate)?;
        if info.spki_der != key.spki_der() {
            return Err(AuthorityError::KeyMismatch);
        }
        let refuse = |reason: &str| AuthorityError::NotAnAuthority { reason: reason.to_owned() };
        if !info.is_ca {
            return Err(refuse("it is not a CA certificate (cA is false)"));
        }
        let id = info.spiffe_id.as_ref().ok_or_else(|| refuse("it has no SPIFFE ID as its one URI name"))?;
        if !id.path().is_empty() {
            return Err(refuse(
                "its SPIFFE ID has a path; a signing certificate carries the trust domain's own ID",
            ));
        }
        let trust_domain = id.trust_domain();
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| AuthorityError::Certificate { reason: error.to_string() })?;
        if info.subject != info.issuer {
            upstream.insert(0, certificate.clone());
        }
        Ok(Self { issuer, certificate, behind_leaf: upstream, info, trust_domain })
    }

    /// Signs an SVID for `params.id`. Takes tens of microseconds with an EC key.
    ///
    /// # Errors
    /// [`AuthorityError::ForeignId`], [`AuthorityError::NoPath`], [`AuthorityError::ZeroTtl`],
    /// [`AuthorityError::PublicKey`], [`AuthorityError::DnsName`], or [`AuthorityError::AuthorityNotValid`] when
    /// the CA has expired.
    pub fn sign_svid(&self, params: &SvidParams, now: UnixTime) -> Result<X509Svid, AuthorityError> {
        self.check_request(params, now)?;
        let random = new_serial()?;
        let serial = match params.serial_prefix {
            Some(prefix) => (u128::from(prefix) << 64) | (random & u128::from(u64::MAX)),
            None => random,
        };
        let not_before = minus(now, BACKDATE).max(self.info.not_before);
        let not_after = plus(now, params.ttl).min(self.info.not_after);
        let mut subject = params.subject.clone();
        if let Some(first) = params.dns_names.first() {
            // X.520 allows 64 characters in a common name; a longer DNS name stays a SAN only.
            subject.common_name = (first.len() <= 64).then(|| first.clone());
        }

        let mut certificate = CertificateParams::default();
        certificate.distinguished_name = DistinguishedName::new();
        subject.write(&mut certificate.distinguished_name)?;
        certificate.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        set_validity(&mut certificate, not_before, not_after);
        certificate.subject_alt_names.push(SanType::URI(ia5(params.id.as_str(), "the URI name")?));
        for name in &params.dns_names {
            certificate.subject_alt_names.push(SanType::DnsName(ia5(name, "a DNS name")?));
        }
        certificate.is_ca = IsCa::ExplicitNoCa;
        certificate.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        certificate.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        certificate.use_authority_key_identifier_extension = true;

        let public_key = SubjectPublicKeyInfo::from_der(&params.spki_der)
            .map_err(|error| AuthorityError::PublicKey { reason: error.to_string() })?;
        let leaf = certificate
            .signed_by(&public_key, &self.issuer)
            .map_err(|_| AuthorityError::Crypto { operation: "sign the SVID" })?;
        let mut chain = Vec::with_capacity(1 + self.behind_leaf.len());
        chain.push(leaf.into());
        chain.extend_from_slice(&self.behind_leaf);
        Ok(X509Svid { id: params.id.clone(), chain, not_before, not_after, serial: serial.to_string() })
    }

    /// Whether an SVID of that ID, of either kind, may come from this authority: a workload of its trust domain.
    ///
    /// # Errors
    /// [`AuthorityError::ForeignId`] or [`AuthorityError::NoPath`].
    pub fn check_member(&self, id: &SpiffeId) -> Result<(), AuthorityError> {
        if !id.is_member_of(&self.trust_domain) {
            return Err(AuthorityError::ForeignId {
                id: id.to_string(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        if id.path().is_empty() {
            return Err(AuthorityError::NoPath { id: id.to_string() });
        }
        Ok(())
    }

    fn check_request(&self, params: &SvidParams, now: UnixTime) -> Result<(), AuthorityError> {
        self.check_member(&params.id)?;
        if params.ttl.as_secs() == 0 {
            return Err(AuthorityError::ZeroTtl);
        }
        if now < self.info.not_before || now >= self.info.not_after {
            return Err(AuthorityError::AuthorityNotValid {
                not_before: rfc3339(self.info.not_before),
                not_after: rfc3339(self.info.not_after),
                now: rfc3339(now),
            });
        }
        params.dns_names.iter().try_for_each(|name| dns::check(name))?;
        PublicKey::parse(&params.spki_der).map(|_| ())
    }

    /// The signing certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What the signing certificate says.
    #[must_use]
    pub const fn info(&self) -> &CertInfo {
        &self.info
    }

    /// The trust domain that it signs for.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The name of this authority in journals and logs: its subject key ID in hex, as SPIRE has it.
    #[must_use]
    pub fn authority_id(&self) -> &str {
        self.info.subject_key_id.as_deref().unwrap_or_default()
    }

    /// Start of validity.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.info.not_before
    }

    /// End of validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.info.not_after
    }

    /// Its key, to be stored.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        self.issuer.key()
    }
}

/// A positive serial number with 127 random bits (RFC 5280 §4.1.2.2 allows 20 octets).
fn new_serial() -> Result<u128, AuthorityError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| AuthorityError::Crypto { operation: "make a serial number" })?;
    Ok((u128::from_be_bytes(bytes) >> 1).max(1))
}

/// A validity from `not_before` to `not_after`, in rcgen's form.
fn set_validity(certificate: &mut CertificateParams, not_before: UnixTime, not_after: UnixTime) {
    // `plus` keeps the sums within the years that the date type can hold.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    certificate.not_before = epoch + Duration::from_secs(plus(not_before, Duration::ZERO).as_secs());
    certificate.not_after = epoch + Duration::from_secs(plus(not_after, Duration::ZERO).as_secs());
}
