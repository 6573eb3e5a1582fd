//! Where a stream goes on after a break.
//!
//! A token names the position in the event log and the content that the agent had there. When the server still
//! remembers that content, the agent gets what changed since; when it does not (it was restarted) but nothing has
//! changed, the agent gets nothing; else it gets everything.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use svidecar_id::SpiffeId;

use super::difference::View;

/// Agents whose last view is kept after their stream has ended.
const MAX_REMEMBERED: usize = 10_000;

/// The token for a position and the view that the agent has there.
pub fn token(position: u64, view: &View) -> String {
    format!("{position}.{:016x}", view.digest())
}

/// Whether the token is for this very content.
pub fn matches(token: &str, view: &View) -> bool {
    token.split_once('.').is_some_and(|(_, digest)| digest == format!("{:016x}", view.digest()))
}

/// The views of agents whose stream has ended.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<SpiffeId, View>>);

impl Remembered {
    /// Keeps what an agent was sent; when there are too many, the newcomer is not kept.
    pub fn keep(&self, agent: &SpiffeId, view: View) {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() < MAX_REMEMBERED || views.contains_key(agent) {
            views.insert(agent.clone(), view);
        }
    }

    /// What the agent had, when its token says that it has just that.
    pub fn take(&self, agent: &SpiffeId, token: &str) -> Option<View> {
        let view = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(agent)?;
        matches(token, &view).then_some(view)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_view_is_given_back_once_and_only_for_its_token() {
        let agent = SpiffeId::parse("spiffe://demo.org/spire/agent/a").unwrap();
        let remembered = Remembered::default();
        let token = token(7, &View::default());
        assert!(remembered.take(&agent, &token).is_none());
        remembered.keep(&agent, View::default());
        assert!(remembered.take(&agent, &token).is_some());
        assert!(remembered.take(&agent, &token).is_none());
        remembered.keep(&agent, View::default());
        assert!(remembered.take(&agent, "7.00").is_none());
        assert!(remembered.take(&agent, "").is_none());
    }
}
