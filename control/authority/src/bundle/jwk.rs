//! Public keys as JWK (RFC 7517, RFC 7518 §6).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    AuthorityError,
    key::{PublicKey, PublicKeyKind},
};

/// Writes the key's own members: `kty`, `crv`, `x`, `y` or `kty`, `n`, `e`.
pub(super) fn write(key: &PublicKey, jwk: &mut Map<String, Value>) -> Result<(), AuthorityError> {
    let unreadable = || AuthorityError::PublicKey { reason: "its numbers cannot be read".to_owned() };
    let mut set = |name: &str, value: String| jwk.insert(name.to_owned(), Value::String(value));
    let curve = match key.kind() {
        PublicKeyKind::EcP256 => "P-256",
        PublicKeyKind::EcP384 => "P-384",
        PublicKeyKind::EcP521 => "P-521",
        PublicKeyKind::Rsa { .. } => {
            let (modulus, exponent) = key.rsa_numbers().ok_or_else(unreadable)?;
            set("kty", "RSA".to_owned());
            set("n", URL_SAFE_NO_PAD.encode(modulus));
            set("e", URL_SAFE_NO_PAD.encode(exponent));
            return Ok(());
        }
    };
    let (x, y) = key.ec_coordinates().ok_or_else(unreadable)?;
    set("kty", "EC".to_owned());
    set("crv", curve.to_owned());
    set("x", URL_SAFE_NO_PAD.encode(x));
    set("y", URL_SAFE_NO_PAD.encode(y));
    Ok(())
}

/// Reads a key. `None` for a type or curve that is not known, which the reader passes over (Bundle §4.2.1).
pub(super) fn read(jwk: &Map<String, Value>) -> Option<Result<PublicKey, AuthorityError>> {
    let number = |name: &str| {
        jwk.get(name).and_then(Value::as_str).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(
            || AuthorityError::Bundle { reason: format!("a key's `{name}` is missing or not base64url") },
        )
    };
    match jwk.get("kty").and_then(Value::as_str)? {
        "RSA" => Some(number("n").and_then(|n| PublicKey::from_rsa(&n, &number("e")?))),
        "EC" => {
            let kind = match jwk.get("crv").and_then(Value::as_str)? {
                "P-256" => PublicKeyKind::EcP256,
                "P-384" => PublicKeyKind::EcP384,
                "P-521" => PublicKeyKind::EcP521,
                _ => return None,
            };
            Some(number("x").and_then(|x| PublicKey::from_ec(kind, &x, &number("y")?)))
        }
        _ => None,
    }
}
