#![allow(clippy::unwrap_used)]

use crate::x509::testing::*;

#[test]
fn a_svid_of_another_trust_domain_is_not_signed() {
    let ca = ca("demo.org");
    let params = super::SvidParams::new(id("spiffe://other.org/x"), key().spki_der(), HOUR);
    assert_eq!(ca.sign_svid(&params, now()).unwrap_err().code(), "foreign_trust_domain");
}
