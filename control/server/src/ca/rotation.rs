//! Takes the steps of rotation: each makes a key, or changes what a key is, and commits that together with its
//! change of the bundle before anything signs by it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use svidecar_authority::{
    CertificateDer, UnixTime,
    time::{from_secs, rfc3339},
    x509::{CertInfo, X509Ca},
};
use svidecar_config::server::ServerSettings;
use zeroize::Zeroizing;

use super::{
    CaError, JwtAuthority,
    authorities::Authorities,
    authority::{Authority, Recipe},
    journal::{self, Entry, Journal, Kind},
    keys::{KeyDir, blocking},
    schedule::{Moment, Step, check_settings, forgotten_before},
    server_svid::ServerSvid,
    slots::Slots,
};
use crate::store::{BundleChange, BundleRecord, Store};

/// Most steps of one kind at once: start, prepare, activate. The bound guards against a mistake, no more.
const MAX_STEPS: usize = 4;

/// The state of both kinds, and what is needed to go on.
pub(super) struct Rotation {
    recipe: Recipe,
    server_svid_ttl: Duration,
    store: Arc<dyn Store>,
    keys: KeyDir,
    journal: Journal,
    x509: Slots<Arc<X509Ca>>,
    /// `None` when JWT-SVIDs are disabled.
    jwt: Option<Slots<Arc<JwtAuthority>>>,
}

impl Rotation {
    /// Reads the journal and the keys. A key that is gone costs its authority, not the start.
    pub(super) async fn load(
        settings: &ServerSettings,
        store: Arc<dyn Store>,
        key_dir: PathBuf,
    ) -> Result<Self, CaError> {
        if let Some(problem) = check_settings(settings).into_iter().next() {
            return Err(problem);
        }
        let journal = match store.load_journal(journal::NAME).await? {
            Some(data) => Journal::read(&data)?,
            None => Journal::new(),
        };
        let with_jwt = !settings.disable_jwt_svids;
        let (keys, journal, x509, jwt) = blocking(move || {
            let keys = KeyDir::open(key_dir)?;
            let x509 = Slots::load(&journal.x509, &keys)?;
            let jwt = if with_jwt { Some(Slots::load(&journal.jwt, &keys)?) } else { None };
            Ok((keys, journal, x509, jwt))
        })
        .await?;
        let recipe = Recipe::new(settings);
        let server_svid_ttl = settings.default_x509_svid_ttl.get();
        Ok(Self { recipe, server_svid_ttl, store, keys, journal, x509, jwt })
    }

    /// Takes all steps that are due, and, at a time that is certain, prunes. Returns our bundle as it is then.
    pub(super) async fn advance(&mut self, moment: Moment) -> Result<BundleRecord, CaError> {
        let now = moment.now;
        for _ in 0..MAX_STEPS {
            let step = self.x509.next_step(now);
            if self.step_x509(step, moment).await?.is_none() {
                break;
            }
        }
        for _ in 0..MAX_STEPS {
            let Some(step) = self.jwt.as_ref().map(|jwt| jwt.next_step(now)) else { break };
            if self.step_jwt(step, moment).await?.is_none() {
                break;
            }
        }
        if moment.is_certain {
            self.discard_ended(now).await;
        }
        self.tidy(moment).await
    }

    /// Removes the keys of those set aside whose certificates have ended: the one thing here that cannot be undone.
    async fn discard_ended(&mut self, now: UnixTime) {
        let left = self.x509.without_ended(now);
        std::mem::replace(&mut self.x509, left).discard_keys(&self.x509, &self.keys).await;
        if let Some(jwt) = &mut self.jwt {
            let left = jwt.without_ended(now);
            std::mem::replace(jwt, left).discard_keys(jwt, &self.keys).await;
        }
    }

    /// Removes the key of a step that was not committed: the next try makes another. It stays if the journal may name it.
    async fn discard_uncommitted<A: Authority>(&self, next: Slots<A>, current: &Slots<A>) {
        let kept = match self.store.load_journal(journal::NAME).await {
            Ok(Some(data)) => Journal::read(&data).ok(),
            Ok(None) => Some(Journal::new()),
            Err(_) => None,
        };
        if kept.is_some_and(|kept| kept == self.journal) {
            next.discard_keys(current, &self.keys).await;
        }
    }

