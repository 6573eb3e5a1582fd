//! What can go wrong in the store, said to an operator.

use std::path::PathBuf;

use svidecar_code::Code;

/// A failure of the store. Each has a stable [`StoreError::code`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database file or its directory cannot be opened.
    #[error("cannot open the database {}: {reason}; check `data_dir` and its owner", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process has the file open for writing.
    #[error(
        "the database {} is in use by another svidecar-server; stop that one, or give this one its own `data_dir`",
        path.display()
    )]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The file was written by a later version of the program.
    #[error(
        "the database has schema {found}, this version knows up to {known}; start the newer version that wrote it"
    )]
    NewerSchema {
        /// The version in the file.
        found: u32,
        /// The latest version this program knows.
        known: u32,
    },
    /// The system gives no thread to write with.
    #[error("cannot start the database's thread: {0}; check the limit of processes (`ulimit -u`)")]
    Thread(#[source] std::io::Error),
    /// The database refused a statement.
    #[error("database error: {error}")]
    Database {
        /// The kind of database has its own code.
        code: Code,
        /// What it said.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The transaction could not be made durable; nothing of it is kept.
    #[error("the database could not commit: {reason}; check free space and the disk's health")]
    Commit {
        /// What the database said.
        reason: String,
    },
    /// A row does not hold what this program writes.
    #[error("the database holds an unreadable {what}: {reason}; restore the file from a backup")]
    Corrupt {
        /// The kind of value.
        what: &'static str,
        /// Why it cannot be read.
        reason: String,
    },
    /// The store is shutting down.
    #[error("the database is closed because the server is stopping")]
    Closed,
    /// There is no such object.
    #[error("{what} `{key}` not found")]
    NotFound {
        /// `entry`, `agent` or `bundle`.
        what: &'static str,
        /// The ID that was asked for.
        key: String,
    },
    /// An object of that name exists.
    #[error("{what} `{key}` already exists")]
    AlreadyExists {
        /// `entry`, `bundle` or `join token`.
        what: &'static str,
        /// Its ID.
        key: String,
    },
    /// A value breaks a rule of the store.
    #[error("{0}")]
    Invalid(String),
    /// An entry federates with a trust domain that has no bundle here.
    #[error(
        "unable to find federated bundle \"{trust_domain}\"; set it first with `bundle set -id spiffe://{trust_domain}`"
    )]
    UnknownFederatedBundle {
        /// The trust domain.
        trust_domain: String,
    },
    /// A bundle cannot go while entries federate with it.
    #[error(
        "cannot delete bundle; federated with {entries} registration entries (delete them with `-mode delete`, or keep them with `-mode dissociate`)"
    )]
    BundleInUse {
        /// How many entries.
        entries: u64,
    },
    /// The agent may not come back until it is deleted.
    #[error("agent `{id}` is banned")]
    AgentBanned {
        /// The agent's SPIFFE ID.
        id: String,
    },
    /// The agent was evicted, and what was signed for it before does not let it come back.
    #[error(
        "agent `{id}` was evicted or banned at Unix time {at} by {by}; if its machine is to come back, generate another token"
    )]
    AgentEvicted {
        /// The agent's SPIFFE ID.
        id: String,
        /// The administrator who did.
        by: String,
        /// When, Unix seconds.
        at: i64,
    },
    /// The agent has had another key since.
    #[error(
        "agent `{id}` has had another key since this one; its data is from before that, or a copy of it runs elsewhere"
    )]
    AgentSuperseded {
        /// The agent's SPIFFE ID.
        id: String,
    },
    /// No such join token, or it was pruned after its end.
    #[error("join token does not exist or has already been used")]
    TokenUnknown,
    /// The token's life is over.
    #[error("join token expired (at Unix time {expired_at}); generate another with `token generate`")]
    TokenExpired {
        /// End of its life, Unix seconds.
        expired_at: i64,
    },
    /// The token is bound to the key of another agent.
    #[error(
        "join token was already used with another key: at Unix time {used_at} from {used_from}, key SHA-256 {used_by}; \
         if that was not your agent, evict it, and generate another token; for a machine that keeps no data, generate one \
         that is -reusable"
    )]
    TokenUsed {
        /// SHA-256 of the first user's public key, hex.
        used_by: String,
        /// When, Unix seconds.
        used_at: i64,
        /// The first user's network address.
        used_from: String,
    },
    /// The agent that the token made was evicted or banned.
    #[error(
        "the agent of this join token was evicted or banned at Unix time {at} by {by}; if its machine is to come back, generate \
         another token"
    )]
    TokenEvicted {
        /// The administrator who did.
        by: String,
        /// When, Unix seconds.
        at: i64,
    },
    /// The events after that position are no longer all there.
    #[error("events after position {asked} were pruned (the oldest is {oldest}); take a snapshot")]
    EventsPruned {
        /// The position that was asked for.
        asked: u64,
        /// The first position still there.
        oldest: u64,
    },
    /// A page token that this store did not give out.
    #[error("could not parse token '{0}'")]
    BadPageToken(String),
}

impl StoreError {
    /// Whether the disk or the database could not do it, rather than a rule forbids it.
    #[must_use]
    pub const fn is_of_disk(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::Commit { .. })
    }

    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Open { .. } => Code::StoreOpen,
            Self::InUse { .. } => Code::StoreInUse,
            Self::NewerSchema { .. } => Code::StoreNewerSchema,
            Self::Thread(_) => Code::StoreThread,
            Self::Database { code, .. } => *code,
            Self::Commit { .. } => Code::StoreCommit,
            Self::Corrupt { .. } => Code::StoreCorrupt,
            Self::Closed => Code::StoreClosed,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::Invalid(_) => Code::Invalid,
            Self::UnknownFederatedBundle { .. } => Code::UnknownFederatedBundle,
            Self::BundleInUse { .. } => Code::BundleInUse,
            Self::AgentBanned { .. } => Code::AgentBanned,
            Self::AgentEvicted { .. } => Code::AgentEvicted,
            Self::AgentSuperseded { .. } => Code::AgentSuperseded,
            Self::TokenUnknown => Code::TokenUnknown,
            Self::TokenExpired { .. } => Code::TokenExpired,
            Self::TokenUsed { .. } => Code::TokenUsed,
            Self::TokenEvicted { .. } => Code::TokenEvicted,
            Self::EventsPruned { .. } => Code::EventsPruned,
            Self::BadPageToken(_) => Code::BadPageToken,
        }
    }

    pub(super) fn corrupt(what: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt { what, reason: reason.to_string() }
    }

    pub(super) fn not_found(what: &'static str, key: impl ToString) -> Self {
        Self::NotFound { what, key: key.to_string() }
    }
}
