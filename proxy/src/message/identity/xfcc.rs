//! The grammar of `x-forwarded-client-cert`, as Envoy's documentation of the header gives it.
//!
//! Owns elements separated by `,`, pairs separated by `;`, `Key=value`; a value with `,`, `;`, `=` or `"` is in
//! double quotes, in which `"` is written `\"`. Keys ignore case. It must never accept a text whose meaning another
//! reader of the grammar could see differently: unbalanced quotes and bare quotes inside a value are errors.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;

/// Most pairs that are read.
const MAX_PAIRS: usize = 256;

/// The key of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The URI of the proxy's own certificate.
    By,
    /// SHA-256 of the client's certificate, in hex.
    Hash,
    /// The client's certificate in URL-encoded PEM.
    Cert,
    /// The client's whole chain in URL-encoded PEM.
    Chain,
    /// The subject of the client's certificate, RFC 2253; always quoted.
    Subject,
    /// A URI of the client's certificate.
    Uri,
    /// A DNS name of the client's certificate.
    Dns,
    /// A key that a later version may know.
    Other(String),
}

impl Key {
    fn parse(text: &str) -> Self {
        const KNOWN: [Key; 7] = [Key::By, Key::Hash, Key::Cert, Key::Chain, Key::Subject, Key::Uri, Key::Dns];
        KNOWN
            .into_iter()
            .find(|key| key.as_str().eq_ignore_ascii_case(text))
            .unwrap_or_else(|| Self::Other(text.to_owned()))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::By => "By",
            Self::Hash => "Hash",
            Self::Cert => "Cert",
            Self::Chain => "Chain",
            Self::Subject => "Subject",
            Self::Uri => "URI",
            Self::Dns => "DNS",
            Self::Other(name) => name,
        }
    }

    /// Envoy quotes these whatever they hold.
    const fn always_quoted(&self) -> bool {
        matches!(self, Self::Cert | Self::Chain | Self::Subject)
    }
}

/// What one proxy says about its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    pairs: Vec<(Key, String)>,
}

impl Element {
    /// Appends a pair.
    pub fn push(&mut self, key: Key, value: impl Into<String>) {
        self.pairs.push((key, value.into()));
    }

    /// The values of a key, in order.
    pub fn get<'e>(&'e self, key: &'e Key) -> impl Iterator<Item = &'e str> {
        self.pairs.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.pairs.iter().enumerate() {
            if at > 0 {
                f.write_str(";")?;
            }
            write!(f, "{}=", key.as_str())?;
            if key.always_quoted() || value.contains([',', ';', '=', '"']) {
                write!(f, "\"{}\"", quotable(value))?;
            } else {
                f.write_str(value)?;
            }
        }
        Ok(())
    }
}

/// The inside of a quoted value. The grammar has no escape for a backslash, so one at the end would take the
/// closing quote with it and hide what follows; it is percent-encoded.
fn quotable(value: &str) -> String {
    let mut text = value.replace('"', "\\\"");
    if text.ends_with('\\') {
        text.pop();
        text.push_str("%5C");
    }
    text
}

/// Why a text is not the value of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XfccError {
    /// A pair without `=`.
    #[error("a pair has no `=`")]
    NoValue,
    /// A pair without a key.
    #[error("a pair has no key")]
    NoKey,
    /// A quote that does not end, or that is not around a whole value.
    #[error("a quote is not around a whole value")]
    Quote,
    /// A bare value with a character that must be quoted.
    #[error("a value with `=` is not in quotes")]
    Bare,
    /// More than is read.
    #[error("there are more than {MAX_PAIRS} pairs")]
    TooMany,
}

/// Reads all elements of the header, the newest last.
///
/// # Errors
/// The first breach of the grammar.
pub fn parse(text: &str) -> Result<Vec<Element>, XfccError> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    let mut pairs = 0;
    let mut rest = text;
    loop {
        pairs += 1;
        if pairs > MAX_PAIRS {
            return Err(XfccError::TooMany);
        }
        let (key, after) = parse_key(rest)?;
        let (value, after) = parse_value(after)?;
        element.push(key, value);
        let mut following = after.chars();
        match following.next() {
            None => {
                elements.push(element);
                return Ok(elements);
            }
            Some(',') => elements.push(std::mem::take(&mut element)),
            Some(_) => {}
        }
        rest = following.as_str();
    }
}

/// A key, and what follows its `=`. Spaces around it come from joining several headers into one.
fn parse_key(text: &str) -> Result<(Key, &str), XfccError> {
    let (key, after) = text.split_once('=').ok_or(XfccError::NoValue)?;
    let key = key.trim_matches(' ');
    if key.is_empty() {
        return Err(XfccError::NoKey);
    }
    if key.contains([',', ';', '"']) {
        return Err(XfccError::NoValue);
    }
    Ok((Key::parse(key), after))
}

/// A value, and what follows it: nothing, or a text that begins with `,` or `;`.
fn parse_value(text: &str) -> Result<(String, &str), XfccError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';']).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end).unwrap_or((text, ""));
        return match value {
            _ if value.contains('"') => Err(XfccError::Quote),
            _ if value.contains('=') => Err(XfccError::Bare),
            _ => Ok((value.to_owned(), after)),
        };
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            // Only `\"` is an escape; any other backslash is itself (RFC 2253 has its own).
            '\\' if chars.as_str().starts_with('"') => value.extend(chars.next()),
            '"' => {
                let after = chars.as_str();
                let ends = after.is_empty() || after.starts_with([',', ';']);
                return if ends { Ok((value, after)) } else { Err(XfccError::Quote) };
            }
            _ => value.push(c),
        }
    }
    Err(XfccError::Quote)
}

/// Certificates as PEM in which the characters that a header or a URL could not carry are escaped, as Envoy does.
#[must_use]
pub fn url_encoded_pem(chain: &[CertificateDer<'_>]) -> String {
    const NEWLINE: &str = "%0A";
    let mut out = String::new();
    for certificate in chain {
        out.push_str("-----BEGIN%20CERTIFICATE-----");
        out.push_str(NEWLINE);
        for (at, c) in STANDARD.encode(certificate).chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                out.push_str(NEWLINE);
            }
            match c {
                '+' => out.push_str("%2B"),
                '/' => out.push_str("%2F"),
                '=' => out.push_str("%3D"),
                c => out.push(c),
            }
        }
        out.push_str(NEWLINE);
        out.push_str("-----END%20CERTIFICATE-----");
        out.push_str(NEWLINE);
    }
    out
}
