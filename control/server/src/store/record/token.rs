//! Join tokens: one life, and one key at a time.
//!
//! The first use binds a token to the key of the agent that used it. The same key may repeat the request while
//! the token lives, so that a lost answer leaves no node behind. Another key gets in only if the token was made
//! reusable; then it takes the place of the key before. Whoever was evicted does not get in by it again.

use svidecar_id::SpiffeId;

use super::{Barred, Eviction};
use crate::store::error::StoreError;

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// What names it: a hash of the secret (`ids::token_digest`), by which it is found and which is
    /// no use to anybody else.
    pub id: String,
    /// End of its life.
    pub expires_at: i64,
    /// Whether another key may use it while it lives.
    pub reusable: bool,
    /// The use that it is bound to: the first, or the latest by another key if it is reusable.
    pub used: Option<TokenUse>,
    /// Who may not use it any more, in the order of their keys.
    pub barred: Vec<Barred>,
}

impl TokenRecord {
    /// One that is new.
    #[must_use]
    pub const fn new(id: String, expires_at: i64, reusable: bool) -> Self {
        Self { id, expires_at, reusable, used: None, barred: Vec::new() }
    }

    /// Uses it: the first use binds it, and so does the next key's use of one that is reusable.
    ///
    /// # Errors
    /// [`StoreError::TokenEvicted`] with who evicted its agent, and when; [`StoreError::TokenUsed`] with who was first, when,
    /// and from where; [`StoreError::TokenExpired`]. Then it is as before.
    pub fn consume(&mut self, by: TokenUse) -> Result<Consumed, StoreError> {
        self.check_not_barred(&by.key_fingerprint)?;
        let expired = by.at >= self.expires_at;
        let consumed = match &self.used {
            Some(before) if before.key_fingerprint == by.key_fingerprint => Consumed::Repeated,
            Some(before) if self.reusable => Consumed::Replaced(before.clone()),
            Some(first) => {
                return Err(StoreError::TokenUsed {
                    used_by: first.key_fingerprint.clone(),
                    used_at: first.at,
                    used_from: first.from.clone(),
                });
            }
            None => Consumed::First,
        };
        if expired {
            return Err(StoreError::TokenExpired { expired_at: self.expires_at });
        }
        match &mut self.used {
            // A version before did not note which agent it was.
            Some(used) if consumed == Consumed::Repeated => used.agent = by.agent,
            used => *used = Some(by),
        }
        Ok(consumed)
    }

    /// That an agent with this key may be one by this token.
    ///
    /// # Errors
    /// [`StoreError::TokenEvicted`].
    pub fn check_not_barred(&self, key: &str) -> Result<(), StoreError> {
        let barred = self.barred.iter().find(|barred| barred.key.as_deref().is_none_or(|known| known == key));
        barred.map_or(Ok(()), |Barred { eviction: Eviction { by, at }, .. }| {
            Err(StoreError::TokenEvicted { by: by.clone(), at: *at })
        })
    }

    /// The key that is barred when the agent of this token is evicted; none for every key. A reusable one is for a machine
    /// that begins anew with another key, and that machine may.
    #[must_use]
    pub fn key_to_bar(&self) -> Option<String> {
        self.used.as_ref().filter(|_| self.reusable).map(|used| used.key_fingerprint.clone())
    }
}

/// Who used a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// The agent that it became. Versions before did not note it.
    pub agent: Option<SpiffeId>,
    /// SHA-256 of the agent's public key, hex.
    pub key_fingerprint: String,
    /// The agent's network address.
    pub from: String,
    /// When.
    pub at: i64,
}

/// What a use of a token was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// The first.
    First,
    /// By the key that it is bound to.
    Repeated,
    /// By another key than that of the use before, which a reusable token allows.
    Replaced(TokenUse),
}
