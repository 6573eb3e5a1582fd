//! An inbound connection that carries many: requests of HTTP/2, and in streams of their own TCP connections (CONNECT, as in
//! HBONE) and, from another svidecar, connections of HTTP/1.1 (extended CONNECT, RFC 8441).

use std::rc::Rc;

use svidecar_code::Code;
use svidecar_config::proxy::ListenerProtocol;

use crate::{
    admit::limit,
    forward::{
        caller::Caller,
        either, http1,
        http2::{self, Spare, request},
        incoming::Incoming,
        tcp::{self, Opening},
    },
    http2::{Session, Stream},
    io::{Buffer, Transport},
    message::{RequestHead, refusal::Refusal},
    runtime::life::Life,
    upstream::multiplexed::HTTP1_PROTOCOL,
};

/// Serves a connection of HTTP/2.
pub(super) async fn serve(incoming: Rc<Incoming>, stream: Transport, life: Life, is_svidecar: bool) {
    let rules = incoming.rules();
    let limits = rules.listener.limits();
    let settings = if is_svidecar { limit::shared(limits) } else { limit::http2(limits) };
    let streams = limit::streams(limits, is_svidecar);
    let protocol = rules.listener.protocol();
    drop(rules);
    let caller = Caller::new(&incoming, life);
    let follower = caller.follower();
    let spare = Rc::<Spare>::default();
    let driven = Rc::clone(&caller);
    let accept = |session: &Session, head: RequestHead, stream: Stream| {
        let is_tunnel = head.protocol.is_empty() || (is_svidecar && head.protocol == HTTP1_PROTOCOL);
        if head.method == "CONNECT" && is_tunnel && !stream.is_too_large() {
            return tunnel(&incoming, caller.life().another(), &head, stream);
        }
        if protocol == ListenerProtocol::Tcp {
            let detail = "a request of HTTP came to a listener of TCP";
            let refusal = Refusal::new(Code::NotImplemented, detail);
            return Opening::Asked(stream).refuse(&refusal);
        }
        let (caller, spare) = (Rc::clone(&caller), Rc::clone(&spare));
        incoming.worker().spawn(request(caller, session.clone(), spare, head, stream));
    };
    http2::serve(driven, (&settings, streams), stream, Buffer::new(), follower, accept).await;
}

/// One connection inside of the shared one.
fn tunnel(incoming: &Rc<Incoming>, life: Life, head: &RequestHead, stream: Stream) {
    let opening = Opening::Asked(stream);
    if let Err(refusal) = incoming.rules().row.may_open(&incoming.party) {
        return opening.refuse(&refusal);
    }
    match (incoming.rules().listener.protocol(), head.protocol.is_empty()) {
        (ListenerProtocol::Tcp, true) => {
            incoming.worker().spawn(tcp::serve(Rc::clone(incoming), opening, life))
        }
        (ListenerProtocol::Http, false) => {
            incoming.worker().spawn(http1::serve(Caller::new(incoming, life), opening.accept()));
        }
        // Whoever tunnels bytes to a listener of HTTP speaks HTTP inside, of either version.
        (ListenerProtocol::Http, true) => {
            incoming.worker().spawn(either::serve(Caller::new(incoming, life), opening.accept()));
        }
        (ListenerProtocol::Tcp, false) => {
            let detail = "a connection of HTTP/1.1 came to a listener of TCP";
            opening.refuse(&Refusal::new(Code::NotImplemented, detail));
        }
    }
}
