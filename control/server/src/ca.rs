//! The certificate authority of the trust domain, and its rotation.
//!
//! Owns which X.509 authority and which token key are active, which are prepared, and when that changes; the
//! keys on disk; the server's own SVID; and its bootstrap keys. Signing is done from memory, without the store. The rule that holds
//! at every moment, across crashes too: a key signs only after the transaction that put its public half into the
//! bundle has been committed. It must never decide who may have which ID (services do), and never read a clock
//! (time is an argument).

mod authorities;
mod authority;
mod bootstrap;
mod by_hand;
mod error;
mod journal;
mod keys;
mod rotation;
mod schedule;
mod server_svid;
mod slots;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use svidecar_authority::{
    UnixTime,
    jwt::{self, JwtClaims},
    time::plus,
    tls::IdentitySource,
    x509::{SvidParams, X509Svid},
};
use svidecar_config::server::ServerSettings;
use svidecar_id::SpiffeId;
use svidecar_process::clock::Steps;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use authorities::Authorities;
pub use authority::JwtAuthority;
pub use bootstrap::{BootstrapKey, BootstrapKeys};
pub use by_hand::{AuthorityState, AuthorityStates, Change};
pub use error::CaError;
pub use journal::Kind;
pub use schedule::{Moment, check_settings};

use self::rotation::Rotation;
use crate::store::{BundleRecord, Store};

/// How long what proves that the keys sign would be good for.
const PROOF_TTL: Duration = Duration::from_secs(1);

/// What a JWT-SVID is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtParams {
    /// The workload.
    pub id: SpiffeId,
    /// For whom it is, at least one.
    pub audience: Vec<String>,
    /// Lifetime from now; cut at the end of the signing key's.
    pub ttl: Duration,
    /// Token ID, when it is to have one.
    pub jti: Option<String>,
}

/// A signed JWT-SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtToken {
    /// The token.
    pub token: String,
    /// The workload.
    pub id: SpiffeId,
    /// Since when.
    pub issued_at: UnixTime,
    /// Until when.
    pub expires_at: UnixTime,
}

/// The authority.
pub struct CaManager {
    current: ArcSwap<Authorities>,
    bundle: watch::Sender<Arc<BundleRecord>>,
    rotation: Mutex<Rotation>,
    bootstrap: BootstrapKeys,
    store: Arc<dyn Store>,
    jwt_issuer: Option<String>,
    tick_every: Duration,
}

impl CaManager {
    /// Loads the authorities, or makes the first ones, and brings rotation up to `moment`. `key_dir` is made with mode
    /// 0700 when it is missing.
    ///
    /// # Errors
    /// [`CaError::Ttl`] for lifetimes that the CA cannot honour; [`CaError::Keys`], [`CaError::Journal`],
    /// [`CaError::Store`] or [`CaError::Authority`] when something cannot be read, written or made.
    pub async fn open(
        settings: &ServerSettings,
        store: Arc<dyn Store>,
        key_dir: &Path,
        moment: impl Into<Moment> + Send,
    ) -> Result<Self, CaError> {
        let moment = moment.into();
        let mut rotation = Rotation::load(settings, Arc::clone(&store), key_dir.to_owned()).await?;
        let bundle = rotation.advance(moment).await?;
        let current = rotation.authorities(None, moment.now)?;
        let bootstrap =
            BootstrapKeys::open(settings.trust_domain.clone(), key_dir.to_owned(), moment.now).await?;
        Ok(Self {
            current: ArcSwap::from_pointee(current),
            bundle: watch::Sender::new(Arc::new(bundle)),
            rotation: Mutex::new(rotation),
            bootstrap,
            store,
            jwt_issuer: settings.jwt_issuer.clone(),
            tick_every: schedule::tick_interval(settings.ca_ttl.get()),
        })
    }

    /// What signs now.
    #[must_use]
    pub fn current(&self) -> Arc<Authorities> {
        self.current.load_full()
    }

