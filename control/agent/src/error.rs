//! What can go wrong in an agent, in sentences for its operator.
//!
//! Every error has a stable `code()`, the same in logs, metrics and documentation.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use svidecar_code::Code;
use svidecar_id::{SpiffeId, TrustDomain};
use svidecar_process::{WrapperError, private::Exposed, source::Source, tasks::Lost};

/// Why a caller could not be attested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The kernel gave PID 0.
    #[error(
        "the caller is in another PID namespace than the agent, so the kernel does not say which process it is. \
         Three ways out: run the agent in the host's PID namespace (`pid: host` in Compose, `hostPID: true` in \
         Kubernetes); let the two share one (`pid: \"service:AGENT\"` of the workload in Compose, \
         `shareProcessNamespace: true` of the pod in Kubernetes); or run both in one container \
         (`svidecar-agent run … -- COMMAND`)"
    )]
    OtherPidNamespace,
    /// The process lives and `/proc` does not show it.
    #[error(
        "process {pid} lives, but the agent's /proc does not show it: it is mounted with hidepid, or it is of another \
         PID namespace. Run the agent as root, and with the /proc of its own PID namespace"
    )]
    ProcHidden {
        /// The PID that connected.
        pid: i32,
    },
    /// The process exited before it was attested, or its PID was given to another.
    #[error("process {pid} is gone, so its identity cannot be decided")]
    Gone {
        /// The PID that connected.
        pid: i32,
    },
    /// The process changed user or group since it connected.
    #[error(
        "process {pid} connected with {connected} and now has {now}; connect again after dropping privileges"
    )]
    CredentialsChanged {
        /// The PID that connected.
        pid: i32,
        /// What the kernel said of the connection.
        connected: String,
        /// What `/proc` says.
        now: String,
    },
    /// The process runs another program than when it connected.
    #[error(
        "process {pid} runs another program than the one that connected; the program that is to have an identity has to \
         connect itself"
    )]
    ProgramChanged {
        /// The PID that connected.
        pid: i32,
    },
    /// A program that a TCP caller could have been given the connection for.
    #[error(
        "process {pid} runs a set-user-ID or set-group-ID program, which may have been started with a connection of \
         somebody else's; let it use the Unix socket"
    )]
    BorrowedIds {
        /// The PID that connected.
        pid: i32,
    },
    /// Two processes have one connection.
    #[error(
        "process {other} has the connection of process {pid} as well{}, so that nothing tells which of them is to have the \
         identity; each process has to connect itself, and a connection must not be inherited or passed on",
        if *other == 0 { " (it is in another PID namespace)" } else { "" }
    )]
    SharedConnection {
        /// The PID that connected.
        pid: i32,
        /// The other; 0 if the kernel does not say.
        other: i32,
    },
    /// The process that was pinned has not been heard.
    #[error(
        "process {pid} was the one that connected, but has sent nothing since within {} s: it has passed the connection \
         on, or does not acknowledge the settings of HTTP/2",
        after.as_secs()
    )]
    Silent {
        /// The PID that connected.
        pid: i32,
        /// How long we waited.
        after: Duration,
    },
    /// The kernel wrote something else than documented.
    #[error("/proc/{pid}/{file} has not the form that proc(5) describes")]
    Unreadable {
        /// The process.
        pid: i32,
        /// The file.
        file: &'static str,
    },
    /// A system call failed.
    #[error("cannot {what} for process {pid}: {source}")]
    Io {
        /// The process.
        pid: i32,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A TCP caller from elsewhere.
    #[error("{peer} is not on loopback; the Workload API over TCP serves this host only")]
    NotLoopback {
        /// The caller's address.
        peer: SocketAddr,
    },
    /// A TCP caller whose process was not found.
    #[error(
        "no process is seen to hold the caller's end of the TCP connection; use the Unix socket, or run the agent as root \
         so that it sees all processes"
    )]
    NoSocketOwner,
    /// `/proc/net/tcp` could not be read.
    #[error("cannot read the kernel's socket table: {source}")]
    SocketTable {
        /// What the system said.
        source: io::Error,
    },
    /// The caller's user has too many others looked at.
    #[error("{user} has as many callers looked at as it may at the same time; try again")]
    Busy {
        /// The user.
        user: Source,
    },
    /// The transport did not say who calls.
    #[error("the transport does not say which process calls")]
    NoCredentials,
    /// The agent is shutting down.
    #[error("attestation was interrupted")]
    Interrupted,
}

