//! An attested node: its serial numbers (two of them while a renewal is under way), and banning.

use svidecar_id::SpiffeId;

use super::{EntryRecord, Selector, columns::columns};
use crate::store::error::StoreError;

/// The attestation type of agents that joined by a token.
pub const JOIN_TOKEN: &str = "join_token";

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

columns!(AgentRecord {
    id,
    attestation_type,
    serial,
    expires_at,
    new_serial,
    new_expires_at,
    can_reattest,
    agent_version,
} lists { selectors });

impl AgentRecord {
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
    pub fn renew(&mut self, serial: String, expires_at: i64) -> Result<(), StoreError> {
        self.check_not_banned()?;
        self.new_serial = serial;
        self.new_expires_at = expires_at;
        Ok(())
    }

    /// It was seen with an SVID of that serial number. The renewed one becomes the one in use; any other changes nothing.
    pub fn see(&mut self, serial: &str) {
        if !self.is_banned() && !serial.is_empty() && self.new_serial == serial {
            self.serial = std::mem::take(&mut self.new_serial);
            self.expires_at = std::mem::take(&mut self.new_expires_at);
        }
    }

    /// From now on none of its SVIDs is good any more.
    pub fn ban(&mut self) {
        self.serial.clear();
        self.new_serial.clear();
        self.new_expires_at = 0;
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
