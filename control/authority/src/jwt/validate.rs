//! Accepting tokens (JWT-SVID §4, Workload API §6.3).

use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::UnixTime;
use serde_json::{Map, Value};
use svidecar_id::{IdError, SpiffeId};

use super::{JwtError, MAX_TOKEN_BYTES};
use crate::{
    bundle::BundleSet,
    key::PublicKeyKind,
    time::{between, from_secs, human, plus, rfc3339},
};

/// How far two clocks may differ (RFC 7519 §4.1.4 permits a small leeway; SPIRE's is a minute).
pub const LEEWAY: Duration = Duration::from_secs(60);

/// Most characters of a token's own words that go into an error.
const MAX_QUOTED: usize = 128;

/// A token that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtSvid {
    /// The workload.
    pub id: SpiffeId,
    /// For whom it is.
    pub audience: Vec<String>,
    /// When it ends.
    pub expires_at: UnixTime,
    /// All claims, these included.
    pub claims: Map<String, Value>,
}

/// Validates a token for anyone who goes by one of the names in `audience`.
///
/// # Errors
/// The first rule that the token breaks. Nothing in an error about an unverified token is to be trusted.
pub fn validate(
    token: &str,
    audience: &[&str],
    bundles: &BundleSet,
    now: UnixTime,
) -> Result<JwtSvid, JwtError> {
    let parts = Parts::split(token)?;
    let header = parts.header()?;
    let algorithm = check_header(&header)?;
    let kid =
        header.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty()).ok_or(JwtError::NoKeyId)?;
    let claims = parts.claims()?;
    let id = subject(&claims)?;
    let domain = bundles
        .domain(id.trust_domain_str())
        .ok_or_else(|| JwtError::UnknownTrustDomain { subject: id.to_string(), known: bundles.names() })?;
    let key = domain.jwt_key(kid).ok_or_else(|| JwtError::UnknownKey {
        subject: id.to_string(),
        kid: quoted(kid),
        held: domain.jwt_key_names().join(", "),
    })?;
    if !algorithm.fits(key.kind()) {
        return Err(JwtError::AlgorithmMismatch { algorithm: algorithm.name, kid: quoted(kid) });
    }
    UnparsedPublicKey::new(algorithm.verification, key.raw())
        .verify(parts.signed, &parts.signature()?)
        .map_err(|_| JwtError::BadSignature { subject: id.to_string() })?;
    check_claims(id, claims, audience, now)
}

/// Reads subject and expiry of a token that was accepted or minted by a trusted server, such as one that an
/// agent has just fetched. It checks nothing.
///
/// # Errors
/// [`JwtError`] when it is no token.
pub fn subject_of_accepted(token: &str) -> Result<(SpiffeId, UnixTime), JwtError> {
    let claims = Parts::split(token)?.claims()?;
    let id = subject(&claims)?;
    let expires_at = seconds(&claims, "exp").ok_or_else(|| JwtError::NoExpiry { subject: id.to_string() })?;
    Ok((id, expires_at))
}

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// Header, dot, claims: what the signature covers.
    signed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong { bytes: token.len() });
        }
        if token.trim_start().starts_with('{') {
            return Err(JwtError::JsonForm);
        }
        let malformed = JwtError::Malformed { reason: "expected three parts separated by dots" };
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed.clone())?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| malformed.clone())?;
        if claims.contains('.') {
            return Err(malformed);
        }
        Ok(Self { header, claims, signature, signed: signed.as_bytes() })
    }

    fn header(&self) -> Result<Map<String, Value>, JwtError> {
        object(self.header, "its header is not a JSON object in base64url")
    }

    fn claims(&self) -> Result<Map<String, Value>, JwtError> {
        object(self.claims, "its claims are not a JSON object in base64url")
    }

    fn signature(&self) -> Result<Vec<u8>, JwtError> {
        URL_SAFE_NO_PAD
            .decode(self.signature)
            .map_err(|_| JwtError::Malformed { reason: "its signature is not base64url" })
    }
}

fn object(part: &str, reason: &'static str) -> Result<Map<String, Value>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or(JwtError::Malformed { reason })
}

fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// One of the nine algorithms (JWT-SVID §2.1).
struct Algorithm {
    name: &'static str,
    verification: &'static dyn VerificationAlgorithm,
    /// `None` for RSA.
    curve: Option<PublicKeyKind>,
}

impl Algorithm {
    fn fits(&self, key: PublicKeyKind) -> bool {
        match self.curve {
            Some(curve) => key == curve,
            None => matches!(key, PublicKeyKind::Rsa { .. }),
        }
    }
}

