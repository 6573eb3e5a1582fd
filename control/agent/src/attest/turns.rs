//! Turns at what blocks a thread.
//!
//! Owns that no user of the host keeps the agent from looking at the callers of another, or an operator's `why`: whoever has
//! its share of the threads waits until it gives one back.

use std::{sync::Arc, time::Duration};

use svidecar_process::{
    shares::{Share, Shares},
    source::Source,
};
use tokio::sync::Notify;

use crate::error::AttestError;

/// Callers that are looked at at the same time.
pub const AT_ONCE: usize = 32;

/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Turns {
    shares: Shares<Source>,
    freed: Arc<Notify>,
}

/// A turn, until it is dropped.
pub struct Turn {
    share: Option<Share<Source>>,
    freed: Arc<Notify>,
}

impl Turns {
    /// So many at the same time.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { shares: Shares::new(at_once), freed: Arc::default() }
    }

    /// Waits for a turn of `source`.
    ///
    /// # Errors
    /// [`AttestError::Busy`] when there was none in time.
    pub async fn take(&self, source: Source) -> Result<Turn, AttestError> {
        let wait = async {
            loop {
                // From here on it hears of each that is given back.
                let freed = self.freed.notified();
                if let Some(share) = self.shares.take(source, 1) {
                    return Turn { share: Some(share), freed: Arc::clone(&self.freed) };
                }
                freed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| AttestError::Busy { user: source })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.share.take());
        self.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const ACTOR: Source = Source::User(1);

    #[tokio::test(start_paused = true)]
    async fn a_user_whose_turns_never_end_keeps_nobody_else_waiting() {
        let turns = Turns::new(AT_ONCE);
        let mut held = Vec::new();
        while let Some(turn) = turns.take(ACTOR).now_or_never() {
            held.push(turn.unwrap_or_else(|error| panic!("{error}")));
        }
        assert!(turns.take(Source::User(2)).now_or_never().unwrap().is_ok());
        let refused = turns.take(ACTOR).await;
        assert!(matches!(refused, Err(AttestError::Busy { user: ACTOR })));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_has_a_turn_when_one_is_given_back() {
        let turns = Turns::new(1);
        let held = turns.take(ACTOR).await;
        let (next, ()) = tokio::join!(turns.take(ACTOR), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert!(next.is_ok());
    }
}
