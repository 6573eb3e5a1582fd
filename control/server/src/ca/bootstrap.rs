//! The bootstrap keys: long-lived keys by which the server proves at first contact that it is the one that a join token was
//! made by, however often its authorities were rotated since.
//!
//! Owns the keys on disk, one file each with the key and a certificate that it signed itself, and which of them is for new
//! tokens: the newest. The others go on proving what they were made for until they are revoked. No bundle has them, so
//! nothing that they sign is an SVID for anybody.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use svidecar_authority::{
    CertificateDer, UnixTime,
    bundle::{Bundle, BundleSet},
    key::{KeyType, PrivateKey, key_hash},
    pem,
    time::{between, plus, rfc3339},
    tls::Identity,
    x509::{CaParams, Subject, SvidParams, X509Ca, ca::BACKDATE},
};
use svidecar_id::{SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use super::{
    CaError,
    keys::{KeyDir, blocking},
};

/// Their files begin so.
const PREFIX: &str = "bootstrap-";

/// Nobody looks at the end of their certificates; it has to be one.
const LIFETIME: Duration = Duration::from_secs(50 * 365 * 86_400);

/// Keys at the same time: the one for new tokens, and those that tokens and agents still hold.
const MOST: usize = 16;

/// One key.
pub struct BootstrapKey {
    ca: X509Ca,
    hash: String,
    identity: Identity,
}

impl BootstrapKey {
    fn create(trust_domain: &TrustDomain, now: UnixTime) -> Result<Self, CaError> {
        let params =
            CaParams { trust_domain: trust_domain.clone(), ttl: LIFETIME, subject: Subject::ca_default() };
        Self::of(X509Ca::self_signed(&params, PrivateKey::generate(KeyType::EcP256)?, now)?)
    }

    fn of(ca: X509Ca) -> Result<Self, CaError> {
        let identity = Identity::new(vec![ca.certificate().clone()], ca.key().pkcs8_der())?;
        Ok(Self { hash: key_hash(&ca.key().spki_der()), ca, identity })
    }

    /// What join tokens know it by: [`key_hash`].
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// When it was made.
    #[must_use]
    pub fn made_at(&self) -> UnixTime {
        plus(self.ca.not_before(), BACKDATE)
    }

    /// In the form that a handshake presents.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sign_membership(
        &self,
        id: &SpiffeId,
        spki_der: Vec<u8>,
        generation: u64,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        // The key may be from a time when the clock was ahead.
        let now = now.max(self.ca.not_before());
        let mut params = SvidParams::new(id.clone(), spki_der, between(now, until));
        params.serial_prefix = Some(generation);
        let mut chain = self.ca.sign_svid(&params, now)?.chain;
        chain.push(self.ca.certificate().clone());
        Ok(chain)
    }

    fn file(hash: &str) -> String {
        format!("{PREFIX}{}", hash.chars().take(32).collect::<String>())
    }
}

/// All that are valid.
pub struct BootstrapKeys {
    trust_domain: TrustDomain,
    directory: KeyDir,
    /// Oldest first, never empty.
    keys: ArcSwap<Vec<Arc<BootstrapKey>>>,
    /// The same as they verify what they have signed.
    bundles: ArcSwap<BundleSet>,
    changing: Mutex<()>,
}

impl BootstrapKeys {
    /// Reads the keys, or makes the first one.
    ///
    /// # Errors
    /// [`CaError::Keys`] for files that cannot be read or written, [`CaError::Authority`] when no key can be made.
    pub(super) async fn open(
        trust_domain: TrustDomain,
        directory: PathBuf,
        now: UnixTime,
    ) -> Result<Self, CaError> {
        blocking(move || {
            let directory = KeyDir::open(directory)?;
            let mut keys = Vec::new();
            for name in directory.names(PREFIX)? {
                keys.push(Arc::new(read(&directory, &name, &trust_domain)?));
            }
            if keys.is_empty() {
                let key = BootstrapKey::create(&trust_domain, now)?;
                write(&directory, &key)?;
                tracing::info!(
                    key = key.hash,
                    "Made a new bootstrap key, which join tokens name from now on"
                );
                keys.push(Arc::new(key));
            }
            let opened = Self {
                trust_domain,
                directory,
                keys: ArcSwap::default(),
                bundles: ArcSwap::default(),
                changing: Mutex::default(),
            };
            opened.set(keys);
            Ok(opened)
        })
        .await
    }

