//! What must hold for any bytes that a peer may send: one function for each fuzz target.
//!
//! `make fuzz` searches for bytes for which one does not hold; `proxy/tests/corpus` tries all bytes that it ever found
//! interesting in every run of the tests. Each function panics where the property fails, and does nothing else.

pub mod http1;
pub mod http2;
pub mod script;

pub use http1::{chunked, request_head, requests, response_head};
pub use http2::{frames, hpack};

/// The header with which proxies tell about their clients: what is read is what is written.
pub fn xfcc(data: &[u8]) {
    use svidecar::message::identity::xfcc::{Element, parse};

    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(elements) = parse(text) else { return };
    let written = elements.iter().map(Element::to_string).collect::<Vec<_>>().join(",");
    let again = parse(&written).expect("what is written can be read");
    let rewritten = again.iter().map(Element::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(written, rewritten, "from {text:?}");
    assert_eq!(elements.len(), again.len(), "from {text:?}");
}
