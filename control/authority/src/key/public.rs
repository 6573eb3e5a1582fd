//! Public keys as they arrive: in requests, in certificates, in bundles.

use x509_parser::{prelude::FromDer, public_key, x509::SubjectPublicKeyInfo};

use crate::{AuthorityError, der};

/// Most bytes of a `SubjectPublicKeyInfo` that are looked at; RSA with 8192 bits takes 1062.
const MAX_SPKI_BYTES: usize = 4096;

/// `AlgorithmIdentifier` of an EC key on P-256, P-384 and P-521 (RFC 5480 §2.1.1) and of RSA (RFC 3279 §2.3.1).
const P256_ALGORITHM: &[u8] =
    &[0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384_ALGORITHM: &[u8] =
    &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34];
const P521_ALGORITHM: &[u8] =
    &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 35];
const RSA_ALGORITHM: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

/// What a public key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublicKeyKind {
    /// NIST P-256.
    EcP256,
    /// NIST P-384.
    EcP384,
    /// NIST P-521.
    EcP521,
    /// RSA.
    Rsa {
        /// Size of the modulus in bits.
        bits: usize,
    },
}

impl PublicKeyKind {
    /// Bytes of one coordinate of an EC point; `None` for RSA.
    #[must_use]
    pub const fn coordinate_bytes(self) -> Option<usize> {
        match self {
            Self::EcP256 => Some(32),
            Self::EcP384 => Some(48),
            Self::EcP521 => Some(66),
            Self::Rsa { .. } => None,
        }
    }
}

/// A supported public key, checked for form and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: PublicKeyKind,
    raw: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`AuthorityError::PublicKey`] for another type or size, a compressed point, or broken DER.
    pub fn parse(spki_der: &[u8]) -> Result<Self, AuthorityError> {
        let refuse = |reason: &str| AuthorityError::PublicKey { reason: reason.to_owned() };
        if spki_der.len() > MAX_SPKI_BYTES {
            return Err(refuse("it is too large"));
        }
        let (rest, spki) =
            SubjectPublicKeyInfo::from_der(spki_der).map_err(|_| refuse("it is not valid DER"))?;
        if !rest.is_empty() {
            return Err(refuse("bytes follow it"));
        }
        let raw = spki.subject_public_key.data.to_vec();
        let kind = match spki.parsed().map_err(|_| refuse("it is not valid DER"))? {
            public_key::PublicKey::RSA(rsa) => {
                let bits = rsa.modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
                if !(2048..=8192).contains(&bits) {
                    return Err(refuse(&format!("RSA of {bits} bits")));
                }
                PublicKeyKind::Rsa { bits }
            }
            public_key::PublicKey::EC(_) => {
                ec_kind(&spki, &raw).ok_or_else(|| refuse("an EC key on another curve"))?
            }
            _ => return Err(refuse(&format!("algorithm {}", spki.algorithm.algorithm))),
        };
        Ok(Self { kind, raw })
    }

    /// Builds an EC key from its coordinates (RFC 7518 §6.2.1), each of the curve's full length.
    pub(crate) fn from_ec(kind: PublicKeyKind, x: &[u8], y: &[u8]) -> Result<Self, AuthorityError> {
        let length = kind.coordinate_bytes();
        if length != Some(x.len()) || length != Some(y.len()) {
            return Err(AuthorityError::PublicKey { reason: "coordinates of the wrong length".to_owned() });
        }
        Ok(Self { kind, raw: [&[4], x, y].concat() })
    }

    /// Builds an RSA key from modulus and exponent (RFC 7518 §6.3.1).
    pub(crate) fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, AuthorityError> {
        let raw = der::sequence(&[&der::unsigned(modulus), &der::unsigned(exponent)]);
        Self::parse(&der::sequence(&[RSA_ALGORITHM, &der::bit_string(&raw)]))
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// The content of the bit string: an uncompressed EC point, or an `RSAPublicKey`.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// As `SubjectPublicKeyInfo` DER.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        let algorithm = match self.kind {
            PublicKeyKind::EcP256 => P256_ALGORITHM,
            PublicKeyKind::EcP384 => P384_ALGORITHM,
            PublicKeyKind::EcP521 => P521_ALGORITHM,
            PublicKeyKind::Rsa { .. } => RSA_ALGORITHM,
        };
        der::sequence(&[algorithm, &der::bit_string(&self.raw)])
    }

    /// The two coordinates of an EC key.
    pub(crate) fn ec_coordinates(&self) -> Option<(&[u8], &[u8])> {
        let length = self.kind.coordinate_bytes()?;
        Some((self.raw.get(1..=length)?, self.raw.get(length + 1..)?))
    }

    /// Modulus and exponent of an RSA key, without leading zeros.
    pub(crate) fn rsa_numbers(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (_, spki) = public_key::RSAPublicKey::from_der(&self.raw).ok()?;
        let trim = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
        Some((trim(spki.modulus), trim(spki.exponent)))
    }
}

fn ec_kind(spki: &SubjectPublicKeyInfo<'_>, raw: &[u8]) -> Option<PublicKeyKind> {
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
    let kind = match curve.as_str() {
        "1.2.840.10045.3.1.7" => PublicKeyKind::EcP256,
        "1.3.132.0.34" => PublicKeyKind::EcP384,
        "1.3.132.0.35" => PublicKeyKind::EcP521,
        _ => return None,
    };
    let uncompressed = raw.first() == Some(&4) && raw.len() == 1 + 2 * kind.coordinate_bytes()?;
    uncompressed.then_some(kind)
}
