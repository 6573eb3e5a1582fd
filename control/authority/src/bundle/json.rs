//! The documents of a bundle: SPIFFE's own, and the plain JWK set.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::{Map, Value, json};
use svidecar_id::TrustDomain;

use super::{Bundle, JwtKey, jwk};
use crate::{AuthorityError, certificate::CertInfo, key::PublicKey};

/// Most bytes of a document that are looked at.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

impl Bundle {
    /// Reads a SPIFFE bundle document (§4): unknown kinds of key are passed over (§4.2), an entry without `x5c`
    /// too, and of several certificates in one `x5c` the first counts (X509-SVID §6.2).
    ///
    /// # Errors
    /// [`AuthorityError::Bundle`] when it is no JWK set, is over the bounds, or has a key that claims to be ours
    /// but is broken.
    pub fn from_spiffe_json(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, AuthorityError> {
        let (document, keys) = parse(document)?;
        let mut bundle = Self::empty(trust_domain);
        bundle.sequence = unsigned(&document, "spiffe_sequence")?.unwrap_or(0);
        bundle.refresh_hint = unsigned(&document, "spiffe_refresh_hint")?.map(Duration::from_secs);
        for key in keys.iter().filter_map(Value::as_object) {
            // Both members are compared byte by byte; anything unknown is passed over (§4.2.1, §4.2.2).
            match key.get("use").and_then(Value::as_str) {
                Some("x509-svid") => bundle.x509_authorities.extend(read_x509(key)?),
                Some("jwt-svid") => bundle.jwt_authorities.extend(read_jwt(key)?),
                _ => {}
            }
            bundle.check_size()?;
        }
        Ok(bundle)
    }

    /// Writes the SPIFFE bundle document, compact.
    ///
    /// # Errors
    /// [`AuthorityError::PublicKey`] or [`AuthorityError::Certificate`] for an authority whose key has no JWK form.
    pub fn to_spiffe_json(&self) -> Result<String, AuthorityError> {
        Ok(write(self)?.to_string())
    }

    /// Writes the SPIFFE bundle document with four spaces of indent, as SPIRE's command line prints it.
    ///
    /// # Errors
    /// As [`Self::to_spiffe_json`].
    pub fn to_spiffe_json_pretty(&self) -> Result<String, AuthorityError> {
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        write(self)?
            .serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
            .map_err(|error| refuse(error.to_string()))?;
        String::from_utf8(out).map_err(|error| refuse(error.to_string()))
    }

    /// The JWK set that the Workload API sends (§6.2.2): token signing keys only, and no `use`, as SPIRE does it.
    ///
    /// # Errors
    /// [`AuthorityError::PublicKey`] for a key that has no JWK form.
    pub fn to_jwks_json(&self) -> Result<String, AuthorityError> {
        let mut keys = Vec::new();
        for authority in &self.jwt_authorities {
            let mut key = Map::new();
            key.insert("kid".to_owned(), json!(authority.kid));
            jwk::write(&authority.public_key()?, &mut key)?;
            keys.push(Value::Object(key));
        }
        Ok(json!({ "keys": keys }).to_string())
    }

    /// Reads the JWK set that a Workload API sends.
    ///
    /// # Errors
    /// As [`Self::from_spiffe_json`]; a key without `kid` is an error here.
    pub fn jwt_keys_from_jwks(document: &[u8]) -> Result<Vec<JwtKey>, AuthorityError> {
        let (_, keys) = parse(document)?;
        let mut found = Vec::new();
        for key in keys.iter().filter_map(Value::as_object) {
            if !matches!(key.get("use").and_then(Value::as_str), None | Some("jwt-svid" | "sig")) {
                continue;
            }
            found.extend(read_jwt(key)?);
        }
        if found.len() > super::MAX_AUTHORITIES {
            return Err(refuse(format!(
                "{} keys; at most {} are taken",
                found.len(),
                super::MAX_AUTHORITIES
            )));
        }
        Ok(found)
    }
}

fn refuse(reason: impl Into<String>) -> AuthorityError {
    AuthorityError::Bundle { reason: reason.into() }
}

fn write(bundle: &Bundle) -> Result<Value, AuthorityError> {
    let mut keys = Vec::new();
    for certificate in &bundle.x509_authorities {
        let mut key = Map::new();
        key.insert("use".to_owned(), json!("x509-svid"));
        jwk::write(&PublicKey::parse(&CertInfo::parse(certificate)?.spki_der)?, &mut key)?;
        key.insert("x5c".to_owned(), json!([STANDARD.encode(certificate)]));
        keys.push(Value::Object(key));
    }
    for authority in &bundle.jwt_authorities {
        let mut key = Map::new();
        key.insert("use".to_owned(), json!("jwt-svid"));
        jwk::write(&authority.public_key()?, &mut key)?;
        // The members' order is SPIRE's, for people who compare documents.
        key.shift_insert(2, "kid".to_owned(), json!(authority.kid));
        keys.push(Value::Object(key));
    }
    let mut document = Map::new();
    document.insert("keys".to_owned(), Value::Array(keys));
    document.insert("spiffe_sequence".to_owned(), json!(bundle.sequence));
    if let Some(hint) = bundle.refresh_hint {
        document.insert("spiffe_refresh_hint".to_owned(), json!(hint.as_secs()));
    }
    Ok(Value::Object(document))
}

fn parse(document: &[u8]) -> Result<(Map<String, Value>, Vec<Value>), AuthorityError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        return Err(refuse(format!("{} bytes; at most {MAX_DOCUMENT_BYTES} are read", document.len())));
    }
    let mut document: Map<String, Value> = serde_json::from_slice(document)
        .map_err(|error| refuse(format!("it is not a JSON object: {error}")))?;
    let keys = match document.remove("keys") {
        Some(Value::Array(keys)) => keys,
        Some(_) => return Err(refuse("`keys` is not an array")),
        None => return Err(refuse("`keys` is missing; a JWK set has it, even when it is empty")),
    };
    Ok((document, keys))
}

fn unsigned(document: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthorityError> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| refuse(format!("`{name}` is {value}; expected a non-negative integer"))),
    }
}

fn read_x509(key: &Map<String, Value>) -> Result<Option<CertificateDer<'static>>, AuthorityError> {
    if jwk::read(key).is_none() {
        return Ok(None);
    }
    let first = match key.get("x5c") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(chain)) => chain.first(),
        Some(_) => return Err(refuse("a key's `x5c` is not an array")),
    };
    let Some(first) = first else { return Ok(None) };
    let der = first
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or_else(|| refuse("a certificate in `x5c` is not base64"))?;
    let certificate = CertificateDer::from(der);
    CertInfo::parse(&certificate)?;
    Ok(Some(certificate))
}

fn read_jwt(key: &Map<String, Value>) -> Result<Option<JwtKey>, AuthorityError> {
    let Some(public_key) = jwk::read(key) else { return Ok(None) };
    let kid = match key.get("kid").and_then(Value::as_str) {
        Some(kid) if !kid.is_empty() => kid.to_owned(),
        _ => return Err(refuse("a token signing key has no `kid`")),
    };
    Ok(Some(JwtKey { kid, spki_der: public_key?.spki_der(), expires_at: None }))
}
