//! What the agent keeps on disk, so that a restart needs neither a token nor the server.
//!
//! Owns the files in the data directory: `agent.json` (our key, SVID and the trust domain's bundle),
//! `workloads.json` (entries with their keys and SVIDs, other trust domains' bundles), and, while another server is
//! being joined, `joining.json` (its key). All hold private keys: mode 0600, in a directory of mode 0700, replaced
//! atomically. What cannot be read stops the agent, except the second, which is only a cache.

pub mod file;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use svidecar_authority::{CertificateDer, bundle::Bundle, key::PrivateKey};
use svidecar_id::TrustDomain;
use svidecar_process::private;
use zeroize::Zeroizing;

use crate::{entry::Entry, error::AgentError, svid::HeldSvid};

/// Grows when a file's form changes.
const VERSION: u32 = 1;

/// The agent's own state.
pub struct AgentState {
    /// Made before the first contact: a repeated attestation with the same key is the same attestation.
    pub key: PrivateKey,
    /// None until attested.
    pub svid: Option<Arc<HeldSvid>>,
    /// The trust domain's bundle; none until the server was met.
    pub bundle: Option<Arc<Bundle>>,
    /// How it came to trust its server.
    pub joined: Joined,
}

/// How the agent came to trust its server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// Whether the first contact trusted whoever answered.
    pub insecure_bootstrap: bool,
    /// [`JoinToken::digest`](crate::join::JoinToken::digest) of the token that it joined with. None before it has
    /// joined.
    pub token_digest: Option<String>,
}

/// A token that is being used, beside the state that holds until it was.
pub struct Joining {
    /// Its digest.
    pub token_digest: String,
    /// The key that it may be bound to already.
    pub key: PrivateKey,
}

/// What there was for workloads.
#[derive(Default)]
pub struct WorkloadState {
    /// Entries, with SVIDs as far as signed.
    pub entries: Vec<(Entry, Option<HeldSvid>)>,
    /// Bundles of other trust domains.
    pub bundles: Vec<Bundle>,
}

#[derive(Serialize, Deserialize)]
struct AgentFile {
    version: u32,
    trust_domain: TrustDomain,
    key: SecretPem,
    chain: Vec<String>,
    #[serde(default)]
    membership: Vec<String>,
    obtained: u64,
    bundle: Option<String>,
    insecure_bootstrap: bool,
    #[serde(default)]
    token_digest: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct JoiningFile {
    token_digest: String,
    key: SecretPem,
}

#[derive(Serialize, Deserialize)]
struct WorkloadFile {
    version: u32,
    trust_domain: TrustDomain,
    entries: Vec<EntryRecord>,
    bundles: Vec<BundleRecord>,
}

#[derive(Serialize, Deserialize)]
struct EntryRecord {
    entry: Entry,
    svid: Option<SvidRecord>,
}

#[derive(Serialize, Deserialize)]
struct SvidRecord {
    chain: Vec<String>,
    key: SecretPem,
    obtained: u64,
}

#[derive(Serialize, Deserialize)]
struct BundleRecord {
    trust_domain: TrustDomain,
    document: String,
}

/// A private key on its way to or from disk. No `Debug`, wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct SecretPem(Zeroizing<String>);

impl SecretPem {
    fn of(key: &PrivateKey) -> Self {
        Self(key.to_pkcs8_pem())
    }

    fn read(&self) -> Result<PrivateKey, String> {
        PrivateKey::from_pem(self.0.as_bytes()).map_err(|error| error.to_string())
    }
}

/// The data directory.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    trust_domain: TrustDomain,
}

impl Store {
    /// The state of an agent of `trust_domain` in `directory`.
    #[must_use]
    pub fn new(directory: &Path, trust_domain: TrustDomain) -> Self {
        Self { directory: directory.to_owned(), trust_domain }
    }

    /// Makes the directory with mode 0700 if it is missing, and [checks](Self::check) one that is there.
    ///
    /// # Errors
    /// When it cannot be made, or is not ours alone.
    pub fn prepare(&self) -> Result<(), AgentError> {
        file::make_directory(&self.directory)?;
        self.check()
    }

