//! Who is calling: from a connection to a set of selectors.
//!
//! Owns the order of steps that makes the answer trustworthy: the caller is pinned by a pidfd when its
//! connection is accepted, `/proc` is read and an engine is asked, and only then is it checked that the pinned
//! process is still the one that was read. It must never decide what a workload may have; it only says what is true of it.

pub mod caller;
pub mod docker;
pub mod hash;
pub mod tcp;
pub mod unix;

use std::sync::Arc;

pub use caller::Caller;
pub use docker::DockerAttestor;
pub use unix::UnixAttestor;

use self::docker::Place;
use crate::{error::AttestError, selector::SelectorSet};

/// What attestation found.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The selectors.
    pub selectors: SelectorSet,
    /// Why some selector could not be had, one sentence each, for `why` and the log.
    pub notes: Vec<String>,
    /// There may be `docker:` selectors: the engine that knows did not answer. A sentence for the caller.
    pub unanswered: Option<String>,
}

/// Attests callers. Cheap to clone.
#[derive(Clone)]
pub struct WorkloadAttestor {
    unix: Arc<UnixAttestor>,
    docker: Option<Arc<DockerAttestor>>,
}

impl WorkloadAttestor {
    /// An attestor that asks `unix`, and `docker` if there is one.
    #[must_use]
    pub fn new(unix: UnixAttestor, docker: Option<Arc<DockerAttestor>>) -> Self {
        Self { unix: Arc::new(unix), docker }
    }

    /// Finds the caller's selectors. Reads files and the user database, off the async threads, and asks the
    /// engine that runs the caller's container.
    ///
    /// # Errors
    /// [`AttestError`] when the process is gone, or is not the one that connected.
    pub async fn attest(&self, caller: Arc<Caller>) -> Result<Attestation, AttestError> {
        let (reader, pinned) = (self.clone(), Arc::clone(&caller));
        let (mut found, place) = off_the_async_threads(move || reader.read(&pinned)).await?;
        let (Some(docker), Some(place)) = (&self.docker, place) else { return Ok(found) };
        let of_container = docker.selectors(place).await;
        // Asking took its time.
        off_the_async_threads(move || caller.still_the_same()).await?;
        found.selectors = found.selectors.iter().cloned().chain(of_container.selectors).collect();
        found.notes.extend(of_container.note);
        found.unanswered = of_container.unanswered;
        Ok(found)
    }

    /// Reads first and checks after: a PID that was recycled in between fails the check. The place is that of a
    /// caller who may be in a container.
    fn read(&self, caller: &Caller) -> Result<(Attestation, Option<Place>), AttestError> {
        let found = self.unix.attest(caller)?;
        let place = self.docker.as_ref().map(|docker| docker.place(caller)).transpose()?;
        caller.still_the_same()?;
        Ok((found, place.filter(|place| *place != Place::Host)))
    }
}

async fn off_the_async_threads<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, AttestError> + Send + 'static,
) -> Result<T, AttestError> {
    tokio::task::spawn_blocking(read).await.map_err(|_| AttestError::Interrupted)?
}
