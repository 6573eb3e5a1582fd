//! Who the peer is, as its handshake proved, whether that still holds, and how the app is told.
//!
//! Must never believe what a request says of its sender.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use rustls_pki_types::UnixTime;
use svidecar_code::Code;
use svidecar_config::proxy::OnPeerExpiry;
use svidecar_id::SpiffeId;
use svidecar_workload::Identity;

use crate::{
    message::{
        Fields,
        identity::{IdentityHeaders, PeerFacts, PeerHeaders},
        refusal::Refusal,
    },
    runtime::{connections::Ending, peer::Peer},
};

/// The peer of one connection.
pub struct KnownPeer {
    /// What the handshake proved.
    pub proved: Peer,
    /// Who we were in the handshake.
    own_id: Option<SpiffeId>,
    /// What the app is told of the peer, and by which settings.
    headers: RefCell<Option<(Arc<IdentityHeaders>, Rc<PeerHeaders>)>>,
}

impl KnownPeer {
    /// A peer that connected to us while we were `own_id`.
    #[must_use]
    pub fn new(proved: Peer, own_id: Option<SpiffeId>) -> Self {
        Self { proved, own_id, headers: RefCell::default() }
    }

    /// Its SPIFFE ID.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        self.proved.id()
    }

    /// Why a connection of it begins nothing new by the identity of now, if so.
    #[must_use]
    pub fn objection(&self, identity: &Identity, now: UnixTime) -> Option<Objection> {
        if let Some(own_id) = self.own_id.as_ref().filter(|own_id| !identity.has(own_id)) {
            let detail =
                format!("the connection was made while we were {own_id}, which is not ours any more");
            return Some(Objection {
                ending: Ending::IdentityReplaced,
                refusal: Refusal::new(Code::IdentityReplaced, detail).closing(),
            });
        }
        let error = self.proved.still_trusted(&identity.bundles, now).err()?;
        Some(Objection {
            ending: Ending::NoLongerAllowed,
            refusal: Refusal::new(Code::NoLongerAllowed, error.to_string()).closing(),
        })
    }

    /// The headers that tell the app who the peer is: made once per connection, and again when the settings change.
    fn headers(&self, settings: &Arc<IdentityHeaders>) -> Rc<PeerHeaders> {
        let mut cached = self.headers.borrow_mut();
        if let Some((by, headers)) = &*cached
            && Arc::ptr_eq(by, settings)
        {
            return Rc::clone(headers);
        }
        let facts = PeerFacts { id: self.id(), own_id: self.own_id.as_ref(), chain: self.proved.chain() };
        let made = Rc::new(settings.of_peer(&facts));
        *cached = Some((Arc::clone(settings), Rc::clone(&made)));
        made
    }
}

/// Why a connection that is still there begins nothing new: one of its ends is not who it was in the handshake.
#[derive(Clone, Debug)]
pub struct Objection {
    /// What its end is recorded as.
    pub ending: Ending,
    /// What whatever it begins is answered with.
    pub refusal: Refusal,
}

/// The stage, as a listener's settings and the identity in force have it.
pub struct Authenticate {
    on_expiry: OnPeerExpiry,
    headers: Arc<IdentityHeaders>,
    objection: Option<Box<Objection>>,
}

impl Authenticate {
    /// With what becomes of a peer that expires, and what the app is told of one.
    #[must_use]
    pub fn new(on_expiry: OnPeerExpiry, headers: &Arc<IdentityHeaders>) -> Self {
        Self { on_expiry, headers: Arc::clone(headers), objection: None }
    }

    /// With what there is to object to the one connection that it is for.
    #[must_use]
    pub fn objecting(mut self, objection: Option<Objection>) -> Self {
        self.objection = objection.map(Box::new);
        self
    }

    /// What there is to object to the connection.
    #[must_use]
    pub fn objection(&self) -> Option<&Objection> {
        self.objection.as_deref()
    }

