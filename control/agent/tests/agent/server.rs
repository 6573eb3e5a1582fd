//! A small SPIRE-compatible server whose behaviour a test decides.

mod api;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt as _;
use svidecar_api::{
    spire::api::{
        server::{agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid},
        types,
    },
    status::{Reason, permission_denied},
    svidecar::server::v1 as push,
};
use svidecar_authority::{
    UnixTime,
    bundle::{Bundle, BundleSet, root_hash},
    csr::Csr,
    jwt::JwtSigner,
    key::{KeyType, PrivateKey},
    tls::{self, ClientCertificate, Identity, SpiffeVerifier, Versions, authorize},
    x509::{self, CaParams, Subject, SvidParams, X509Ca},
};
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::clock;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, transport::server::Connected};

use self::api::Api;

pub const TOKEN: &str = "11111111-2222-4333-8444-555555555555";

pub fn trust_domain() -> TrustDomain {
    TrustDomain::parse("demo.org").unwrap()
}

pub fn now() -> UnixTime {
    clock::unix()
}

pub fn new_ca(name: &str) -> X509Ca {
    let params = CaParams {
        trust_domain: TrustDomain::parse(name).unwrap(),
        ttl: Duration::from_secs(86_400),
        subject: Subject::ca_default(),
    };
    X509Ca::self_signed(&params, PrivateKey::generate(KeyType::EcP256).unwrap(), now()).unwrap()
}

#[derive(Default)]
struct Serials {
    active: Option<[u8; 32]>,
    renewed: Option<[u8; 32]>,
}

/// What the server is and has. Survives a stop, as a database does.
pub struct World {
    pub ca: Mutex<Arc<X509Ca>>,
    pub bundle: Mutex<Bundle>,
    pub federated: Mutex<BTreeMap<String, Bundle>>,
    pub entries: Mutex<BTreeMap<String, types::Entry>>,
    pub signer: JwtSigner,
    token: String,
    /// The public key that used the token.
    token_used_by: Mutex<Option<Vec<u8>>>,
    pub push: bool,
    pub agent_ttl: Mutex<Duration>,
    pub svid_ttl: Mutex<Duration>,
    /// Whether what it signs for workloads has ended when they have it.
    pub is_behind: AtomicBool,
    /// Why agents are not accepted, if they are not.
    pub refused: Mutex<Option<Reason>>,
    /// The agent's certificate in use and the one that was signed last, by SHA-256.
    serials: Mutex<Serials>,
    pub attestations: AtomicUsize,
    /// How many of the next answers to attestations are lost, after the token was bound.
    pub lost_answers: AtomicUsize,
    pub renewals: watch::Sender<usize>,
    pub syncs: AtomicUsize,
    /// Whether streams that have said something hold back what follows.
    pub held: AtomicBool,
    /// How many of the next handshakes somebody else answers, who then lets the connection through to this server.
    pub impostor: AtomicUsize,
    /// Streams of changes that were opened.
    pub watches: AtomicUsize,
    /// Connections of before end when the next word comes on them, and that word is lost.
    cuts: AtomicUsize,
    sequence: AtomicU64,
    changes: watch::Sender<u64>,
}

impl World {
    pub fn new(push: bool) -> Arc<Self> {
        Self::with_token(push, TOKEN)
    }

    pub fn with_token(push: bool, token: &str) -> Arc<Self> {
        let ca = new_ca("demo.org");
        let signer = JwtSigner::new("kid-1", PrivateKey::generate(KeyType::EcP256).unwrap()).unwrap();
        let mut bundle = Bundle::empty(trust_domain());
        bundle.x509_authorities.push(ca.certificate().clone());
        bundle.jwt_authorities.push(signer.jwt_key(None));
        bundle.sequence = 1;
        Arc::new(Self {
            ca: Mutex::new(Arc::new(ca)),
            bundle: Mutex::new(bundle),
            federated: Mutex::default(),
            entries: Mutex::default(),
            signer,
            token: token.to_owned(),
            token_used_by: Mutex::default(),
            push,
            agent_ttl: Mutex::new(Duration::from_secs(3600)),
            svid_ttl: Mutex::new(Duration::from_secs(3600)),
            is_behind: AtomicBool::default(),
            refused: Mutex::new(None),
            serials: Mutex::default(),
            attestations: AtomicUsize::new(0),
            lost_answers: AtomicUsize::new(0),
            renewals: watch::channel(0).0,
            syncs: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            impostor: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            sequence: AtomicU64::new(1),
            changes: watch::channel(0).0,
        })
    }

