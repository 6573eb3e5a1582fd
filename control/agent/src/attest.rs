//! Who is calling: from a connection to a set of selectors.
//!
//! Owns the order of steps that makes the answer trustworthy: the caller is pinned by a pidfd when its
//! connection is accepted, it is heard to speak, `/proc` is read and an engine is asked, and only then is it checked that
//! the pinned process is still the one that was read. It must never decide what a workload may have; it only says what is true of it.
//! What there is to know is each [`Attestor`]'s; another kind of selectors is another of them.

pub mod attestor;
pub mod caller;
pub mod container;
pub mod docker;
pub mod hash;
mod holders;
pub mod speaker;
pub mod tcp;
pub mod turns;
pub mod unix;

use std::sync::Arc;

use futures_util::future::join_all;
use svidecar_process::source::Source;

pub use attestor::{Attestor, Unanswered};
pub use caller::Caller;
pub use docker::DockerAttestor;
pub use unix::UnixAttestor;

use self::{attestor::Reading, turns::Turns};
use crate::{error::AttestError, selector::SelectorSet};

/// What attestation found.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The selectors.
    pub selectors: SelectorSet,
    /// Why some selector could not be had, one sentence each, for `why` and the log.
    pub notes: Vec<String>,
    /// What may be true of the caller besides: who knows did not answer.
    pub unanswered: Vec<Unanswered>,
}

/// Attests callers. Cheap to clone.
#[derive(Clone)]
pub struct WorkloadAttestor {
    attestors: Arc<[Arc<dyn Attestor>]>,
    turns: Turns,
}

impl WorkloadAttestor {
    /// An attestor that asks all of these.
    #[must_use]
    pub fn new(attestors: Vec<Arc<dyn Attestor>>) -> Self {
        Self { attestors: attestors.into(), turns: Turns::new(turns::AT_ONCE) }
    }

    /// Finds the selectors of a caller.
    ///
    /// # Errors
    /// [`AttestError`] when the process is gone, or is not the one that connected.
    pub async fn attest(&self, caller: Arc<Caller>) -> Result<Attestation, AttestError> {
        caller.speaks().await?;
        let source = Source::User(caller.uid());
        self.look_at(caller, source).await
    }

    /// Finds the selectors of a process, for `source`. Reads files and the user database, off the async threads, and asks
    /// whoever knows more, all at once.
    ///
    /// # Errors
    /// [`AttestError`] when the process is gone, or is not the one that was pinned.
    pub async fn look_at(&self, caller: Arc<Caller>, source: Source) -> Result<Attestation, AttestError> {
        let (attestors, pinned) = (Arc::clone(&self.attestors), Arc::clone(&caller));
        let readings = self.off_the_async_threads(source, move || read(&attestors, &pinned)).await?;
        let asks = readings.iter().any(|reading| matches!(reading, Reading::Question(_)));
        let found = join_all(readings.into_iter().map(Reading::answer)).await;
        if asks {
            // Asking took its time.
            self.off_the_async_threads(source, move || caller.still_the_same()).await?;
        }
        let (mut selectors, mut notes, mut unanswered) = (Vec::new(), Vec::new(), Vec::new());
        for one in found {
            selectors.extend(one.selectors);
            notes.extend(one.notes);
            unanswered.extend(one.unanswered);
        }
        Ok(Attestation { selectors: selectors.into(), notes, unanswered })
    }

    async fn off_the_async_threads<T: Send + 'static>(
        &self,
        source: Source,
        read: impl FnOnce() -> Result<T, AttestError> + Send + 'static,
    ) -> Result<T, AttestError> {
        let turn = self.turns.take(source).await?;
        // What hangs in the kernel keeps its turn, whoever has given up on it.
        let read = move || {
            let outcome = read();
            drop(turn);
            outcome
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| AttestError::Interrupted)?
    }
}

/// Reads first and checks after: a PID that was recycled in between fails the check.
fn read(attestors: &[Arc<dyn Attestor>], caller: &Caller) -> Result<Vec<Reading>, AttestError> {
    let readings =
        attestors.iter().map(|attestor| Arc::clone(attestor).read(caller)).collect::<Result<_, _>>()?;
    caller.still_the_same()?;
    Ok(readings)
}

#[cfg(test)]
mod tests {
    use svidecar_code::Code;

    use super::{attestor::Found, *};
    use crate::selector::Selector;

    /// Has one selector, at once or when asked; or does not answer.
    struct Fake {
        kind: &'static str,
        asks: bool,
        answers: bool,
    }

    impl Attestor for Fake {
        fn read(self: Arc<Self>, caller: &Caller) -> Result<Reading, AttestError> {
            let unanswered = Unanswered {
                kind: self.kind,
                code: Code::EngineUnavailable,
                reason: format!("{} does not answer", self.kind),
                answered: "it answers again",
            };
            let found = Found {
                selectors: vec![Selector::new(self.kind, format!("pid:{}", caller.pid()))],
                notes: vec![format!("a note of {}", self.kind)],
                unanswered: None,
            };
            let found = match self.answers {
                true => found,
                false => Found { unanswered: Some(unanswered), ..Found::default() },
            };
            match self.asks {
                true => Ok(Reading::Question(Box::pin(async move { found }))),
                false => Ok(Reading::Whole(found)),
            }
        }
    }

    struct Gone;

    impl Attestor for Gone {
        fn read(self: Arc<Self>, caller: &Caller) -> Result<Reading, AttestError> {
            Err(AttestError::Gone { pid: caller.pid() })
        }
    }

    fn this_process() -> Arc<Caller> {
        Arc::new(Caller::pin(i32::try_from(std::process::id()).unwrap()).unwrap())
    }

    #[tokio::test]
    async fn what_all_attestors_find_is_put_together() {
        let fake = |kind, asks, answers| Arc::new(Fake { kind, asks, answers }) as Arc<dyn Attestor>;
        let attestors = vec![fake("b", true, true), fake("a", false, true), fake("c", true, false)];
        let found = WorkloadAttestor::new(attestors).attest(this_process()).await.unwrap();
        let pid = std::process::id();
        assert_eq!(found.selectors.to_string(), format!("a:pid:{pid} b:pid:{pid}"));
        assert_eq!(found.notes, ["a note of b", "a note of a"]);
        let unanswered: Vec<_> = found.unanswered.iter().map(|one| one.kind).collect();
        assert_eq!(unanswered, ["c"]);
    }

    #[tokio::test]
    async fn a_caller_that_one_attestor_finds_gone_is_gone() {
        let asks = Arc::new(Fake { kind: "a", asks: true, answers: true });
        let outcome = WorkloadAttestor::new(vec![asks, Arc::new(Gone)]).attest(this_process()).await;
        assert!(matches!(outcome, Err(AttestError::Gone { .. })));
    }
}
