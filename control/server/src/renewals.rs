//! The renewals of agents that the disk did not take.
//!
//! An agent whose SVID ended because a disk was full for long would sign for nobody any more. So it is renewed all the same, and
//! what the database should know of it is kept in memory until it can be written. A server that ends before that
//! knows the agent again when it comes back by its key. Owns that memory: at most one record for each agent that is known. It must
//! never let in whom the database has banned, deleted or seen with something newer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use svidecar_id::SpiffeId;

use crate::store::{AgentRecord, Signed, Store, StoreError};

/// What is known of agents beyond the database.
pub struct Renewals {
    store: Arc<dyn Store>,
    unsaved: Mutex<HashMap<SpiffeId, Unsaved>>,
}

struct Unsaved {
    /// As the database has it.
    saved: Arc<AgentRecord>,
    /// As it should be.
    wanted: AgentRecord,
}

impl Renewals {
    /// None yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, unsaved: Mutex::default() }
    }

    /// What is to be known of an agent that the database knows so.
    #[must_use]
    pub fn current(&self, known: Arc<AgentRecord>) -> Arc<AgentRecord> {
        let mut unsaved = self.unsaved();
        match unsaved.get(&known.id) {
            Some(found) if found.saved.same_svids(&known) => Arc::new(found.wanted.clone()),
            // It was banned meanwhile, or has attested again.
            Some(_) => {
                unsaved.remove(&known.id);
                known
            }
            None => known,
        }
    }

    /// Remembers an SVID that was signed for an agent, on disk if the disk takes it. The agent as it is then.
    ///
    /// # Errors
    /// [`StoreError`] when it is refused for what the database knows.
    pub async fn renew(&self, agent: Arc<AgentRecord>, signed: Signed) -> Result<AgentRecord, StoreError> {
        let outcome = match self.save(&agent.id).await {
            Ok(()) => self.store.renew_agent(&agent.id, signed.clone()).await,
            Err(error) => Err(error),
        };
        self.or_keep(outcome, agent, |record| record.renew(signed))
    }

    /// Remembers that an agent was seen with its renewed SVID.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub async fn see(&self, agent: Arc<AgentRecord>, serial: &str) -> Result<AgentRecord, StoreError> {
        let outcome = match self.save(&agent.id).await {
            Ok(()) => self.store.activate_agent_serial(&agent.id, serial.to_owned()).await,
            Err(error) => Err(error),
        };
        self.or_keep(outcome, agent, |record| {
            record.see(serial);
            Ok(())
        })
    }

    /// Writes down what the disk takes by now.
    ///
    /// # Errors
    /// [`StoreError`] of the first that it does not take.
    pub async fn save_all(&self) -> Result<(), StoreError> {
        let agents: Vec<_> = self.unsaved().keys().cloned().collect();
        for agent in agents {
            self.save(&agent).await?;
        }
        Ok(())
    }

    /// Writes down what is known of one agent. What the database refuses is forgotten: it knows better.
    async fn save(&self, agent: &SpiffeId) -> Result<(), StoreError> {
        loop {
            let Some((saved, wanted)) =
                self.unsaved().get(agent).map(|unsaved| (Arc::clone(&unsaved.saved), unsaved.wanted.clone()))
            else {
                return Ok(());
            };
            let written = if saved.serial != wanted.serial && saved.new_serial == wanted.serial {
                self.store.activate_agent_serial(agent, wanted.serial.clone()).await
            } else if saved.serial != wanted.serial {
                self.store.renew_agent(agent, wanted.signed()).await
            } else if !wanted.new_serial.is_empty() && saved.new_serial != wanted.new_serial {
                self.store.renew_agent(agent, wanted.signed_anew()).await
            } else {
                self.unsaved().remove(agent);
                return Ok(());
            };
            match written {
                Ok(record) => {
                    if let Some(unsaved) = self.unsaved().get_mut(agent) {
                        unsaved.saved = Arc::new(record);
                    }
                }
                Err(error) if error.is_of_disk() => return Err(error),
                Err(_) => {
                    self.unsaved().remove(agent);
                    return Ok(());
                }
            }
        }
    }

    fn or_keep(
        &self,
        outcome: Result<AgentRecord, StoreError>,
        agent: Arc<AgentRecord>,
        change: impl FnOnce(&mut AgentRecord) -> Result<(), StoreError>,
    ) -> Result<AgentRecord, StoreError> {
        let error = match outcome {
            Err(error) if error.is_of_disk() => error,
            outcome => return outcome,
        };
        let id = agent.id.clone();
        let mut unsaved = self.unsaved();
        let found = unsaved
            .entry(id.clone())
            .or_insert_with(|| Unsaved { wanted: AgentRecord::clone(&agent), saved: agent });
        change(&mut found.wanted)?;
        let wanted = found.wanted.clone();
        drop(unsaved);
        tracing::warn!(
            spiffe_id = %id, code = error.code().name(), %error,
            "what was signed for this agent is known from memory alone until the disk takes it"
        );
        Ok(wanted)
    }

    fn unsaved(&self) -> MutexGuard<'_, HashMap<SpiffeId, Unsaved>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