    /// Our bundle, and every change of it.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Arc<BundleRecord>> {
        self.bundle.subscribe()
    }

    /// The keys that prove who the server is to those who know no authority of it yet.
    #[must_use]
    pub const fn bootstrap(&self) -> &BootstrapKeys {
        &self.bootstrap
    }

    /// Waits for `copy` while no authority changes, and reads the files of all keys.
    ///
    /// # Errors
    /// [`CaError::Keys`] when one cannot be read.
    pub async fn at_rest<T>(
        &self,
        copy: impl Future<Output = T>,
    ) -> Result<(T, Vec<(String, Zeroizing<Vec<u8>>)>), CaError> {
        let rotation = self.rotation.lock().await;
        let copied = copy.await;
        let keys = rotation.key_files().await?;
        Ok((copied, keys))
    }

    /// Signs an X.509-SVID.
    ///
    /// # Errors
    /// [`CaError::Authority`] for an ID or a key that must not have one, or when the CA has expired.
    pub fn sign_x509_svid(&self, params: &SvidParams, now: UnixTime) -> Result<X509Svid, CaError> {
        Ok(self.current.load().x509.sign_svid(params, now)?)
    }

    /// Signs a JWT-SVID.
    ///
    /// # Errors
    /// [`CaError::JwtDisabled`]; [`CaError::JwtKeyExpired`]; [`CaError::Authority`] for a foreign ID or without audience.
    pub fn sign_jwt_svid(&self, params: &JwtParams, now: UnixTime) -> Result<JwtToken, CaError> {
        let current = self.current.load();
        let authority = current.jwt.as_ref().ok_or(CaError::JwtDisabled)?;
        current.x509.check_member(&params.id)?;
        if authority.not_after <= now {
            return Err(CaError::JwtKeyExpired);
        }
        let expires_at = plus(now, params.ttl).min(authority.not_after);
        let claims = JwtClaims {
            sub: params.id.clone(),
            aud: params.audience.clone(),
            iat: now,
            exp: expires_at,
            iss: self.jwt_issuer.clone(),
            jti: params.jti.clone(),
        };
        let token = jwt::mint(&authority.signer, &claims)?;
        Ok(JwtToken { token, id: params.id.clone(), issued_at: now, expires_at })
    }

    /// The authorities of a kind.
    pub async fn states(&self, kind: Kind) -> AuthorityStates {
        self.rotation.lock().await.states(kind)
    }

    /// Does by hand what rotation does by the time, or what no time brings.
    ///
    /// # Errors
    /// [`CaError::ByHand`] when it would leave what signs without an authority, or there is no such authority; else as
    /// [`Self::open`].
    pub async fn change(
        &self,
        kind: Kind,
        change: Change,
        moment: Moment,
    ) -> Result<AuthorityState, CaError> {
        let mut rotation = self.rotation.lock().await;
        let (state, bundle) = rotation.change(kind, change, moment).await?;
        self.announce(bundle);
        self.renew(&rotation, moment.now)?;
        Ok(state)
    }

    /// Signs one of each kind for nobody, and looks whether the server's own SVID is renewed: that all of it works, rather
    /// than that it once did.
    ///
    /// # Errors
    /// As [`Self::sign_x509_svid`] and [`Self::sign_jwt_svid`]; [`CaError::RenewalOverdue`].
    pub fn prove(&self, now: UnixTime) -> Result<(), CaError> {
        let current = self.current.load();
        let id = server_svid::id_in(current.x509.trust_domain())?;
        let spki_der = current.x509.info().spki_der.clone();
        current.x509.sign_svid(&SvidParams::new(id.clone(), spki_der, PROOF_TTL), now)?;
        if current.jwt.is_some() {
            let params = JwtParams { id, audience: vec!["health".to_owned()], ttl: PROOF_TTL, jti: None };
            self.sign_jwt_svid(&params, now)?;
        }
        if current.server_svid.is_overdue(now) { Err(CaError::RenewalOverdue) } else { Ok(()) }
    }

    /// Does what is due at `moment`: prepares, publishes, activates, prunes, renews the server's own SVID. What cannot be
    /// undone is done only when the time is certain.
    ///
    /// # Errors
    /// As [`Self::open`]. What signed before goes on signing.
    pub async fn tick(&self, moment: impl Into<Moment> + Send) -> Result<(), CaError> {
        let moment = moment.into();
        let mut rotation = self.rotation.lock().await;
        let bundle = rotation.advance(moment).await?;
        self.announce(bundle);
        self.renew(&rotation, moment.now)
    }

    /// Signs by what is active now, and as the server of now.
    fn renew(&self, rotation: &Rotation, now: UnixTime) -> Result<(), CaError> {
        let current = self.current.load_full();
        if rotation.differs_from(&current) || current.server_svid.is_due(now) {
            self.current.store(Arc::new(rotation.authorities(Some(&current), now)?));
        }
        Ok(())
    }

    /// Keeps everything current until `stop`: by time, when the clock jumps, and when somebody else has changed our bundle.
    pub async fn run(&self, clock: impl Fn() -> Moment, mut steps: Steps, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.tick_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changes = self.store.changes();
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.tick(clock()).await,
                () = steps.next() => self.tick(clock()).await,
                changed = changes.changed() => match changed {
                    Ok(()) => self.reload_bundle().await,
                    // The store is closed, so the server is about to end.
                    Err(_) => return,
                },
            };
            if let Err(error) = outcome {
                tracing::error!(%error, code = error.code().name(), "CA rotation failed; it is tried again shortly");
            }
        }
    }

    async fn reload_bundle(&self) -> Result<(), CaError> {
        let trust_domain = self.current.load().x509.trust_domain().clone();
        if let Some(bundle) = self.store.get_bundle(&trust_domain).await? {
            self.announce(bundle);
        }
        Ok(())
    }

    fn announce(&self, bundle: BundleRecord) {
        self.bundle.send_if_modified(|known| {
            let news = **known != bundle && known.sequence <= bundle.sequence;
            if news {
                *known = Arc::new(bundle);
            }
            news
        });
    }
}

/// The server presents its own SVID.
impl IdentitySource for CaManager {
    fn identity(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().server_identity().certified_key())
    }
}
