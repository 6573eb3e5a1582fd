//! What every attestor of workloads is: it reads a caller's `/proc`, and may have somebody to ask.

use std::{pin::Pin, sync::Arc};

use svidecar_code::Code;

use super::caller::Caller;
use crate::{error::AttestError, selector::Selector};

/// Makes selectors of one kind.
pub trait Attestor: Send + Sync {
    /// Reads the caller's `/proc`. Blocks, and asks nobody: what was read is believed only once the caller was seen to be
    /// the same still.
    ///
    /// # Errors
    /// When the caller is gone, or is not the one that connected.
    fn read(self: Arc<Self>, caller: &Caller) -> Result<Reading, AttestError>;
}

/// What an attestor has read.
pub enum Reading {
    /// There is no more to know.
    Whole(Found),
    /// Somebody else knows, and is asked by this. It takes a bounded time.
    Question(Pin<Box<dyn Future<Output = Found> + Send>>),
}

impl Reading {
    /// What there is to know.
    pub async fn answer(self) -> Found {
        match self {
            Self::Whole(found) => found,
            Self::Question(question) => question.await,
        }
    }
}

/// What an attestor found out about a caller.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The selectors.
    pub selectors: Vec<Selector>,
    /// Why some selector could not be had, one sentence each, for `why` and the log.
    pub notes: Vec<String>,
    /// There may be more selectors: who knows did not answer.
    pub unanswered: Option<Unanswered>,
}

/// A question that was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// The type of the selectors that there may be.
    pub kind: &'static str,
    /// What is wrong, for metrics.
    pub code: Code,
    /// Who does not answer, in a sentence for the caller.
    pub reason: String,
    /// What the caller is told when there is an answer.
    pub answered: &'static str,
}
