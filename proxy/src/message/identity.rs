//! Identity headers: how the workload learns who its peer is.
//!
//! Owns `x-forwarded-client-cert`, the plain ID header and the headers made of parts of an ID. What a peer
//! sent under any of these names is removed first, in every spelling that an application might read as that
//! name; then the headers are set from the handshake. It must never set anything for a peer that the handshake
//! did not verify. Apply it after hop-by-hop headers are gone, or a `connection:` header could take ours away.

mod names;
mod sanitize;
mod template;
#[cfg(test)]
mod tests;
pub mod xfcc;

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use svidecar_authority::x509::{inspect::CertInfo, sha256};
use svidecar_config::proxy::{HeaderMode, IdentityHeaderSettings, XfccDetail};
use svidecar_id::SpiffeId;
use svidecar_policy::pattern::IdPattern;

pub use self::names::{HeaderError, XFCC};
use self::{
    names::{XFCC_NAME, header_name},
    sanitize::StripList,
    template::PathHeaders,
    xfcc::{Element, Key},
};
use crate::message::Fields;

/// Longest `x-forwarded-client-cert` of a trusted peer that is appended to, in bytes.
const MAX_APPENDED_BYTES: usize = 32 * 1024;

/// What the handshake proved about the peer.
#[derive(Debug, Clone, Copy)]
pub struct PeerFacts<'a> {
    /// The peer's ID.
    pub id: &'a SpiffeId,
    /// Our own ID at that time.
    pub own_id: Option<&'a SpiffeId>,
    /// The chain that the peer presented, leaf first.
    pub chain: &'a [CertificateDer<'a>],
}

/// The settings of a listener, ready to apply.
#[derive(Debug)]
pub struct IdentityHeaders {
    mode: HeaderMode,
    append_from: Vec<IdPattern>,
    details: Vec<XfccDetail>,
    spiffe_id: HeaderName,
    path_headers: Vec<PathHeaders>,
    strip: StripList,
}

/// The headers of one verified peer. They are the same for all requests of its connection.
#[derive(Debug, Clone)]
pub struct PeerHeaders {
    /// Our element of `x-forwarded-client-cert`.
    element: HeaderValue,
    set: Vec<(HeaderName, HeaderValue)>,
    /// All of them, ready to be added.
    fields: Fields,
    /// The element is appended to what the peer sent, because the peer is trusted with that.
    append: bool,
}

impl IdentityHeaders {
    /// Compiles the settings of one listener.
    ///
    /// # Errors
    /// A name that is not a header's, or a template that cannot be filled.
    pub fn compile(settings: &IdentityHeaderSettings) -> Result<Self, HeaderError> {
        let spiffe_id = header_name(&settings.spiffe_id_header)?;
        let path_headers =
            settings.from_path.iter().map(PathHeaders::compile).collect::<Result<Vec<_>, _>>()?;
        let configured = path_headers.iter().flat_map(PathHeaders::names).chain([&spiffe_id]);
        let strip = StripList::new(configured);
        Ok(Self {
            mode: settings.mode,
            append_from: settings.append_from.clone(),
            details: settings.xfcc_details.clone(),
            spiffe_id,
            path_headers,
            strip,
        })
    }

    /// Makes the headers of one peer, once per connection.
    #[must_use]
    pub fn of_peer(&self, peer: &PeerFacts<'_>) -> PeerHeaders {
        let mut set = Vec::new();
        if let Ok(value) = HeaderValue::from_str(peer.id.as_str()) {
            set.push((self.spiffe_id.clone(), value));
        }
        set.extend(self.path_headers.iter().flat_map(|headers| headers.fill(peer.id)));
        let element = element_value(&self.element(peer));
        let mut fields = Fields::new();
        fields.push(XFCC_NAME.as_bytes(), element.as_bytes());
        for (name, value) in &set {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        let listed = self.append_from.iter().any(|pattern| pattern.matches(peer.id));
        PeerHeaders { element, set, fields, append: listed || self.mode == HeaderMode::AppendForward }
    }

    /// Removes what the peer sent and sets what the handshake proved. `peer` is `None` when it proved nothing.
    pub fn rewrite(&self, fields: &mut Fields, peer: Option<&PeerHeaders>) {
        let sent = peer.and_then(|peer| self.believed_of(fields, peer));
        self.strip.clean(fields);
        let Some(peer) = peer else { return };
        let name = XFCC_NAME.as_bytes();
        match (self.mode, sent) {
            (HeaderMode::ForwardOnly, Some(sent)) if !peer.append => fields.push(name, &sent),
            (HeaderMode::ForwardOnly, None) if !peer.append => {}
            (HeaderMode::Sanitize, _) if !peer.append => return,
            (_, Some(mut sent)) => {
                sent.push(b',');
                sent.extend_from_slice(peer.element.as_bytes());
                fields.push(name, &sent);
            }
            (_, None) => return fields.append(&peer.fields),
        }
        for (name, value) in &peer.set {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }

    /// Removes identity headers from trailers, where nobody sets any.
    pub fn clean(&self, trailers: &mut Fields) {
        self.strip.clean(trailers);
    }

    /// What the peer sent as `x-forwarded-client-cert`, if it is believed and can be. An element that does not
    /// parse could swallow the one that we append, so then nothing is believed.
    fn believed_of(&self, fields: &Fields, peer: &PeerHeaders) -> Option<Vec<u8>> {
        if !peer.append && self.mode != HeaderMode::ForwardOnly {
            return None;
        }
        let mut joined = Vec::new();
        for value in fields.get_all(XFCC_NAME) {
            if joined.len() + value.len() > MAX_APPENDED_BYTES {
                return None;
            }
            if !joined.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(value);
        }
        let text = std::str::from_utf8(&joined).ok().filter(|text| is_visible(text))?;
        xfcc::parse(text).is_ok().then_some(joined)
    }

    fn element(&self, peer: &PeerFacts<'_>) -> Element {
        let wants = |detail| self.details.contains(&detail);
        let leaf = peer.chain.first();
        let info = || leaf.and_then(|leaf| CertInfo::parse(leaf).ok());
        let mut element = Element::default();
        // Envoy's order.
        if let Some(own) = peer.own_id.filter(|_| wants(XfccDetail::By)) {
            element.push(Key::By, own.as_str());
        }
        if let Some(leaf) = leaf.filter(|_| wants(XfccDetail::Hash)) {
            element.push(Key::Hash, hex::encode(sha256(leaf)));
        }
        if let Some(leaf) = leaf.filter(|_| wants(XfccDetail::Cert)) {
            element.push(Key::Cert, xfcc::url_encoded_pem(std::slice::from_ref(leaf)));
        }
        if wants(XfccDetail::Chain) && leaf.is_some() {
            element.push(Key::Chain, xfcc::url_encoded_pem(peer.chain));
        }
        if wants(XfccDetail::Subject) {
            element.push(Key::Subject, info().map(|info| info.subject).unwrap_or_default());
        }
        if wants(XfccDetail::Uri) {
            element.push(Key::Uri, peer.id.as_str());
        }
        if wants(XfccDetail::Dns) {
            info()
                .iter()
                .flat_map(|info| &info.dns_names)
                .for_each(|name| element.push(Key::Dns, name.as_str()));
        }
        element
    }
}

/// What every program takes for the same text.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

/// An element as the value of a header. Certificates may hold text that no header may; such bytes are escaped.
fn element_value(element: &Element) -> HeaderValue {
    let mut text = String::new();
    for c in element.to_string().chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            text.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
