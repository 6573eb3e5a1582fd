#![allow(clippy::unwrap_used)]

use svidecar_code::Code;
use svidecar_process::clock;

use super::*;
use crate::{bundle::BundleSet, x509::testing::*};

/// Moves bytes between the two ends until neither has any, and returns the first error of either side.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
) -> Result<(rustls::ClientConnection, rustls::ServerConnection), (rustls::Error, &'static str)> {
    let name = rustls_pki_types::ServerName::try_from("peer.invalid").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().map_err(|error| (error, "server"))?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().map_err(|error| (error, "client"))?;
    }
    Ok((client, server))
}

fn verifier(bundles: BundleSet, authorizer: Authorizer) -> SpiffeVerifier {
    let bundles = Arc::new(bundles);
    SpiffeVerifier::new(move || Arc::clone(&bundles), authorizer)
}

/// The wall clock is rustls' own here, so the authority is made now.
fn ca_now(name: &str) -> crate::x509::X509Ca {
    let params = crate::x509::CaParams {
        trust_domain: td(name),
        ttl: DAY,
        subject: crate::x509::Subject::ca_default(),
    };
    crate::x509::X509Ca::self_signed(&params, key(), clock::unix()).unwrap()
}

fn svid_now(ca: &crate::x509::X509Ca, text: &str) -> Identity {
    let key = key();
    let params = crate::x509::SvidParams::new(id(text), key.spki_der(), HOUR);
    let svid = ca.sign_svid(&params, clock::unix()).unwrap();
    Identity::new(svid.chain, key.pkcs8_der()).unwrap()
}