    /// All, oldest first.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Arc<BootstrapKey>>> {
        self.keys.load_full()
    }

    /// The one with that hash.
    #[must_use]
    pub fn find(&self, hash: &str) -> Option<Arc<BootstrapKey>> {
        self.keys.load().iter().find(|key| key.hash == hash).cloned()
    }

    /// The hash that new join tokens carry.
    #[must_use]
    pub fn pin(&self) -> String {
        self.keys.load().last().map(|key| key.hash.clone()).unwrap_or_default()
    }

    /// What verifies certificates that these keys have signed. It is for nothing else.
    #[must_use]
    pub fn bundles(&self) -> Arc<BundleSet> {
        self.bundles.load_full()
    }

    /// Signs what lets the agent with this key come back until then, by the newest key: a certificate, and that of the key.
    ///
    /// # Errors
    /// [`CaError::Authority`] for a key that must not have one.
    pub fn sign_membership(
        &self,
        id: &SpiffeId,
        spki_der: Vec<u8>,
        generation: u64,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let keys = self.keys.load();
        let newest = keys.last().ok_or_else(|| CaError::BootstrapKeys("there is none".to_owned()))?;
        newest.sign_membership(id, spki_der, generation, until, now)
    }

    /// Makes a key for new tokens. Those of before stay good. Blocks.
    ///
    /// # Errors
    /// [`CaError::BootstrapKeys`] when there are too many, or as when they are opened.
    pub fn rotate(&self, now: UnixTime) -> Result<Arc<BootstrapKey>, CaError> {
        let _changing = self.changing();
        let mut keys = Vec::clone(&self.keys.load());
        if keys.len() >= MOST {
            return Err(CaError::BootstrapKeys(format!(
                "there are {MOST} already; revoke one that no token in use names"
            )));
        }
        // Later than all others, whatever the clock says: the order is all that tells which one is for new tokens.
        let after = keys.iter().map(|key| plus(key.made_at(), Duration::from_secs(1))).max();
        let now = after.map_or(now, |after| after.max(now));
        let key = Arc::new(BootstrapKey::create(&self.trust_domain, now)?);
        write(&self.directory, &key)?;
        keys.push(Arc::clone(&key));
        self.set(keys);
        Ok(key)
    }

    /// Removes a key: tokens that name it are good for nothing from now on. Blocks.
    ///
    /// # Errors
    /// [`CaError::BootstrapKeys`] for a key that is not there, or the newest.
    pub fn revoke(&self, hash: &str) -> Result<Arc<BootstrapKey>, CaError> {
        let _changing = self.changing();
        let mut keys = Vec::clone(&self.keys.load());
        let position = keys
            .iter()
            .position(|key| key.hash == hash)
            .ok_or_else(|| CaError::BootstrapKeys(format!("there is none with the SHA-256 {hash}")))?;
        if position + 1 == keys.len() {
            return Err(CaError::BootstrapKeys(
                "this is the one for new tokens; rotate it first, then revoke it".to_owned(),
            ));
        }
        self.directory.remove(&BootstrapKey::file(hash))?;
        let key = keys.remove(position);
        self.set(keys);
        Ok(key)
    }

    fn set(&self, mut keys: Vec<Arc<BootstrapKey>>) {
        keys.sort_by(|one, other| (one.made_at(), &one.hash).cmp(&(other.made_at(), &other.hash)));
        let mut bundle = Bundle::empty(self.trust_domain.clone());
        bundle.x509_authorities = keys.iter().map(|key| key.ca.certificate().clone()).collect();
        self.bundles.store(Arc::new(BundleSet::of(bundle)));
        self.keys.store(Arc::new(keys));
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(directory: &KeyDir, name: &str, trust_domain: &TrustDomain) -> Result<BootstrapKey, CaError> {
    let text = directory.read(name)?.unwrap_or_default();
    let unreadable = |error| directory.unreadable(name, &error);
    let key = PrivateKey::from_pem(&text).map_err(unreadable)?;
    let certificate = pem::certificates(&text).map_err(unreadable)?.into_iter().next();
    let ca = X509Ca::load(certificate.unwrap_or_else(|| Vec::new().into()), Vec::new(), key)
        .map_err(unreadable)?;
    if ca.trust_domain() != trust_domain {
        let found = ca.trust_domain();
        return Err(
            directory.unreadable(name, &format!("it is of the trust domain `{found}`, not `{trust_domain}`"))
        );
    }
    let key = BootstrapKey::of(ca)?;
    tracing::debug!(key = key.hash, made_at = rfc3339(key.made_at()), "A bootstrap key");
    Ok(key)
}

fn write(directory: &KeyDir, key: &BootstrapKey) -> Result<(), CaError> {
    let (secret, certificate) =
        (key.ca.key().to_pkcs8_pem(), pem::encode_certificates([key.ca.certificate()]));
    // Room for all of it from the start: a growing string would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(secret.len() + certificate.len()));
    text.push_str(&secret);
    text.push_str(&certificate);
    directory.write(&BootstrapKey::file(&key.hash), &text)
}
