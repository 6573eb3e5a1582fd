//! A small SPIRE-compatible server whose behaviour a test decides.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt as _};
use svidecar_api::{
    spire::api::{
        server::{agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid},
        types,
    },
    status::{Reason, permission_denied},
    svidecar::server::v1 as push,
};
use svidecar_authority::{
    bundle::{Bundle, BundleSet, root_hash},
    csr::Csr,
    jwt::{JwtClaims, JwtSigner, mint},
    key::{KeyType, PrivateKey},
    time::plus,
    tls::{self, ClientCertificate, Identity, SpiffeVerifier, Versions, authorize},
    x509::{self, CaParams, Subject, SvidParams, X509Ca},
};
use svidecar_id::{SpiffeId, TrustDomain};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

pub const TOKEN: &str = "11111111-2222-4333-8444-555555555555";

pub fn trust_domain() -> TrustDomain {
    TrustDomain::parse("demo.org").unwrap()
}

pub fn now() -> svidecar_authority::UnixTime {
    svidecar_authority::UnixTime::now()
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
    /// The public key that used the token.
    token_used_by: Mutex<Option<Vec<u8>>>,
    pub push: bool,
    pub agent_ttl: Mutex<Duration>,
    pub svid_ttl: Mutex<Duration>,
    pub evicted: Mutex<bool>,
    /// The agent's certificate in use and the one that was signed last, by SHA-256.
    serials: Mutex<Serials>,
    pub attestations: AtomicUsize,
    pub renewals: watch::Sender<usize>,
    pub syncs: AtomicUsize,
    sequence: AtomicU64,
    changes: watch::Sender<u64>,
}

