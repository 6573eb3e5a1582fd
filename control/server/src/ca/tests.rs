#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod clock;

use std::fs;

use svidecar_authority::{
    bundle::{Bundle, BundleSet, JwtKey},
    key::{KeyType, PrivateKey},
    time::from_secs,
    x509::{CertInfo, verify_peer},
};
use svidecar_config::units::HumanDuration;
use svidecar_id::TrustDomain;
use tempfile::TempDir;

use super::*;
use crate::store::{SqliteStore, X509Authority};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const START: u64 = 1_790_000_000;

/// One server's disk: it outlives the manager.
struct Server {
    home: TempDir,
    settings: ServerSettings,
}

fn at(hours: u64) -> UnixTime {
    from_secs(START + hours * HOUR)
}

fn shop() -> SpiffeId {
    SpiffeId::parse("spiffe://demo.org/shop").unwrap()
}

impl Server {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let settings = ServerSettings::new(TrustDomain::parse("demo.org").unwrap(), home.path());
        Self { home, settings }
    }

    async fn open(&self, moment: impl Into<Moment> + Send) -> Result<CaManager, CaError> {
        let store = Arc::new(SqliteStore::open(&self.home.path().join("datastore.sqlite3")).await?);
        CaManager::open(&self.settings, store, &self.home.path().join("keys"), moment).await
    }

    /// Those of the authorities.
    fn key_files(&self) -> Vec<String> {
        let mut names = fs::read_dir(self.home.path().join("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("bootstrap-"))
            .collect::<Vec<_>>();
        names.sort();
        names
    }
}

impl CaManager {
    fn ids(&self) -> (String, String) {
        let current = self.current();
        (current.x509.authority_id().to_owned(), current.jwt.as_ref().unwrap().signer.kid().to_owned())
    }

    /// The bundle as peers would hold it, read from the store.
    async fn published(&self) -> BundleSet {
        let record = self.store.get_bundle(&TrustDomain::parse("demo.org").unwrap()).await.unwrap().unwrap();
        assert_eq!(**self.bundle.borrow(), record);
        let mut bundle = Bundle::empty(record.trust_domain);
        bundle.x509_authorities = record.x509_authorities.into_iter().map(|root| root.der.into()).collect();
        bundle.jwt_authorities = record
            .jwt_authorities
            .into_iter()
            .map(|key| JwtKey { kid: key.key_id, spki_der: key.spki_der, expires_at: None })
            .collect();
        BundleSet::of(bundle)
    }

    fn sign(&self, now: UnixTime) -> (X509Svid, JwtToken) {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let params = SvidParams::new(shop(), key.spki_der(), Duration::from_secs(HOUR));
        let params_jwt = JwtParams {
            id: shop(),
            audience: vec!["orders".to_owned()],
            ttl: Duration::from_secs(5 * MINUTE),
            jti: None,
        };
        (self.sign_x509_svid(&params, now).unwrap(), self.sign_jwt_svid(&params_jwt, now).unwrap())
    }

    fn roots(&self) -> usize {
        self.bundle.borrow().x509_authorities.len()
    }
}

fn accepted(signed: &(X509Svid, JwtToken), bundles: &BundleSet, now: UnixTime) -> bool {
    verify_peer(&signed.0.chain, bundles, now).is_ok()
        && jwt::validate(&signed.1.token, &["orders"], bundles, now).is_ok()
}

#[tokio::test]
async fn the_first_start_makes_and_publishes_both_authorities() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let signed = ca.sign(at(0));
    assert!(accepted(&signed, &ca.published().await, at(0)));
    assert_eq!(signed.0.not_after, at(1));
    assert_eq!(server.key_files().len(), 2);
    assert_eq!(ca.bootstrap().pin().len(), 64);
}

/// Prepare, publish, activate, retire, prune: four days in steps of a quarter of an hour. At each step, what is
/// signed has its full life and is accepted by everyone who has the bundle of an hour before, and what was signed an
/// hour before is still accepted.
#[tokio::test]
async fn a_rotation_is_never_noticed_by_anyone() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let (first_root, first_kid) = ca.ids();
    let mut history = std::collections::VecDeque::new();
    let mut roots_seen = std::collections::BTreeSet::new();
    for quarter in 0..4 * 96 {
        let now = from_secs(START + quarter * 15 * MINUTE);
        ca.tick(now).await.unwrap();
        let signed = ca.sign(now);
        assert_eq!(signed.0.not_after, plus(now, Duration::from_secs(HOUR)), "full life at {quarter}");
        assert_eq!(signed.1.expires_at, plus(now, Duration::from_secs(5 * MINUTE)));
        let published = ca.published().await;
        roots_seen.insert(ca.ids().0);
        if let Some((old_signed, old_bundle)) = history.front() {
            assert!(accepted(&signed, old_bundle, now), "signed by a key that was not published an hour ago");
            let old: &(X509Svid, JwtToken) = old_signed;
            assert!(
                verify_peer(&old.0.chain, &published, now).is_ok(),
                "an SVID outlived its root in the bundle"
            );
        }
        history.push_back((signed, published));
        if history.len() > 4 {
            history.pop_front();
        }
        // A new one every half day, each kept for a day of life and a day after.
        assert!(ca.roots() <= 5, "the bundle grows without end");
    }
    assert!(roots_seen.len() >= 5, "{}", roots_seen.len());
    let (root, kid) = ca.ids();
    assert_ne!((root, kid), (first_root.clone(), first_kid.clone()));
    let bundle = ca.bundle.borrow().clone();
    assert!(bundle.jwt_authorities.iter().all(|key| key.key_id != first_kid));
    assert!(server.key_files().iter().all(|name| !name.contains(&first_root)));
    assert!(server.key_files().len() <= 4);
}

