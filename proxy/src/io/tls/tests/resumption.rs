//! Sessions that are resumed, and those that are not.

use std::sync::Mutex;

use rustls::sign::CertifiedKey;
use svidecar_authority::{bundle::BundleSet, tls::Authorizer};
use svidecar_process::clock;

use super::*;

/// Something that changes while the test runs.
struct Changing<T>(Arc<Mutex<T>>);

impl<T: Clone + Send + 'static> Changing<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    fn set(&self, value: T) {
        *self.0.lock().unwrap() = value;
    }

    fn source(&self) -> impl Fn() -> T + Send + Sync + use<T> {
        let value = Arc::clone(&self.0);
        move || value.lock().unwrap().clone()
    }
}

type Svid = Changing<Option<Arc<CertifiedKey>>>;

fn present(identity: &Identity) -> Option<Arc<CertifiedKey>> {
    Some(identity.certified_key())
}

fn trust(authority: &Authority) -> Arc<BundleSet> {
    Arc::new(authority.bundles())
}

/// A server and a client whose SVIDs and bundles the test changes.
struct World {
    authority: Authority,
    server_svid: Svid,
    client_svid: Svid,
    server_trusts: Changing<Arc<BundleSet>>,
    client_trusts: Changing<Arc<BundleSet>>,
    refused: Changing<Option<&'static str>>,
    server: Arc<ResumingServer>,
    client: ResumingClient,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("demo.org");
        let server_svid = Svid::new(present(&authority.identity("/orders")));
        let client_svid = Svid::new(present(&authority.identity("/shop")));
        let (server_trusts, client_trusts) =
            (Changing::new(trust(&authority)), Changing::new(trust(&authority)));
        let refused = Changing::new(None);
        let authorizer = |refused: &Changing<Option<&'static str>>| -> Authorizer {
            let refused = refused.source();
            Arc::new(move |peer| {
                if refused().is_some_and(|refused| peer.id.path() == refused) {
                    let expected = "somebody else".to_owned();
                    return Err(svidecar_authority::x509::X509Error::IdNotAllowed {
                        id: peer.id.clone(),
                        expected,
                    });
                }
                Ok(())
            })
        };
        let alpn = [Alpn::Svidecar.name(), Alpn::Http1.name()];
        let verifier =
            |trusts: &Changing<Arc<BundleSet>>| SpiffeVerifier::new(trusts.source(), authorizer(&refused));
        let server =
            ResumingServer::new(Arc::new(server_svid.source()), verifier(&server_trusts), &alpn).unwrap();
        let client = ResumingClient::new(Arc::new(client_svid.source()), verifier(&client_trusts)).unwrap();
        Self {
            authority,
            server_svid,
            client_svid,
            server_trusts,
            client_trusts,
            refused,
            server: Arc::new(server),
            client,
        }
    }

    /// One exchange, in which the tickets come. Whether the session was resumed, for the client and for the server; or what
    /// either said instead.
    async fn exchange(&self) -> Result<(bool, bool), (&'static str, Failed)> {
        let (near, far) = pair().await;
        let serving = async {
            let mut accepted = accept_one(far, &self.server).await.map_err(|failed| ("server", failed))?;
            assert_eq!(read(&mut accepted.stream, 4).await, b"ping");
            bytes::send(&mut accepted.stream, b"pong").await.unwrap();
            Ok(accepted)
        };
        let asking = async {
            let alpn = [Alpn::Svidecar, Alpn::Http1];
            let connecting = connect(Socket::accepted(near), &self.client, name(), &alpn).await;
            let mut connected = connecting.map_err(|failed| ("client", failed))?;
            bytes::send(&mut connected.stream, b"ping").await.unwrap();
            let mut answer = Buffer::new();
            // The server's own error says more than its alert.
            if bytes::fill(&mut connected.stream, &mut answer, 4).await.is_ok() {
                assert_eq!(answer.filled(), b"pong");
            }
            Ok(connected)
        };
        let (connected, accepted) = soon("an exchange", async { tokio::join!(asking, serving) }).await;
        // The client's refusal is the cause of the server's, never the other way round.
        let connected = connected?;
        let accepted = accepted?;
        assert_eq!(connected.alpn, Some(Alpn::Svidecar));
        assert_eq!(accepted.chain, self.client_svid.source()().unwrap().cert);
        Ok((connected.resumed, accepted.resumed))
    }
}

fn code(failed: &Failed) -> &'static str {
    svidecar_authority::tls::failure_in(&failed.error).unwrap().code().name()
}

#[tokio::test]
async fn each_session_brings_the_next_one() {
    let world = World::new();
    assert_eq!(world.exchange().await.unwrap(), (false, false));
    for _ in 0..5 {
        assert_eq!(world.exchange().await.unwrap(), (true, true));
    }
}

