//! A whole server in this process, on a free port and a socket in a temporary directory, and clients of it
//! that bring whatever identity a test gives them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use svidecar_api::{
    bootstrap,
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, agent_client::AgentClient,
                attest_agent_request, attest_agent_response,
            },
            bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
            entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
            svid::v1::{MintX509svidRequest, svid_client::SvidClient},
        },
        types::{AttestationData, Entry, Selector, Spiffeid, X509svid},
    },
    svidecar::server::v1::watch_client::WatchClient,
    transport::uds,
};
use svidecar_authority::{
    CertificateDer,
    bundle::{Bundle, BundleSet, root_hash},
    csr,
    key::{KeyType, PrivateKey},
    tls::{self, Identity, IdentitySource, NoIdentity, PinnedKey, SpiffeVerifier, Versions, authorize},
};
use svidecar_config::server::ServerSettings;
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::testing::Hands;
use svidecar_server::{error::ServerError, run::Server};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

/// A server and the directory that it lives in.
pub struct TestServer {
    pub address: SocketAddr,
    pub socket: PathBuf,
    /// Where probes ask, if the settings let them.
    pub health: Option<SocketAddr>,
    pub settings: ServerSettings,
    /// Of the server's clock.
    pub hands: Hands,
    server: Option<Server>,
    shutdown: CancellationToken,
    _dir: Option<TempDir>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ServerSettings)) -> Self {
        Self::start_ago(Duration::ZERO, change).await
    }

    /// A server whose clock is behind: what passes until it is right has passed for it alone.
    pub async fn start_ago(ago: Duration, change: impl FnOnce(&mut ServerSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut settings = ServerSettings::new(TrustDomain::parse("demo.org").unwrap(), data);
        settings.bind_port = 0;
        settings.socket_path = dir.path().join("run/api.sock");
        change(&mut settings);
        let mut server = Self {
            address: settings.bind(),
            socket: settings.socket_path.clone(),
            health: None,
            settings,
            hands: Hands::running(),
            server: None,
            shutdown: CancellationToken::new(),
            _dir: Some(dir),
        };
        server.hands.set(-seconds(ago));
        server.begin().await;
        server
    }

    /// Starts it, after a stop.
    pub async fn begin(&mut self) {
        self.shutdown = CancellationToken::new();
        let clock = self.hands.clock();
        let server = Server::start(self.settings.clone(), clock, None, self.shutdown.clone()).await.unwrap();
        self.address = server.address;
        self.health = server.health_address;
        self.server = Some(server);
    }

    /// Stops the server; everything it does is done when this returns.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        self.server.take().unwrap().wait().await.unwrap();
    }

    /// Why it does not start in the directory as it is.
    pub async fn refused(&self) -> ServerError {
        let started =
            Server::start(self.settings.clone(), self.hands.clock(), None, self.shutdown.clone()).await;
        started.err().unwrap()
    }

    /// Starts it again in the same directory, maybe on another port.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.begin().await;
    }

    /// Lets time pass on the server's clock.
    pub fn pass(&self, time: Duration) {
        self.hands.pass(time);
    }

    /// A connection to the administrators' socket.
    pub async fn local(&self) -> Channel {
        uds::connect(&self.socket).await.unwrap()
    }

    /// A TLS connection without an identity to the server that `pin` names.
    pub async fn anonymous(&self, pin: &str) -> Channel {
        self.anonymous_from(Ipv4Addr::LOCALHOST, pin).await
    }

    /// The same, for pins that may name no server.
    pub async fn try_anonymous(&self, pin: &str) -> Result<Channel, tonic::transport::Error> {
        self.dial(rustls::ClientConfig::clone(&*self.anonymous_config(pin).await)).await
    }

    /// A TLS connection with an identity.
    pub async fn with(&self, pin: &str, identity: &Credentials) -> Channel {
        self.try_with(pin, identity).await.unwrap()
    }

    /// The same, for identities that may be refused.
    pub async fn try_with(
        &self,
        pin: &str,
        identity: &Credentials,
    ) -> Result<Channel, tonic::transport::Error> {
        let config =
            tls::client_config(identity.identity(), self.verifier(pin).await, &[b"h2"], Versions::Tls13);
        self.dial(config.unwrap()).await
    }

    /// Believes the server that a token's hash vouches for, as an agent does: one that proves that it has the key of that
    /// hash gives its bundle; or the hash is that of a root, which may come from anywhere then.
    async fn verifier(&self, pin: &str) -> SpiffeVerifier {
        let mut pinned = Bundle::empty(self.settings.trust_domain.clone());
        let (proven, channel) = match self.by_key(NoIdentity, pin).await {
            Ok(channel) => (true, channel),
            Err(_) => (false, self.local().await),
        };
        let bundle = BundleClient::new(channel).get_bundle(GetBundleRequest::default()).await;
        let roots = bundle.unwrap().into_inner().x509_authorities.into_iter();
        let roots = roots.map(|root| CertificateDer::from(root.asn1));
        pinned.x509_authorities.extend(roots.filter(|root| proven || root_hash(root) == pin));
        let pinned = Arc::new(BundleSet::of(pinned));
        let server_id = SpiffeId::parse("spiffe://demo.org/spire/server").unwrap();
        SpiffeVerifier::new(move || Arc::clone(&pinned), authorize::one_of([server_id]))
    }

    /// As [`Self::anonymous`], from another address of this host.
    pub async fn anonymous_from(&self, from: Ipv4Addr, pin: &str) -> Channel {
        let config = self.anonymous_config(pin).await;
        self.dial_from(from, rustls::ClientConfig::clone(&config)).await.unwrap()
    }

    /// A TLS connection without an identity from that address, on which nothing is said.
    pub async fn idle_from(
        &self,
        from: Ipv4Addr,
        config: &Arc<rustls::ClientConfig>,
    ) -> TlsStream<TcpStream> {
        let stream = connect(from, self.address).await.unwrap();
        let name = self.address.ip().into();
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap()
    }

    /// TLS settings without an identity, for the server that `pin` names.
    pub async fn anonymous_config(&self, pin: &str) -> Arc<rustls::ClientConfig> {
        let verifier = self.verifier(pin).await;
        Arc::new(tls::client_config(NoIdentity, verifier, &[b"h2"], Versions::Tls13).unwrap())
    }

    /// A connection to the server that has the key of that hash.
    pub async fn by_key(
        &self,
        identity: impl IdentitySource + 'static,
        hash: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        let protocols: &[&[u8]] = &[b"h2", &bootstrap::alpn(hash)];
        let verifier = PinnedKey::new(hash.to_owned());
        self.dial(tls::client_config(identity, verifier, protocols, Versions::Tls13).unwrap()).await
    }

    /// Dials with any TLS settings.
    pub async fn dial(&self, config: rustls::ClientConfig) -> Result<Channel, tonic::transport::Error> {
        self.dial_from(Ipv4Addr::LOCALHOST, config).await
    }

    async fn dial_from(
        &self,
        from: Ipv4Addr,
        config: rustls::ClientConfig,
    ) -> Result<Channel, tonic::transport::Error> {
        let (address, connector) = (self.address, TlsConnector::from(Arc::new(config)));
        let connect = service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = connect(from, address).await?;
                let name = address.ip().into();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await
    }

    /// A new token, as it is handed out, and the pin in it.
    pub async fn token(&self, alias: Option<&str>) -> (String, String) {
        let request =
            CreateJoinTokenRequest { ttl: 600, token: String::new(), agent_id: alias.map(id_field) };
        let token =
            AgentClient::new(self.local().await).create_join_token(request).await.unwrap().into_inner().value;
        let pin = token.rsplit_once('.').unwrap().1.to_owned();
        (token, pin)
    }

    /// A token of any life.
    pub async fn long_token(&self, life: Duration) -> String {
        let ttl = i32::try_from(life.as_secs()).unwrap();
        let request = CreateJoinTokenRequest { ttl, token: String::new(), agent_id: None };
        let mut client = AgentClient::new(self.local().await);
        client.create_join_token(request).await.unwrap().into_inner().value
    }

    /// An agent that has joined with a fresh token.
    pub async fn agent(&self) -> Agent {
        let (token, pin) = self.token(None).await;
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let svid = attest(self.anonymous(&pin).await, &token, &key).await.unwrap();
        Agent { credentials: Credentials::new(&svid, key), pin, token }
    }

    /// Any identity of the trust domain.
    pub async fn mint(&self, id: &str) -> Credentials {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let csr = csr::create(&key, Some(&SpiffeId::parse(id).unwrap()), &[]).unwrap();
        let mut client = SvidClient::new(self.local().await);
        let minted = client.mint_x509svid(MintX509svidRequest { csr, ttl: 0 }).await.unwrap();
        Credentials::new(&minted.into_inner().svid.unwrap(), key)
    }

    /// Creates an entry and returns it with its ID.
    pub async fn create_entry(&self, entry: Entry) -> Entry {
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let created = EntryClient::new(self.local().await).batch_create_entry(request).await.unwrap();
        let result = created.into_inner().results.remove(0);
        assert_eq!(result.status.unwrap().code, 0);
        result.entry.unwrap()
    }
}