impl AttestError {
    /// Stable, for logs and metrics.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::OtherPidNamespace => Code::OtherPidNamespace,
            Self::ProcHidden { .. } => Code::ProcHidden,
            Self::Gone { .. } => Code::ProcessGone,
            Self::CredentialsChanged { .. } | Self::BorrowedIds { .. } => Code::CredentialsChanged,
            Self::Unreadable { .. } | Self::Io { .. } | Self::SocketTable { .. } => Code::ProcUnreadable,
            Self::NotLoopback { .. } => Code::NotLoopback,
            Self::ProgramChanged { .. } => Code::ProgramChanged,
            Self::SharedConnection { .. } => Code::SharedConnection,
            Self::Silent { .. } => Code::CallerSilent,
            Self::NoSocketOwner => Code::NoSocketOwner,
            Self::Busy { .. } => Code::QuotaExceeded,
            Self::NoCredentials => Code::NoCredentials,
            Self::Interrupted => Code::Interrupted,
        }
    }
}

/// Why the agent cannot start or go on, or why one of its exchanges with the server failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A file of ours cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours is not ours alone.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// A file of ours is not what we wrote.
    #[error("{} is damaged: {reason}; remove it to attest again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data directory belongs to another trust domain.
    #[error("{} holds an agent of `{found}`, but the settings say `{expected}`; use another data_dir", path.display())]
    OtherTrustDomain {
        /// The state file.
        path: PathBuf,
        /// The trust domain in it.
        found: TrustDomain,
        /// The trust domain of the settings.
        expected: TrustDomain,
    },
    /// Nothing to begin with.
    #[error(
        "this agent has no SVID yet and no join token; make one with `svidecar-server token generate` and \
         give it as join_token or join_token_file"
    )]
    NoJoinToken,
    /// A token that is not one.
    #[error("the join token `{shown}…` is not of the form TOKEN or TOKEN.HASH, where HASH has 64 hex digits")]
    BadJoinToken {
        /// The first characters.
        shown: String,
    },
    /// Nothing says which server to trust.
    #[error(
        "nothing says which server to trust: use a token of the form TOKEN.HASH, or set trust_bundle_path or \
         trust_bundle_url (or insecure_bootstrap on a network where nobody else answers)"
    )]
    NoBootstrap,
    /// The bundle that should start our trust cannot be used.
    #[error("cannot get the trust bundle from {from}: {reason}")]
    Bootstrap {
        /// The file or URL.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// The server has neither the key nor the root that the token names.
    #[error(
        "the server at {server} is not the one that the join token was made by: its bootstrap key is another, and none \
         of its {roots} root certificates has the SHA-256 {pin}; check server_address, or make a new token"
    )]
    PinMismatch {
        /// Its address.
        server: String,
        /// How many roots it showed.
        roots: usize,
        /// The hash in the token.
        pin: String,
    },
    /// The server could not be reached, or the handshake failed.
    #[error("cannot reach the server at {server}: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// Why, as far as known.
        reason: String,
    },
    /// The server that answers is not one that our bundle verifies.
    #[error("cannot reach the server at {server}: {reason}")]
    Untrusted {
        /// Its address.
        server: String,
        /// What the verifier said.
        reason: String,
    },
    /// The server is another one than the agent joined, and nothing says that it may be believed.
    #[error(
        "the server at {server} is not the one that this agent joined: {seen}; {why}. If the server was replaced, make \
         a token with `svidecar-server token generate` there and put the whole TOKEN.HASH into join_token_file (it is read \
         again by itself) or join_token, or remove data_dir and start with it; if not, somebody else answers at that address"
    )]
    ServerReplaced {
        /// Its address.
        server: String,
        /// What the verifier said.
        seen: String,
        /// Why the join token that is there, if one is, does not help.
        why: String,
    },
    /// The server answered with an error.
    #[error("the server refused {what}: {} ({:?})", status.message(), status.code())]
    Refused {
        /// The call.
        what: &'static str,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// The server does not accept the join token. Who used it before us is in its log, not in its answer.
    #[error(
        "the server refused the join token: {}; its log says why, and who used it; make another with \
         `svidecar-server token generate`",
        .0.message()
    )]
    TokenRefused(Box<tonic::Status>),
    /// The server did not answer in time.
    #[error("the server did not answer {what} within {} s", after.as_secs_f32())]
    Late {
        /// The call.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The server answered with something that cannot be.
    #[error("the server's answer to {what} cannot be used: {reason}")]
    BadAnswer {
        /// The call.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server has banned or deleted this agent.
    #[error(
        "the server does not accept this agent any more ({id}: {reason}); its identities were moved aside. \
         Start it with a new join token to join again"
    )]
    Evicted {
        /// The agent's ID.
        id: SpiffeId,
        /// SPIRE's reason.
        reason: &'static str,
    },
    /// The server does not accept this agent as it is, which a database that was restored from a backup can be the reason of.
    #[error(
        "the server does not accept this agent as it is: {reason}; the agent keeps what it has and goes on asking. If it \
         cannot come back by itself, put a new join token into join_token_file"
    )]
    Doubted {
        /// What the server or the handshake said.
        reason: String,
        /// Whether a server that was verified said it. A handshake can be ended by anybody in between.
        by_server: bool,
    },
    /// An answer to an identity that had been renewed meanwhile.
    #[error("the agent's SVID was renewed during {what}; it is tried again with the new one")]
    Superseded {
        /// The call.
        what: &'static str,
    },
    /// Our own SVID ended while the server was away.
    #[error("this agent's SVID ended and the server was not reached in time; start it with a new join token")]
    Expired,
    /// A socket of ours cannot be had.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The socket.
        address: String,
        /// Why.
        reason: String,
    },
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopping,
    /// A key could not be made or used.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// One of the agent's parts is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The command of `run -- COMMAND` cannot be run.
    #[error(transparent)]
    Command(#[from] WrapperError),
}

