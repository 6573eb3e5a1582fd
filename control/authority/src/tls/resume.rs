//! Sessions that can be resumed, without giving up anything that a full handshake proves.
//!
//! rustls does not ask its verifier about a session that it resumes. So whoever finishes a resumed handshake asks here
//! ([`ResumingServer::accepts`], [`ResumingClient::accepts`]), which verifies the chain of the session in full: against
//! the bundles and the clock of now, and the authorizer. A session also belongs to the SVID of ours that it was made
//! with: a new SVID brings new ticket keys and forgets the sessions in which the old one was presented.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use rustls::{
    ClientConfig, Error, ServerConfig, client::Resumption, crypto::aws_lc_rs::Ticketer, sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{IdentitySource, SpiffeVerifier, Versions, client_config, server_config};
use crate::AuthorityError;

/// Sessions that a client keeps for one configuration, tickets of all servers together.
const MAX_CLIENT_SESSIONS: usize = 256;

/// Tickets for each handshake. A ticket is used once, and each resumption brings the next one.
const TICKETS: usize = 1;

/// The accepting side, with tickets. Sessions live in the tickets alone: nothing is stored here for them.
pub struct ResumingServer {
    full: Arc<ServerConfig>,
    resuming: PerSvid<ServerConfig>,
    verifier: SpiffeVerifier,
}

impl ResumingServer {
    /// As [`server_config`]; TLS 1.3 only, and with its secrets handed over after the handshake, for whoever has a
    /// record layer of their own.
    ///
    /// # Errors
    /// [`AuthorityError::Tls`] when rustls refuses the combination.
    pub fn new(
        identity: Arc<dyn IdentitySource>,
        verifier: SpiffeVerifier,
        alpn: &[&[u8]],
    ) -> Result<Self, AuthorityError> {
        let source = Arc::clone(&identity);
        let mut config = server_config(move || source.identity(), verifier.clone(), alpn, Versions::Tls13)?;
        config.enable_secret_extraction = true;
        let full = Arc::new(config.clone());
        config.send_tls13_tickets = TICKETS;
        let resuming = PerSvid::new(identity, config, |config| {
            // Random keys, changed every six hours, that open tickets for twice as long.
            config.ticketer = Ticketer::new()?;
            Ok(())
        });
        Ok(Self { full, resuming, verifier })
    }

    /// The configuration of now: gives tickets, and takes those that it gave for the present SVID.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.resuming.current().unwrap_or_else(|| Arc::clone(&self.full))
    }

    /// The configuration that resumes nothing.
    #[must_use]
    pub fn full(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.full)
    }

    /// Whether a client of this chain, leaf first, would be accepted now.
    ///
    /// # Errors
    /// What the verifier says in a full handshake.
    pub fn accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        self.verifier.accepts(chain, now)
    }
}

/// The connecting side, with a bounded number of sessions.
pub struct ResumingClient {
    full: Arc<ClientConfig>,
    resuming: PerSvid<ClientConfig>,
    verifier: SpiffeVerifier,
}

impl ResumingClient {
    /// As [`client_config`], without ALPN, which each connection may bring along; TLS 1.3 only, and with its secrets handed
    /// over after the handshake, for whoever has a record layer of their own.
    ///
    /// # Errors
    /// [`AuthorityError::Tls`] when rustls refuses the combination.
    pub fn new(identity: Arc<dyn IdentitySource>, verifier: SpiffeVerifier) -> Result<Self, AuthorityError> {
        let source = Arc::clone(&identity);
        let mut config = client_config(move || source.identity(), verifier.clone(), &[], Versions::Tls13)?;
        config.enable_secret_extraction = true;
        let full = Arc::new(config.clone());
        let resuming = PerSvid::new(identity, config, |config| {
            config.resumption = Resumption::in_memory_sessions(MAX_CLIENT_SESSIONS);
            Ok(())
        });
        Ok(Self { full, resuming, verifier })
    }

    /// The configuration of now: resumes sessions in which the present SVID was presented.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.resuming.current().unwrap_or_else(|| Arc::clone(&self.full))
    }

    /// Whether a server of this chain, leaf first, would be accepted now.
    ///
    /// # Errors
    /// What the verifier says in a full handshake.
    pub fn accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        self.verifier.accepts(chain, now)
    }

    /// Forgets all sessions.
    pub fn forget(&self) {
        self.resuming.forget();
    }
}

/// A configuration that is made anew for each SVID of ours. A connection that began with an old one keeps it, and what
/// it puts there is never used.
struct PerSvid<C> {
    identity: Arc<dyn IdentitySource>,
    base: C,
    renew: fn(&mut C) -> Result<(), Error>,
    made: RwLock<Option<Made<C>>>,
}

struct Made<C> {
    for_svid: Weak<CertifiedKey>,
    config: Arc<C>,
}

impl<C: Clone> PerSvid<C> {
    fn new(identity: Arc<dyn IdentitySource>, base: C, renew: fn(&mut C) -> Result<(), Error>) -> Self {
        Self { identity, base, renew, made: RwLock::new(None) }
    }

    /// `None` without an SVID, or when there are no random numbers for new keys.
    fn current(&self) -> Option<Arc<C>> {
        let svid = self.identity.identity()?;
        let fits = |made: &Option<Made<C>>| {
            let made =
                made.as_ref().filter(|made| std::ptr::eq(made.for_svid.as_ptr(), Arc::as_ptr(&svid)))?;
            Some(Arc::clone(&made.config))
        };
        if let Some(config) = fits(&self.made.read().unwrap_or_else(PoisonError::into_inner)) {
            return Some(config);
        }
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been quicker.
        if let Some(config) = fits(&made) {
            return Some(config);
        }
        let mut config = self.base.clone();
        (self.renew)(&mut config).ok()?;
        let config = Arc::new(config);
        *made = Some(Made { for_svid: Arc::downgrade(&svid), config: Arc::clone(&config) });
        Some(config)
    }

    fn forget(&self) {
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for ResumingServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumingServer").finish_non_exhaustive()
    }
}

impl fmt::Debug for ResumingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumingClient").finish_non_exhaustive()
    }
}
