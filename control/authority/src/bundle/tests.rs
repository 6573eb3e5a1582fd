#![allow(clippy::unwrap_used)]

use super::*;
use crate::x509::testing::*;

#[test]
fn a_bundle_survives_its_document() {
    let original = bundle(&ca("demo.org"));
    let document = original.to_spiffe_json().unwrap();
    assert_eq!(Bundle::from_spiffe_json(td("demo.org"), document.as_bytes()).unwrap(), original);
}