    /// Takes one step of X.509 authorities. Our bundle as it is then; `None` when there is nothing to do.
    pub(super) async fn step_x509(
        &mut self,
        step: Step,
        moment: Moment,
    ) -> Result<Option<BundleRecord>, CaError> {
        let Some(next) = self.x509.take(step, &self.recipe, &self.keys, moment.now).await? else {
            return Ok(None);
        };
        let journal = self.journal.with(next.entries(), self.jwt.as_ref().map(Slots::entries));
        let bundle = match self.commit(journal, next.clone(), self.jwt.clone(), moment).await {
            Ok(bundle) => bundle,
            Err(error) => {
                self.discard_uncommitted(next, &self.x509).await;
                return Err(error);
            }
        };
        next.report(step, !self.x509.is_empty());
        self.x509 = next;
        Ok(Some(bundle))
    }

    /// The same of those that sign JWT-SVIDs, if there are any.
    pub(super) async fn step_jwt(
        &mut self,
        step: Step,
        moment: Moment,
    ) -> Result<Option<BundleRecord>, CaError> {
        let Some(current) = &self.jwt else { return Ok(None) };
        let Some(next) = current.take(step, &self.recipe, &self.keys, moment.now).await? else {
            return Ok(None);
        };
        let recovered = !current.is_empty();
        let journal = self.journal.with(self.x509.entries(), Some(next.entries()));
        let bundle = match self.commit(journal, self.x509.clone(), Some(next.clone()), moment).await {
            Ok(bundle) => bundle,
            Err(error) => {
                if let Some(current) = &self.jwt {
                    self.discard_uncommitted(next, current).await;
                }
                return Err(error);
            }
        };
        next.report(step, recovered);
        self.jwt = Some(next);
        Ok(Some(bundle))
    }

    /// What the journal says of a kind.
    pub(super) fn entries_of(&self, kind: Kind) -> &[Entry] {
        match kind {
            Kind::X509 => &self.journal.x509,
            Kind::Jwt => &self.journal.jwt,
        }
    }

    /// Removes the key of an authority that was set aside: it is never to sign again.
    pub(super) async fn discard(&mut self, kind: Kind, id: &str) {
        match kind {
            Kind::X509 => {
                let left = self.x509.without(id);
                std::mem::replace(&mut self.x509, left).discard_keys(&self.x509, &self.keys).await;
            }
            Kind::Jwt => {
                if let Some(jwt) = &mut self.jwt {
                    let left = jwt.without(id);
                    std::mem::replace(jwt, left).discard_keys(jwt, &self.keys).await;
                }
            }
        }
    }

    /// Changes our bundle, and nothing else.
    pub(super) async fn amend_bundle(
        &self,
        change: impl FnOnce(&mut BundleRecord) + Send + 'static,
    ) -> Result<BundleRecord, CaError> {
        Ok(self.store.modify_bundle(&self.recipe.trust_domain, boxed(change)).await?)
    }

    /// Takes an authority out of the journal and, in the same transaction, out of our bundle.
    pub(super) async fn forget(
        &mut self,
        kind: Kind,
        id: &str,
        change: impl FnOnce(&mut BundleRecord) + Send + 'static,
    ) -> Result<BundleRecord, CaError> {
        let mut journal = self.journal.clone();
        match kind {
            Kind::X509 => journal.x509.retain(|entry| entry.id != id),
            Kind::Jwt => journal.jwt.retain(|entry| entry.id != id),
        }
        let (data, trust_domain) = (journal.write()?, &self.recipe.trust_domain);
        let bundle = self.store.save_journal(journal::NAME, data, trust_domain, boxed(change)).await?;
        self.journal = journal;
        Ok(bundle)
    }

    /// Makes sure that the bundle has what signs, and drops what has long expired.
    async fn tidy(&mut self, moment: Moment) -> Result<BundleRecord, CaError> {
        let forgotten_before = forgotten_before(self.recipe.ca_ttl, moment);
        let journal = self.journal.pruned(forgotten_before);
        if let Some(bundle) = self.store.get_bundle(&self.recipe.trust_domain).await? {
            let mut wanted = bundle.clone();
            amend(&mut wanted, &self.x509, self.jwt.as_ref(), forgotten_before);
            if wanted == bundle && journal == self.journal {
                return Ok(bundle);
            }
        }
        self.commit(journal, self.x509.clone(), self.jwt.clone(), moment).await
    }

