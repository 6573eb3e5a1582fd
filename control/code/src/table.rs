//! The table itself, by who meets the code first. To add one: a line here, a heading in `docs/troubleshooting.md`.

use crate::fault::Fault;

macro_rules! codes {
    (@status) => { 500 };
    (@status $status:literal, $grpc:literal) => { $status };
    (@grpc) => { 2 };
    (@grpc $status:literal, $grpc:literal) => { $grpc };
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal $(($($answer:literal),+))? $fault:ident;)+) => {
        /// A stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The HTTP status of an answer in place of an upstream's; 500 where no request meets the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => codes!(@status $($($answer),+)?)),+ }
            }

            /// The same for a client of gRPC.
            #[must_use]
            pub const fn grpc(self) -> u8 {
                match self { $(Self::$variant => codes!(@grpc $($($answer),+)?)),+ }
            }

            /// Who has to do something about it.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault),+ }
            }
        }
    };
}

codes! {
    // What the other end's certificate is or is not.
    /// No certificate in the chain.
    NoCertificate = "no_certificate" (502, 14) Peer;
    /// More certificates than are looked at.
    ChainTooLong = "chain_too_long" (502, 14) Peer;
    /// A certificate that cannot be read.
    MalformedCertificate = "malformed_certificate" (502, 14) Peer;
    /// No URI name, so no SPIFFE ID.
    NoUriSan = "no_uri_san" (502, 14) Peer;
    /// More than one URI name.
    MultipleUriSan = "multiple_uri_san" (502, 14) Peer;
    /// What should be a SPIFFE ID is none.
    InvalidSpiffeId = "invalid_spiffe_id" (502, 14) Peer;
    /// The ID of a trust domain, not of a workload.
    NoPath = "no_path" (502, 14) Peer;
    /// A CA certificate in place of an SVID.
    LeafIsCa = "leaf_is_ca" (502, 14) Peer;
    /// An SVID that may sign certificates.
    LeafSignsCertificates = "leaf_signs_certificates" (502, 14) Peer;
    /// A certificate that may not authenticate.
    LeafCannotSign = "leaf_cannot_sign" (502, 14) Peer;
    /// No bundle for the other end's trust domain.
    UnknownTrustDomain = "unknown_trust_domain" (502, 14) Configuration;
    /// A bundle without valid authorities.
    EmptyBundle = "empty_bundle" (502, 14) Configuration;
    /// The chain leads to no root of the bundle.
    UntrustedRoot = "untrusted_root" (502, 14) Peer;
    /// A signature does not verify.
    BadSignature = "bad_signature" (502, 14) Peer;
    /// Past its end.
    Expired = "expired" (502, 14) Peer;
    /// Before its beginning.
    NotYetValid = "not_yet_valid" (502, 14) Peer;
    /// The chain breaks another rule of RFC 5280.
    InvalidChain = "invalid_chain" (502, 14) Peer;
    /// Authentic, but not who is expected.
    IdNotAllowed = "id_not_allowed" (502, 14) Configuration;

    // The handshake.
    /// The peer presented no certificate.
    NoClientCert = "no_client_cert" (502, 14) Peer;
    /// The other end does not speak TLS.
    PeerSpokePlaintext = "peer_spoke_plaintext" (502, 14) Peer;
    /// The other end ended the handshake with an alert.
    PeerRejectedUs = "peer_rejected_us" (502, 14) Peer;
    /// The other end closed before or in the handshake.
    PeerClosed = "peer_closed" (502, 14) Peer;
    /// The handshake took too long.
    HandshakeTimeout = "handshake_timeout" (504, 14) Peer;
    /// No version, cipher or group in common.
    TlsIncompatible = "tls_incompatible" (502, 14) Peer;
    /// No application protocol in common.
    NoCommonProtocol = "no_common_protocol" (502, 14) Peer;
    /// Another failure of TLS.
    TlsFailed = "tls_failed" (502, 14) Peer;
    /// There is no valid SVID, or none for this caller.
    NoIdentity = "no_identity" (503, 14) Us;
    /// The SVID of ours that a connection was made with is of an identity that is not ours any more.
    IdentityReplaced = "identity_replaced" (503, 14) Us;

    // The request and its decision.
    /// A deny rule, or the policy's default, says no.
    DeniedByRule = "denied_by_rule" (403, 7) Peer;
    /// The path can be read in two ways.
    AmbiguousPath = "ambiguous_path" (400, 13) Peer;
    /// The request breaks the rules of HTTP.
    BadRequest = "bad_request" (400, 13) Peer;
    /// A method that is not served there.
    MethodNotAllowed = "method_not_allowed" (405, 2) Peer;
    /// A transfer coding or a protocol that is not served there.
    NotImplemented = "not_implemented" (501, 2) Peer;
    /// A version of HTTP that nobody here speaks.
    VersionNotSupported = "version_not_supported" (505, 2) Peer;
    /// The target of the request is larger than allowed.
    TargetTooLong = "target_too_long" (414, 2) Peer;
    /// The head of the request is larger than allowed.
    HeadersTooLarge = "headers_too_large" (431, 2) Peer;
    /// The head of the request did not come in time.
    RequestTimeout = "request_timeout" (408, 2) Peer;
    /// The client went away before the response was complete.
    ClientClosed = "client_closed" (499, 2) Peer;

    // The upstream: the workload behind an inbound listener, the server behind an outbound one.
    /// The upstream's name does not resolve.
    UpstreamUnresolved = "upstream_unresolved" (503, 14) Upstream;
    /// The upstream refused the connection.
    UpstreamRefused = "upstream_refused" (503, 14) Upstream;
    /// The upstream refused to open a tunnel.
    TunnelRefused = "tunnel_refused" (502, 14) Upstream;
    /// There is no way to the upstream.
    UpstreamUnreachable = "upstream_unreachable" (503, 14) Upstream;
    /// The connection to the upstream took too long.
    UpstreamConnectTimeout = "upstream_connect_timeout" (504, 14) Upstream;
    /// The upstream did not begin its response in time.
    UpstreamResponseTimeout = "upstream_response_timeout" (504, 14) Upstream;
    /// The upstream sent more interim responses to one request than are passed on.
    TooManyInterimResponses = "too_many_interim_responses" (502, 14) Upstream;
    /// A request took longer than a request may as a whole.
    DeadlineExceeded = "deadline_exceeded" (504, 14) Upstream;
    /// The upstream closed before its response was complete.
    UpstreamClosed = "upstream_closed" (502, 14) Upstream;
    /// The upstream broke the rules of its protocol.
    UpstreamProtocolError = "upstream_protocol_error" (502, 14) Upstream;
    /// Another failure toward the upstream.
    UpstreamFailed = "upstream_failed" (502, 14) Upstream;

    // The life of a connection.
    /// The process may have no more descriptors.
    OutOfDescriptors = "out_of_descriptors" (503, 14) Us;
    /// Memory is nearly used up, and nobody holds more of it than this caller.
    MemoryShort = "memory_short" (503, 14) Peer;
    /// The caller has as many of the listener's connections as it may.
    TooManyConnections = "too_many_connections" (503, 14) Peer;
    /// The caller has as many of the listener's requests as it may.
    TooManyRequests = "too_many_requests" (503, 14) Peer;
    /// The listener has as many connections to its upstream as it may.
    TooManyUpstreamConnections = "too_many_upstream_connections" (503, 14) Us;
    /// The caller has as many unfinished heads as it may.
    TooManyUnfinished = "too_many_unfinished" (503, 14) Peer;
    /// The peer's SVID expired while it was connected.
    PeerExpired = "peer_expired" (403, 7) Peer;
    /// A new policy or bundle does not accept the peer any more.
    NoLongerAllowed = "no_longer_allowed" (403, 7) Peer;
    /// The proxy is shutting down.
    Draining = "draining" (503, 14) Us;

    // Starting a program.
    /// Settings or policies that are wrong, each with its place.
    InvalidConfiguration = "invalid_configuration" Configuration;
    /// A file that the settings name cannot be read.
    UnreadableFile = "unreadable_file" Configuration;
    /// An address cannot be listened on.
    CannotListen = "cannot_listen" Configuration;
    /// The address of the Workload API is none.
    InvalidWorkloadApi = "invalid_workload_api" Configuration;
    /// The log cannot be set up as the settings say.
    InvalidLog = "invalid_log" Configuration;
    /// A level of the log that is none.
    InvalidLogLevel = "invalid_log_level" Configuration;
    /// Logging was started before.
    LoggingSetUpTwice = "logging_set_up_twice" Us;
    /// The proxy's TLS cannot be set up.
    TlsSetupFailed = "tls_setup_failed" Us;
    /// The system refused what a program cannot do without.
    SystemRefused = "system_refused" Us;
    /// There is no command to be wrapped.
    NoCommand = "no_command" Configuration;
    /// The wrapped command cannot be started.
    CannotStartApp = "cannot_start_app" Configuration;
    /// The wrapped command cannot be waited for.
    CannotWaitForApp = "cannot_wait_for_app" Us;
    /// A task that a program cannot do without ended.
    TaskLost = "task_lost" Us;
    /// A thread of the proxy ended.
    WorkerEnded = "worker_ended" Us;
    /// The network namespace died with the container that it belonged to.
    NetworkLost = "network_lost" Us;

    // A workload and its agent.
    /// The first answer of the Workload API is yet to come.
    Waiting = "waiting" Us;
    /// The identity is what the Workload API last said: no failure.
    Current = "current" Us;
    /// There is no socket where the Workload API should be.
    SocketMissing = "socket_missing" Configuration;
    /// Nobody serves the socket.
    SocketRefused = "socket_refused" Us;
    /// The socket may not be used by this user.
    SocketPermissionDenied = "socket_permission_denied" Configuration;
    /// An administration socket is served by another user.
    SocketForeign = "socket_foreign" Configuration;
    /// The socket cannot be used for another reason.
    SocketError = "socket_error" Us;
    /// No registration entry fits the workload.
    NoIdentityIssued = "no_identity_issued" Configuration;
    /// The agent could not tell who calls.
    CallerNotAttested = "caller_not_attested" Us;
    /// The agent does not answer.
    AgentUnavailable = "agent_unavailable" Us;
    /// The stream of identities broke.
    StreamLost = "stream_lost" Us;
    /// What the agent answered cannot be used.
    InvalidAnswer = "invalid_answer" Us;
    /// The agent gave an SVID that nobody who has its bundle would accept.
    SvidNotVerified = "svid_not_verified" Us;

    // The agent and its callers.
    /// The caller's process has ended.
    ProcessGone = "process_gone" Workload;
    /// The caller's process is not visible.
    ProcHidden = "proc_hidden" Configuration;
    /// The engine that knows containers does not answer.
    EngineUnavailable = "engine_unavailable" Us;
    /// The caller became another user while it was asked about.
    CredentialsChanged = "credentials_changed" Workload;
    /// A caller runs another program than when it connected.
    ProgramChanged = "program_changed" Workload;
    /// Two processes have one connection to the agent.
    SharedConnection = "shared_connection" Workload;
    /// A caller has sent nothing that shows that it is still there.
    CallerSilent = "caller_silent" Workload;
    /// A user of the host has its share of what the agent can do at the same time.
    QuotaExceeded = "quota_exceeded" Workload;
    /// The caller is in another PID namespace.
    OtherPidNamespace = "other_pid_namespace" Configuration;
    /// What the system says of the caller cannot be read.
    ProcUnreadable = "proc_unreadable" Us;
    /// The caller comes from another machine.
    NotLoopback = "not_loopback" Workload;
    /// Nobody on this machine owns the caller's socket.
    NoSocketOwner = "no_socket_owner" Workload;
    /// The socket does not say who calls.
    NoCredentials = "no_credentials" Us;
    /// Looking at the caller was interrupted.
    Interrupted = "interrupted" Us;

    // The agent and its server.
    /// The agent has no join token and no SVID.
    NoJoinToken = "no_join_token" Configuration;
    /// The join token has another form.
    BadJoinToken = "bad_join_token" Configuration;
    /// There is nothing by which the server could be known at first contact.
    NoBootstrap = "no_bootstrap" Configuration;
    /// The bundle for the first contact cannot be had.
    BootstrapFailed = "bootstrap_failed" Configuration;
    /// The server presents another root than the one that the token names.
    PinMismatch = "pin_mismatch" Peer;
    /// The server does not answer.
    ServerUnreachable = "server_unreachable" Us;
    /// The server refused what the agent asked.
    ServerRefused = "server_refused" Configuration;
    /// The server's chain leads to no root that the agent knows.
    ServerUntrusted = "server_untrusted" Configuration;
    /// The server is a new one of the same trust domain.
    ServerReplaced = "server_replaced" Configuration;
    /// The server took too long.
    ServerLate = "server_late" Us;
    /// What the server answered cannot be used.
    ServerAnswer = "server_answer" Us;
    /// The server refused the join token.
    TokenRefused = "token_refused" Configuration;
    /// The agent's state is of another trust domain.
    OtherTrustDomain = "other_trust_domain" Configuration;
    /// The server has evicted or banned the agent.
    AgentEvicted = "agent_evicted" Configuration;
    /// The agent's SVID has expired.
    AgentExpired = "agent_expired" Us;
    /// Another agent goes by the same identity, with a newer key.
    AgentSuperseded = "agent_superseded" Configuration;
    /// The server does not know the agent, or not as it is.
    AgentDoubted = "agent_doubted" Configuration;
    /// Another agent uses this one's identity.
    IdentitySuperseded = "identity_superseded" Configuration;
    /// The server does not sign an SVID for an entry.
    SignRefused = "sign_refused" Configuration;
    /// The agent's state on disk is not what it wrote.
    StateDamaged = "state_damaged" Us;
    /// A file or directory that others own, or may read or change.
    FileExposed = "file_exposed" Configuration;
    /// A file of the agent cannot be read or written.
    File = "file" Us;
    /// A key cannot be made or read.
    Key = "key" Us;

    // Tokens (JWT-SVIDs).
    /// More bytes than a token may have.
    TokenTooLong = "token_too_long" Peer;
    /// The JSON form of JWS, which the standard forbids.
    TokenJsonForm = "token_json_form" Peer;
    /// A token that cannot be read.
    MalformedToken = "malformed_token" Peer;
    /// An algorithm that the standard does not allow.
    AlgorithmNotAllowed = "algorithm_not_allowed" Peer;
    /// The key is for another algorithm.
    AlgorithmMismatch = "algorithm_mismatch" Peer;
    /// `typ` is neither JWT nor JOSE.
    WrongTokenType = "wrong_token_type" Peer;
    /// A critical header that nobody here knows.
    CriticalHeader = "critical_header" Peer;
    /// The token does not say which key signed it.
    NoKeyId = "no_key_id" Peer;
    /// The bundle has no such key.
    UnknownKey = "unknown_key" Peer;
    /// The token is for nobody.
    NoAudience = "no_audience" Peer;
    /// The token is for somebody else.
    WrongAudience = "wrong_audience" Peer;
    /// The token does not say when it ends.
    NoExpiry = "no_expiry" Peer;

    // The certificate authority.
    /// An SVID would live longer than the CA that signs it.
    TtlOverCa = "ttl_over_ca" Configuration;
    /// The CA lives too short for what it has to do.
    CaTtlTooShort = "ca_ttl_too_short" Configuration;
    /// The subject of the CA's certificate cannot be had.
    CaSubject = "ca_subject" Configuration;
    /// The CA's keys cannot be read or written.
    CaKeys = "ca_keys" Us;
    /// The CA's journal cannot be read.
    CaJournal = "ca_journal" Us;
    /// JWT-SVIDs are off.
    JwtSvidsDisabled = "jwt_svids_disabled" Configuration;
    /// The key for JWT-SVIDs has expired.
    JwtKeyExpired = "jwt_key_expired" Us;
    /// The server's own SVID is not renewed.
    RenewalOverdue = "renewal_overdue" Us;
    /// The CA's certificate is not valid now.
    AuthorityNotValid = "authority_not_valid" Us;
    /// An ID of a trust domain that this CA does not sign for.
    ForeignTrustDomain = "foreign_trust_domain" Configuration;

    // Keys, certificates and bundles.
    /// The cryptography library failed.
    CryptoFailed = "crypto_failed" Us;
    /// A private key that cannot be used.
    BadPrivateKey = "bad_private_key" Configuration;
    /// A public key that cannot be used.
    UnsupportedPublicKey = "unsupported_public_key" Configuration;
    /// A type of key that is none.
    UnknownKeyType = "unknown_key_type" Configuration;
    /// Certificate and key do not belong together.
    KeyMismatch = "key_mismatch" Configuration;
    /// PEM that cannot be read.
    BadPem = "bad_pem" Configuration;
    /// A certificate signing request that cannot be used.
    BadCsr = "bad_csr" Peer;
    /// A certificate that may not sign others.
    NotAnAuthority = "not_an_authority" Configuration;
    /// An SVID that would end at once.
    ZeroTtl = "zero_ttl" Configuration;
    /// A DNS name that is none.
    BadDnsName = "bad_dns_name" Configuration;
    /// A field of a certificate that cannot be written.
    BadField = "bad_field" Configuration;
    /// A bundle that cannot be read.
    BadBundle = "bad_bundle" Configuration;
    /// Claims that no token may have.
    BadClaims = "bad_claims" Configuration;

    // The server and its database.
    /// Settings of the server that are wrong.
    Settings = "settings" Configuration;
    /// An address of the server or the agent cannot be listened on.
    Listen = "listen" Configuration;
    /// The administrators' socket cannot be had.
    SocketBind = "socket_bind" Configuration;
    /// Signals cannot be followed.
    Signals = "signals" Us;
    /// TLS cannot be set up.
    TlsSetup = "tls_setup" Us;
    /// The description of the gRPC services cannot be built.
    Reflection = "reflection" Us;
    /// The gRPC server stopped.
    Serve = "serve" Us;
    /// The database cannot be opened.
    StoreOpen = "store_open" Us;
    /// Another server has the database.
    StoreInUse = "store_in_use" Configuration;
    /// A newer server has written the database.
    StoreNewerSchema = "store_newer_schema" Configuration;
    /// A change could not be made durable.
    StoreCommit = "store_commit" Us;
    /// The database's thread cannot be started.
    StoreThread = "store_thread" Us;
    /// SQLite failed.
    StoreSqlite = "store_sqlite" Us;
    /// What the database holds is not what a server wrote.
    StoreCorrupt = "store_corrupt" Us;
    /// The database is closed.
    StoreClosed = "store_closed" Us;
    /// The server does not believe its clock.
    ClockDoubtful = "clock_doubtful" Us;
    /// The program is stopping.
    Stopping = "stopping" Us;

    // What administrators and agents ask for.
    /// There is no such thing.
    NotFound = "not_found" Configuration;
    /// There is one already.
    AlreadyExists = "already_exists" Configuration;
    /// What was asked for is not possible.
    Invalid = "invalid" Configuration;
    /// An entry federates with a bundle that is not there.
    UnknownFederatedBundle = "unknown_federated_bundle" Configuration;
    /// Entries need the bundle.
    BundleInUse = "bundle_in_use" Configuration;
    /// A page token that nobody gave out.
    BadPageToken = "bad_page_token" Configuration;
    /// The changes that are asked for are no longer kept.
    EventsPruned = "events_pruned" Us;
    /// There is no such join token.
    TokenUnknown = "token_unknown" Configuration;
    /// The join token has expired.
    TokenExpired = "token_expired" Configuration;
    /// Another agent has used the join token.
    TokenUsed = "token_used" Configuration;
    /// The join token's agent was evicted or banned.
    TokenEvicted = "token_evicted" Configuration;
    /// A backup cannot be taken or restored.
    BackupUnusable = "backup_unusable" Configuration;
    /// The agent is banned.
    AgentBanned = "agent_banned" Configuration;
}
