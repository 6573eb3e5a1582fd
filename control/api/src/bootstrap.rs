//! What travels of the bootstrap keys beside SPIRE's messages. An agent says in the TLS handshake by which key it knows the server:
//! as one more protocol that it offers (ALPN), which is never chosen. What lets it come back is in the metadata of answers.
//! Whoever does not know the names passes over them.

use tonic::metadata::{MetadataMap, MetadataValue};

/// The attestor by which an agent comes back.
pub const MEMBERSHIP_ATTESTOR: &str = "svidecar_membership";

/// In the metadata of an answer with an agent's SVID: what lets the agent come back, leaf first, a certificate each.
const MEMBERSHIP: &str = "svidecar-membership-bin";

const PREFIX: &str = "svidecar-bootstrap/";

/// The name that asks the server to prove that it has the key with this hash (SHA-256 of its `SubjectPublicKeyInfo`,
/// lowercase hex).
#[must_use]
pub fn alpn(key_hash: &str) -> Vec<u8> {
    format!("{PREFIX}{key_hash}").into_bytes()
}

/// The hash of the key that is asked for, if one of the offered names asks for one.
#[must_use]
pub fn asked_for<'a>(offered: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    offered.into_iter().find_map(|name| str::from_utf8(name).ok()?.strip_prefix(PREFIX))
}

/// Sends what lets the agent come back with an answer.
pub fn put_membership(metadata: &mut MetadataMap, chain: &[impl AsRef<[u8]>]) {
    for certificate in chain {
        metadata.append_bin(MEMBERSHIP, MetadataValue::from_bytes(certificate.as_ref()));
    }
}

/// What came with an answer; nothing from a server that has no such thing.
#[must_use]
pub fn membership(metadata: &MetadataMap) -> Vec<Vec<u8>> {
    let all = metadata.get_all_bin(MEMBERSHIP).into_iter();
    all.filter_map(|certificate| certificate.to_bytes().ok()).map(|bytes| bytes.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_asked_for_by_one_name_among_others() {
        let name = alpn("ab12");
        assert_eq!(asked_for([&b"h2"[..], &name]), Some("ab12"));
        assert_eq!(asked_for([&b"h2"[..], b"\xff", b"http/1.1"]), None);
    }
}