impl World {
    pub fn new(push: bool) -> Arc<Self> {
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
            token_used_by: Mutex::default(),
            push,
            agent_ttl: Mutex::new(Duration::from_secs(3600)),
            svid_ttl: Mutex::new(Duration::from_secs(3600)),
            evicted: Mutex::new(false),
            serials: Mutex::default(),
            attestations: AtomicUsize::new(0),
            renewals: watch::channel(0).0,
            syncs: AtomicUsize::new(0),
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

    pub fn evict(&self) {
        *self.evicted.lock().unwrap() = true;
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

    /// As SPIRE: a renewed certificate becomes the only good one when it is first used.
    fn check_agent(&self, peer: &Peer) -> Result<SpiffeId, Status> {
        if *self.evicted.lock().unwrap() {
            return Err(permission_denied(Reason::AgentNotAttested, "agent is not attested"));
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
        let svid = self.sign(id, csr, *self.agent_ttl.lock().unwrap());
        let certificate = Some(x509::sha256(&svid.cert_chain[0]));
        let mut serials = self.serials.lock().unwrap();
        if attested {
            *serials = Serials { active: certificate, renewed: None };
        } else {
            serials.renewed = certificate;
        }
        svid
    }

    fn sign(&self, id: SpiffeId, csr: &[u8], ttl: Duration) -> types::X509svid {
        let csr = Csr::parse(csr).unwrap();
        let ca = self.ca.lock().unwrap();
        let svid = ca.sign_svid(&SvidParams::new(id.clone(), csr.spki_der(), ttl), now()).unwrap();
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
        push::WatchResponse {
            resume_token: self.changes.borrow().to_string(),
            snapshot: true,
            entries: self.entries.lock().unwrap().values().cloned().collect(),
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
    let incoming = TcpListenerStream::new(listener)
        .then(move |stream| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(stream?).await.map(Tls) }
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
    let identity = move || {
        let ca = source.ca.lock().unwrap();
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

struct Tls(TlsStream<TcpStream>);

/// The ID and the certificate of the caller, if it showed one.
#[derive(Clone)]
struct Peer(Option<(SpiffeId, [u8; 32])>);

impl Connected for Tls {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(tls::peer_of(self.0.get_ref().1).map(|peer| (peer.id, peer.leaf_sha256)))
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        c: &mut Context<'_>,
        b: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(c, b)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, c: &mut Context<'_>, b: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(c, b)
    }

    fn poll_flush(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(c)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(c)
    }
}

#[derive(Clone)]
struct Api(Arc<World>);

impl Api {
    /// The calls of agents need an agent's identity that is still welcome.
    fn agent<T>(&self, request: &Request<T>) -> Result<SpiffeId, Status> {
        self.0.check_agent(request.extensions().get::<Peer>().unwrap())
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A service of which the tests need some calls only.
macro_rules! service {
    (impl $service:path { $($body:tt)* } unused { $($name:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $service for Api {
            $($body)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! {
    impl agent::agent_server::Agent {
        type AttestAgentStream = BoxStream<agent::AttestAgentResponse>;

        async fn attest_agent(
            &self,
            request: Request<Streaming<agent::AttestAgentRequest>>,
        ) -> Result<Response<Self::AttestAgentStream>, Status> {
            let message = request.into_inner().message().await?.unwrap();
            let Some(agent::attest_agent_request::Step::Params(params)) = message.step else { panic!() };
            self.0.attestations.fetch_add(1, Ordering::Relaxed);
            let csr = params.params.unwrap().csr;
            let key = Csr::parse(&csr).unwrap().spki_der();
            let token = String::from_utf8(params.data.unwrap().payload).unwrap();
            let mut used_by = self.0.token_used_by.lock().unwrap();
            if token != TOKEN || used_by.as_ref().is_some_and(|first| *first != key) {
                return Err(Status::invalid_argument(
                    "failed to attest: join token does not exist or has already been used",
                ));
            }
            *used_by = Some(key);
            let id = SpiffeId::new(&trust_domain(), &format!("/spire/agent/join_token/{token}")).unwrap();
            let svid = self.0.sign_agent(id, &csr, true);
            let result = agent::attest_agent_response::Result { svid: Some(svid), reattestable: false };
            let step = Some(agent::attest_agent_response::Step::Result(result));
            let answer = futures_util::stream::iter([Ok(agent::AttestAgentResponse { step })]);
            Ok(Response::new(Box::pin(answer)))
        }

        async fn renew_agent(
            &self,
            request: Request<agent::RenewAgentRequest>,
        ) -> Result<Response<agent::RenewAgentResponse>, Status> {
            let id = self.agent(&request)?;
            let csr = request.into_inner().params.unwrap().csr;
            let svid = self.0.sign_agent(id, &csr, false);
            self.0.renewals.send_modify(|count| *count += 1);
            Ok(Response::new(agent::RenewAgentResponse { svid: Some(svid) }))
        }

        async fn post_status(
            &self,
            request: Request<agent::PostStatusRequest>,
        ) -> Result<Response<agent::PostStatusResponse>, Status> {
            self.agent(&request)?;
            Ok(Response::new(agent::PostStatusResponse {}))
        }
    }
    unused {
        count_agents(agent::CountAgentsRequest) -> agent::CountAgentsResponse;
        list_agents(agent::ListAgentsRequest) -> agent::ListAgentsResponse;
        get_agent(agent::GetAgentRequest) -> types::Agent;
        delete_agent(agent::DeleteAgentRequest) -> ();
        ban_agent(agent::BanAgentRequest) -> ();
        create_join_token(agent::CreateJoinTokenRequest) -> types::JoinToken;
    }
}

/// Entries per page, so small that paging is used.
const PAGE: usize = 3;

service! {
    impl entry::entry_server::Entry {
        type SyncAuthorizedEntriesStream = BoxStream<entry::SyncAuthorizedEntriesResponse>;

        async fn sync_authorized_entries(
            &self,
            request: Request<Streaming<entry::SyncAuthorizedEntriesRequest>>,
        ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
            self.agent(&request)?;
            self.0.syncs.fetch_add(1, Ordering::Relaxed);
            let mut requests = request.into_inner();
            requests.message().await?.unwrap();
            let all: HashMap<String, types::Entry> =
                self.0.entries.lock().unwrap().iter().map(|(id, entry)| (id.clone(), entry.clone())).collect();
            let mut pages = Vec::new();
            if all.len() <= PAGE {
                let entries = all.values().cloned().collect();
                pages.push(entry::SyncAuthorizedEntriesResponse { entries, ..Default::default() });
            } else {
                let revisions: Vec<_> = all
                    .values()
                    .map(|entry| entry::EntryRevision {
                        id: entry.id.clone(),
                        revision_number: entry.revision_number,
                        created_at: entry.created_at,
                    })
                    .collect();
                let count = revisions.len().div_ceil(PAGE);
                for (index, page) in revisions.chunks(PAGE).enumerate() {
                    pages.push(entry::SyncAuthorizedEntriesResponse {
                        entry_revisions: page.to_vec(),
                        more: index + 1 < count,
                        ..Default::default()
                    });
                }
            }
            let details = futures_util::stream::unfold((requests, all), |(mut requests, all)| async move {
                let request = requests.message().await.ok()??;
                let entries = request.ids.iter().filter_map(|id| all.get(id)).cloned().collect();
                let page = entry::SyncAuthorizedEntriesResponse { entries, ..Default::default() };
                Some((Ok(page), (requests, all)))
            });
            Ok(Response::new(Box::pin(futures_util::stream::iter(pages.into_iter().map(Ok)).chain(details))))
        }
    }
    unused {
        count_entries(entry::CountEntriesRequest) -> entry::CountEntriesResponse;
        list_entries(entry::ListEntriesRequest) -> entry::ListEntriesResponse;
        get_entry(entry::GetEntryRequest) -> types::Entry;
        batch_create_entry(entry::BatchCreateEntryRequest) -> entry::BatchCreateEntryResponse;
        batch_update_entry(entry::BatchUpdateEntryRequest) -> entry::BatchUpdateEntryResponse;
        batch_delete_entry(entry::BatchDeleteEntryRequest) -> entry::BatchDeleteEntryResponse;
        get_authorized_entries(entry::GetAuthorizedEntriesRequest) -> entry::GetAuthorizedEntriesResponse;
    }
}

service! {
    impl svid::svid_server::Svid {
        async fn batch_new_x509svid(
            &self,
            request: Request<svid::BatchNewX509svidRequest>,
        ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
            self.agent(&request)?;
            let ttl = *self.0.svid_ttl.lock().unwrap();
            let entries = self.0.entries.lock().unwrap().clone();
            let results = request
                .into_inner()
                .params
                .into_iter()
                .map(|params| match entries.get(&params.entry_id) {
                    Some(entry) => {
                        let id = types::Spiffeid::required(entry.spiffe_id.as_ref()).unwrap();
                        let svid = Some(self.0.sign(id, &params.csr, ttl));
                        svid::batch_new_x509svid_response::Result { status: Some(types::Status::default()), svid }
                    }
                    None => svid::batch_new_x509svid_response::Result {
                        status: Some(types::Status { code: 5, message: "entry not found".into() }),
                        svid: None,
                    },
                })
                .collect();
            Ok(Response::new(svid::BatchNewX509svidResponse { results }))
        }

        async fn new_jwtsvid(
            &self,
            request: Request<svid::NewJwtsvidRequest>,
        ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
            self.agent(&request)?;
            let request = request.into_inner();
            let entry = self.0.entries.lock().unwrap().get(&request.entry_id).cloned();
            let sub = types::Spiffeid::required(entry.unwrap().spiffe_id.as_ref()).unwrap();
            let exp = plus(now(), Duration::from_secs(300));
            let claims = JwtClaims { sub, aud: request.audience, iat: now(), exp, iss: None, jti: None };
            let token = mint(&self.0.signer, &claims).unwrap();
            let issued_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let svid = types::Jwtsvid {
                token,
                issued_at: i64::try_from(issued_at).unwrap(),
                ..Default::default()
            };
            Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(svid) }))
        }
    }
    unused {
        mint_x509svid(svid::MintX509svidRequest) -> svid::MintX509svidResponse;
        mint_jwtsvid(svid::MintJwtsvidRequest) -> svid::MintJwtsvidResponse;
        new_downstream_x509ca(svid::NewDownstreamX509caRequest) -> svid::NewDownstreamX509caResponse;
    }
}

service! {
    impl bundle::bundle_server::Bundle {
        async fn get_bundle(
            &self,
            _: Request<bundle::GetBundleRequest>,
        ) -> Result<Response<types::Bundle>, Status> {
            Ok(Response::new(World::wire_bundle(&self.0.bundle.lock().unwrap())))
        }

        async fn get_federated_bundle(
            &self,
            request: Request<bundle::GetFederatedBundleRequest>,
        ) -> Result<Response<types::Bundle>, Status> {
            self.agent(&request)?;
            let federated = self.0.federated.lock().unwrap();
            match federated.get(&request.get_ref().trust_domain) {
                Some(bundle) => Ok(Response::new(World::wire_bundle(bundle))),
                None => Err(Status::not_found("bundle not found")),
            }
        }
    }
    unused {
        count_bundles(bundle::CountBundlesRequest) -> bundle::CountBundlesResponse;
        append_bundle(bundle::AppendBundleRequest) -> types::Bundle;
        publish_jwt_authority(bundle::PublishJwtAuthorityRequest) -> bundle::PublishJwtAuthorityResponse;
        list_federated_bundles(bundle::ListFederatedBundlesRequest) -> bundle::ListFederatedBundlesResponse;
        batch_create_federated_bundle(bundle::BatchCreateFederatedBundleRequest)
            -> bundle::BatchCreateFederatedBundleResponse;
        batch_update_federated_bundle(bundle::BatchUpdateFederatedBundleRequest)
            -> bundle::BatchUpdateFederatedBundleResponse;
        batch_set_federated_bundle(bundle::BatchSetFederatedBundleRequest)
            -> bundle::BatchSetFederatedBundleResponse;
        batch_delete_federated_bundle(bundle::BatchDeleteFederatedBundleRequest)
            -> bundle::BatchDeleteFederatedBundleResponse;
    }
}

#[tonic::async_trait]
impl push::watch_server::Watch for Api {
    type WatchStream = BoxStream<push::WatchResponse>;

    async fn watch(
        &self,
        request: Request<push::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.agent(&request)?;
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        let world = Arc::clone(&self.0);
        let mut changes = world.changes.subscribe();
        // Whole states are all the tests need; the agent finds out what is different.
        changes.mark_changed();
        let state = (world, changes, peer);
        let stream = futures_util::stream::try_unfold(state, |(world, mut changes, peer)| async move {
            changes.changed().await.unwrap();
            world.check_agent(&peer)?;
            let snapshot = world.snapshot();
            Ok(Some((snapshot, (world, changes, peer))))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
