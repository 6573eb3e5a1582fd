//! The settings, compiled: listeners with their policies, headers, TLS and upstreams, ready to be used by every
//! connection.
//!
//! Built whole or not at all. What did not change is taken over from the plan before, so that a change of one
//! listener does not touch the connections of another.

pub mod snapshot;
pub mod status;
pub mod tls;
pub mod upstream;

use std::{path::Path, sync::Arc, time::Duration};

use svidecar_authority::AuthorityError;
use svidecar_config::{
    diagnostic::{Diagnostic, Diagnostics},
    load::read_text,
    proxy::{InboundSettings, OnPeerExpiry, OutboundSettings, ProxySettings},
};
use svidecar_policy::Policy;

use self::{
    tls::{Offers, TlsSource},
    upstream::UpstreamSpec,
};
use crate::{error::ProxyError, message::identity::IdentityHeaders};

/// Settings and policies, compiled.
pub struct Plan {
    /// What they were compiled from.
    pub settings: ProxySettings,
    /// Listeners for peers.
    pub inbound: Vec<Arc<Inbound>>,
    /// Listeners for our workload.
    pub outbound: Vec<Arc<Outbound>>,
}

/// A listener for peers.
pub struct Inbound {
    /// Its name.
    pub name: Arc<str>,
    /// The settings it was compiled from.
    pub settings: InboundSettings,
    /// Who may do what.
    pub policy: Arc<Policy>,
    /// What the app gets to know of the peer.
    pub headers: Arc<IdentityHeaders>,
    /// mTLS, by what the peer offers.
    pub offers: Arc<Offers>,
    /// The app.
    pub app: Arc<UpstreamSpec>,
    policy_text: String,
}

/// A listener for our workload.
pub struct Outbound {
    /// Its name.
    pub name: Arc<str>,
    /// The settings it was compiled from.
    pub settings: OutboundSettings,
    /// Where it leads.
    pub upstream: Arc<UpstreamSpec>,
}

impl Inbound {
    /// Whether it decides as another one does, to the letter.
    #[must_use]
    pub fn same_policy(&self, other: &Self) -> bool {
        self.policy_text == other.policy_text
    }
}

impl Plan {
    /// Compiles settings, reading the policies that they name. `before` is the plan in force.
    ///
    /// # Errors
    /// Everything that is wrong, all at once, with file, line and column.
    pub fn compile(
        settings: ProxySettings,
        source: &TlsSource,
        before: Option<&Self>,
    ) -> Result<Self, ProxyError> {
        let mut problems: Vec<Diagnostic> = Vec::new();
        let mut inbound = Vec::with_capacity(settings.inbound.len());
        for one in &settings.inbound {
            let same = before.and_then(|plan| plan.inbound(&one.name));
            match compile_inbound(one, source, same) {
                Ok(listener) => inbound.push(listener),
                Err(ProxyError::Config(diagnostics)) => problems.extend(diagnostics.iter().cloned()),
                Err(error) => return Err(error),
            }
        }
        Diagnostics::check(problems)?;
        let mut outbound = Vec::with_capacity(settings.outbound.len());
        for one in &settings.outbound {
            let same = before.and_then(|plan| plan.outbound(&one.name));
            outbound.push(compile_outbound(one, source, same)?);
        }
        Ok(Self { settings, inbound, outbound })
    }

    /// The inbound listener of that name.
    #[must_use]
    pub fn inbound(&self, name: &str) -> Option<&Arc<Inbound>> {
        self.inbound.iter().find(|listener| &*listener.name == name)
    }

    /// The outbound listener of that name.
    #[must_use]
    pub fn outbound(&self, name: &str) -> Option<&Arc<Outbound>> {
        self.outbound.iter().find(|listener| &*listener.name == name)
    }

    /// Whether a listener leads to this upstream.
    #[must_use]
    pub fn leads_to(&self, upstream: &Arc<UpstreamSpec>) -> bool {
        self.inbound.iter().any(|listener| Arc::ptr_eq(&listener.app, upstream))
            || self.outbound.iter().any(|listener| Arc::ptr_eq(&listener.upstream, upstream))
    }

    /// How long a connection may go on after its peer's SVID has ended; `None` for as long as it likes.
    #[must_use]
    pub fn expiry_grace(&self) -> Option<Duration> {
        match self.settings.on_peer_expiry {
            OnPeerExpiry::Close => Some(Duration::ZERO),
            OnPeerExpiry::Drain => Some(self.settings.drain_timeout.get()),
            OnPeerExpiry::Ignore => None,
        }
    }

    /// Whether nothing differs from `other`.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.inbound.iter().zip(&other.inbound).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The policy files, for the watch.
    pub fn policy_files(&self) -> impl Iterator<Item = &Path> {
        self.inbound.iter().map(|listener| listener.settings.policy.as_path())
    }
}

fn compile_inbound(
    settings: &InboundSettings,
    source: &TlsSource,
    same: Option<&Arc<Inbound>>,
) -> Result<Arc<Inbound>, ProxyError> {
    let policy_text = read_text(&settings.policy).map_err(ProxyError::ReadFile)?;
    if let Some(same) = same
        && same.settings == *settings
        && same.policy_text == policy_text
    {
        return Ok(Arc::clone(same));
    }
    let policy = Policy::parse(&policy_text, &settings.policy, settings.protocol)?;
    let name: Arc<str> = settings.name.as_str().into();
    // A new policy alone keeps the connections to the app.
    let unchanged = same.filter(|same| same.settings == *settings);
    let (app, offers) = match unchanged {
        Some(same) => (Arc::clone(&same.app), Arc::clone(&same.offers)),
        None => {
            let offers = source.offers(settings.protocol).map_err(tls_error)?;
            let before = same.map(|same| &same.app);
            (upstream::app(&name, settings, before), Arc::new(offers))
        }
    };
    let headers = match unchanged {
        Some(same) => Arc::clone(&same.headers),
        None => Arc::new(compile_headers(settings)?),
    };
    let policy = Arc::new(policy);
    Ok(Arc::new(Inbound { name, settings: settings.clone(), policy, headers, offers, app, policy_text }))
}

fn compile_headers(settings: &InboundSettings) -> Result<IdentityHeaders, ProxyError> {
    IdentityHeaders::compile(&settings.identity_headers).map_err(|error| {
        let message = format!("the identity headers of `{}`: {error}", settings.name);
        let problem = Diagnostic::new(message).path("identity_headers");
        // A list of one problem is never empty, so there is always an error to give.
        match Diagnostics::check(vec![problem]) {
            Err(diagnostics) => diagnostics.into(),
            Ok(()) => ProxyError::Tls(error.to_string()),
        }
    })
}

fn compile_outbound(
    settings: &OutboundSettings,
    source: &TlsSource,
    before: Option<&Arc<Outbound>>,
) -> Result<Arc<Outbound>, ProxyError> {
    if let Some(same) = before.filter(|same| same.settings == *settings) {
        return Ok(Arc::clone(same));
    }
    let name: Arc<str> = settings.name.as_str().into();
    let before = before.map(|before| &before.upstream);
    let upstream = upstream::server(&name, settings, source, before).map_err(tls_error)?;
    Ok(Arc::new(Outbound { name, settings: settings.clone(), upstream }))
}

fn tls_error(error: AuthorityError) -> ProxyError {
    ProxyError::Tls(error.to_string())
}
