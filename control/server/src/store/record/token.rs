//! Join tokens: one life, and one key at a time.
//!
//! The first use binds a token to the key of the agent that used it. The same key may repeat the request while
//! the token lives, so that a lost answer leaves no node behind. Another key gets in only if the token was made
//! reusable; then it takes the place of the key before.

use crate::store::error::StoreError;

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

    /// Uses it: the first use binds it, and so does the next key's use of one that is reusable.
    ///
    /// # Errors
    /// [`StoreError::TokenUsed`] with who was first, when, and from where; [`StoreError::TokenExpired`]. Then it is as before.
    pub fn consume(&mut self, by: TokenUse) -> Result<Consumed, StoreError> {
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
        if consumed != Consumed::Repeated {
            self.used = Some(by);
        }
        Ok(consumed)
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
