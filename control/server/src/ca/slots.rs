//! The authorities of one kind that are there with their keys: the one that signs, and the next.

use svidecar_authority::{UnixTime, time::rfc3339};

use super::{
    CaError,
    authority::{Authority, Recipe},
    journal::{Entry, Status},
    keys::{KeyDir, blocking},
    schedule::{Life, Step, next_step},
};

#[derive(Clone)]
struct Slot<A> {
    authority: A,
    life: Life,
}

/// Active and prepared.
#[derive(Clone)]
pub(super) struct Slots<A> {
    active: Option<Slot<A>>,
    prepared: Option<Slot<A>>,
}

impl<A: Authority> Slots<A> {
    /// Loads what the journal names. Blocks.
    pub(super) fn load(entries: &[Entry], keys: &KeyDir) -> Result<Self, CaError> {
        let find = |status| {
            entries
                .iter()
                .find(|entry| entry.status == status)
                .map_or(Ok(None), |entry| Slot::load(entry, keys))
        };
        Ok(Self { active: find(Status::Active)?, prepared: find(Status::Prepared)? })
    }

    /// What signs.
    pub(super) fn signing(&self) -> Option<&A> {
        self.active.as_ref().map(|slot| &slot.authority)
    }

    /// All that belong into the bundle.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &A> {
        self.active.iter().chain(&self.prepared).map(|slot| &slot.authority)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.active.is_none() && self.prepared.is_none()
    }

    /// As they stand in the journal.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let entry = |slot: &Slot<A>, status| {
            Entry::new(slot.authority.id(), status, &slot.authority.public(), slot.life)
        };
        let active = self.active.as_ref().map(|slot| entry(slot, Status::Active));
        let prepared = self.prepared.as_ref().map(|slot| entry(slot, Status::Prepared));
        active.into_iter().chain(prepared)
    }

    pub(super) fn next_step(&self, now: UnixTime) -> Step {
        let life = |slot: &Option<Slot<A>>| slot.as_ref().map(|slot| slot.life);
        next_step(life(&self.active), life(&self.prepared), now)
    }

    /// The slots as they are after `step`, not committed yet; `None` when there is nothing to do.
    pub(super) async fn take(
        &self,
        step: Step,
        recipe: &Recipe,
        keys: &KeyDir,
        now: UnixTime,
    ) -> Result<Option<Self>, CaError> {
        Ok(match step {
            Step::None => None,
            Step::Start => {
                Some(Self { active: Some(Slot::create(recipe, keys, now).await?), prepared: None })
            }
            Step::Prepare => Some(Self {
                active: self.active.clone(),
                prepared: Some(Slot::create(recipe, keys, now).await?),
            }),
            Step::Activate => Some(Self { active: self.prepared.clone(), prepared: None }),
        })
    }

    /// Says what a committed step has done. `recovered`: there had been an authority before.
    pub(super) fn report(&self, step: Step, recovered: bool) {
        let (active, prepared) = (self.active.as_ref(), self.prepared.as_ref());
        let Some(slot) = (if step == Step::Prepare { prepared } else { active }) else { return };
        let (name, authority_id) = (A::NAME, slot.authority.id());
        let not_after = rfc3339(slot.life.not_after);
        match step {
            Step::None => {}
            Step::Start if recovered => tracing::error!(
                authority_id,
                not_after,
                "The {name} authority had expired with no successor, so a new one signs at once. Peers refuse what it \
                 signs until they have the new bundle"
            ),
            Step::Start => tracing::info!(authority_id, not_after, "Made a new {name} authority"),
            Step::Prepare => tracing::info!(
                authority_id,
                not_after,
                "Prepared the next {name} authority and published it in the bundle"
            ),
            Step::Activate => tracing::info!(authority_id, not_after, "Activated the next {name} authority"),
        }
    }

    /// Removes the keys of those that are not in `current` any more. A key that stays behind is only untidy.
    pub(super) async fn discard_keys(self, current: &Self, keys: &KeyDir) {
        for authority in self.authorities() {
            if current.authorities().any(|kept| kept.id() == authority.id()) {
                continue;
            }
            let (keys, name) = (keys.clone(), key_name::<A>(authority.id()));
            if let Err(error) = blocking(move || keys.remove(&name)).await {
                tracing::warn!(%error, code = error.code().name(), "The key of a replaced authority stays on disk");
            }
        }
    }
}

impl<A: Authority> Slot<A> {
    /// Makes an authority and stores its key.
    async fn create(recipe: &Recipe, keys: &KeyDir, now: UnixTime) -> Result<Self, CaError> {
        let (recipe, keys) = (recipe.clone(), keys.clone());
        blocking(move || {
            let authority = A::create(&recipe, now)?;
            keys.save(&key_name::<A>(authority.id()), authority.key())?;
            let life = Life { issued_at: now, not_after: authority.not_after() };
            Ok(Self { authority, life })
        })
        .await
    }

    fn load(entry: &Entry, keys: &KeyDir) -> Result<Option<Self>, CaError> {
        let name = key_name::<A>(&entry.id);
        let Some(key) = keys.load(&name)? else {
            tracing::error!(
                authority_id = entry.id,
                file = %keys.file(&name).display(),
                "The key of this {} authority is gone from disk, so it cannot sign any more. If there is a backup, stop the \
                 server and put it back; otherwise another authority takes over",
                A::NAME
            );
            return Ok(None);
        };
        let authority =
            A::restore(&entry.id, entry.public()?, entry.life(), key).map_err(|error| CaError::Keys {
                action: "use the key file",
                path: keys.file(&name),
                reason: format!(
                    "{error}. Put the right file back, or move it away to have a new authority made"
                ),
            })?;
        Ok(Some(Self { authority, life: entry.life() }))
    }
}

/// Key IDs are hex, key names letters and digits: both are safe as file names. Anything else is not ours.
fn key_name<A: Authority>(id: &str) -> String {
    let safe = id.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    format!("{}-{safe}", A::KIND)
}