/// Connects from an address of this host.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap()
}

/// Asks for the SVID of an agent.
pub async fn attest(channel: Channel, token: &str, key: &PrivateKey) -> Result<X509svid, Status> {
    attest_by(channel, "join_token", token, key).await.map(|(svid, _)| svid)
}

/// The same by any attestor, with what comes beside the SVID.
pub async fn attest_by(
    channel: Channel,
    attestor: &str,
    payload: &str,
    key: &PrivateKey,
) -> Result<(X509svid, Vec<Vec<u8>>), Status> {
    let csr = csr::create(key, None, &[]).unwrap();
    let params = attest_agent_request::Params {
        data: Some(AttestationData { r#type: attestor.into(), payload: payload.as_bytes().to_vec() }),
        params: Some(AgentX509svidParams { csr }),
    };
    let request = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };
    let answer = AgentClient::new(channel).attest_agent(tokio_stream::once(request)).await?;
    let membership = bootstrap::membership(answer.metadata());
    match answer.into_inner().message().await?.unwrap().step.unwrap() {
        attest_agent_response::Step::Result(result) => {
            assert!(!result.reattestable);
            Ok((result.svid.unwrap(), membership))
        }
        attest_agent_response::Step::Challenge(_) => Err(Status::internal("a challenge that was not to be")),
    }
}

/// An SVID with its key.
#[derive(Clone)]
pub struct Credentials {
    pub id: String,
    pub chain: Vec<Vec<u8>>,
    pub key: PrivateKey,
}

impl Credentials {
    pub fn new(svid: &X509svid, key: PrivateKey) -> Self {
        let id = svid.id.as_ref().unwrap();
        Self { id: format!("spiffe://{}{}", id.trust_domain, id.path), chain: svid.cert_chain.clone(), key }
    }

    pub fn identity(&self) -> Identity {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        Identity::new(chain, self.key.pkcs8_der()).unwrap()
    }
}

/// An agent that has joined.
pub struct Agent {
    pub credentials: Credentials,
    pub pin: String,
    pub token: String,
}

impl Agent {
    pub async fn channel(&self, server: &TestServer) -> Channel {
        server.with(&self.pin, &self.credentials).await
    }

    pub async fn entries(&self, server: &TestServer) -> EntryClient<Channel> {
        EntryClient::new(self.channel(server).await)
    }

    pub async fn agents(&self, server: &TestServer) -> AgentClient<Channel> {
        AgentClient::new(self.channel(server).await)
    }

    pub async fn bundles(&self, server: &TestServer) -> BundleClient<Channel> {
        BundleClient::new(self.channel(server).await)
    }

    pub async fn svids(&self, server: &TestServer) -> SvidClient<Channel> {
        SvidClient::new(self.channel(server).await)
    }

    pub async fn watch(&self, server: &TestServer) -> WatchClient<Channel> {
        WatchClient::new(self.channel(server).await)
    }
}

/// An ID as it is sent.
pub fn id_field(id: &str) -> Spiffeid {
    (&SpiffeId::parse(id).unwrap()).into()
}

/// An entry for a workload of one user.
pub fn entry(id: &str, parent: &str, uid: u32) -> Entry {
    Entry {
        spiffe_id: Some(id_field(id)),
        parent_id: Some(id_field(parent)),
        selectors: vec![Selector { r#type: "unix".into(), value: format!("uid:{uid}") }],
        ..Entry::default()
    }
}
