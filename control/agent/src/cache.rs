//! The agent's state: entries, their SVIDs, the bundles, and who waits for them.
//!
//! Owns the rule which workload sees what, and when each SVID is due to be signed. Synchronous and free of
//! clocks and I/O: the time is an argument, signing is done by others. Subscribers with equal selectors
//! share one [`Update`], which is computed when something of theirs changed and not before.

mod bundles;
#[cfg(test)]
mod tests;
mod update;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use svidecar_authority::{bundle::Bundle, x509::CertInfo};
use svidecar_id::TrustDomain;
use tokio::sync::watch;

pub use bundles::{Bundles, from_wire as bundle_from_wire};
pub use update::Update;

use crate::{
    entry::{Entry, EntryId, by_age, drop_repeated_hints},
    selector::{Selector, SelectorSet},
    svid::HeldSvid,
};
use update::Match;

/// Up to so many entries are signed ahead, so that a workload that starts while the server is away finds
/// its identity. Beyond it only what workloads ask for is signed and kept.
const PREFETCH: usize = 1000;

/// A change of the state, as the server tells it.
#[derive(Default)]
pub struct Change {
    /// Whether this is all there is: what is not named here is gone.
    pub snapshot: bool,
    /// New and changed entries, whole.
    pub entries: Vec<Entry>,
    /// Entries that are gone.
    pub deleted_entries: Vec<EntryId>,
    /// New and changed bundles, whole.
    pub bundles: Vec<Bundle>,
    /// Trust domains whose bundles are gone.
    pub deleted_bundles: Vec<TrustDomain>,
}

/// What a change did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// New entries.
    pub created: usize,
    /// Entries that changed.
    pub updated: usize,
    /// Entries that are gone.
    pub deleted: usize,
    /// Whether a bundle changed.
    pub bundles: bool,
}

impl Applied {
    /// Whether anything is different now.
    #[must_use]
    pub fn changed(&self) -> bool {
        *self != Self::default()
    }
}

/// How long it takes until what nobody wants, and has ended by a clock that is not believed, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Why a valid SVID stays in use beside a newer one, and the server is asked again.
pub(crate) const OTHER_CLOCK: &str = "the SVID that the server signed is not valid at this host's time: compare the server's clock with this host's";

struct Slot {
    entry: Arc<Entry>,
    svid: Option<Arc<HeldSvid>>,
    /// The SVID has ended by the clock, and is not given to anybody. It is kept until there is another: the clock may be wrong.
    is_over: bool,
    /// When to sign; none while it is being signed, or while nobody wants it.
    due: Option<SystemTime>,
    /// Whether it is being signed: who asks for it meanwhile waits for the same signature.
    signing: bool,
    failure: Option<Arc<str>>,
}

/// See the module.
pub struct Cache {
    trust_domain: TrustDomain,
    slots: BTreeMap<EntryId, Slot>,
    /// Entries under their first selector: a workload that an entry matches has it.
    index: HashMap<Selector, BTreeSet<EntryId>>,
    due: BTreeSet<(SystemTime, EntryId)>,
    bundles: Arc<Bundles>,
    groups: HashMap<SelectorSet, watch::Sender<Arc<Update>>>,
    /// The time is not to be believed, so that nothing is forgotten by it.
    is_doubtful: bool,
}

impl Slot {
    /// The SVID, if it is for anybody.
    fn served(&self) -> Option<&Arc<HeldSvid>> {
        self.svid.as_ref().filter(|_| !self.is_over)
    }

    /// When what failed is tried again: at the end of what is served too, which is withdrawn then.
    fn tried_at(&self, retry_at: SystemTime, now: SystemTime) -> SystemTime {
        let end = self.served().map(|svid| svid.not_after).filter(|end| *end > now);
        end.map_or(retry_at, |end| end.min(retry_at))
    }
}

