#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    bundle::{Bundle, BundleSet},
    time::plus,
    x509::testing::*,
};

#[test]
fn our_own_token_is_accepted() {
    let signer = JwtSigner::new(new_kid().unwrap(), key()).unwrap();
    let mut bundle = Bundle::empty(td("demo.org"));
    bundle.jwt_authorities.push(signer.jwt_key(None));
    let claims = JwtClaims {
        sub: id("spiffe://demo.org/shop"),
        aud: vec!["orders".to_owned()],
        iat: now(),
        exp: plus(now(), HOUR),
        iss: None,
        jti: None,
    };
    let token = mint(&signer, &claims).unwrap();
    let svid = validate(&token, &["orders"], &BundleSet::of(bundle), now()).unwrap();
    assert_eq!(svid.id, claims.sub);
    assert_eq!(svid.expires_at, claims.exp);
}