    /// Checks that the directory, if it is there, is ours, and its files are secret.
    ///
    /// # Errors
    /// [`AgentError::Exposed`] with what mends it.
    pub fn check(&self) -> Result<(), AgentError> {
        private::check_directory(&self.directory)?;
        for path in [self.agent_path(), self.workloads_path(), self.joining_path()] {
            private::check_keys(&path)?;
        }
        Ok(())
    }

    /// Works with the files, off the threads that must not wait.
    ///
    /// # Errors
    /// As `work`, or [`AgentError::Stopping`] when it was interrupted.
    pub async fn off_the_async_threads<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, AgentError> + Send + 'static,
    ) -> Result<T, AgentError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(AgentError::Stopping))
    }

    /// Our own state; none before the first start.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load_agent(&self) -> Result<Option<AgentState>, AgentError> {
        let path = self.agent_path();
        let Some(bytes) = file::read(&path)? else { return Ok(None) };
        let damaged = |reason: String| AgentError::Damaged { path: path.clone(), reason };
        let record: AgentFile = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.version != VERSION {
            return Err(damaged(format!("it has version {}, expected {VERSION}", record.version)));
        }
        if record.trust_domain != self.trust_domain {
            let (found, expected) = (record.trust_domain, self.trust_domain.clone());
            return Err(AgentError::OtherTrustDomain { path, found, expected });
        }
        let key = record.key.read().map_err(damaged)?;
        let svid = if record.chain.is_empty() {
            None
        } else {
            let chain = decode_chain(&record.chain).map_err(damaged)?;
            let svid = HeldSvid::read(chain, key.clone(), from_seconds(record.obtained)).map_err(damaged)?;
            let membership = decode_chain(&record.membership).map_err(damaged)?;
            let membership = membership.iter().map(|certificate| certificate.to_vec()).collect();
            Some(Arc::new(svid.with_membership(membership)))
        };
        let bundle = record
            .bundle
            .map(|text| read_bundle(&self.trust_domain, &text).map(Arc::new))
            .transpose()
            .map_err(damaged)?;
        let joined =
            Joined { insecure_bootstrap: record.insecure_bootstrap, token_digest: record.token_digest };
        Ok(Some(AgentState { key, svid, bundle, joined }))
    }

    /// Replaces our own state.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_agent(&self, state: &AgentState) -> Result<(), AgentError> {
        let svid = state.svid.as_deref();
        self.write(
            &self.agent_path(),
            &AgentFile {
                version: VERSION,
                trust_domain: self.trust_domain.clone(),
                key: SecretPem::of(&state.key),
                chain: svid.map(|svid| encode_chain(&svid.chain)).unwrap_or_default(),
                membership: svid
                    .and_then(|svid| svid.membership.as_ref())
                    .map(|membership| encode_chain(&membership.chain()))
                    .unwrap_or_default(),
                obtained: svid.map_or(0, |svid| to_seconds(svid.obtained)),
                bundle: state.bundle.as_deref().and_then(document),
                insecure_bootstrap: state.joined.insecure_bootstrap,
                token_digest: state.joined.token_digest.clone(),
            },
        )
    }

    /// The token that is being used to join another server, if one is.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load_joining(&self) -> Result<Option<Joining>, AgentError> {
        let path = self.joining_path();
        let Some(bytes) = file::read(&path)? else { return Ok(None) };
        let damaged = |reason: String| AgentError::Damaged { path: path.clone(), reason };
        let record: JoiningFile =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let key = record.key.read().map_err(damaged)?;
        Ok(Some(Joining { token_digest: record.token_digest, key }))
    }

    /// Notes the token that will be used to join another server, and the key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_joining(&self, joining: &Joining) -> Result<(), AgentError> {
        let Joining { token_digest, key } = joining;
        let file = JoiningFile { token_digest: token_digest.clone(), key: SecretPem::of(key) };
        self.write(&self.joining_path(), &file)
    }

    /// The token was used, and what came of it is on disk.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn forget_joining(&self) -> Result<(), AgentError> {
        file::remove(&self.joining_path())
    }

    /// What there was for workloads. A damaged file is an empty cache, with the reason.
    ///
    /// # Errors
    /// Why the cache cannot be used.
    pub fn load_workloads(&self) -> Result<WorkloadState, AgentError> {
        let path = self.workloads_path();
        let Some(bytes) = file::read(&path)? else { return Ok(WorkloadState::default()) };
        let damaged = |reason: String| AgentError::Damaged { path: path.clone(), reason };
        let record: WorkloadFile =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.version != VERSION || record.trust_domain != self.trust_domain {
            return Err(damaged("it is of another version or trust domain".into()));
        }
        let entries = record
            .entries
            .into_iter()
            .map(|EntryRecord { entry, svid }| Ok((entry, svid.as_ref().map(read_svid).transpose()?)))
            .collect::<Result<_, String>>()
            .map_err(damaged)?;
        let bundles = record
            .bundles
            .iter()
            .map(|bundle| read_bundle(&bundle.trust_domain, &bundle.document))
            .collect::<Result<_, String>>()
            .map_err(damaged)?;
        Ok(WorkloadState { entries, bundles })
    }

    /// Replaces what there is for workloads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_workloads(
        &self,
        entries: &[(Arc<Entry>, Option<Arc<HeldSvid>>)],
        bundles: &[Arc<Bundle>],
    ) -> Result<(), AgentError> {
        let entries = entries
            .iter()
            .map(|(entry, svid)| EntryRecord {
                entry: Entry::clone(entry),
                svid: svid.as_ref().map(|svid| SvidRecord {
                    chain: encode_chain(&svid.chain),
                    key: SecretPem::of(&svid.key),
                    obtained: to_seconds(svid.obtained),
                }),
            })
            .collect();
        let bundles = bundles
            .iter()
            .filter_map(|bundle| {
                Some(BundleRecord { trust_domain: bundle.trust_domain.clone(), document: document(bundle)? })
            })
            .collect();
        let trust_domain = self.trust_domain.clone();
        self.write(&self.workloads_path(), &WorkloadFile { version: VERSION, trust_domain, entries, bundles })
    }

    /// Moves all identities aside: the server has banned or deleted this agent. A new attestation makes a new key. The last
    /// that were moved aside are kept, in a directory beside.
    ///
    /// # Errors
    /// When a file is there and cannot be moved.
    pub fn set_aside(&self) -> Result<(), AgentError> {
        self.forget_joining()?;
        let aside = self.directory.join("evicted");
        file::make_directory(&aside)?;
        // Our own last: as long as it is there, so is the agent.
        for path in [self.workloads_path(), self.agent_path()] {
            file::move_into(&path, &aside)?;
        }
        Ok(())
    }

    fn joining_path(&self) -> PathBuf {
        self.directory.join("joining.json")
    }

    fn agent_path(&self) -> PathBuf {
        self.directory.join("agent.json")
    }

    fn workloads_path(&self) -> PathBuf {
        self.directory.join("workloads.json")
    }

    fn write(&self, path: &Path, content: &impl Serialize) -> Result<(), AgentError> {
        let bytes = serde_json::to_vec(content).map_err(|error| AgentError::File {
            what: "write",
            path: path.to_owned(),
            source: error.into(),
        })?;
        file::write(path, &Zeroizing::new(bytes))
    }
}

fn read_svid(record: &SvidRecord) -> Result<HeldSvid, String> {
    HeldSvid::read(decode_chain(&record.chain)?, record.key.read()?, from_seconds(record.obtained))
}

/// None for a bundle that has no document, which one that was read from the server always has.
fn document(bundle: &Bundle) -> Option<String> {
    bundle.to_spiffe_json().ok()
}

fn read_bundle(trust_domain: &TrustDomain, text: &str) -> Result<Bundle, String> {
    Bundle::from_spiffe_json(trust_domain.clone(), text.as_bytes()).map_err(|error| error.to_string())
}

fn encode_chain(chain: &[CertificateDer<'_>]) -> Vec<String> {
    chain.iter().map(|certificate| BASE64.encode(certificate)).collect()
}

fn decode_chain(chain: &[String]) -> Result<Vec<CertificateDer<'static>>, String> {
    chain
        .iter()
        .map(|text| BASE64.decode(text).map(CertificateDer::from).map_err(|error| error.to_string()))
        .collect()
}

fn to_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn from_seconds(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests;