impl Cache {
    /// An empty cache of an agent of `trust_domain` that knows `bundles`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, bundles: impl IntoIterator<Item = Bundle>) -> Self {
        Self {
            trust_domain,
            slots: BTreeMap::new(),
            index: HashMap::new(),
            due: BTreeSet::new(),
            bundles: Arc::new(Bundles::new(bundles.into_iter().map(Arc::new))),
            groups: HashMap::new(),
            is_doubtful: false,
        }
    }

    /// Says whether the time is to be believed from now on.
    pub fn doubt(&mut self, is_doubtful: bool) {
        self.is_doubtful = is_doubtful;
    }

    /// The clock jumped: what had ended by it may serve again, and what was waited for by the clock of before is due as the
    /// new one says.
    pub fn clock_jumped(&mut self, now: SystemTime) {
        for (id, slot) in &mut self.slots {
            slot.is_over = slot.svid.as_ref().is_some_and(|svid| svid.is_over(now));
            // One that is being signed has its answer coming.
            if slot.due.is_none() && !slot.is_over {
                continue;
            }
            let due = match &slot.svid {
                Some(svid) if slot.failure.is_none() => svid.due_at(now),
                _ => now,
            };
            schedule(&mut self.due, slot, id, Some(due));
        }
        self.refresh(|_| true);
    }

    /// The bundles.
    #[must_use]
    pub fn bundles(&self) -> &Arc<Bundles> {
        &self.bundles
    }

    /// All entries, by ID.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.slots.values().map(|slot| &slot.entry)
    }

    /// All entries with their SVIDs, as far as signed.
    pub fn held(&self) -> impl Iterator<Item = (&Arc<Entry>, Option<&Arc<HeldSvid>>)> {
        self.slots.values().map(|slot| (&slot.entry, slot.svid.as_ref()))
    }

    /// How many entries there are, and how many of them have an SVID that has not ended.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.slots.len(), self.slots.values().filter(|slot| slot.served().is_some()).count())
    }

    /// Applies what the server said.
    pub fn apply(&mut self, change: Change, now: SystemTime) -> Applied {
        let mut applied = Applied::default();
        let mut touched = Vec::new();
        let mut deleted = change.deleted_entries;
        if change.snapshot {
            let kept: HashSet<&EntryId> = change.entries.iter().map(|entry| &entry.id).collect();
            deleted = self.slots.keys().filter(|id| !kept.contains(id)).cloned().collect();
        }
        for id in deleted {
            if let Some(slot) = self.remove(&id) {
                applied.deleted += 1;
                touched.push(slot.entry.selectors.clone());
            }
        }
        for entry in change.entries {
            match self.put(entry, now, &mut touched) {
                Put::Created => applied.created += 1,
                Put::Updated => applied.updated += 1,
                Put::Same => {}
            }
        }
        applied.bundles = self.apply_bundles(change.snapshot, change.bundles, &change.deleted_bundles);
        if applied.bundles {
            self.replace_orphans(now);
            self.refresh(|_| true);
        } else if !touched.is_empty() {
            self.refresh(|group| touched.iter().any(|selectors| group.covers(selectors)));
        }
        applied
    }

    /// Takes at most `limit` entries that are to be signed now. Each is taken once, until [`Self::signed`]
    /// or [`Self::failed`]. SVIDs that ended are withdrawn on the way.
    pub fn take_due(&mut self, now: SystemTime, limit: usize) -> Vec<Arc<Entry>> {
        let mut taken = Vec::new();
        let mut withdrawn = Vec::new();
        let crowded = self.slots.len() > PREFETCH;
        while taken.len() < limit {
            let Some((at, id)) = self.due.first().cloned().filter(|(at, _)| *at <= now) else { break };
            self.due.remove(&(at, Arc::clone(&id)));
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.due = None;
            if slot.served().is_some_and(|svid| svid.is_over(now)) {
                slot.is_over = true;
                withdrawn.push(slot.entry.selectors.clone());
            }
            let prefetched = !crowded && !slot.entry.no_prefetch;
            if prefetched || is_wanted(&self.groups, &slot.entry) {
                slot.signing = true;
                taken.push(Arc::clone(&slot.entry));
            } else {
                // Nobody asks any more; it is signed anew when somebody does.
                match &slot.svid {
                    Some(svid) if !slot.is_over => {
                        let end = svid.not_after;
                        schedule(&mut self.due, slot, &id, Some(end));
                    }
                    Some(_) if self.is_doubtful => {
                        schedule(&mut self.due, slot, &id, Some(now + LOOK_AGAIN));
                    }
                    _ => slot.svid = None,
                }
            }
        }
        if !withdrawn.is_empty() {
            self.refresh(|group| withdrawn.iter().any(|selectors| group.covers(selectors)));
        }
        taken
    }

    /// When [`Self::take_due`] will next have something.
    #[must_use]
    pub fn next_due(&self) -> Option<SystemTime> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Stores SVIDs that were signed for entries as they were then. The server is asked again at `retry_at` for what is not
    /// [valid](HeldSvid::is_valid) now.
    pub fn signed(&mut self, svids: Vec<(Arc<Entry>, HeldSvid)>, now: SystemTime, retry_at: SystemTime) {
        let mut touched = Vec::new();
        for (entry, svid) in svids {
            // The entry may have changed or gone while it was signed.
            let Some(slot) = self.slots.get_mut(&entry.id) else { continue };
            if slot.entry.spiffe_id != svid.spiffe_id {
                continue;
            }
            slot.signing = false;
            touched.push(slot.entry.selectors.clone());
            let is_valid = svid.is_valid(now);
            slot.failure = (!is_valid).then(|| OTHER_CLOCK.into());
            if !is_valid && slot.served().is_some_and(|held| held.is_valid(now)) {
                let due = slot.tried_at(retry_at, now);
                schedule(&mut self.due, slot, &entry.id, Some(due));
                continue;
            }
            let outdated = slot.entry.revision != entry.revision;
            let due = match (is_valid, outdated) {
                (false, _) => retry_at,
                (true, true) => now,
                (true, false) => svid.renew_at(),
            };
            slot.is_over = svid.is_over(now);
            slot.svid = Some(Arc::new(svid));
            schedule(&mut self.due, slot, &entry.id, Some(due));
        }
        self.refresh(|group| touched.iter().any(|selectors| group.covers(selectors)));
    }

    /// Notes that `entries` could not be signed, and when to try again.
    pub fn failed(&mut self, entries: &[Arc<Entry>], reason: &str, now: SystemTime, retry_at: SystemTime) {
        let reason: Arc<str> = reason.into();
        for entry in entries {
            if let Some(slot) = self.slots.get_mut(&entry.id) {
                slot.signing = false;
                slot.failure = Some(Arc::clone(&reason));
                let due = slot.tried_at(retry_at, now);
                schedule(&mut self.due, slot, &entry.id, Some(due));
            }
        }
        self.refresh(|group| entries.iter().any(|entry| group.covers(&entry.selectors)));
    }

    /// Makes all due now that waits for a retry: the server is back.
    pub fn retry_now(&mut self, now: SystemTime) {
        for (id, slot) in &mut self.slots {
            if slot.failure.is_some() && slot.due.is_some_and(|due| due > now) {
                schedule(&mut self.due, slot, id, Some(now));
            }
        }
    }

    /// Another authority signs for our trust domain from now on. What the one before signed goes at once. Its entries stay
    /// until the new one says what there is, so that workloads wait for their new SVIDs meanwhile instead of losing their
    /// identities; entries that the new one has too are tried [at once](Self::retry_now), or at `retry_at`.
    pub fn replace_authority(&mut self, bundle: Arc<Bundle>, retry_at: SystemTime) {
        let reason: Arc<str> =
            "the server was replaced, and the new one has not said yet what is registered".into();
        for (id, slot) in &mut self.slots {
            slot.svid = None;
            slot.failure = Some(Arc::clone(&reason));
            schedule(&mut self.due, slot, id, Some(retry_at));
        }
        let others = self.bundles.iter().filter(|held| held.trust_domain != bundle.trust_domain);
        self.bundles = Arc::new(Bundles::new(others.cloned().chain([Arc::clone(&bundle)])));
        self.refresh(|_| true);
    }

    /// The keys of our authorities that are to be relied on; none where the bundle is not there.
    fn reliable(&self) -> HashSet<String> {
        let Some(own) = self.bundles.get(&self.trust_domain) else { return HashSet::new() };
        let keys = own.x509_authorities.iter().filter_map(|root| CertInfo::parse(root).ok()?.subject_key_id);
        keys.filter(|key| !own.tainted.contains(key)).collect()
    }

    /// Whether the authority of an SVID is in our bundle no more, or is not to be relied on.
    #[must_use]
    pub fn is_orphan(&self, svid: &HeldSvid) -> bool {
        is_orphan(Some(svid), &self.reliable())
    }

    /// Has the SVIDs signed anew at once whose authority is in our bundle no more, or is not to be relied on.
    fn replace_orphans(&mut self, now: SystemTime) {
        let keys = self.reliable();
        for (id, slot) in &mut self.slots {
            if is_orphan(slot.svid.as_deref(), &keys) && slot.due.is_some_and(|due| due > now) {
                schedule(&mut self.due, slot, id, Some(now));
            }
        }
    }

    /// The entries that match, in the workload's order, hints unique.
    #[must_use]
    pub fn matching(&self, selectors: &SelectorSet) -> Vec<Arc<Entry>> {
        let candidates = selectors.iter().filter_map(|selector| self.index.get(selector)).flatten();
        let mut entries: Vec<Arc<Entry>> = candidates
            .filter_map(|id| Some(&self.slots.get(id)?.entry))
            .filter(|entry| selectors.covers(&entry.selectors))
            .cloned()
            .collect();
        entries.sort_by(|a, b| by_age(a, b));
        drop_repeated_hints(&mut entries);
        entries
    }

    /// Follows what workloads with `selectors` see, from what is now. Entries that match and were not
    /// signed yet become due.
    pub fn subscribe(&mut self, selectors: &SelectorSet, now: SystemTime) -> watch::Receiver<Arc<Update>> {
        self.groups.retain(|_, sender| sender.receiver_count() > 0);
        if let Some(sender) = self.groups.get(selectors) {
            return sender.subscribe();
        }
        for entry in self.matching(selectors) {
            if let Some(slot) = self.slots.get_mut(&entry.id)
                && !slot.signing
                && slot.failure.is_none()
                && (slot.due.is_none() && slot.served().is_none()
                    || slot.served().is_some_and(|svid| svid.renew_at() <= now && slot.due.is_some()))
            {
                schedule(&mut self.due, slot, &entry.id, Some(now));
            }
        }
        let (sender, receiver) = watch::channel(Arc::new(self.update(selectors)));
        self.groups.insert(selectors.clone(), sender);
        receiver
    }

    fn update(&self, selectors: &SelectorSet) -> Update {
        let entries = self.matching(selectors);
        let matches: Vec<_> = entries
            .iter()
            .map(|entry| {
                let slot = self.slots.get(&entry.id);
                Match {
                    entry,
                    svid: slot.and_then(|slot| slot.served().map(AsRef::as_ref)),
                    failure: slot.and_then(|slot| slot.failure.as_ref()),
                }
            })
            .collect();
        Update::of(&self.trust_domain, &matches, &self.bundles)
    }

    fn refresh(&mut self, is_touched: impl Fn(&SelectorSet) -> bool) {
        self.groups.retain(|_, sender| sender.receiver_count() > 0);
        for (selectors, sender) in &self.groups {
            if is_touched(selectors) {
                let update = self.update(selectors);
                sender.send_if_modified(|current| {
                    let differs = **current != update;
                    if differs {
                        *current = Arc::new(update);
                    }
                    differs
                });
            }
        }
    }

    fn put(&mut self, entry: Entry, now: SystemTime, touched: &mut Vec<SelectorSet>) -> Put {
        let entry = Arc::new(entry);
        let existing = self.slots.get(&entry.id);
        if existing.is_some_and(|slot| slot.entry == entry) {
            return Put::Same;
        }
        touched.push(entry.selectors.clone());
        let outcome = if existing.is_some() { Put::Updated } else { Put::Created };
        // Another ID is another identity: the old one must not be served a moment longer.
        let svid = self.remove(&entry.id).and_then(|old| {
            touched.push(old.entry.selectors.clone());
            old.svid.filter(|svid| svid.spiffe_id == entry.spiffe_id)
        });
        self.insert(entry, svid, now, now);
        outcome
    }

    fn insert(&mut self, entry: Arc<Entry>, svid: Option<Arc<HeldSvid>>, due: SystemTime, now: SystemTime) {
        let id = Arc::clone(&entry.id);
        if let Some(first) = entry.selectors.first() {
            self.index.entry(first.clone()).or_default().insert(Arc::clone(&id));
        }
        let is_over = svid.as_ref().is_some_and(|svid| svid.is_over(now));
        let mut slot = Slot { entry, svid, is_over, due: None, signing: false, failure: None };
        schedule(&mut self.due, &mut slot, &id, Some(due));
        self.slots.insert(id, slot);
    }

    /// Puts back an entry and its SVID as they were on disk. One that has ended serves nobody, unless the clock is wrong.
    pub fn restore(&mut self, entry: Entry, svid: Option<HeldSvid>, now: SystemTime) {
        let svid = svid.filter(|svid| svid.spiffe_id == entry.spiffe_id);
        let due = svid.as_ref().filter(|svid| !svid.is_over(now)).map_or(now, |svid| svid.due_at(now));
        self.remove(&entry.id);
        self.insert(Arc::new(entry), svid.map(Arc::new), due, now);
    }

    fn remove(&mut self, id: &EntryId) -> Option<Slot> {
        let mut slot = self.slots.remove(id)?;
        schedule(&mut self.due, &mut slot, id, None);
        if let Some(first) = slot.entry.selectors.first()
            && let Some(ids) = self.index.get_mut(first)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.index.remove(first);
            }
        }
        Some(slot)
    }

    fn apply_bundles(&mut self, snapshot: bool, bundles: Vec<Bundle>, deleted: &[TrustDomain]) -> bool {
        let before: BTreeMap<_, _> =
            self.bundles.iter().map(|bundle| (bundle.trust_domain.clone(), Arc::clone(bundle))).collect();
        let mut after = before.clone();
        // The own bundle is never dropped: without it the agent could not speak to the server again.
        after.retain(|td, _| *td == self.trust_domain || !(snapshot || deleted.contains(td)));
        after.extend(bundles.into_iter().map(|bundle| (bundle.trust_domain.clone(), Arc::new(bundle))));
        let changed = before != after;
        if changed {
            self.bundles = Arc::new(Bundles::new(after.into_values()));
        }
        changed
    }
}

fn is_orphan(svid: Option<&HeldSvid>, reliable: &HashSet<String>) -> bool {
    let authority = svid.and_then(|svid| svid.authority.as_ref());
    authority.is_some_and(|key| !reliable.is_empty() && !reliable.contains(key))
}

enum Put {
    Created,
    Updated,
    Same,
}

fn is_wanted(groups: &HashMap<SelectorSet, watch::Sender<Arc<Update>>>, entry: &Entry) -> bool {
    groups.iter().any(|(group, sender)| sender.receiver_count() > 0 && group.covers(&entry.selectors))
}

/// Keeps a slot and the queue in step.
fn schedule(
    queue: &mut BTreeSet<(SystemTime, EntryId)>,
    slot: &mut Slot,
    id: &EntryId,
    due: Option<SystemTime>,
) {
    if let Some(old) = slot.due.take() {
        queue.remove(&(old, Arc::clone(id)));
    }
    if let Some(at) = due {
        queue.insert((at, Arc::clone(id)));
        slot.due = due;
    }
}
