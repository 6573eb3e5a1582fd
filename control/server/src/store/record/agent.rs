//! An attested node: its serial numbers (two of them while a renewal is under way), and banning.

use svidecar_id::SpiffeId;

use super::{EntryRecord, Selector, columns::columns};
use crate::store::error::StoreError;

/// The attestation type of agents that joined by a token.
pub const JOIN_TOKEN: &str = "join_token";

/// In place of a serial number, which an agent that is not banned has.
const UNKNOWN: &str = "0";

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
    /// SHA-256 of the key of the SVID in use, hex; empty where an earlier version signed it.
    pub key_sha256: String,
    /// The same of the renewed SVID.
    pub new_key_sha256: String,
    /// How many SVIDs were signed for it, as far as is known. Which of two is the later one, no clock could tell.
    pub generation: i64,
    /// When an SVID was signed for it last.
    pub issued_at: i64,
    /// Until when it may come back at most.
    pub member_until: i64,
    /// Whether it may attest again.
    pub can_reattest: bool,
    /// What it last reported.
    pub agent_version: String,
    /// What is known about the node.
    pub selectors: Vec<Selector>,
}

/// An SVID that was signed for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Its serial number.
    pub serial: String,
    /// When it ends.
    pub expires_at: i64,
    /// SHA-256 of its key, hex.
    pub key_sha256: String,
    /// Which one of the agent's it is at least.
    pub generation: i64,
    /// When it was signed.
    pub issued_at: i64,
    /// Until when whoever has its key may come back.
    pub member_until: i64,
}

/// What an agent that comes back has proven: that we signed for this key of its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The agent.
    pub id: SpiffeId,
    /// SHA-256 of the key, hex.
    pub key_sha256: String,
    /// Which one of the agent's SVIDs that was.
    pub generation: i64,
    /// When that was.
    pub issued_at: i64,
    /// Serial number of what proves it.
    pub serial: String,
    /// Its network address now.
    pub from: String,
}

columns!(AgentRecord {
    id,
    attestation_type,
    serial,
    expires_at,
    new_serial,
    new_expires_at,
    key_sha256,
    new_key_sha256,
    generation,
    issued_at,
    member_until,
    can_reattest,
    agent_version,
} lists { selectors });

impl AgentRecord {
    /// An agent of which nothing is known yet but that it joined.
    #[must_use]
    pub fn unknown(id: SpiffeId) -> Self {
        Self {
            id,
            attestation_type: JOIN_TOKEN.to_owned(),
            serial: UNKNOWN.to_owned(),
            expires_at: 0,
            new_serial: String::new(),
            new_expires_at: 0,
            key_sha256: String::new(),
            new_key_sha256: String::new(),
            generation: 0,
            issued_at: 0,
            member_until: 0,
            can_reattest: false,
            agent_version: String::new(),
            selectors: Vec::new(),
        }
    }

    /// Whether it may not act any more.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        self.serial.is_empty()
    }

    /// That it may act, and attest again.
    ///
    /// # Errors
    /// [`StoreError::AgentBanned`].
    pub fn check_not_banned(&self) -> Result<(), StoreError> {
        if self.is_banned() {
            return Err(StoreError::AgentBanned { id: self.id.to_string() });
        }
        Ok(())
    }

    /// Remembers the SVID of a renewal beside the one in use.
    ///
    /// # Errors
    /// [`StoreError::AgentBanned`].
    pub fn renew(&mut self, signed: Signed) -> Result<(), StoreError> {
        self.check_not_banned()?;
        self.new_serial = signed.serial;
        self.new_expires_at = signed.expires_at;
        self.new_key_sha256 = signed.key_sha256;
        self.generation = signed.generation.max(self.generation + 1);
        self.issued_at = self.issued_at.max(signed.issued_at);
        self.member_until = self.member_until.max(signed.member_until);
        Ok(())
    }

    /// Whether it has the SVIDs that the other one has.
    #[must_use]
    pub fn same_svids(&self, other: &Self) -> bool {
        self.serial == other.serial && self.new_serial == other.new_serial
    }

    /// The SVID in use, as it was signed.
    #[must_use]
    pub fn signed(&self) -> Signed {
        Signed {
            serial: self.serial.clone(),
            expires_at: self.expires_at,
            key_sha256: self.key_sha256.clone(),
            generation: self.generation,
            issued_at: self.issued_at,
            member_until: self.member_until,
        }
    }

    /// The renewed SVID, as it was signed.
    #[must_use]
    pub fn signed_anew(&self) -> Signed {
        Signed {
            serial: self.new_serial.clone(),
            expires_at: self.new_expires_at,
            key_sha256: self.new_key_sha256.clone(),
            ..self.signed()
        }
    }

    /// Whether an SVID that is in use, or may be, is for this key.
    #[must_use]
    pub fn has_key(&self, key_sha256: &str) -> bool {
        !key_sha256.is_empty()
            && [&self.key_sha256, &self.new_key_sha256].into_iter().any(|key| key == key_sha256)
    }

    /// Renews it for whoever has proven that a key was its own once. The key has to be one that is known; or it was given to
    /// the agent after all that is known of it, as when the store was restored from before that, and then is the one in use.
    ///
    /// # Errors
    /// [`StoreError::AgentBanned`]; [`StoreError::AgentSuperseded`] when the agent has had another key since.
    pub fn come_back(&mut self, member: Member, signed: Signed) -> Result<(), StoreError> {
        self.check_not_banned()?;
        if member.key_sha256 == self.new_key_sha256 {
            let renewed = self.new_serial.clone();
            self.see(&renewed);
        } else if member.key_sha256 != self.key_sha256 {
            if member.generation <= self.generation {
                return Err(StoreError::AgentSuperseded { id: self.id.to_string() });
            }
            self.generation = member.generation;
            self.serial = member.serial;
            self.expires_at = member.issued_at;
            self.key_sha256 = member.key_sha256;
        }
        self.renew(signed)
    }

    /// It was seen with an SVID of that serial number. The renewed one becomes the one in use; any other changes nothing.
    pub fn see(&mut self, serial: &str) {
        if !self.is_banned() && !serial.is_empty() && self.new_serial == serial {
            self.serial = std::mem::take(&mut self.new_serial);
            self.expires_at = std::mem::take(&mut self.new_expires_at);
            self.key_sha256 = std::mem::take(&mut self.new_key_sha256);
        }
    }

    /// From now on none of its SVIDs is good any more.
    pub fn ban(&mut self) {
        self.serial.clear();
        self.new_serial.clear();
        self.new_expires_at = 0;
        self.key_sha256.clear();
        self.new_key_sha256.clear();
    }

    /// Whether it is named after a join token, so that nobody can be it who has not that token.
    #[must_use]
    pub fn joined_by_token(&self) -> bool {
        self.attestation_type == JOIN_TOKEN
    }
}

/// An agent that was evicted or banned, and what went with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// As it was, or as it is now that it is banned.
    pub agent: AgentRecord,
    /// The entries below it that were deleted.
    pub entries: Vec<EntryRecord>,
}
