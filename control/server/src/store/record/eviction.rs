//! That somebody was thrown out: by whom, when, and whom it keeps from a join token.

/// That an administrator has evicted or banned an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Which administrator.
    pub by: String,
    /// When.
    pub at: i64,
}

/// Who may not use a token any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barred {
    /// SHA-256 of a public key, hex; everybody when none.
    pub key: Option<String>,
    /// Why.
    pub eviction: Eviction,
}
