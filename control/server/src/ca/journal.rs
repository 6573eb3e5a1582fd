//! The CA's journal as it lies in the store: which authorities there are and what each is. No secrets in it.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use svidecar_authority::{UnixTime, time::from_secs};

use super::{CaError, schedule::Life};

/// The name of our journal. Servers that share a store will each have their own.
pub(super) const NAME: &str = "local";

const VERSION: u32 = 1;

/// A kind of authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signs X.509-SVIDs.
    X509,
    /// Signs JWT-SVIDs.
    Jwt,
}

/// Both kinds of authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    pub(super) x509: Vec<Entry>,
    pub(super) jwt: Vec<Entry>,
}

/// What an authority is at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Published, does not sign yet.
    Prepared,
    /// Signs.
    Active,
    /// Signs no more; stays published until what it signed has expired.
    Old,
}

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Subject key ID or `kid`.
    pub(super) id: String,
    pub(super) status: Status,
    /// Certificate or `SubjectPublicKeyInfo`, base64 of DER.
    public: String,
    issued_at: u64,
    not_after: u64,
}

impl Journal {
    pub(super) const fn new() -> Self {
        Self { version: VERSION, x509: Vec::new(), jwt: Vec::new() }
    }

    /// The journal after a step that left these authorities. Those that were there and are no longer become old. While
    /// JWT-SVIDs are disabled, what is known of their keys stays as it is.
    pub(super) fn with(
        &self,
        x509: impl Iterator<Item = Entry>,
        jwt: Option<impl Iterator<Item = Entry>>,
    ) -> Self {
        let jwt = jwt.map_or_else(|| self.jwt.clone(), |jwt| merged(&self.jwt, jwt.collect()));
        Self { version: VERSION, x509: merged(&self.x509, x509.collect()), jwt }
    }

    /// The journal without what ended before that moment.
    pub(super) fn pruned(&self, forgotten_before: UnixTime) -> Self {
        let keep = |entries: &[Entry]| {
            entries
                .iter()
                .filter(|entry| entry.status != Status::Old || entry.life().not_after >= forgotten_before)
                .cloned()
                .collect()
        };
        Self { version: VERSION, x509: keep(&self.x509), jwt: keep(&self.jwt) }
    }

    pub(super) fn read(data: &[u8]) -> Result<Self, CaError> {
        let journal: Self =
            serde_json::from_slice(data).map_err(|error| CaError::Journal { reason: error.to_string() })?;
        if journal.version != VERSION {
            return Err(CaError::Journal {
                reason: format!("its version is {}; we know {VERSION}", journal.version),
            });
        }
        Ok(journal)
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, CaError> {
        serde_json::to_vec(self).map_err(|error| CaError::Journal { reason: error.to_string() })
    }
}

impl Entry {
    pub(super) fn new(id: &str, status: Status, public: &[u8], life: Life) -> Self {
        Self {
            id: id.to_owned(),
            status,
            public: STANDARD.encode(public),
            issued_at: life.issued_at.as_secs(),
            not_after: life.not_after.as_secs(),
        }
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, CaError> {
        STANDARD
            .decode(&self.public)
            .map_err(|error| CaError::Journal { reason: format!("authority {}: {error}", self.id) })
    }

    pub(super) fn life(&self) -> Life {
        Life { issued_at: from_secs(self.issued_at), not_after: from_secs(self.not_after) }
    }
}

/// `before`, with those that are not among `current` turned old.
fn merged(before: &[Entry], mut current: Vec<Entry>) -> Vec<Entry> {
    let mut entries = before
        .iter()
        .filter(|entry| !current.iter().any(|kept| kept.id == entry.id))
        .map(|entry| Entry { status: Status::Old, ..entry.clone() })
        .collect::<Vec<_>>();
    entries.append(&mut current);
    entries
}
