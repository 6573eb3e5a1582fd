//! Key pairs and public keys.
//!
//! A private key is held once, wiped when dropped, has no `Debug`, and is written out only by
//! [`PrivateKey::pkcs8_der`] and [`PrivateKey::to_pkcs8_pem`].

use std::{fmt, str::FromStr, sync::Arc};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
        RsaKeyPair,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{AuthorityError, certificate::sha256, pem};

mod public;
#[cfg(test)]
mod tests;

pub use public::{PublicKey, PublicKeyKind};

/// Most bytes of a PKCS#8 key that are looked at; RSA with 8192 bits takes under 5000.
const MAX_PKCS8_BYTES: usize = 16 * 1024;

/// The kinds of key that are generated, by SPIRE's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum KeyType {
    /// `ec-p256`: fastest to sign with, the default.
    #[default]
    #[serde(rename = "ec-p256")]
    EcP256,
    /// `ec-p384`.
    #[serde(rename = "ec-p384")]
    EcP384,
    /// `rsa-2048`.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// `rsa-4096`: slow to generate (seconds) and to sign with.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl KeyType {
    /// The name in settings and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyType {
    type Err = AuthorityError;

    fn from_str(name: &str) -> Result<Self, AuthorityError> {
        match name {
            "ec-p256" => Ok(Self::EcP256),
            "ec-p384" => Ok(Self::EcP384),
            "rsa-2048" => Ok(Self::Rsa2048),
            "rsa-4096" => Ok(Self::Rsa4096),
            _ => Err(AuthorityError::UnknownKeyType { name: name.to_owned() }),
        }
    }
}

/// What a public key is known by where it is not itself at hand: SHA-256 of its `SubjectPublicKeyInfo` DER, lowercase hex.
#[must_use]
pub fn key_hash(spki_der: &[u8]) -> String {
    hex::encode(sha256(spki_der))
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A private key with its public half. Cheap to clone: clones share the one copy in memory.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    key_type: KeyType,
    /// The content of the SPKI's bit string: an EC point or an `RSAPublicKey`.
    public: Vec<u8>,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Makes a new key. Takes microseconds for EC and up to seconds for RSA: call it off the async threads
    /// for the latter.
    ///
    /// # Errors
    /// [`AuthorityError::Crypto`] when the random source refuses.
    pub fn generate(key_type: KeyType) -> Result<Self, AuthorityError> {
        let failed = |_| AuthorityError::Crypto { operation: "generate a key" };
        let pair = match key_type {
            KeyType::EcP256 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?)
            }
            KeyType::EcP384 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map_err(failed)?)
            }
            KeyType::Rsa2048 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?),
            KeyType::Rsa4096 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa4096).map_err(failed)?),
        };
        let pkcs8 = match &pair {
            Pair::Ecdsa(pair) => Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => Zeroizing::new(pair.as_der().map_err(failed)?.as_ref().to_vec()),
        };
        Ok(Self::assemble(pair, key_type, pkcs8))
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5208).
    ///
    /// # Errors
    /// [`AuthorityError::PrivateKey`] when it is not one, or of a type outside [`KeyType`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, AuthorityError> {
        if der.len() > MAX_PKCS8_BYTES {
            return Err(AuthorityError::PrivateKey);
        }
        let pkcs8 = Zeroizing::new(der.to_vec());
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der) {
            return Ok(Self::assemble(Pair::Ecdsa(pair), KeyType::EcP256, pkcs8));
        }
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, der) {
            return Ok(Self::assemble(Pair::Ecdsa(pair), KeyType::EcP384, pkcs8));
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| AuthorityError::PrivateKey)?;
        let key_type = match pair.public_modulus_len() {
            256 => KeyType::Rsa2048,
            512 => KeyType::Rsa4096,
            _ => return Err(AuthorityError::PrivateKey),
        };
        Ok(Self::assemble(Pair::Rsa(pair), key_type, pkcs8))
    }

    /// Reads the first `PRIVATE KEY` block.
    ///
    /// # Errors
    /// [`AuthorityError::Pem`] when there is none, else as [`Self::from_pkcs8_der`].
    pub fn from_pem(text: &[u8]) -> Result<Self, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text)
            .map_err(|error| AuthorityError::Pem { reason: error.to_string() })?;
        Self::from_pkcs8_der(key.secret_pkcs8_der())
    }

    fn assemble(pair: Pair, key_type: KeyType, pkcs8: Zeroizing<Vec<u8>>) -> Self {
        let public = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        };
        Self(Arc::new(Inner { pair, key_type, public, pkcs8 }))
    }

    /// Its kind.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.0.key_type
    }

    /// The secret itself as unencrypted PKCS#8 DER.
    #[must_use]
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// The secret itself as a `PRIVATE KEY` block.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.0.pkcs8)
    }

    /// The public half as `SubjectPublicKeyInfo` DER (RFC 5280 §4.1).
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(self)
    }

    /// Signs with the key's own hash (SHA-384 for P-384, else SHA-256): ECDSA in ASN.1 form, RSA by PKCS#1
    /// v1.5, as certificates and requests are signed.
    ///
    /// # Errors
    /// [`AuthorityError::Crypto`] when the crypto library refuses.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        let failed = |_| AuthorityError::Crypto { operation: "sign" };
        match &self.0.pair {
            Pair::Ecdsa(pair) => {
                Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out)
                    .map_err(failed)?;
                Ok(out)
            }
        }
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.0.key_type {
            KeyType::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyType::Rsa2048 | KeyType::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
