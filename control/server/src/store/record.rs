//! The values that the store keeps. All times are Unix seconds, as on the wire; all TTLs are seconds.

use std::fmt;

use svidecar_authority::UnixTime;
use svidecar_id::{SpiffeId, TrustDomain};

use super::StoreError;

/// Longest entry ID in bytes, as in SPIRE.
const MAX_ENTRY_ID_BYTES: usize = 255;
/// Longest hint in bytes, as in SPIRE.
const MAX_HINT_BYTES: usize = 1024;
/// Most selectors, DNS names or federated trust domains of one entry.
const MAX_LIST: usize = 1000;

/// The attestation type of agents that joined by a token.
pub const JOIN_TOKEN: &str = "join_token";

/// A moment as it is stored and sent.
#[must_use]
pub fn unix_seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// One fact about a workload or a node, such as `unix:uid:1000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// The attestor's name; not empty, without `:`.
    pub kind: String,
    /// The rest; not empty, may contain `:`.
    pub value: String,
}

impl Selector {
    /// A selector from its two parts.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: kind.into(), value: value.into() }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// A registration entry: workloads with these selectors, on agents below this parent, get this SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRecord {
    /// The entry's ID; empty in a new one lets the store choose a UUID.
    pub id: String,
    /// The identity it gives.
    pub spiffe_id: SpiffeId,
    /// An agent, a node alias, or `spiffe://TD/spire/server` for a node alias itself.
    pub parent_id: SpiffeId,
    /// What a workload must show, all of them; in the order given, without duplicates.
    pub selectors: Vec<Selector>,
    /// TTL of X.509-SVIDs, 0 for the server's default.
    pub x509_svid_ttl: i32,
    /// TTL of JWT-SVIDs, 0 for the server's default.
    pub jwt_svid_ttl: i32,
    /// Trust domains whose bundles the workload gets.
    pub federates_with: Vec<TrustDomain>,
    /// May use the administration API over TCP.
    pub admin: bool,
    /// May have a CA certificate signed.
    pub downstream: bool,
    /// When the entry ends; 0 is never.
    pub expires_at: i64,
    /// DNS names of its X.509-SVIDs; the first is the subject's common name too.
    pub dns_names: Vec<String>,
    /// Counts the updates.
    pub revision: i64,
    /// Whether the SVID is meant for an SVID store.
    pub store_svid: bool,
    /// Tells the workload which of its SVIDs this is.
    pub hint: String,
    /// When it was created.
    pub created_at: i64,
    /// Whether agents issue its X.509-SVID only when asked.
    pub disable_x509_svid_prefetch: bool,
    /// Whether its JWT-SVIDs carry a `jti`.
    pub jwt_svid_include_jti: bool,
}

impl EntryRecord {
    /// A new entry with nothing but the required parts.
    #[must_use]
    pub fn new(spiffe_id: SpiffeId, parent_id: SpiffeId, selectors: Vec<Selector>) -> Self {
        Self {
            id: String::new(),
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: Vec::new(),
            admin: false,
            downstream: false,
            expires_at: 0,
            dns_names: Vec::new(),
            revision: 0,
            store_svid: false,
            hint: String::new(),
            created_at: 0,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        }
    }

    /// Whether this is the entry that `CreateJoinToken` makes for a token's agent ID; it goes with the agent.
    #[must_use]
    pub fn is_token_alias(&self) -> bool {
        matches!(self.selectors.as_slice(), [only] if only.kind == "spiffe_id" && only.value == self.parent_id.as_str())
    }

    /// Drops duplicates in the lists, keeping the first of each.
    pub(super) fn dedupe(&mut self) {
        dedupe(&mut self.selectors);
        dedupe(&mut self.federates_with);
        dedupe(&mut self.dns_names);
    }

    /// SPIRE's rules for an entry, and bounds on its lists.
    pub(super) fn validate(&self) -> Result<(), StoreError> {
        let invalid = |what: &str| Err(StoreError::Invalid(format!("invalid registration entry: {what}")));
        if self.selectors.is_empty() {
            return invalid("missing selector list");
        }
        if self.selectors.iter().any(|s| s.kind.is_empty() || s.kind.contains(':') || s.value.is_empty()) {
            return invalid("a selector must be formatted as type:value, with no `:` in the type");
        }
        if self.id.len() > MAX_ENTRY_ID_BYTES {
            return invalid("entry ID too long");
        }
        if !self.id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
            return invalid("entry ID contains invalid characters");
        }
        if self.x509_svid_ttl < 0 || self.jwt_svid_ttl < 0 || self.expires_at < 0 {
            return invalid("a TTL or expiry is negative");
        }
        if self.hint.len() > MAX_HINT_BYTES {
            return invalid("hint is too long, max length is 1024 characters");
        }
        if self.selectors.len().max(self.dns_names.len()).max(self.federates_with.len()) > MAX_LIST {
            return invalid("more than 1000 selectors, DNS names or federated trust domains");
        }
        if self.store_svid {
            if self.disable_x509_svid_prefetch {
                return invalid("specifying cache behaviour is incompatible with storable SVIDs");
            }
            let mut kinds = self.selectors.iter().map(|s| &s.kind);
            let first = kinds.next();
            if !kinds.all(|kind| Some(kind) == first) {
                return invalid("selector types must be the same when store SVID is enabled");
            }
        }
        Ok(())
    }
}