impl AgentError {
    /// Stable, for logs and metrics.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::File,
            Self::Exposed(error) => error.code(),
            Self::Damaged { .. } => Code::StateDamaged,
            Self::OtherTrustDomain { .. } => Code::OtherTrustDomain,
            Self::NoJoinToken => Code::NoJoinToken,
            Self::BadJoinToken { .. } => Code::BadJoinToken,
            Self::NoBootstrap => Code::NoBootstrap,
            Self::Bootstrap { .. } => Code::BootstrapFailed,
            Self::PinMismatch { .. } => Code::PinMismatch,
            Self::Unreachable { .. } => Code::ServerUnreachable,
            Self::Untrusted { .. } => Code::ServerUntrusted,
            Self::ServerReplaced { .. } => Code::ServerReplaced,
            Self::Refused { .. } => Code::ServerRefused,
            Self::TokenRefused(_) => Code::TokenRefused,
            Self::Late { .. } => Code::ServerLate,
            Self::BadAnswer { .. } => Code::ServerAnswer,
            Self::Evicted { .. } => Code::AgentEvicted,
            Self::Doubted { .. } => Code::AgentDoubted,
            Self::Superseded { .. } => Code::IdentitySuperseded,
            Self::Expired => Code::AgentExpired,
            Self::Listen { .. } => Code::Listen,
            Self::Stopping => Code::Stopping,
            Self::Key(_) => Code::Key,
            Self::Lost(lost) => lost.code(),
            Self::Command(error) => error.code(),
        }
    }
}