    pub fn pin(&self) -> String {
        root_hash(self.ca.lock().unwrap().certificate())
    }

    /// Creates an entry for all selectors `TYPE:VALUE` given.
    pub fn create_entry(&self, id: &str, path: &str, selectors: &[&str]) {
        self.put_entry(types::Entry {
            id: id.into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "demo.org".into(), path: path.into() }),
            selectors: selectors
                .iter()
                .map(|text| {
                    let (kind, value) = text.split_once(':').unwrap();
                    types::Selector { r#type: kind.into(), value: value.into() }
                })
                .collect(),
            created_at: i64::try_from(self.sequence.fetch_add(1, Ordering::Relaxed)).unwrap(),
            ..Default::default()
        });
    }

    pub fn put_entry(&self, entry: types::Entry) {
        self.entries.lock().unwrap().insert(entry.id.clone(), entry);
        self.changed();
    }

    pub fn delete_entry(&self, id: &str) {
        self.entries.lock().unwrap().remove(id);
        self.changed();
    }

    pub fn refuse(&self, reason: Option<Reason>) {
        *self.refused.lock().unwrap() = reason;
        self.changed();
    }

    /// Publishes another root beside the current one, and signs by it from now on.
    pub fn rotate(&self) {
        let next = new_ca("demo.org");
        {
            let mut bundle = self.bundle.lock().unwrap();
            bundle.x509_authorities.push(next.certificate().clone());
            bundle.sequence += 1;
        }
        *self.ca.lock().unwrap() = Arc::new(next);
        self.changed();
    }

    pub fn changed(&self) {
        self.changes.send_modify(|position| *position += 1);
    }

    /// Ends each connection that there is when the next word comes on it, before that is read.
    pub fn cut_at_the_next_word(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// As SPIRE: a renewed certificate becomes the only good one when it is first used.
    fn check_agent(&self, peer: &Peer) -> Result<SpiffeId, Status> {
        if let Some(reason) = *self.refused.lock().unwrap() {
            return Err(permission_denied(reason, "agent is not accepted"));
        }
        let (id, certificate) =
            peer.0.clone().ok_or_else(|| Status::permission_denied("an agent's identity is required"))?;
        let mut serials = self.serials.lock().unwrap();
        if serials.renewed == Some(certificate) {
            serials.active = serials.renewed.take();
        }
        if serials.active != Some(certificate) {
            return Err(permission_denied(Reason::AgentNotActive, "agent is not active"));
        }
        Ok(id)
    }

    /// Signs for the agent itself.
    fn sign_agent(&self, id: SpiffeId, csr: &[u8], attested: bool) -> types::X509svid {
        let svid = self.sign(id, csr, *self.agent_ttl.lock().unwrap(), now());
        let certificate = Some(x509::sha256(&svid.cert_chain[0]));
        let mut serials = self.serials.lock().unwrap();
        if attested {
            *serials = Serials { active: certificate, renewed: None };
        } else {
            serials.renewed = certificate;
        }
        svid
    }

    fn sign_workload(&self, id: SpiffeId, csr: &[u8]) -> types::X509svid {
        // Its authority is 10 s older than it.
        let second = Duration::from_secs(1);
        match self.is_behind.load(Ordering::Relaxed) {
            true => self.sign(
                id,
                csr,
                second,
                UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() - 5)),
            ),
            false => self.sign(id, csr, *self.svid_ttl.lock().unwrap(), now()),
        }
    }

    fn sign(&self, id: SpiffeId, csr: &[u8], ttl: Duration, at: UnixTime) -> types::X509svid {
        let csr = Csr::parse(csr).unwrap();
        let ca = self.ca.lock().unwrap();
        let svid = ca.sign_svid(&SvidParams::new(id.clone(), csr.spki_der(), ttl), at).unwrap();
        types::X509svid {
            cert_chain: svid.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            id: Some((&id).into()),
            expires_at: i64::try_from(svid.not_after.as_secs()).unwrap(),
            hint: String::new(),
        }
    }

    fn wire_bundle(bundle: &Bundle) -> types::Bundle {
        types::Bundle {
            trust_domain: bundle.trust_domain.to_string(),
            x509_authorities: bundle
                .x509_authorities
                .iter()
                .map(|authority| types::X509Certificate { asn1: authority.to_vec(), tainted: false })
                .collect(),
            jwt_authorities: bundle
                .jwt_authorities
                .iter()
                .map(|key| types::JwtKey {
                    public_key: key.spki_der.clone(),
                    key_id: key.kid.clone(),
                    ..Default::default()
                })
                .collect(),
            sequence_number: bundle.sequence,
            ..Default::default()
        }
    }

    fn snapshot(&self) -> push::WatchResponse {
        let mut bundles = vec![Self::wire_bundle(&self.bundle.lock().unwrap())];
        bundles.extend(self.federated.lock().unwrap().values().map(Self::wire_bundle));
        let entries: Vec<_> = self.entries.lock().unwrap().values().cloned().collect();
        push::WatchResponse {
            // Names the content, as our server's does.
            resume_token: hex::encode(x509::sha256(format!("{entries:?}{bundles:?}").as_bytes())),
            snapshot: true,
            entries,
            bundles,
            ..Default::default()
        }
    }
}