#[tokio::test]
async fn a_client_that_is_no_longer_trusted_is_not_resumed() {
    let world = World::new();
    world.exchange().await.unwrap();
    world.server_trusts.set(trust(&Authority::new("demo.org")));
    let (side, failed) = world.exchange().await.unwrap_err();
    assert!(side == "server" && !failed.resumed);
    assert_eq!(code(&failed), "untrusted_root");
    assert_eq!(failed.server_name.as_deref(), Some("orders.internal"));
    // And it is, once it is trusted again.
    world.server_trusts.set(trust(&world.authority));
    world.exchange().await.unwrap();
}

#[tokio::test]
async fn a_client_whose_id_is_refused_now_is_not_resumed() {
    let world = World::new();
    world.exchange().await.unwrap();
    world.refused.set(Some("/shop"));
    let (side, failed) = world.exchange().await.unwrap_err();
    assert_eq!((side, code(&failed)), ("server", "id_not_allowed"));
}

#[tokio::test]
async fn a_server_that_is_no_longer_accepted_is_not_resumed() {
    let world = World::new();
    world.exchange().await.unwrap();
    world.refused.set(Some("/orders"));
    let (side, failed) = world.exchange().await.unwrap_err();
    assert_eq!((side, code(&failed), failed.resumed), ("client", "id_not_allowed", true));
    // It was the only session: now the handshake is a full one, with the same answer.
    let (side, failed) = world.exchange().await.unwrap_err();
    assert_eq!((side, code(&failed), failed.resumed), ("client", "id_not_allowed", false));
    world.refused.set(None);
    assert_eq!(world.exchange().await.unwrap(), (false, false));

    world.client_trusts.set(trust(&Authority::new("demo.org")));
    let (side, failed) = world.exchange().await.unwrap_err();
    assert_eq!((side, code(&failed), failed.resumed), ("client", "untrusted_root", true));
}

#[tokio::test]
async fn a_new_svid_of_ours_forgets_the_sessions_of_the_old_one() {
    let world = World::new();
    world.exchange().await.unwrap();
    world.client_svid.set(present(&world.authority.identity("/shop")));
    assert_eq!(world.exchange().await.unwrap(), (false, false), "the client has a new SVID");
    assert_eq!(world.exchange().await.unwrap(), (true, true));
    world.server_svid.set(present(&world.authority.identity("/orders")));
    assert_eq!(world.exchange().await.unwrap(), (false, false), "the server has a new SVID");
    assert_eq!(world.exchange().await.unwrap(), (true, true));
}

/// The clock is not asked at the moment of the ticket, but at that of its use.
#[tokio::test]
async fn a_session_does_not_outlive_the_svid_in_it() {
    use rustls::pki_types::UnixTime;
    let world = World::new();
    let chain = world.client_svid.source()().unwrap().cert.clone();
    let now = clock::unix();
    assert!(world.server.accepts(&chain, now).is_ok());
    let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + 2 * authority::HOUR);
    let error = world.server.accepts(&chain, later).unwrap_err();
    assert_eq!(svidecar_authority::tls::failure_of(&error).unwrap().code().name(), "expired");
    let error = world.client.accepts(&chain, later).unwrap_err();
    assert_eq!(svidecar_authority::tls::failure_of(&error).unwrap().code().name(), "expired");
}

/// A rustls client keeps its sessions longer than we would.
#[tokio::test]
async fn a_foreign_client_with_an_old_session_gets_a_full_handshake() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new();
    let config = Arc::new(rustls_client(&world.authority, SUITES[0]));
    let visit = async || {
        let (near, far) = pair().await;
        let serving = async {
            let mut accepted = accept_one(far, &world.server).await.unwrap();
            bytes::send(&mut accepted.stream, b"hello").await.unwrap();
            accepted.resumed
        };
        let asking = async {
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
            let mut stream = connector.connect(name(), near).await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream.flush().await.unwrap();
            stream.get_ref().1.handshake_kind().unwrap()
        };
        soon("a visit", async { tokio::join!(serving, asking) }).await
    };
    assert_eq!(visit().await, (false, rustls::HandshakeKind::Full));
    assert_eq!(visit().await, (true, rustls::HandshakeKind::Resumed));
    // Its sessions are of an SVID that was refused for a while: they are passed over, and it gets in by a full handshake.
    world.server_svid.set(present(&world.authority.identity("/orders")));
    assert_eq!(visit().await, (false, rustls::HandshakeKind::Full));
    assert_eq!(visit().await, (true, rustls::HandshakeKind::Resumed));
}
