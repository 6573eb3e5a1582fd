#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    entry::tests::entry,
    testing::{bundle_of, ca_of, held, key, now, trust_domain},
};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_agents_state_survives_a_restart_and_is_secret() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("data");
    let store = Store::new(&directory, trust_domain());
    store.prepare().unwrap();
    assert!(store.load_agent().unwrap().is_none());

    let ca = ca_of("demo.org");
    let svid = Arc::new(held(&ca, "/spire/agent/x"));
    let bundle = Some(Arc::new(bundle_of(&ca)));
    let joined = Joined { insecure_bootstrap: true, token_digest: Some("ab".to_owned()) };
    let state = AgentState { key: svid.key.clone(), svid: Some(svid), bundle, joined: joined.clone() };
    store.save_agent(&state).unwrap();
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("agent.json")), 0o600);

    let again = store.load_agent().unwrap().unwrap();
    let svid = again.svid.unwrap();
    assert_eq!(svid.spiffe_id.as_str(), "spiffe://demo.org/spire/agent/x");
    assert_eq!(svid.obtained, now());
    assert_eq!(again.key.spki_der(), state.key.spki_der());
    assert_eq!(again.bundle.unwrap().x509_authorities, [ca.certificate().clone()]);
    assert_eq!(again.joined, joined);

    store.set_aside().unwrap();
    assert!(store.load_agent().unwrap().is_none());
}

#[test]
fn a_key_alone_is_kept_for_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), trust_domain());
    let key = key();
    let state = AgentState { key: key.clone(), svid: None, bundle: None, joined: Joined::default() };
    store.save_agent(&state).unwrap();
    let again = store.load_agent().unwrap().unwrap();
    assert_eq!(again.key.spki_der(), key.spki_der());
    assert!(again.svid.is_none());
}

#[test]
fn another_trust_domain_and_a_damaged_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), trust_domain());
    let state = AgentState { key: key(), svid: None, bundle: None, joined: Joined::default() };
    store.save_agent(&state).unwrap();
    let other = Store::new(dir.path(), TrustDomain::parse("other.org").unwrap());
    assert!(matches!(other.load_agent(), Err(AgentError::OtherTrustDomain { .. })));
    std::fs::write(dir.path().join("agent.json"), "{").unwrap();
    assert!(matches!(store.load_agent(), Err(AgentError::Damaged { .. })));
}

#[test]
fn workloads_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), trust_domain());
    let ca = ca_of("demo.org");
    let held_entries = [
        (Arc::new(entry("e1", "/a", &["uid:1"])), Some(Arc::new(held(&ca, "/a")))),
        (Arc::new(entry("e2", "/b", &["uid:2"])), None),
    ];
    let partner = ca_of("partner.org");
    store.save_workloads(&held_entries, &[Arc::new(bundle_of(&partner))]).unwrap();
    assert_eq!(mode(&dir.path().join("workloads.json")), 0o600);

    let again = store.load_workloads().unwrap();
    assert_eq!(again.entries.len(), 2);
    assert_eq!(again.entries[0].0, *held_entries[0].0);
    assert!(again.entries[0].1.is_some() && again.entries[1].1.is_none());
    assert_eq!(again.bundles[0].trust_domain.as_str(), "partner.org");
}

#[test]
fn a_token_that_is_being_used_survives_a_restart_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path(), trust_domain());
    assert!(store.load_joining().unwrap().is_none());
    let joining = Joining { token_digest: "ab".to_owned(), key: key() };
    store.save_joining(&joining).unwrap();
    assert_eq!(mode(&dir.path().join("joining.json")), 0o600);
    let again = store.load_joining().unwrap().unwrap();
    assert_eq!(again.token_digest, "ab");
    assert_eq!(again.key.spki_der(), joining.key.spki_der());
    store.forget_joining().unwrap();
    assert!(store.load_joining().unwrap().is_none());
}
