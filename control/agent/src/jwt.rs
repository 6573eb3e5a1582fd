//! JWT-SVIDs that were fetched: used again until half of their life, and longer while the server is away.
//!
//! Owns the cache by entry and audience. Pure: the time is an argument.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use svidecar_api::spire::api::types;
use svidecar_authority::jwt::subject_of_accepted;

use crate::{
    entry::{Entry, EntryId},
    schedule,
    svid::system_time,
};

/// Tokens that are kept at most.
const MAX_TOKENS: usize = 1000;

/// A token is not given out with less life than this: it has to reach its verifier.
const MIN_LIFE: Duration = Duration::from_secs(5);

/// A signed token.
#[derive(Clone)]
pub struct Token {
    /// JWS compact serialization.
    pub text: Arc<str>,
    renew_at: SystemTime,
    expires_at: SystemTime,
    used_at: SystemTime,
}

impl Token {
    /// Takes what the server signed for `entry`.
    ///
    /// # Errors
    /// What is wrong with it, as part of a sentence.
    pub fn accept(wire: types::Jwtsvid, entry: &Entry, now: SystemTime) -> Result<Self, String> {
        let (subject, expires_at) = subject_of_accepted(&wire.token).map_err(|error| error.to_string())?;
        if subject != entry.spiffe_id {
            return Err(format!("it is for {subject} instead of {}", entry.spiffe_id));
        }
        let expires_at = system_time(expires_at);
        let issued_at = u64::try_from(wire.issued_at)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(|s| UNIX_EPOCH + Duration::from_secs(s));
        let renew_at =
            schedule::renew_at(issued_at.unwrap_or(now).min(now), expires_at, wire.token.as_bytes());
        Ok(Self { text: wire.token.into(), renew_at, expires_at, used_at: now })
    }
}

/// What the cache has.
pub enum Cached {
    /// In its first half: use it.
    Fresh(Token),
    /// In its second half: ask for another, and use it if there is none.
    Aging(Token),
    /// Nothing.
    None,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    entry: EntryId,
    /// An entry that changed may name another identity.
    revision: i64,
    audience: Vec<String>,
}

impl Key {
    fn of(entry: &Entry, audience: &[String]) -> Self {
        let mut audience = audience.to_vec();
        audience.sort();
        audience.dedup();
        Self { entry: Arc::clone(&entry.id), revision: entry.revision, audience }
    }
}

/// See the module.
#[derive(Default)]
pub struct JwtCache {
    tokens: HashMap<Key, Token>,
}

impl JwtCache {
    /// Looks for a token of `entry` for exactly these audiences, in any order.
    pub fn get(&mut self, entry: &Entry, audience: &[String], now: SystemTime) -> Cached {
        match self.tokens.get_mut(&Key::of(entry, audience)) {
            Some(token) if token.expires_at > now + MIN_LIFE => {
                token.used_at = now;
                if now < token.renew_at { Cached::Fresh(token.clone()) } else { Cached::Aging(token.clone()) }
            }
            _ => Cached::None,
        }
    }

    /// Keeps a token, except of an entry that wants each one unique.
    pub fn put(&mut self, entry: &Entry, audience: &[String], token: Token, now: SystemTime) {
        if entry.unique_jwts {
            return;
        }
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.retain(|_, token| token.expires_at > now);
        }
        if self.tokens.len() >= MAX_TOKENS {
            let mut used: Vec<SystemTime> = self.tokens.values().map(|token| token.used_at).collect();
            used.sort();
            // The least recently used tenth goes at once, so that a full cache is not searched each time.
            let oldest = used.get(MAX_TOKENS / 10).copied().unwrap_or(now);
            self.tokens.retain(|_, token| token.used_at > oldest);
        }
        self.tokens.insert(Key::of(entry, audience), token);
    }

    /// Drops tokens of entries that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&EntryId) -> bool) {
        self.tokens.retain(|key, _| is_there(&key.entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::entry;

    fn token(text: &str, now: SystemTime, life: u64) -> Token {
        let expires_at = now + Duration::from_secs(life);
        Token { text: text.into(), renew_at: now + Duration::from_secs(life / 2), expires_at, used_at: now }
    }

    fn aud(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_token_is_fresh_then_aging_then_gone() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let entry = entry("e", "/a", &["uid:1"]);
        let mut cache = JwtCache::default();
        cache.put(&entry, &aud(&["x", "y"]), token("t", now, 300), now);
        assert!(matches!(cache.get(&entry, &aud(&["y", "x"]), now), Cached::Fresh(_)));
        assert!(matches!(cache.get(&entry, &aud(&["x"]), now), Cached::None));
        let later = now + Duration::from_secs(200);
        assert!(matches!(cache.get(&entry, &aud(&["x", "y"]), later), Cached::Aging(_)));
        let end = now + Duration::from_secs(296);
        assert!(matches!(cache.get(&entry, &aud(&["x", "y"]), end), Cached::None));
    }

    #[test]
    fn tokens_with_their_own_jti_are_never_reused() {
        let now = UNIX_EPOCH;
        let entry = Entry { unique_jwts: true, ..entry("e", "/a", &["uid:1"]) };
        let mut cache = JwtCache::default();
        cache.put(&entry, &aud(&["x"]), token("t", now, 300), now);
        assert!(matches!(cache.get(&entry, &aud(&["x"]), now), Cached::None));
    }

    #[test]
    fn a_changed_entry_needs_a_new_token() {
        let now = UNIX_EPOCH;
        let old = entry("e", "/a", &["uid:1"]);
        let mut cache = JwtCache::default();
        cache.put(&old, &aud(&["x"]), token("t", now, 300), now);
        let new = Entry { revision: 1, ..old };
        assert!(matches!(cache.get(&new, &aud(&["x"]), now), Cached::None));
    }

    #[test]
    fn the_cache_is_bounded_and_drops_the_least_used() {
        let start = UNIX_EPOCH;
        let entry = entry("e", "/a", &["uid:1"]);
        let mut cache = JwtCache::default();
        for index in 0..=MAX_TOKENS {
            let now = start + Duration::from_millis(index as u64);
            cache.put(&entry, &aud(&[&index.to_string()]), token("t", now, 3600), now);
        }
        assert!(cache.tokens.len() <= MAX_TOKENS);
        let now = start + Duration::from_secs(2);
        assert!(matches!(cache.get(&entry, &aud(&["0"]), now), Cached::None));
        assert!(matches!(cache.get(&entry, &aud(&[&MAX_TOKENS.to_string()]), now), Cached::Fresh(_)));
    }
}
