//! What administrators do to authorities: the steps of rotation before their time, and what no time brings.
//!
//! Owns the order that keeps a trust domain going: an authority is prepared before it signs, and nothing is taken from a bundle that
//! still signs or will.

use svidecar_authority::{CertificateDer, x509::CertInfo};

use super::{
    CaError,
    journal::{Entry, Kind, Status},
    rotation::Rotation,
    schedule::{Moment, Step},
};
use crate::store::BundleRecord;

/// What is done to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new one is made and published; it does not sign yet.
    Prepare,
    /// The prepared one of that ID signs from now on.
    Activate(String),
    /// What the old one of that ID has signed is to be replaced. It is believed for as long, and signs never again.
    Taint(String),
    /// The old one of that ID is believed no more.
    Revoke(String),
}

/// An authority, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityState {
    /// Subject key ID, or `kid`.
    pub id: String,
    /// When it ends, Unix seconds.
    pub expires_at: u64,
}

/// Those of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorityStates {
    /// Signs.
    pub active: Option<AuthorityState>,
    /// Will sign.
    pub prepared: Option<AuthorityState>,
    /// Signs no more, and is still believed; the latest.
    pub old: Option<AuthorityState>,
}

impl From<&Entry> for AuthorityState {
    fn from(entry: &Entry) -> Self {
        Self { id: entry.id.clone(), expires_at: entry.life().not_after.as_secs() }
    }
}

impl AuthorityStates {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let find = |status| entries.iter().rev().find(|entry| entry.status == status).map(Into::into);
        Self { active: find(Status::Active), prepared: find(Status::Prepared), old: find(Status::Old) }
    }
}

impl Rotation {
    /// Those of a kind.
    pub(super) fn states(&self, kind: Kind) -> AuthorityStates {
        AuthorityStates::of(self.entries_of(kind))
    }

    /// Does it, and says to which; the bundle is as it is then.
    pub(super) async fn change(
        &mut self,
        kind: Kind,
        change: Change,
        moment: Moment,
    ) -> Result<(AuthorityState, BundleRecord), CaError> {
        match change {
            Change::Prepare => self.by_hand(kind, Step::Prepare, moment).await,
            Change::Activate(id) => {
                if self.states(kind).prepared.is_none_or(|prepared| prepared.id != id) {
                    return Err(refuse(format!("no authority {id} is prepared")));
                }
                self.by_hand(kind, Step::Activate, moment).await
            }
            Change::Taint(id) => {
                let state = self.old(kind, &id)?;
                let tainted = id.clone();
                let bundle = self.amend_bundle(move |bundle| taint(bundle, kind, &tainted)).await?;
                self.discard(kind, &id).await;
                Ok((state, bundle))
            }
            Change::Revoke(id) => {
                let state = self.old(kind, &id)?;
                let gone = id.clone();
                let bundle = self.forget(kind, &id, move |bundle| revoke(bundle, kind, &gone)).await?;
                self.discard(kind, &id).await;
                Ok((state, bundle))
            }
        }
    }

    async fn by_hand(
        &mut self,
        kind: Kind,
        step: Step,
        moment: Moment,
    ) -> Result<(AuthorityState, BundleRecord), CaError> {
        let bundle = match kind {
            Kind::X509 => self.step_x509(step, moment).await?,
            Kind::Jwt => self.step_jwt(step, moment).await?,
        };
        let bundle = bundle.ok_or_else(|| refuse("there is nothing to be done".to_owned()))?;
        let states = self.states(kind);
        let state = if step == Step::Prepare { states.prepared } else { states.active };
        Ok((state.ok_or_else(|| refuse("the authority is gone".to_owned()))?, bundle))
    }

    /// The authority of that ID, which neither signs nor will.
    fn old(&self, kind: Kind, id: &str) -> Result<AuthorityState, CaError> {
        let found = self.entries_of(kind).iter().find(|entry| entry.id == id);
        match found {
            Some(entry) if entry.status == Status::Old => Ok(entry.into()),
            Some(_) => {
                Err(refuse(format!("authority {id} still signs, or will; activate another one first")))
            }
            None => Err(refuse(format!("there is no authority {id}"))),
        }
    }
}

fn refuse(reason: String) -> CaError {
    CaError::ByHand(reason)
}

fn is_root(der: &[u8], id: &str) -> bool {
    CertInfo::parse(&CertificateDer::from(der)).is_ok_and(|info| info.subject_key_id.as_deref() == Some(id))
}

fn taint(bundle: &mut BundleRecord, kind: Kind, id: &str) {
    let before = bundle.clone();
    match kind {
        Kind::X509 => {
            bundle
                .x509_authorities
                .iter_mut()
                .filter(|root| is_root(&root.der, id))
                .for_each(|root| root.tainted = true);
        }
        Kind::Jwt => {
            bundle
                .jwt_authorities
                .iter_mut()
                .filter(|key| key.key_id == id)
                .for_each(|key| key.tainted = true);
        }
    }
    if *bundle != before {
        bundle.sequence += 1;
    }
}

fn revoke(bundle: &mut BundleRecord, kind: Kind, id: &str) {
    match kind {
        Kind::X509 => bundle.retain(|root| !is_root(&root.der, id), |_| true),
        Kind::Jwt => bundle.retain(|_| true, |key| key.key_id != id),
    }
}
