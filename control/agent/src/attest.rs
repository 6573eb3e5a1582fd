//! Who is calling: from a connection to a set of selectors.
//!
//! Owns the order of steps that makes the answer trustworthy: the caller is pinned by a pidfd when its
//! connection is accepted, `/proc` is read, and only then is it checked that the pinned process is still
//! the one that was read. It must never decide what a workload may have; it only says what is true of it.

pub mod caller;
pub mod hash;
pub mod node;
pub mod tcp;
pub mod unix;

use std::sync::Arc;

pub use caller::Caller;
pub use unix::UnixAttestor;

use crate::{error::AttestError, selector::SelectorSet};

/// What attestation found.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The selectors.
    pub selectors: SelectorSet,
    /// Why some selector could not be had, one sentence each, for `why` and the log.
    pub notes: Vec<String>,
}

/// Attests callers. Cheap to clone.
#[derive(Clone)]
pub struct WorkloadAttestor {
    unix: Arc<UnixAttestor>,
}

impl WorkloadAttestor {
    /// An attestor that asks `unix`.
    #[must_use]
    pub fn new(unix: UnixAttestor) -> Self {
        Self { unix: Arc::new(unix) }
    }

    /// Finds the caller's selectors. Reads files and the user database, off the async threads.
    ///
    /// # Errors
    /// [`AttestError`] when the process is gone, or is not the one that connected.
    pub async fn attest(&self, caller: Arc<Caller>) -> Result<Attestation, AttestError> {
        let unix = Arc::clone(&self.unix);
        tokio::task::spawn_blocking(move || attest_blocking(&unix, &caller))
            .await
            .map_err(|_| AttestError::Interrupted)?
    }
}

/// Reads first and checks after: a PID that was recycled in between fails the check.
fn attest_blocking(unix: &UnixAttestor, caller: &Caller) -> Result<Attestation, AttestError> {
    let found = unix.attest(caller)?;
    caller.still_the_same()?;
    Ok(found)
}