#[tokio::test]
async fn each_phase_is_where_spire_has_it() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let first = ca.ids();
    ca.tick(from_secs(START + 12 * HOUR - 1)).await.unwrap();
    assert_eq!(ca.roots(), 1);
    ca.tick(at(12)).await.unwrap();
    assert_eq!((ca.roots(), ca.ids()), (2, first.clone()));
    ca.tick(from_secs(START + 20 * HOUR - 1)).await.unwrap();
    assert_eq!(ca.ids(), first);
    ca.tick(at(20)).await.unwrap();
    let second = ca.ids();
    assert!(second.0 != first.0 && second.1 != first.1);
    assert_eq!(ca.roots(), 2);
    // The first root ends at 24 h and stays a day longer.
    ca.tick(at(25)).await.unwrap();
    assert!(ca.bundle.borrow().jwt_authorities.iter().any(|key| key.key_id == first.1));
    ca.tick(from_secs(START + 48 * HOUR + 1)).await.unwrap();
    assert!(ca.bundle.borrow().jwt_authorities.iter().all(|key| key.key_id != first.1));
}

#[tokio::test]
async fn a_restart_changes_nothing_in_any_phase() {
    let server = Server::new();
    for hour in [0, 1, 12, 13, 20, 21, 30, 33, 48] {
        let before = server.open(at(hour)).await.unwrap();
        let (ids, roots) = (before.ids(), before.roots());
        let signed = before.sign(at(hour));
        drop(before);
        let after = server.open(at(hour)).await.unwrap();
        assert_eq!((after.ids(), after.roots()), (ids, roots), "hour {hour}");
        assert!(accepted(&signed, &after.published().await, at(hour)));
        assert_eq!(server.key_files().len() % 2, 0);
    }
}

/// A crash after the key was written and before the commit: the key is not in the journal, so it never signs.
#[tokio::test]
async fn a_key_that_was_never_published_never_signs() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let ids = ca.ids();
    drop(ca);
    let stray = PrivateKey::generate(KeyType::EcP256).unwrap();
    fs::write(server.home.path().join("keys/x509-00ff.pem"), stray.to_pkcs8_pem().as_bytes()).unwrap();
    let ca = server.open(at(1)).await.unwrap();
    assert_eq!(ca.ids(), ids);
    assert_eq!(ca.roots(), 1);
}

#[tokio::test]
async fn a_server_that_slept_too_long_recovers() {
    let server = Server::new();
    let first = server.open(at(0)).await.unwrap().ids();
    let ca = server.open(at(200)).await.unwrap();
    assert_ne!(ca.ids().0, first.0);
    assert!(accepted(&ca.sign(at(200)), &ca.published().await, at(200)));
    // The old root has long expired and is gone.
    assert_eq!(ca.roots(), 1);
    assert_eq!(server.key_files().len(), 2);
}

#[tokio::test]
async fn a_server_that_slept_past_its_ca_uses_the_prepared_one() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    ca.tick(at(13)).await.unwrap();
    let published = ca.published().await;
    drop(ca);
    let ca = server.open(at(26)).await.unwrap();
    assert!(
        accepted(&ca.sign(at(26)), &published, at(26)),
        "peers with the bundle of hour 13 must not notice"
    );
}

#[tokio::test]
async fn a_lost_key_costs_the_authority_not_the_start() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let (root, _) = ca.ids();
    drop(ca);
    fs::remove_file(server.home.path().join(format!("keys/x509-{root}.pem"))).unwrap();
    let ca = server.open(at(1)).await.unwrap();
    assert_ne!(ca.ids().0, root);
    // What the lost key has signed stays valid.
    assert_eq!(ca.roots(), 2);
    assert!(accepted(&ca.sign(at(1)), &ca.published().await, at(1)));
}

#[tokio::test]
async fn a_key_file_of_another_authority_is_refused_by_name() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let (root, _) = ca.ids();
    drop(ca);
    let file = server.home.path().join(format!("keys/x509-{root}.pem"));
    fs::write(&file, PrivateKey::generate(KeyType::EcP256).unwrap().to_pkcs8_pem().as_bytes()).unwrap();
    let error = server.open(at(1)).await.err().unwrap();
    assert_eq!(error.code(), "ca_keys");
    assert!(error.to_string().contains(&root), "{error}");
}