#[test]
fn two_members_meet_and_know_each_other() {
    let ca = ca_now("demo.org");
    for versions in [Versions::Tls13, Versions::Tls12And13] {
        let server = server_config(
            svid_now(&ca, "spiffe://demo.org/orders"),
            verifier(trusting(&ca), authorize::any()),
            &[b"h2", b"http/1.1"],
            versions,
        );
        let client = client_config(
            svid_now(&ca, "spiffe://demo.org/shop"),
            verifier(trusting(&ca), authorize::one_of([id("spiffe://demo.org/orders")])),
            &[b"h2"],
            versions,
        );
        let (client, server) = handshake(client.unwrap(), server.unwrap()).unwrap();
        assert_eq!(peer_of(&client).unwrap().id, id("spiffe://demo.org/orders"));
        assert_eq!(peer_of(&server).unwrap().id, id("spiffe://demo.org/shop"));
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(
            client.negotiated_key_exchange_group().unwrap().name(),
            rustls::NamedGroup::X25519MLKEM768
        );
        let suite = client.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}

#[test]
fn the_reason_of_a_refusal_comes_back_out() {
    let ours = ca_now("demo.org");
    let impostor = ca_now("demo.org");
    let server =
        |verifier| server_config(svid_now(&ours, "spiffe://demo.org/orders"), verifier, &[], Versions::Tls13);
    let client = |identity: Identity, expected: &str| {
        let verifier = verifier(trusting(&ours), authorize::one_of([id(expected)]));
        client_config(identity, verifier, &[], Versions::Tls13)
    };

    let wrong_server = handshake(
        client(svid_now(&ours, "spiffe://demo.org/shop"), "spiffe://demo.org/other").unwrap(),
        server(verifier(trusting(&ours), authorize::any())).unwrap(),
    );
    let (error, side) = wrong_server.err().unwrap();
    assert_eq!((failure_of(&error).unwrap().code(), side), (Code::IdNotAllowed, "client"));
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    assert_eq!(failure_in(&wrapped).unwrap().code(), "id_not_allowed");

    let wrong_client = handshake(
        client(svid_now(&impostor, "spiffe://demo.org/shop"), "spiffe://demo.org/orders").unwrap(),
        server(verifier(trusting(&ours), authorize::any())).unwrap(),
    );
    let (error, side) = wrong_client.err().unwrap();
    assert_eq!(side, "server");
    assert!(
        matches!(failure_of(&error).unwrap().code(), Code::UntrustedRoot | Code::BadSignature),
        "{error}"
    );
}

/// C11
#[test]
fn new_handshakes_take_the_current_identity_and_bundle() {
    use std::sync::Mutex;

    let (old, new) = (ca_now("demo.org"), ca_now("demo.org"));
    let current = Arc::new(Mutex::new(svid_now(&old, "spiffe://demo.org/orders")));
    let trusted = Arc::new(Mutex::new(Arc::new(trusting(&old))));
    let (identity, bundles) = (Arc::clone(&current), Arc::clone(&trusted));
    let server = server_config(
        move || Some(identity.lock().unwrap().certified_key()),
        SpiffeVerifier::new(move || Arc::clone(&bundles.lock().unwrap()), authorize::any()),
        &[],
        Versions::Tls13,
    )
    .unwrap();
    let client = |ca: &crate::x509::X509Ca| {
        let verifier = verifier(trusting(ca), authorize::any());
        client_config(svid_now(ca, "spiffe://demo.org/shop"), verifier, &[], Versions::Tls13).unwrap()
    };

    handshake(client(&old), server.clone()).unwrap();
    *current.lock().unwrap() = svid_now(&new, "spiffe://demo.org/orders");
    *trusted.lock().unwrap() = Arc::new(trusting(&new));
    handshake(client(&new), server.clone()).unwrap();
    assert!(handshake(client(&old), server).is_err());
}

#[test]
fn an_optional_certificate_may_be_absent_but_not_bad() {
    let ca = ca_now("demo.org");
    let server = || {
        let verifier =
            verifier(trusting(&ca), authorize::any()).client_certificate(ClientCertificate::Optional);
        server_config(svid_now(&ca, "spiffe://demo.org/spire/server"), verifier, &[], Versions::Tls13)
            .unwrap()
    };
    let trust = || verifier(trusting(&ca), authorize::any());
    let client = client_config(NoIdentity, trust(), &[], Versions::Tls13).unwrap();
    let (_, connection) = handshake(client, server()).unwrap();
    assert!(peer_of(&connection).is_none());

    let foreign = svid_now(&ca_now("other.org"), "spiffe://other.org/x");
    let client = client_config(foreign, trust(), &[], Versions::Tls13).unwrap();
    let (error, _) = handshake(client, server()).err().unwrap();
    assert_eq!(failure_of(&error).unwrap().code(), "unknown_trust_domain");
}

#[test]
fn insecure_bootstrap_checks_the_id_and_nothing_else() {
    let stranger = ca_now("demo.org");
    let connect = |expected: &str| {
        let optional =
            verifier(trusting(&stranger), authorize::any()).client_certificate(ClientCertificate::Optional);
        let identity = svid_now(&stranger, "spiffe://demo.org/spire/server");
        let server = server_config(identity, optional, &[], Versions::Tls13).unwrap();
        let client = client_config(NoIdentity, InsecureVerifier::new(id(expected)), &[], Versions::Tls13);
        handshake(client.unwrap(), server).map(|_| ())
    };
    assert!(connect("spiffe://demo.org/spire/server").is_ok());
    assert!(connect("spiffe://other.org/spire/server").is_err());
}

#[test]
fn a_key_that_is_not_the_leafs_is_refused() {
    let (svid, _) = svid(&ca("demo.org"), "spiffe://demo.org/shop");
    assert_eq!(Identity::new(svid.chain, key().pkcs8_der()).unwrap_err().code(), "key_mismatch");
}

/// Name, dates and issuer of a pinned server play no part; its key is all.
#[test]
fn a_pinned_key_is_the_servers_or_nobodys() {
    let start = |ca: &crate::x509::X509Ca, hash: String| {
        let server = server_config(
            Identity::new(vec![ca.certificate().clone()], ca.key().pkcs8_der()).unwrap(),
            verifier(trusting(ca), authorize::any()).client_certificate(ClientCertificate::Optional),
            &[b"h2"],
            Versions::Tls13,
        );
        let client = client_config(NoIdentity, PinnedKey::new(hash), &[b"h2"], Versions::Tls13);
        handshake(client.unwrap(), server.unwrap())
    };
    let (ca, other) = (ca_now("demo.org"), ca_now("demo.org"));
    let hash = crate::key::key_hash(&ca.key().spki_der());
    assert!(start(&ca, hash.clone()).is_ok());
    let (error, side) = start(&other, hash).err().unwrap();
    assert_eq!((failure_of(&error).unwrap().code(), side), (Code::PinMismatch, "client"));
}

/// A certificate that has ended still says whose key it was, to those who ask for that alone.
#[test]
fn an_undated_verifier_takes_what_was_valid_once_and_nothing_of_others() {
    let (ca, other) = (ca_now("demo.org"), ca_now("demo.org"));
    let key = key();
    let params = crate::x509::SvidParams::new(id("spiffe://demo.org/x"), key.spki_der(), HOUR);
    let chain = ca.sign_svid(&params, clock::unix()).unwrap().chain;
    let later = crate::time::plus(clock::unix(), 2 * HOUR);
    let dated = verifier(trusting(&ca), authorize::any());
    assert_eq!(failure_of(&dated.accepts(&chain, later).unwrap_err()).unwrap().code(), Code::Expired);
    assert!(dated.undated().accepts(&chain, later).is_ok());
    let foreign = verifier(trusting(&other), authorize::any()).undated();
    assert!(foreign.accepts(&chain, later).is_err());
}
