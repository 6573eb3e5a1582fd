//! The authorities of one kind that are there with their keys: the one that signs, the next, and those set aside.
//!
//! One that was replaced keeps its key until its certificate has ended, and one that was made while the clock was ahead is
//! set aside until its time comes: when the clock is right again, what signed before signs again.

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

/// Active, prepared, and set aside.
#[derive(Clone)]
pub(super) struct Slots<A> {
    active: Option<Slot<A>>,
    prepared: Option<Slot<A>>,
    aside: Vec<Slot<A>>,
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
        let aside = entries
            .iter()
            .filter(|entry| entry.status == Status::Old)
            .filter_map(|entry| Slot::load(entry, keys).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self { active: find(Status::Active)?, prepared: find(Status::Prepared)?, aside })
    }

    /// What signs.
    pub(super) fn signing(&self) -> Option<&A> {
        self.active.as_ref().map(|slot| &slot.authority)
    }

    /// All that belong into the bundle. Those set aside have been in it, and leave it by their own time.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &A> {
        self.active.iter().chain(&self.prepared).map(|slot| &slot.authority)
    }

    fn all(&self) -> impl Iterator<Item = &Slot<A>> {
        self.active.iter().chain(&self.prepared).chain(&self.aside)
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
        let aside = self.aside.iter().map(move |slot| entry(slot, Status::Old));
        active.into_iter().chain(prepared).chain(aside)
    }

    pub(super) fn next_step(&self, now: UnixTime) -> Step {
        let life = |slot: &Option<Slot<A>>| slot.as_ref().map(|slot| slot.life);
        next_step(life(&self.active), life(&self.prepared), self.aside.iter().map(|slot| slot.life), now)
    }

    /// The slots as they are after `step`, not committed yet; `None` when there is nothing to do.
    pub(super) async fn take(
        &self,
        step: Step,
        recipe: &Recipe,
        keys: &KeyDir,
        now: UnixTime,
    ) -> Result<Option<Self>, CaError> {
        let mut next = self.clone();
        match step {
            Step::None => return Ok(None),
            Step::Start => {
                let new = Slot::create(recipe, keys, now).await?;
                next.aside.extend(next.prepared.take());
                next.aside.extend(next.active.replace(new));
            }
            Step::Prepare => {
                let new = Slot::create(recipe, keys, now).await?;
                next.aside.extend(next.prepared.replace(new));
            }
            Step::Activate => {
                let before = std::mem::replace(&mut next.active, next.prepared.take());
                next.aside.extend(before);
            }
            Step::Resume(place) => {
                if place >= next.aside.len() {
                    return Ok(None);
                }
                let again = next.aside.remove(place);
                next.aside.extend(next.active.replace(again));
            }
        }
        Ok(Some(next))
    }

    /// Without those set aside whose time is over.
    pub(super) fn without_ended(&self, now: UnixTime) -> Self {
        let mut left = self.clone();
        left.aside.retain(|slot| !slot.life.is_over(now));
        left
    }

    /// Without the one of that ID, if it is set aside.
    pub(super) fn without(&self, id: &str) -> Self {
        let mut left = self.clone();
        left.aside.retain(|slot| slot.authority.id() != id);
        left
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
            Step::Resume(_) => tracing::warn!(
                authority_id,
                not_after,
                "This {name} authority signs again: the one that had taken its place is not valid at this time, because the \
                 clock was set"
            ),
        }
    }

    /// Removes the keys of those that are not in `current` any more. A key that stays behind is only untidy.
    pub(super) async fn discard_keys(self, current: &Self, keys: &KeyDir) {
        for slot in self.all() {
            let id = slot.authority.id();
            if current.all().any(|kept| kept.authority.id() == id) {
                continue;
            }
            let (keys, name) = (keys.clone(), key_name::<A>(id));
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
            if entry.status == Status::Old {
                return Ok(None);
            }
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