    /// Writes the journal and amends the bundle in one transaction.
    async fn commit(
        &mut self,
        journal: Journal,
        x509: Slots<Arc<X509Ca>>,
        jwt: Option<Slots<Arc<JwtAuthority>>>,
        moment: Moment,
    ) -> Result<BundleRecord, CaError> {
        let data = journal.write()?;
        let forgotten_before = forgotten_before(self.recipe.ca_ttl, moment);
        let change = boxed(move |bundle| amend(bundle, &x509, jwt.as_ref(), forgotten_before));
        let bundle = self.store.save_journal(journal::NAME, data, &self.recipe.trust_domain, change).await?;
        self.journal = journal;
        Ok(bundle)
    }

    /// What signs now. Keeps the server's own SVID while its authority stays and half of its life is ahead.
    pub(super) fn authorities(
        &self,
        before: Option<&Authorities>,
        now: UnixTime,
    ) -> Result<Authorities, CaError> {
        let x509 = self
            .x509
            .signing()
            .ok_or_else(|| CaError::Journal { reason: "there is no active X.509 authority".to_owned() })?;
        let kept = before.filter(|before| Arc::ptr_eq(&before.x509, x509) && !before.server_svid.is_due(now));
        let server_svid = match kept {
            Some(before) => before.server_svid.clone(),
            None => ServerSvid::sign(x509, self.server_svid_ttl, now)?,
        };
        let jwt = self.jwt.as_ref().and_then(Slots::signing).cloned();
        Ok(Authorities { x509: Arc::clone(x509), jwt, server_svid })
    }

    /// The files of all keys, with their names.
    pub(super) async fn key_files(&self) -> Result<Vec<(String, Zeroizing<Vec<u8>>)>, CaError> {
        let keys = self.keys.clone();
        blocking(move || {
            let names = keys.names("")?.into_iter();
            let files = names.filter_map(|name| match keys.read(&name) {
                Ok(pem) => pem.map(|pem| Ok((format!("{name}.pem"), pem))),
                Err(error) => Some(Err(error)),
            });
            files.collect()
        })
        .await
    }

    /// Whether another authority signs than in `current`.
    pub(super) fn differs_from(&self, current: &Authorities) -> bool {
        let same_x509 = self.x509.signing().is_some_and(|x509| Arc::ptr_eq(x509, &current.x509));
        let same_jwt = match (self.jwt.as_ref().and_then(Slots::signing), &current.jwt) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        !(same_x509 && same_jwt)
    }
}

/// As the store takes it.
fn boxed(change: impl FnOnce(&mut BundleRecord) + Send + 'static) -> BundleChange {
    Box::new(move |bundle| {
        change(bundle);
        Ok(())
    })
}

/// Publishes what signs and what will, and removes what ended before `forgotten_before`.
fn amend(
    bundle: &mut BundleRecord,
    x509: &Slots<Arc<X509Ca>>,
    jwt: Option<&Slots<Arc<JwtAuthority>>>,
    forgotten_before: UnixTime,
) {
    x509.authorities().for_each(|authority| authority.publish(bundle));
    jwt.into_iter().flat_map(Slots::authorities).for_each(|authority| authority.publish(bundle));
    bundle.retain(
        |root| {
            // What cannot be read has no end that we could know.
            let info = CertInfo::parse(&CertificateDer::from(root.der.as_slice()));
            let gone = info.as_ref().is_ok_and(|info| info.not_after < forgotten_before);
            if let (true, Ok(info)) = (gone, &info) {
                tracing::info!(
                    authority_id = info.subject_key_id.as_deref().unwrap_or_default(),
                    expired_at = rfc3339(info.not_after),
                    "Removed an expired X.509 authority from the bundle"
                );
            }
            !gone
        },
        |key| match u64::try_from(key.expires_at) {
            Ok(expires_at) if expires_at > 0 => from_secs(expires_at) >= forgotten_before,
            _ => true,
        },
    );
}