    /// Whether both ends still are who they proved to be. The clock is read only where that is asked.
    ///
    /// # Errors
    /// When there is something to object, or for a peer whose SVID has expired since it connected: a refusal that ends its
    /// connection.
    pub fn check(&self, peer: &KnownPeer, now: impl FnOnce() -> UnixTime) -> Result<(), Refusal> {
        if let Some(objection) = &self.objection {
            return Err(objection.refusal.clone());
        }
        if self.on_expiry == OnPeerExpiry::Ignore || !peer.proved.is_expired(now()) {
            return Ok(());
        }
        let detail = format!("the SVID of {} has expired since it connected", peer.id());
        Err(Refusal::new(Code::PeerExpired, detail).closing())
    }

    /// Replaces what a head says of its sender by what the handshake proved. What belongs to the connection must be out
    /// of it already.
    pub fn introduce(&self, peer: Option<&KnownPeer>, fields: &mut Fields) {
        let headers = peer.map(|peer| peer.headers(&self.headers));
        self.headers.rewrite(fields, headers.as_deref());
    }

    /// Takes out of trailers what would say who sent them: nobody sets identity headers there.
    pub fn clean(&self, trailers: &mut Fields) {
        self.headers.clean(trailers);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use svidecar_authority::bundle::Bundle;
    use svidecar_config::proxy::IdentityHeaderSettings;
    use svidecar_process::clock;

    use super::*;
    use crate::io::tls::tests::authority::{Authority, HOUR};

    fn shop() -> KnownPeer {
        let authority = Authority::new("demo.org");
        let svid = authority.svid("/shop", HOUR, clock::unix());
        let chain = Bundle::certificates_from_der(&svid.x509_svid).unwrap();
        KnownPeer::new(Peer::new(chain).unwrap(), Some(authority.id("/orders")))
    }

    fn stage(on_expiry: OnPeerExpiry) -> Authenticate {
        let headers = IdentityHeaders::compile(&IdentityHeaderSettings::default()).unwrap();
        Authenticate::new(on_expiry, &Arc::new(headers))
    }

    #[test]
    fn a_peer_is_known_until_its_svid_ends() {
        let peer = shop();
        let end = peer.proved.facts().not_after.as_secs();
        for (on_expiry, now, is_known) in [
            (OnPeerExpiry::Drain, end, true),
            (OnPeerExpiry::Drain, end + 1, false),
            (OnPeerExpiry::Close, end, true),
            (OnPeerExpiry::Close, end + 1, false),
            (OnPeerExpiry::Ignore, end + 1, true),
        ] {
            let outcome = stage(on_expiry)
                .check(&peer, || UnixTime::since_unix_epoch(Duration::from_secs(now)))
                .map_err(|refusal| (refusal.code, refusal.close));
            let expected = if is_known { Ok(()) } else { Err((Code::PeerExpired, true)) };
            assert_eq!(outcome, expected, "{on_expiry:?} {now}");
        }
    }

    #[test]
    fn the_app_hears_who_the_peer_is_from_us_alone() {
        let (peer, stage) = (shop(), stage(OnPeerExpiry::Drain));
        let sent = || [("X-SPIFFE-ID", "spiffe://demo.org/admin"), ("accept", "*/*")].into_iter().collect();
        for (peer, told) in [(Some(&peer), Some(&b"spiffe://demo.org/shop"[..])), (None, None)] {
            let mut fields: Fields = sent();
            stage.introduce(peer, &mut fields);
            assert_eq!(fields.get_all("x-spiffe-id").next(), told);
            assert_eq!(fields.get_all("x-spiffe-id").count(), usize::from(told.is_some()));
            assert_eq!(fields.get("accept"), Some(&b"*/*"[..]));
        }
        let mut trailers: Fields = sent();
        stage.clean(&mut trailers);
        assert!(!trailers.contains("x-spiffe-id") && trailers.contains("accept"));
    }

    #[test]
    fn headers_are_made_once_and_again_for_other_settings() {
        let (peer, stage, other) = (shop(), stage(OnPeerExpiry::Drain), stage(OnPeerExpiry::Drain));
        let first = peer.headers(&stage.headers);
        assert!(Rc::ptr_eq(&first, &peer.headers(&stage.headers)));
        assert!(!Rc::ptr_eq(&first, &peer.headers(&other.headers)));
    }
}