static ALGORITHMS: [Algorithm; 9] = [
    Algorithm { name: "ES256", verification: &ECDSA_P256_SHA256_FIXED, curve: Some(PublicKeyKind::EcP256) },
    Algorithm { name: "ES384", verification: &ECDSA_P384_SHA384_FIXED, curve: Some(PublicKeyKind::EcP384) },
    Algorithm { name: "ES512", verification: &ECDSA_P521_SHA512_FIXED, curve: Some(PublicKeyKind::EcP521) },
    Algorithm { name: "RS256", verification: &RSA_PKCS1_2048_8192_SHA256, curve: None },
    Algorithm { name: "RS384", verification: &RSA_PKCS1_2048_8192_SHA384, curve: None },
    Algorithm { name: "RS512", verification: &RSA_PKCS1_2048_8192_SHA512, curve: None },
    Algorithm { name: "PS256", verification: &RSA_PSS_2048_8192_SHA256, curve: None },
    Algorithm { name: "PS384", verification: &RSA_PSS_2048_8192_SHA384, curve: None },
    Algorithm { name: "PS512", verification: &RSA_PSS_2048_8192_SHA512, curve: None },
];

fn check_header(header: &Map<String, Value>) -> Result<&'static Algorithm, JwtError> {
    let name = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let algorithm = ALGORITHMS
        .iter()
        .find(|algorithm| algorithm.name == name)
        .ok_or_else(|| JwtError::Algorithm { algorithm: quoted(name) })?;
    match header.get("typ") {
        None => {}
        Some(Value::String(found)) if found == "JWT" || found == "JOSE" => {}
        Some(Value::String(found)) => return Err(JwtError::Type { found: quoted(found) }),
        Some(_) => return Err(JwtError::Malformed { reason: "its type is not a string" }),
    }
    if header.contains_key("crit") {
        return Err(JwtError::Critical);
    }
    Ok(algorithm)
}

fn subject(claims: &Map<String, Value>) -> Result<SpiffeId, JwtError> {
    let text = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let id =
        SpiffeId::parse(text).map_err(|error: IdError| JwtError::Subject { subject: quoted(text), error })?;
    Ok(id)
}

fn check_claims(
    id: SpiffeId,
    claims: Map<String, Value>,
    expected: &[&str],
    now: UnixTime,
) -> Result<JwtSvid, JwtError> {
    let expires_at = seconds(&claims, "exp").ok_or_else(|| JwtError::NoExpiry { subject: id.to_string() })?;
    if plus(expires_at, LEEWAY) <= now {
        return Err(JwtError::Expired {
            subject: id.to_string(),
            ago: human(between(expires_at, now)),
            expires_at: rfc3339(expires_at),
        });
    }
    if claims.contains_key("nbf") {
        let not_before = seconds(&claims, "nbf")
            .ok_or(JwtError::Malformed { reason: "its `nbf` is not a number of seconds" })?;
        if not_before > plus(now, LEEWAY) {
            return Err(JwtError::NotYetValid {
                subject: id.to_string(),
                ahead: human(between(now, not_before)),
            });
        }
    }
    let audience = audience(&claims)?;
    if !audience.iter().any(|found| expected.contains(&found.as_str())) {
        let list = |names: &mut dyn Iterator<Item = &str>| {
            names.map(|name| format!("`{}`", quoted(name))).collect::<Vec<_>>().join(", ")
        };
        return Err(JwtError::Audience {
            subject: id.to_string(),
            found: list(&mut audience.iter().map(String::as_str).take(8)),
            expected: list(&mut expected.iter().copied().take(8)),
        });
    }
    Ok(JwtSvid { id, audience, expires_at, claims })
}

/// A NumericDate (RFC 7519 §2), which may have a fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Option<UnixTime> {
    let value = claims.get(name)?;
    if let Some(whole) = value.as_u64() {
        return Some(from_secs(whole));
    }
    let fractional = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    // Casting a float saturates, which `plus` then bounds.
    #[expect(clippy::as_conversions, reason = "there is no other conversion, and this one saturates")]
    let whole = fractional as u64;
    Some(from_secs(whole))
}

/// A string or a list of strings (RFC 7519 §4.1.3), at least one.
fn audience(claims: &Map<String, Value>) -> Result<Vec<String>, JwtError> {
    let list = match claims.get("aud") {
        None | Some(Value::Null) => return Err(JwtError::NoAudience),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or(JwtError::Malformed { reason: "an audience is not a string" })?,
        Some(_) => return Err(JwtError::Malformed { reason: "its audience is neither a string nor a list" }),
    };
    if list.is_empty() { Err(JwtError::NoAudience) } else { Ok(list) }
}