fn dedupe<T: Clone + Eq + std::hash::Hash>(list: &mut Vec<T>) {
    let mut seen = std::collections::HashSet::with_capacity(list.len());
    list.retain(|item| seen.insert(item.clone()));
}

/// What became of a new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was stored, with its ID and creation time.
    New(EntryRecord),
    /// An entry with the same SPIFFE ID, parent ID and selectors (or the same entry ID) was there, and stays as it is.
    Similar(EntryRecord),
}

/// An attested node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// The agent's SPIFFE ID.
    pub id: SpiffeId,
    /// How it attested, such as `join_token`.
    pub attestation_type: String,
    /// Serial number of the SVID it was last seen with, decimal; empty when banned.
    pub serial: String,
    /// When that SVID ends.
    pub expires_at: i64,
    /// Serial number of a renewed SVID that was not seen yet; empty when there is none.
    pub new_serial: String,
    /// When the renewed SVID ends.
    pub new_expires_at: i64,
    /// Whether it may attest again.
    pub can_reattest: bool,
    /// What it last reported.
    pub agent_version: String,
    /// What is known about the node.
    pub selectors: Vec<Selector>,
}

impl AgentRecord {
    /// Whether it may not act any more.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        self.serial.is_empty()
    }
}

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The secret.
    pub token: String,
    /// End of its life.
    pub expires_at: i64,
    /// Whether another key may use it while it lives.
    pub reusable: bool,
    /// The use that it is bound to: the first, or the latest by another key if it is reusable.
    pub used: Option<TokenUse>,
}

impl TokenRecord {
    /// What names the token without being it.
    #[must_use]
    pub fn id(&self) -> String {
        crate::ids::token_digest(&self.token)
    }
}

/// Who used a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// SHA-256 of the agent's public key, hex.
    pub key_fingerprint: String,
    /// The agent's network address.
    pub from: String,
    /// When.
    pub at: i64,
}

/// The authorities of one trust domain, our own or a federated one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRecord {
    /// Whose.
    pub trust_domain: TrustDomain,
    /// Roots of X.509-SVIDs.
    pub x509_authorities: Vec<X509Authority>,
    /// Keys of JWT-SVIDs.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// How often to look for a new one, seconds; 0 when not given.
    pub refresh_hint: i64,
    /// Grows with each change.
    pub sequence: u64,
}

/// A root of X.509-SVIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct X509Authority {
    /// The certificate.
    pub der: Vec<u8>,
    /// Whether what it signed is to be replaced.
    pub tainted: bool,
}

/// A key of JWT-SVIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JwtAuthority {
    /// Its `kid`.
    pub key_id: String,
    /// The public key, PKIX DER.
    pub spki_der: Vec<u8>,
    /// When it ends; 0 is not told.
    pub expires_at: i64,
    /// Whether what it signed is to be replaced.
    pub tainted: bool,
}

impl BundleRecord {
    /// A bundle with no authorities.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            refresh_hint: 0,
            sequence: 0,
        }
    }

    /// Adds the authorities that are not there yet (by certificate, by key ID). A change raises the sequence number.
    pub fn append(&mut self, x509: Vec<X509Authority>, jwt: Vec<JwtAuthority>) {
        let before = (self.x509_authorities.len(), self.jwt_authorities.len());
        for authority in x509 {
            if !self.x509_authorities.iter().any(|known| known.der == authority.der) {
                self.x509_authorities.push(authority);
            }
        }
        for authority in jwt {
            if !self.jwt_authorities.iter().any(|known| known.key_id == authority.key_id) {
                self.jwt_authorities.push(authority);
            }
        }
        if before != (self.x509_authorities.len(), self.jwt_authorities.len()) {
            self.sequence += 1;
        }
    }

    /// Keeps the authorities that the two questions answer with true. A change raises the sequence number.
    pub fn retain(
        &mut self,
        x509: impl FnMut(&X509Authority) -> bool,
        jwt: impl FnMut(&JwtAuthority) -> bool,
    ) {
        let before = (self.x509_authorities.len(), self.jwt_authorities.len());
        self.x509_authorities.retain(x509);
        self.jwt_authorities.retain(jwt);
        if before != (self.x509_authorities.len(), self.jwt_authorities.len()) {
            self.sequence += 1;
        }
    }
}