#[tokio::test]
async fn without_jwt_svids_there_is_no_token_key() {
    let mut server = Server::new();
    server.settings.disable_jwt_svids = true;
    let ca = server.open(at(0)).await.unwrap();
    assert!(ca.current().jwt.is_none());
    assert!(ca.bundle.borrow().jwt_authorities.is_empty());
    let params =
        JwtParams { id: shop(), audience: vec!["a".to_owned()], ttl: Duration::from_secs(60), jti: None };
    assert_eq!(ca.sign_jwt_svid(&params, at(0)).unwrap_err().code(), "jwt_svids_disabled");
}

#[tokio::test]
async fn lifetimes_over_the_cas_are_refused_at_start() {
    let mut server = Server::new();
    server.settings.default_x509_svid_ttl = HumanDuration::from_secs(8 * HOUR);
    let error = server.open(at(0)).await.err().unwrap();
    assert_eq!(error.code(), "ttl_over_ca");
    assert!(!server.home.path().join("keys").exists(), "nothing is made before the settings are good");
}

#[tokio::test]
async fn tokens_say_what_was_asked_for() {
    let mut server = Server::new();
    server.settings.jwt_issuer = Some("https://demo.org".to_owned());
    let ca = server.open(at(0)).await.unwrap();
    let mut params = JwtParams {
        id: shop(),
        audience: vec!["a".to_owned(), "b".to_owned()],
        ttl: Duration::from_secs(90 * 24 * HOUR),
        jti: Some("7".to_owned()),
    };
    let token = ca.sign_jwt_svid(&params, at(0)).unwrap();
    // Cut at the end of the signing key.
    assert_eq!(token.expires_at, at(24));
    let svid = jwt::validate(&token.token, &["b"], &ca.published().await, at(0)).unwrap();
    assert_eq!(svid.claims["iss"], "https://demo.org");
    assert_eq!(svid.claims["jti"], "7");
    params.id = SpiffeId::parse("spiffe://other.org/shop").unwrap();
    assert_eq!(ca.sign_jwt_svid(&params, at(0)).unwrap_err().code(), "foreign_trust_domain");
}

#[tokio::test]
async fn the_servers_own_svid_is_renewed_at_half_life_and_follows_the_ca() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let leaf = |ca: &CaManager| ca.identity().unwrap().cert[0].clone();
    let first = leaf(&ca);
    let chain = ca.identity().unwrap().cert.clone();
    let peer = verify_peer(&chain, &ca.published().await, at(0)).unwrap();
    assert_eq!(peer.id.as_str(), "spiffe://demo.org/spire/server");

    ca.tick(from_secs(START + 29 * MINUTE)).await.unwrap();
    assert_eq!(leaf(&ca), first);
    ca.tick(from_secs(START + 30 * MINUTE)).await.unwrap();
    assert_ne!(leaf(&ca), first);

    ca.tick(at(12)).await.unwrap();
    ca.tick(at(20)).await.unwrap();
    let issuer = CertInfo::parse(&leaf(&ca)).unwrap().authority_key_id;
    assert_eq!(issuer.as_deref(), Some(ca.current().x509.authority_id()));
}

/// Another administrator's authority in our bundle reaches those who watch it.
#[tokio::test]
async fn changes_of_the_bundle_by_others_are_seen() {
    let server = Server::new();
    let ca = Arc::new(server.open(at(0)).await.unwrap());
    let mut bundle = ca.bundle();
    bundle.mark_unchanged();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (ca, stop) = (Arc::clone(&ca), stop.clone());
        async move { ca.run(|| at(0).into(), Steps::none(), stop).await }
    });
    let foreign = ca.current().x509.certificate().to_vec();
    ca.store
        .modify_bundle(
            &TrustDomain::parse("demo.org").unwrap(),
            Box::new(move |bundle| {
                bundle.x509_authorities.push(X509Authority { der: foreign, tainted: true });
                bundle.sequence += 1;
                Ok(())
            }),
        )
        .await
        .unwrap();
    bundle.changed().await.unwrap();
    assert_eq!(bundle.borrow().x509_authorities.len(), 2);
    stop.cancel();
    running.await.unwrap();
}

/// Each try makes a key before it commits; a database that refuses for hours would fill the directory.
#[tokio::test]
async fn a_rotation_that_cannot_be_committed_leaves_no_keys_behind() {
    let server = Server::new();
    let ca = server.open(at(0)).await.unwrap();
    let (before, keys) = (ca.ids(), server.key_files());
    let database = rusqlite::Connection::open(server.home.path().join("datastore.sqlite3")).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER refused BEFORE INSERT ON ca_journals BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    for hour in [13, 14, 15] {
        ca.tick(at(hour)).await.unwrap_err();
        assert_eq!((ca.ids(), server.key_files()), (before.clone(), keys.clone()));
    }
    database.execute_batch("DROP TRIGGER refused").unwrap();
    ca.tick(at(16)).await.unwrap();
    assert_eq!(server.key_files().len(), 4, "the next ones are prepared");
}
