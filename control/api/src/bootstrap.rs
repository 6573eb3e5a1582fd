//! How an agent says in the TLS handshake by which bootstrap key it knows the server: as one more protocol that it offers
//! (ALPN), which is never chosen. A server that does not know the name passes over it.

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
