//! The way of an inbound connection: handshake, peer, and then request by request (HTTP) or as a whole (TCP):
//! decide, forward, record.
//!
//! What a peer's sidecar shares among its callers comes in here as many connections in one (`multiplexed`); each of them goes
//! the same way, under the same verified peer.

mod multiplexed;
#[cfg(test)]
mod tests;

use std::{future::poll_fn, rc::Rc, sync::Arc, time::Instant};

use svidecar_config::proxy::ListenerProtocol;
use svidecar_id::SpiffeId;
use svidecar_process::clock;
use tracing::{debug, warn};

use super::{
    caller::Caller,
    http1,
    incoming::Incoming,
    rules::AnyListener,
    tcp::{self, Opening},
};
use svidecar_code::Code;

use crate::{
    admit::{Party, authenticate::KnownPeer},
    io::{Socket, Transport, address::PeerAddress, tls::Alpn},
    plan::Inbound,
    record::{self, Origin},
    runtime::{
        handshake::{self, Authenticated, HandshakeFailure},
        life::Accepted,
        standing::Standing,
        worker::Worker,
    },
    upstream::upstreams::Upstreams,
};

/// Serves one connection from the first byte to the last.
pub async fn serve(worker: Rc<Worker>, upstreams: Rc<Upstreams>, name: Arc<str>, accepted: Accepted) {
    let Accepted { socket, address, life } = accepted;
    // Gone with a reload that came between the accept and now, or moved to another address.
    let listener = worker.shared.current.load().plan.inbound(&name).cloned();
    let Some(listener) = listener.filter(|listener| life.came_by(&listener.settings.listen)) else { return };
    let started = clock::monotonic();
    let before = Arc::clone(&worker.shared.current.load().identity);
    // A handshake needs much room, and only for a moment.
    let handshake = Box::pin(shake_hands(socket, &listener, life.standing())).await;
    let Authenticated { stream, peer, alpn, .. } = match handshake {
        Ok(authenticated) => authenticated,
        Err(failure) => return handshake_failed(&worker, &listener, address, started, &failure),
    };
    // A session to be resumed is judged long before its handshake is over, and bundles may change meanwhile.
    let now = Arc::clone(&worker.shared.current.load().identity);
    if Arc::ptr_eq(&before.bundles, &now.bundles) {
        peer.accepted_by(&before.bundles);
    } else if let Err(error) = peer.still_trusted(&now.bundles, clock::unix()) {
        let failure = HandshakeFailure::from_x509(&error);
        return handshake_failed(&worker, &listener, address, started, &failure);
    }
    life.standing().proved(peer.id());
    worker.shared.note_client(&name, &address.to_string(), peer.id());
    // Our first identity may have come while the peer waited for its handshake. If another came meanwhile, the peer may
    // have seen either.
    let own_id = before.svid.as_ref().or(now.svid.as_ref()).map(|svid| svid.id.clone());
    drop((before, now));
    let party = Party { worker, address, peer: Some(KnownPeer::new(peer, own_id)) };
    let listener = AnyListener::Inbound(listener);
    let Some(incoming) = Incoming::new(party, upstreams, &listener) else { return };
    let stream = Transport::from(stream);
    match (alpn, incoming.rules().listener.protocol()) {
        (Some(Alpn::Svidecar | Alpn::Http2), _) => {
            multiplexed::serve(incoming, stream, life, alpn == Some(Alpn::Svidecar)).await;
        }
        (_, ListenerProtocol::Http) => http1::serve(Caller::new(&incoming, life), stream).await,
        (_, ListenerProtocol::Tcp) => tcp::serve(incoming, Opening::Open(stream), life).await,
    }
}

/// Authenticates the peer, as long as its place does not go to another.
async fn shake_hands(
    socket: Socket,
    listener: &Inbound,
    standing: &Standing,
) -> Result<Authenticated, HandshakeFailure> {
    let timeout = listener.settings.timeouts.handshake.get();
    let spoke = || standing.spoke();
    tokio::select! {
        outcome = handshake::inbound(socket, &listener.offers, timeout, spoke) => outcome,
        () = poll_fn(|cx| standing.poll_evicted(cx)) => {
            let detail = "other connections came before this one had finished its TLS handshake";
            Err(HandshakeFailure::new(Code::TooManyConnections, detail))
        }
    }
}

/// One line with both sides' facts, one record.
fn handshake_failed(
    worker: &Rc<Worker>,
    listener: &Arc<Inbound>,
    address: PeerAddress,
    started: Instant,
    failure: &HandshakeFailure,
) {
    let origin = Origin::inbound(&listener.name, &listener.policy, address.socket_address(), None);
    let mut record = record::Recording::new(&worker.recorder, &origin);
    record.begin_connection(&origin, started);
    record.fail(failure.code, Some(failure.detail.clone()));
    let leave = worker.shared.strangers.leave_for(address.source(), clock::monotonic());
    record.finish_with(leave);
    let presented = failure.presented.as_ref().map(SpiffeId::as_str);
    if failure.code == Code::PeerClosed {
        debug!(listener = %listener.name, peer = %address, code = failure.code.name(), error = %failure, "The handshake was not finished");
    } else if let Some(leave) = leave {
        warn!(
            listener = %listener.name,
            peer = %address,
            kept_back = leave.kept_back,
            sni = failure.sni,
            presented_id = presented,
            code = failure.code.name(),
            error = %failure,
            "The TLS handshake with a peer failed"
        );
    }
}