/// A listening server, on threads of its own: when they end, its connections end with them.
pub struct Server {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Listens; on `port` if not 0.
    pub fn start(world: &Arc<World>, port: u16) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        socket.listen(64).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener: std::net::TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(Arc::clone(world), listener));
        Self { address, runtime: Some(runtime) }
    }

    /// Goes away without a word.
    pub async fn stop(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(world: Arc<World>, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).unwrap();
    let acceptor = acceptor(&world);
    let cuts = Arc::clone(&world);
    let incoming = TcpListenerStream::new(listener)
        .then(move |stream| {
            let (acceptor, world) = (acceptor.clone(), Arc::clone(&cuts));
            async move {
                let cuts_before = world.cuts.load(Ordering::Relaxed);
                let stream = acceptor.accept(stream?).await?;
                Ok::<_, std::io::Error>(Tls { stream, world, cuts_before })
            }
        })
        // A handshake that fails is the client's business.
        .filter(|stream| std::future::ready(stream.is_ok()));
    let api = Api(Arc::clone(&world));
    let mut router = tonic::transport::Server::builder()
        .add_service(agent::agent_server::AgentServer::new(api.clone()))
        .add_service(entry::entry_server::EntryServer::new(api.clone()))
        .add_service(svid::svid_server::SvidServer::new(api.clone()))
        .add_service(bundle::bundle_server::BundleServer::new(api.clone()));
    if world.push {
        router = router.add_service(push::watch_server::WatchServer::new(api));
    }
    router.serve_with_incoming(incoming).await.unwrap();
}

fn acceptor(world: &Arc<World>) -> TlsAcceptor {
    let source = Arc::clone(world);
    let impostor = new_ca("demo.org");
    let identity = move || {
        let own = source.ca.lock().unwrap();
        let left = source.impostor.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let ca = if left.is_ok() { &impostor } else { &**own };
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let id = SpiffeId::new(&trust_domain(), "/spire/server").unwrap();
        let hour = Duration::from_secs(3600);
        let svid = ca.sign_svid(&SvidParams::new(id, key.spki_der(), hour), now()).unwrap();
        Some(Identity::new(svid.chain, key.pkcs8_der()).unwrap().certified_key())
    };
    let source = Arc::clone(world);
    let bundles = move || Arc::new(BundleSet::of(source.bundle.lock().unwrap().clone()));
    let verifier =
        SpiffeVerifier::new(bundles, authorize::any()).client_certificate(ClientCertificate::Optional);
    let config = tls::server_config(identity, verifier, &[b"h2"], Versions::Tls12And13).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

struct Tls {
    stream: TlsStream<TcpStream>,
    world: Arc<World>,
    cuts_before: usize,
}

/// The ID and the certificate of the caller, if it showed one.
#[derive(Clone)]
struct Peer(Option<(SpiffeId, [u8; 32])>);

impl Connected for Tls {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(tls::peer_of(self.stream.get_ref().1).map(|peer| (peer.id, peer.leaf_sha256)))
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        c: &mut Context<'_>,
        b: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = b.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(c, b);
        let said = b.filled().len() > before;
        if said && self.world.cuts.load(Ordering::Relaxed) > self.cuts_before {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, c: &mut Context<'_>, b: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(c, b)
    }

    fn poll_flush(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(c)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(c)
    }
}
