//! Making tokens (JWT-SVID §2, §3).

use std::sync::Arc;

use aws_lc_rs::{
    rand::{SystemRandom, fill},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::UnixTime;
use serde::Serialize;
use svidecar_id::SpiffeId;

use crate::{
    AuthorityError,
    bundle::JwtKey,
    key::{KeyType, PrivateKey},
};

/// A key that signs tokens, with its name.
#[derive(Clone)]
pub struct JwtSigner {
    kid: String,
    key: PrivateKey,
    /// Tokens carry ECDSA signatures in fixed length (RFC 7518 §3.4), certificates in ASN.1, so the pair is held
    /// again in the form that makes them.
    pair: Pair,
}

#[derive(Clone)]
enum Pair {
    Ecdsa(Arc<EcdsaKeyPair>),
    Rsa(Arc<RsaKeyPair>),
}

impl JwtSigner {
    /// Takes a key. `kid` must be unique among the trust domain's keys; see [`new_kid`].
    ///
    /// # Errors
    /// [`AuthorityError::Token`] for an empty `kid`, [`AuthorityError::PrivateKey`] when the key cannot be loaded.
    pub fn new(kid: impl Into<String>, key: PrivateKey) -> Result<Self, AuthorityError> {
        let kid = kid.into();
        if kid.is_empty() {
            return Err(AuthorityError::Token { reason: "the signing key has no name (kid)" });
        }
        let refused = |_| AuthorityError::PrivateKey;
        let pair = match key.key_type() {
            KeyType::EcP256 => Pair::Ecdsa(Arc::new(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.pkcs8_der())
                    .map_err(refused)?,
            )),
            KeyType::EcP384 => Pair::Ecdsa(Arc::new(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.pkcs8_der())
                    .map_err(refused)?,
            )),
            KeyType::Rsa2048 | KeyType::Rsa4096 => {
                Pair::Rsa(Arc::new(RsaKeyPair::from_pkcs8(key.pkcs8_der()).map_err(refused)?))
            }
        };
        Ok(Self { kid, key, pair })
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its key, to be stored.
    #[must_use]
    pub const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Its public half as it stands in the bundle.
    #[must_use]
    pub fn jwt_key(&self, expires_at: Option<UnixTime>) -> JwtKey {
        JwtKey { kid: self.kid.clone(), spki_der: self.key.spki_der(), expires_at }
    }

    fn algorithm(&self) -> &'static str {
        match self.key.key_type() {
            KeyType::EcP256 => "ES256",
            KeyType::EcP384 => "ES384",
            KeyType::Rsa2048 | KeyType::Rsa4096 => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        let failed = |_| AuthorityError::Crypto { operation: "sign a token" };
        match &self.pair {
            Pair::Ecdsa(pair) => {
                Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).map_err(failed)?;
                Ok(out)
            }
        }
    }
}

/// A fresh name for a signing key: 32 random letters and digits, as SPIRE makes them.
///
/// # Errors
/// [`AuthorityError::Crypto`] when the random source refuses.
pub fn new_kid() -> Result<String, AuthorityError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut kid = String::with_capacity(32);
    while kid.len() < 32 {
        let mut byte = [0];
        fill(&mut byte).map_err(|_| AuthorityError::Crypto { operation: "make a key name" })?;
        // Only the 62 first of 64 values count, so that every character is equally likely.
        if let Some(character) = ALPHABET.get(usize::from(byte[0] & 0x3f)) {
            kid.push(char::from(*character));
        }
    }
    Ok(kid)
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtClaims {
    /// The workload.
    pub sub: SpiffeId,
    /// For whom it is; at least one.
    pub aud: Vec<String>,
    /// When it was made.
    pub iat: UnixTime,
    /// When it ends.
    pub exp: UnixTime,
    /// Issuer, when one is configured.
    pub iss: Option<String>,
    /// Token ID, when asked for.
    pub jti: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    aud: &'a [String],
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    sub: &'a str,
}

/// Signs a token: header `alg`, `kid`, `typ` and nothing else; `aud` always an array, as SPIRE writes it.
///
/// # Errors
/// [`AuthorityError::Token`] for no audience, an empty one, an end before the beginning or a subject without a
/// path; [`AuthorityError::Crypto`] when signing fails.
pub fn mint(signer: &JwtSigner, claims: &JwtClaims) -> Result<String, AuthorityError> {
    if claims.aud.is_empty() || claims.aud.iter().any(String::is_empty) {
        return Err(AuthorityError::Token {
            reason: "at least one audience is needed, and none may be empty",
        });
    }
    if claims.exp <= claims.iat {
        return Err(AuthorityError::Token { reason: "it would expire before it begins" });
    }
    if claims.sub.path().is_empty() {
        return Err(AuthorityError::Token {
            reason: "the subject has no path, so it is a trust domain, not a workload",
        });
    }
    let header = Header { alg: signer.algorithm(), kid: &signer.kid, typ: "JWT" };
    let body = Body {
        aud: &claims.aud,
        exp: claims.exp.as_secs(),
        iat: claims.iat.as_secs(),
        iss: claims.iss.as_deref(),
        jti: claims.jti.as_deref(),
        sub: claims.sub.as_str(),
    };
    let unwritable = |_| AuthorityError::Token { reason: "the claims cannot be written as JSON" };
    let mut token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(unwritable)?);
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(serde_json::to_vec(&body).map_err(unwritable)?));
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(token)
}
